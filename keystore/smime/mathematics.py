"""PURE. Signatures of CMS checked by mathematics: an algorithm as messages name it, a public key, octets.

Standards: RFC 3370 and RFC 5754 (RSA, ECDSA), RFC 4056 and RFC 4055 (RSA-PSS), RFC 8419 (Ed25519), RFC 9688
(SHA-3).
Security: what is weak is computed all the same, so that a changed message is told from an old one; whoever
asks must look at the digest as well. Keys that would cost long to compute with are refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from asn1crypto import algos, core, x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from keystore.edwards import has_small_order
from keystore.smime import ber
from keystore.smime.certificate import MAX_MODULUS_BITS, facts, load
from keystore.smime.facts import KeyKind

HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "md5": hashes.MD5,
    "sha1": hashes.SHA1,
    "sha224": hashes.SHA224,
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
    "sha3_256": hashes.SHA3_256,
    "sha3_384": hashes.SHA3_384,
    "sha3_512": hashes.SHA3_512,
}
"""As hashlib names them."""
STRONG = frozenset(HASHES) - {"md5", "sha1", "sha224"}
MAX_EXPONENT_BITS = 64
MAX_IDENTIFIER = 64
MAX_PARAMETERS = 4096
"""Octets that are parsed: numbers in them would take time by the square of their length."""
MIN_SALT = 20
"""Octets; programs take as many as the hash is long, or as fit."""

_DIGESTS = {
    "1.2.840.113549.2.5": "md5",
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
    "2.16.840.1.101.3.4.2.8": "sha3_256",
    "2.16.840.1.101.3.4.2.9": "sha3_384",
    "2.16.840.1.101.3.4.2.10": "sha3_512",
}
_RSA = "1.2.840.113549.1.1.1"
_PSS = "1.2.840.113549.1.1.10"
_ED25519 = "1.3.101.112"
_EC = "1.2.840.10045.2.1"
"""The name of a key rather than of a signature; some programs write it all the same, and so does RSA's."""
_EC_SPECIFIED = "1.2.840.10045.4.3"
"""ECDSA with the hash named by parameters (X9.62), as Windows wrote it."""
_BY_RSA = {
    "1.2.840.113549.1.1.4": "md5",
    "1.2.840.113549.1.1.5": "sha1",
    "1.2.840.113549.1.1.14": "sha224",
    "1.2.840.113549.1.1.11": "sha256",
    "1.2.840.113549.1.1.12": "sha384",
    "1.2.840.113549.1.1.13": "sha512",
    "2.16.840.1.101.3.4.3.14": "sha3_256",
    "2.16.840.1.101.3.4.3.15": "sha3_384",
    "2.16.840.1.101.3.4.3.16": "sha3_512",
}
_BY_EC = {
    "1.2.840.10045.4.1": "sha1",
    "1.2.840.10045.4.3.1": "sha224",
    "1.2.840.10045.4.3.2": "sha256",
    "1.2.840.10045.4.3.3": "sha384",
    "1.2.840.10045.4.3.4": "sha512",
    "2.16.840.1.101.3.4.3.10": "sha3_256",
    "2.16.840.1.101.3.4.3.11": "sha3_384",
    "2.16.840.1.101.3.4.3.12": "sha3_512",
}


class Unsupported(ValueError):
    """An algorithm, its parameters or a key with which nothing is computed here; the text is for people."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature is by, and what it stands over."""

    algorithm: str
    """Dotted."""
    parameters: bytes
    """DER; empty without any."""
    digest: str
    """As in `HASHES`."""
    signature: bytes
    octets: bytes
    hashed: bytes
    """The hash of `octets`."""


def dotted(identifier: ber.Element) -> str:
    """An object identifier as people write it. Raises ber.Malformed."""
    if len(identifier.inside) > MAX_IDENTIFIER:
        raise ber.Malformed("an object identifier beyond all bounds")
    return _dotted(identifier.whole)


@lru_cache(maxsize=1024)
def _dotted(identifier: bytes) -> str:
    return str(core.ObjectIdentifier.load(identifier).dotted)


def algorithm_identifier(algorithm: ber.Element) -> tuple[str, bytes]:
    """Name (dotted) and parameters (DER, or empty) of an AlgorithmIdentifier. Raises ber.Malformed."""
    fields = ber.Fields(algorithm.inside)
    name = dotted(fields.take(ber.OID))
    parameters = b"" if not fields else fields.take().whole
    fields.end()
    return name, parameters


def digest_name(dotted: str) -> str:
    """The name of a digest algorithm as hashlib has it. Raises Unsupported."""
    name = _DIGESTS.get(dotted)
    if name is None:
        raise Unsupported("a hash algorithm that is not supported")
    return name


