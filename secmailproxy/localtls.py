"""The certificate of this machine's listeners: made here, trusted by the mail clients of its owner.

One file holds the certificate and its key, so that both are replaced at once. It speaks for localhost,
127.0.0.1 and ::1, signs nothing else, and is its own authority: a mail client that trusts it trusts no other
certificate because of it.

Standards: RFC 5280, RFC 9525 (names), RFC 8314 section 3.

Security: the file is 0600, and the key in it encrypted under a secret of its own that lies with the other
secrets; a copy of the file alone is of no use.
"""

from __future__ import annotations

import ipaddress
import secrets
import ssl
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from keystore.errors import KeystoreError
from secmailproxy.errors import ConfigError
from secmailproxy.folders import write_privately

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    from keystore.secrets import Secrets

KEY_SECRET = "certificate-key"  # noqa: S105  the name of a secret
VALID_FOR = timedelta(days=825)
"""What Apple's systems accept at most of a certificate that a user trusts."""
_HOST_NAMES = ("localhost",)
_ADDRESSES = ("127.0.0.1", "::1")
_MAKE = "run: secmailproxy certificate renew"


@dataclass(frozen=True, slots=True)
class LocalCertificate:
    """What clients are shown. Times are aware."""

    pem: str
    der: bytes
    fingerprint: str
    """SHA-256 in upper-case hexadecimal digits, a colon between octets, as mail clients show it."""
    names: tuple[str, ...]
    begins: datetime
    expires: datetime


class LocalTls:
    """The certificate file and what is made of it. `context` is None until there is a certificate."""

    def __init__(self, path: Path, secrets: Secrets) -> None:
        """Nothing is read yet."""
        self._path = path
        self._secrets = secrets
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext | None:
        """For the handshake of a listener, as loaded last."""
        return self._context

    def load(self, needed_by: str = "") -> None:
        """Read the file, if there is one; there must be for the option `needed_by`. Blocks.

        Raises ConfigError, and what was loaded stays in force.
        """
        if not self._path.exists():
            if needed_by:
                raise ConfigError(f"{needed_by} needs a certificate; run: secmailproxy certificate create")
            self._context = None
            return
        secret = self._secret()
        if not secret:
            raise ConfigError(f"The secret {KEY_SECRET!r} of {self._path} is missing; {_MAKE}")
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self._path, password=secret)
            if self._context is not None:
                # Listeners hold this one: from now on it shows the new certificate.
                self._context.load_cert_chain(self._path, password=secret)
        except ssl.SSLError:
            raise ConfigError(
                f"{self._path} is damaged, or not of the secret {KEY_SECRET!r}; {_MAKE}"
            ) from None
        except OSError as error:
            raise ConfigError(f"Cannot read {self._path}: {error.strerror}.") from None
        self._context = self._context or context

    def make(self, now: datetime) -> LocalCertificate:
        """Make a new key and certificate in the place of the old one.

        Raises ConfigError when the file cannot be written, KeystoreError when its secret cannot be kept.
        """
        secret = self._secrets.get(KEY_SECRET)
        if not secret:
            secret = secrets.token_urlsafe(32)
            self._secrets.set(KEY_SECRET, secret)
        write_privately(self._path, _made(now, secret.encode()))
        return read_certificate(self._path)

    def _secret(self) -> str | None:
        try:
            return self._secrets.get(KEY_SECRET)
        except KeystoreError as error:
            raise ConfigError(str(error)) from None


def read_certificate(path: Path) -> LocalCertificate:
    """The certificate in `path`; its key is not touched. Raises ConfigError when there is none."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        octets = path.read_bytes()
        found = x509.load_pem_x509_certificate(octets)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except FileNotFoundError:
        raise ConfigError("There is no certificate yet; run: secmailproxy certificate create") from None
    except OSError as error:
        raise ConfigError(f"Cannot read {path}: {error.strerror}.") from None
    except (ValueError, x509.ExtensionNotFound):
        raise ConfigError(f"{path} is damaged; {_MAKE}") from None
    digest = found.fingerprint(hashes.SHA256())
    return LocalCertificate(
        pem=found.public_bytes(Encoding.PEM).decode("ascii"),
        der=found.public_bytes(Encoding.DER),
        fingerprint=digest.hex(":").upper(),
        names=tuple(str(name.value) for name in names),
        begins=found.not_valid_before_utc,
        expires=found.not_valid_after_utc,
    )


def _made(now: datetime, secret: bytes) -> bytes:
    """A certificate and its encrypted key, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # clocks of virtual machines jump
        .not_valid_after(now + VALID_FOR)
    )
    for extension, critical in _extensions(key.public_key()):
        builder = builder.add_extension(extension, critical)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(secret),
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + private


def _extensions(key: ec.EllipticCurvePublicKey) -> list[tuple[x509.ExtensionType, bool]]:
    """Each with whether it is critical."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    names = [
        *map(x509.DNSName, _HOST_NAMES),
        *(x509.IPAddress(ipaddress.ip_address(one)) for one in _ADDRESSES),
    ]
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName(names), False),
        (x509.SubjectKeyIdentifier.from_public_key(key), False),
    ]
