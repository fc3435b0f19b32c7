"""CMS envelopes made: a message encrypted to certificates.

The cipher is the best that all recipients read, by what is known of their programs: AES-GCM, which proves
integrity (AuthEnvelopedData), or else AES-CBC (docs/decisions/0024-capabilities.md). The key goes to RSA
recipients by key transport (PKCS #1 v1.5, or OAEP where they have stated it), to recipients on elliptic
curves by key agreement, each with an ephemeral key of its own.

Standards: RFC 5652 section 6, RFC 5083 and RFC 5084 (AES-GCM), RFC 8551 section 2.7, RFC 3370 section 4.2.1,
RFC 3560 (OAEP), RFC 5753 (ECDH), RFC 3565 (AES).
Security: EnvelopedData proves no integrity; a signature inside tells changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from secrets import token_bytes

from asn1crypto import algos, cms, core, keys, x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_wrap
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keystore.errors import KeyRefused
from keystore.smime.capabilities import (
    NOTHING_STATED,
    Capabilities,
    ContentCipher,
    cipher_for,
    oaep_parameters,
)
from keystore.smime.certificate import fingerprint_of, load
from keystore.smime.recipients import shared_info
from keystore.smime.signed import issuer_and_serial

_KEY_LENGTH = 32
"""Of the key that wraps another, and of AES-256."""
_BLOCK_BITS = 128
_NONCE_OCTETS = 12
_MAC_OCTETS = 16
_OAEP_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_WRAP = "2.16.840.1.101.3.4.1.45"
"""id-aes256-wrap (RFC 3565)."""


@dataclass(frozen=True, slots=True)
class _Agreement:
    """A key agreement scheme of RFC 5753 section 7.1.4: the single pass, by the curve's size."""

    oid: str
    digest: type[hashes.HashAlgorithm]


_AGREEMENTS = {
    256: _Agreement("1.3.132.1.11.1", hashes.SHA256),
    384: _Agreement("1.3.132.1.11.2", hashes.SHA384),
    512: _Agreement("1.3.132.1.11.3", hashes.SHA512),
    521: _Agreement("1.3.132.1.11.3", hashes.SHA512),
}


@dataclass(frozen=True, slots=True)
class CmsEnvelope:
    """An encrypted message, and what application/pkcs7-mime must say of it (RFC 8551 section 3.2.2)."""

    der: bytes
    cipher: ContentCipher

    @property
    def smime_type(self) -> str:
        """Of the parameter with this name."""
        return "authEnveloped-data" if self.cipher.authenticates else "enveloped-data"


def envelop(octets: bytes, recipients: Mapping[bytes, Capabilities]) -> CmsEnvelope:
    """Encrypt `octets` to certificates (DER), each with what is known of its owner's program.

    Raises KeyRefused for one that cannot be encrypted to.
    """
    cipher = cipher_for(recipients.values())
    key = token_bytes(cipher.key_octets)
    infos = [_recipient(der, stated, key) for der, stated in recipients.items()]
    made = (
        _authenticated(octets, key, cipher, infos)
        if cipher.authenticates
        else _plain(octets, key, cipher, infos)
    )
    return CmsEnvelope(bytes(made.dump()), cipher)


def _plain(
    octets: bytes, key: bytes, cipher: ContentCipher, infos: list[cms.RecipientInfo]
) -> cms.ContentInfo:
    """EnvelopedData."""
    vector = token_bytes(_BLOCK_BITS // 8)
    data = cms.EnvelopedData(
        {
            "version": "v0" if all(one.name == "ktri" for one in infos) else "v2",
            "recipient_infos": infos,
            "encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": _algorithm(cipher, core.OctetString(vector)),
                "encrypted_content": _encrypted(octets, key, vector),
            },
        }
    )
    return cms.ContentInfo({"content_type": "enveloped_data", "content": data})


def _authenticated(
    octets: bytes, key: bytes, cipher: ContentCipher, infos: list[cms.RecipientInfo]
) -> cms.ContentInfo:
    """AuthEnvelopedData without authenticated attributes, which content of type "data" needs none of."""
    nonce = token_bytes(_NONCE_OCTETS)
    sealed = AESGCM(key).encrypt(nonce, octets, None)
    data = cms.AuthEnvelopedData(
        {
            "version": "v0",
            "recipient_infos": infos,
            "auth_encrypted_content_info": {
                "content_type": "data",
                "content_encryption_algorithm": _algorithm(
                    cipher, _GcmParameters({"nonce": nonce, "mac_octets": _MAC_OCTETS})
                ),
                "encrypted_content": sealed[:-_MAC_OCTETS],
            },
            "mac": sealed[-_MAC_OCTETS:],
        }
    )
    return cms.ContentInfo({"content_type": "authenticated_enveloped_data", "content": data})


