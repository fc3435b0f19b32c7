"""PURE. What an X.509 certificate says of itself. Made by `keystore.smime.certificate`, judged by `policy`.

Nothing here says whether a certificate may be used, nor whether its issuer is to be believed: every statement
is its issuer's, and who that is must be judged apart.

Standards: RFC 5280 (certificates), RFC 8550 (S/MIME certificate handling), RFC 9598 (addresses beyond ASCII).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, Flag, auto

from keystore.facts import Algorithm
from keystore.model import Fingerprint


class KeyUsage(Flag):
    """The bits of the key usage extension that matter to mail (RFC 5280 section 4.2.1.3)."""

    DIGITAL_SIGNATURE = auto()
    NON_REPUDIATION = auto()
    KEY_ENCIPHERMENT = auto()
    KEY_AGREEMENT = auto()
    CERTIFICATE_SIGN = auto()
    CRL_SIGN = auto()
    SIGN = DIGITAL_SIGNATURE | NON_REPUDIATION


class KeyKind(Enum):
    """What is done with a public key, and so which algorithms are named in messages."""

    RSA = "RSA"
    RSA_PSS = "RSA-PSS"
    """RSA bound to PSS by the certificate itself (RFC 4055 section 1.2); it only signs."""
    EC = "EC"
    ED25519 = "Ed25519"
    """Others' signatures are verified; we make none (RFC 8419): most mail programs do not verify them."""
    OTHER = "other"


EMAIL_PROTECTION = "1.3.6.1.5.5.7.3.4"
ANY_EXTENDED_USAGE = "2.5.29.37.0"


@dataclass(frozen=True, slots=True)
class X509Facts:
    """One certificate. Names are for people, except `addresses`."""

    fingerprint: Fingerprint
    subject: str
    """The distinguished name as RFC 4514 writes it."""
    issuer: str
    common_name: str
    addresses: tuple[str, ...]
    """Addr-specs of the subject alternative names and of the subject, lower case, without repeats."""
    not_before: datetime
    not_after: datetime
    kind: KeyKind
    algorithm: Algorithm
    signature_hash: str
    """The hash under the issuer's signature: "SHA-256"; "" where the algorithm names none (Ed25519)."""
    is_authority: bool
    """Whether it may sign certificates (basicConstraints cA)."""
    path_length: int | None
    """How many authorities may stand below it; None where it does not say."""
    version: int
    """1 or 3: of version 1 nothing but the name is known."""
    key_hash: bytes
    """The SHA-256 of its public key (SubjectPublicKeyInfo); b"" for a key that cannot be read."""
    key_usage: KeyUsage | None
    """None without the extension: no restriction."""
    extended_usages: frozenset[str] | None
    """Dotted object identifiers; None without the extension."""
    unknown_critical: tuple[str, ...] = ()
    """Critical extensions that we do not understand: such a certificate must not be used (section 4.2)."""

    @property
    def user_ids(self) -> tuple[str, ...]:
        """What stands for user IDs in listings: name and address, or the subject of a certificate without."""
        name = self.common_name
        named = tuple(f"{name} <{one}>" if name and "@" not in name else one for one in self.addresses)
        return named or ((self.subject,) if self.subject else ())
