"""Own keys in memory.

Standards: RFC 5958 (PKCS #8).
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates

from keystore.errors import KeyRefused
from keystore.smime.certificate import fingerprint_of, load

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class SecretKey:
    """An own key with its certificate, in memory only. Its text form names nothing but the fingerprint."""

    def __init__(self, certificate_octets: bytes, private: PrivateKey) -> None:
        """Raises KeyRefused when the private key is not the certificate's."""
        if spki_of(certificate_octets) != spki_of_key(private):
            raise KeyRefused("the private key does not belong to the certificate")
        self.certificate_octets = certificate_octets
        self.fingerprint = fingerprint_of(certificate_octets)
        self.private = private

    def __repr__(self) -> str:
        return f"SecretKey({self.fingerprint})"

    def to_octets(self) -> bytes:
        """The private key alone, unprotected PKCS #8. Only the keystore may see it, to wrap it."""
        return to_pkcs8(self.private)

    @classmethod
    def from_octets(cls, octets: bytes, certificate_octets: bytes) -> SecretKey:
        """The inverse of `to_octets`. Raises KeyRefused."""
        return cls(certificate_octets, from_pkcs8(octets))


def to_pkcs8(private: PrivateKey) -> bytes:
    """A private key, unprotected. Only the keystore may see it, to wrap or seal it."""
    return private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def from_pkcs8(octets: bytes) -> PrivateKey:
    """The inverse of `to_pkcs8`. Raises KeyRefused."""
    try:
        private = load_der_private_key(octets, None)
    except Exception:  # noqa: BLE001  whatever the parser raises, this is no key
        raise KeyRefused("this is not a private key") from None
    return supported(private)


def supported(private: object) -> PrivateKey:
    """The key, when it is of a kind that we can use. Raises KeyRefused."""
    if isinstance(private, PrivateKey):
        return private
    raise KeyRefused("the private key is of a kind that is not supported (RSA and elliptic curves are)")


def belongs(private: PrivateKey, certificate_octets: bytes) -> bool:
    """Whether the private key is that of the certificate."""
    return spki_of(certificate_octets) == spki_of_key(private)


def same_key(one: bytes, other: bytes) -> bool:
    """Whether two certificates (DER) are of one key."""
    return bool(spki_of(one)) and spki_of(one) == spki_of(other)


def pkcs12(key: SecretKey, chain: list[bytes], passphrase: str | None) -> bytes:
    """The key and its certificates as mail programs import them (RFC 7292); in clear without a passphrase."""
    protection: KeySerializationEncryption = (
        BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    )
    return serialize_key_and_certificates(
        None, key.private, load(key.certificate_octets), [load(one) for one in chain], protection
    )


def pem(certificates: list[bytes]) -> bytes:
    """Certificates as PEM, CRLF."""
    return b"".join(load(one).public_bytes(Encoding.PEM).replace(b"\n", b"\r\n") for one in certificates)


def spki_of(certificate_octets: bytes) -> bytes:
    """The public key in the certificate, as numbers only: "" where it is of an unknown kind.

    Compared in this form, a certificate that binds an RSA key to PSS still finds its private key.
    """
    try:
        public = load(certificate_octets).public_key()
    except Exception:  # noqa: BLE001  an unsupported or malformed key belongs to no private key of ours
        return b""
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_of_key(private: PrivateKey) -> bytes:
    """The public half of a private key, in the same form."""
    return private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_of_public(octets: bytes) -> bytes:
    """A public key (SubjectPublicKeyInfo or PKCS #1, DER) in the same form. Raises ValueError."""
    public = load_der_public_key(octets)
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
