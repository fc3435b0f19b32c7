"""CMS SignedData made: a detached signature.

Structures are asn1crypto's, mathematics is `cryptography`'s. The signature stands over signed attributes:
content type, digest, time, capabilities and the signer's certificate (RFC 5035), which cannot be exchanged.

Standards: RFC 5652 section 5, RFC 8551 section 2.5 (attributes), RFC 5754 (algorithms).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from asn1crypto import algos, cms, tsp, x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from keystore.errors import KeyRefused
from keystore.smime.capabilities import statement
from keystore.smime.certificate import facts
from keystore.smime.facts import KeyKind
from keystore.smime.key import SecretKey

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_MICALG = {"sha256": "sha-256", "sha384": "sha-384", "sha512": "sha-512"}
_LAST_UTC_TIME = 2050
"""From this year on times are GeneralizedTime (RFC 5652 section 11.3)."""


@dataclass(frozen=True, slots=True)
class CmsSignature:
    """A detached signature, and what multipart/signed must say of it (RFC 8551 section 3.5.3.2)."""

    der: bytes
    micalg: str
    """Such as "sha-256"."""


def sign(octets: bytes, key: SecretKey, chain: Sequence[bytes], now: datetime) -> CmsSignature:
    """Sign `octets` as they are at `now` (whole seconds); certificates of `chain` (DER) are sent along."""
    name = _digest_name(key.certificate_octets)
    attributes = _attributes(name, hashlib.new(name, octets).digest(), key.certificate_octets, now)
    fixed = _fixed(key.certificate_octets)
    signer = cms.SignerInfo(
        {
            "version": "v1",
            "sid": cms.SignerIdentifier.load(fixed.sid),
            "digest_algorithm": algos.DigestAlgorithm.load(fixed.digest),
            "signed_attrs": cms.CMSAttributes.load(attributes),
            "signature_algorithm": algos.SignedDigestAlgorithm.load(fixed.signature),
            "signature": _signature(key, name, attributes),
        }
    )
    data = cms.SignedData(
        {
            "version": "v1",
            "digest_algorithms": [algos.DigestAlgorithm.load(fixed.digest)],
            "encap_content_info": {"content_type": "data"},
            "certificates": [x509.Certificate.load(one) for one in (key.certificate_octets, *chain)],
            "signer_infos": [cms.SignerInfo.load(signer.dump())],
        }
    )
    der = cms.ContentInfo({"content_type": "signed_data", "content": data}).dump()
    return CmsSignature(der, _MICALG[name])


def issuer_and_serial(certificate: x509.Certificate) -> cms.IssuerAndSerialNumber:
    """How messages name a certificate; the issuer in the very octets of the certificate."""
    return cms.IssuerAndSerialNumber(
        {"issuer": certificate.issuer, "serial_number": certificate.serial_number}
    )


@dataclass(frozen=True, slots=True)
class _Fixed:
    """What is the same in every signature of a certificate, in DER: asn1crypto takes long to write it."""

    sid: bytes
    digest: bytes
    signature: bytes
    attributes: tuple[bytes, ...]


@lru_cache(maxsize=64)
def _fixed(certificate: bytes) -> _Fixed:
    name = _digest_name(certificate)
    identifier = tsp.ESSCertIDv2({"cert_hash": hashlib.sha256(certificate).digest()})
    attributes = (
        cms.CMSAttribute({"type": "content_type", "values": ["data"]}),
        _stated(certificate),
        cms.CMSAttribute(
            {"type": "signing_certificate_v2", "values": [tsp.SigningCertificateV2({"certs": [identifier]})]}
        ),
    )
    sid = issuer_and_serial(x509.Certificate.load(certificate))
    return _Fixed(
        sid=cms.SignerIdentifier({"issuer_and_serial_number": sid}).dump(),
        digest=algos.DigestAlgorithm({"algorithm": name}).dump(),
        signature=_signature_algorithm(certificate, name).dump(),
        attributes=tuple(one.dump() for one in attributes),
    )


def _attributes(name: str, digest: bytes, certificate: bytes, now: datetime) -> bytes:
    """The signed attributes as they are signed: a SET in DER."""
    moment = now.replace(microsecond=0)
    form = "utc_time" if moment.year < _LAST_UTC_TIME else "general_time"
    made = [
        cms.CMSAttribute({"type": "message_digest", "values": [digest]}),
        cms.CMSAttribute({"type": "signing_time", "values": [cms.Time({form: moment})]}),
    ]
    whole = [*_fixed(certificate).attributes, *(one.dump() for one in made)]
    return bytes(cms.CMSAttributes([cms.CMSAttribute.load(one) for one in whole]).dump())


def _stated(certificate: bytes) -> cms.CMSAttribute:
    """What may be sent to the signer (RFC 8551 section 2.5.2)."""
    octets = statement(rsa=facts(certificate).kind is KeyKind.RSA)
    return cms.CMSAttribute({"type": "smime_capabilities", "values": [cms.SMIMECapabilites.load(octets)]})


def _digest_name(certificate: bytes) -> str:
    found = facts(certificate)
    if found.kind is KeyKind.EC and found.algorithm.bits > 256:
        return "sha384" if found.algorithm.bits == 384 else "sha512"
    return "sha256"


def _signature_algorithm(certificate: bytes, name: str) -> algos.SignedDigestAlgorithm:
    kind = facts(certificate).kind
    if kind is KeyKind.RSA_PSS:
        digest = algos.DigestAlgorithm({"algorithm": name})
        parameters = algos.RSASSAPSSParams(
            {
                "hash_algorithm": digest,
                "mask_gen_algorithm": algos.MaskGenAlgorithm({"algorithm": "mgf1", "parameters": digest}),
                "salt_length": hashlib.new(name).digest_size,
            }
        )
        return algos.SignedDigestAlgorithm({"algorithm": "rsassa_pss", "parameters": parameters})
    named = {KeyKind.RSA: "rsassa_pkcs1v15", KeyKind.EC: f"{name}_ecdsa"}
    return algos.SignedDigestAlgorithm({"algorithm": named[kind]})


def _rsa_padding(certificate: bytes, digest: hashes.HashAlgorithm) -> padding.PSS | padding.PKCS1v15:
    if facts(certificate).kind is KeyKind.RSA_PSS:
        return padding.PSS(padding.MGF1(digest), digest.digest_size)
    return padding.PKCS1v15()


def _signature(key: SecretKey, name: str, octets: bytes) -> bytes:
    digest = _HASHES[name]()
    private = key.private
    try:
        if isinstance(private, rsa.RSAPrivateKey):
            return private.sign(octets, _rsa_padding(key.certificate_octets, digest), digest)
        return private.sign(octets, ec.ECDSA(digest))
    except ValueError:
        raise KeyRefused(f"key {key.fingerprint} cannot sign: the key is damaged") from None