def right(signed: Signed, certificate: bytes) -> bool:
    """Whether the key of a certificate (DER) made the signature. Raises Unsupported, KeyRefused."""
    public = load(certificate).public_key()
    try:
        if isinstance(public, rsa.RSAPublicKey):
            _check_size(public)
            scheme = _rsa_padding(signed, facts(certificate).kind, certificate)
            public.verify(signed.signature, signed.hashed, scheme, Prehashed(HASHES[signed.digest]()))
        elif isinstance(public, ec.EllipticCurvePublicKey):
            if signed.algorithm != _EC_SPECIFIED or _specified(signed.parameters) != signed.digest:
                _demand_digest(signed, _BY_EC, _EC)
            public.verify(signed.signature, signed.hashed, ec.ECDSA(Prehashed(HASHES[signed.digest]())))
        elif isinstance(public, ed25519.Ed25519PublicKey):
            # RFC 8419 section 3: no parameters, and SHA-512 for the message digest.
            if signed.algorithm != _ED25519 or signed.parameters or signed.digest != "sha512":
                raise Unsupported("an algorithm that does not go with the signer's key")
            if has_small_order(public.public_bytes_raw()):
                raise Unsupported("the signer's key fits any signature")
            public.verify(signed.signature, signed.octets)
        else:
            raise Unsupported("the signer's key is of a kind that is not supported")
    except InvalidSignature:
        return False
    return True


def _check_size(public: rsa.RSAPublicKey) -> None:
    if public.key_size > MAX_MODULUS_BITS or public.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
        raise Unsupported("the signer's key is too large")


def _demand_digest(signed: Signed, named: dict[str, str], bare: str) -> None:
    """That the algorithm is one of this kind of key, and its hash that of the message digest."""
    if signed.algorithm != bare and named.get(signed.algorithm) != signed.digest:
        raise Unsupported("an algorithm that does not go with the signer's key or with the message digest")


def _specified(parameters: bytes) -> str:
    """The hash that parameters of ECDSA name. Raises Unsupported."""
    return digest_name(algorithm_identifier(ber.only(parameters, ber.SEQUENCE))[0])


def _rsa_padding(signed: Signed, kind: KeyKind, certificate: bytes) -> padding.PSS | padding.PKCS1v15:
    if signed.algorithm == _PSS:
        return _pss(signed, certificate)
    if kind is not KeyKind.RSA:
        raise Unsupported("the signer's key is bound to RSA-PSS")
    _demand_digest(signed, _BY_RSA, _RSA)
    return padding.PKCS1v15()


def _pss(signed: Signed, certificate: bytes) -> padding.PSS:
    stated = _PssParameters.read(signed.parameters)
    bound = x509.Certificate.load(certificate)["tbs_certificate"]["subject_public_key_info"]["algorithm"]
    if bound["algorithm"].dotted == _PSS and not isinstance(bound["parameters"], core.Void | core.Null):
        least = _PssParameters.read(bound["parameters"].dump())
        if (stated.digest, stated.mask) != (least.digest, least.mask) or stated.salt < least.salt:
            raise Unsupported("the signer's key is bound to other parameters of RSA-PSS")
    if stated.digest != signed.digest:
        raise Unsupported("an algorithm that does not go with the message digest")
    if stated.mask not in STRONG and stated.digest in STRONG:
        raise Unsupported("parameters of RSA-PSS with a weak hash")
    if stated.salt < MIN_SALT:
        raise Unsupported("parameters of RSA-PSS with a short salt")
    return padding.PSS(padding.MGF1(HASHES[stated.mask]()), stated.salt)


@dataclass(frozen=True, slots=True)
class _PssParameters:
    digest: str
    mask: str
    """The hash of the mask generation."""
    salt: int

    @classmethod
    def read(cls, der: bytes) -> _PssParameters:
        """RSASSA-PSS-params (RFC 4055 section 3.1). Raises Unsupported."""
        if len(der) > MAX_PARAMETERS:
            raise Unsupported("parameters of RSA-PSS that are not supported")
        try:
            found = algos.RSASSAPSSParams.load(der, strict=True)
            mask = found["mask_gen_algorithm"]
            if mask["algorithm"].native != "mgf1" or found["trailer_field"].native != "trailer_field_bc":
                raise Unsupported("parameters of RSA-PSS that are not supported")
            return cls(
                digest_name(found["hash_algorithm"]["algorithm"].dotted),
                digest_name(mask["parameters"]["algorithm"].dotted),
                int(found["salt_length"].native),
            )
        except (ValueError, TypeError, KeyError):
            raise Unsupported("parameters of RSA-PSS that are not supported") from None