def _algorithm(cipher: ContentCipher, parameters: core.Asn1Value) -> algos.EncryptionAlgorithm:
    return algos.EncryptionAlgorithm({"algorithm": cipher.oid, "parameters": parameters})


@lru_cache(maxsize=2048)
def trial(certificate: bytes) -> bool:
    """Whether something could be encrypted to a certificate (DER)."""
    try:
        envelop(b"", {certificate: NOTHING_STATED})
    except KeyRefused:
        return False
    return True


def _recipient(der: bytes, stated: Capabilities, key: bytes) -> cms.RecipientInfo:
    public = load(der).public_key()
    rid = issuer_and_serial(x509.Certificate.load(der))
    try:
        if isinstance(public, rsa.RSAPublicKey):
            return _transport(public, rid, stated.oaep_hash, key)
        if isinstance(public, ec.EllipticCurvePublicKey):
            return _agreement(public, rid, key)
    except ValueError:
        pass
    raise KeyRefused(f"cannot encrypt to {fingerprint_of(der)}: algorithm not supported")


def _transport(
    public: rsa.RSAPublicKey, rid: cms.IssuerAndSerialNumber, oaep_hash: str | None, key: bytes
) -> cms.RecipientInfo:
    algorithm = {"algorithm": "rsaes_pkcs1v15"}
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if oaep_hash is not None:
        algorithm = {"algorithm": "rsaes_oaep", "parameters": oaep_parameters(oaep_hash)}
        digest = _OAEP_HASHES[oaep_hash]()
        scheme = padding.OAEP(padding.MGF1(digest), digest, None)
    info = cms.KeyTransRecipientInfo(
        {
            "version": "v0",
            "rid": cms.RecipientIdentifier({"issuer_and_serial_number": rid}),
            "key_encryption_algorithm": algorithm,
            "encrypted_key": public.encrypt(key, scheme),
        }
    )
    return cms.RecipientInfo({"ktri": info})


def _agreement(
    public: ec.EllipticCurvePublicKey, rid: cms.IssuerAndSerialNumber, key: bytes
) -> cms.RecipientInfo:
    scheme = _AGREEMENTS[public.curve.key_size]
    ephemeral = ec.generate_private_key(public.curve)
    wrapping = _wrapping_key(ephemeral.exchange(ec.ECDH(), public), scheme)
    spki = ephemeral.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    originator = cms.OriginatorIdentifierOrKey({"originator_key": keys.PublicKeyInfo.load(spki)})
    info = cms.KeyAgreeRecipientInfo(
        {
            "version": "v3",
            "originator": originator,
            "key_encryption_algorithm": {"algorithm": scheme.oid, "parameters": _wrap_algorithm()},
            "recipient_encrypted_keys": [
                {
                    "rid": cms.KeyAgreementRecipientIdentifier({"issuer_and_serial_number": rid}),
                    "encrypted_key": aes_key_wrap(wrapping, key),
                }
            ],
        }
    )
    return cms.RecipientInfo({"kari": info})


class _GcmParameters(core.Sequence):  # type: ignore[misc]  # asn1crypto ships no types
    """GCMParameters (RFC 5084 section 3.2)."""

    _fields = [  # noqa: RUF012  asn1crypto reads it so
        ("nonce", core.OctetString),
        ("mac_octets", core.Integer, {"default": 12}),
    ]


def _wrap_algorithm() -> cms.KeyEncryptionAlgorithm:
    return cms.KeyEncryptionAlgorithm({"algorithm": _WRAP})


def _wrapping_key(shared: bytes, scheme: _Agreement) -> bytes:
    info = shared_info(_wrap_algorithm().dump(), None, _KEY_LENGTH)
    return X963KDF(scheme.digest(), _KEY_LENGTH, info).derive(shared)


def _encrypted(octets: bytes, key: bytes, vector: bytes) -> bytes:
    padder, cipher = PKCS7(_BLOCK_BITS).padder(), Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    body = cipher.update(padder.update(octets))
    return body + cipher.update(padder.finalize()) + cipher.finalize()
