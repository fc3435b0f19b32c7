"""What a certificate says of itself, once every self-signature has been verified mathematically.

Made by `keystore.openpgp`, judged by `keystore.policy`. A self-signature that does not verify never becomes a
fact; it is only counted. Nothing here says whether a key may be used.

Standards: RFC 9580 sections 5.2 and 10.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, Flag

from keystore.model import Fingerprint


class KeyFlags(Flag):
    """Key flags, first octet (RFC 9580 section 5.2.3.29)."""

    CERTIFY = 0x01
    SIGN = 0x02
    ENCRYPT_COMMUNICATIONS = 0x04
    ENCRYPT_STORAGE = 0x08
    AUTHENTICATE = 0x20
    ENCRYPT = ENCRYPT_COMMUNICATIONS | ENCRYPT_STORAGE


class RevocationKind(Enum):
    """How much a revocation destroys (RFC 9580 section 5.2.3.31)."""

    SOFT = "soft"
    """Superseded or retired: the holder says that the secret did not leak."""
    HARD = "hard"
    """Compromised, or no reason is stated."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """The algorithm of a key: `name` as in "RSA", "Ed25519", "NIST P-256"; `bits` of the modulus or curve."""

    name: str
    bits: int
    signs: bool
    encrypts: bool
    supported: bool = True
    """Whether the engine can compute with it."""

    def __str__(self) -> str:
        return f"{self.name} {self.bits}" if self.name in ("RSA", "DSA", "ElGamal") else self.name


@dataclass(frozen=True, slots=True)
class SelfSignature:
    """A verified self-signature: a direct-key signature, a certification, or a subkey binding."""

    created: datetime
    hash_algorithm: str
    """"SHA-512" and so on."""
    expires: datetime | None = None
    """When the signature itself expires."""
    key_lifetime: timedelta | None = None
    """From the creation of the key that it speaks of; None is for ever."""
    flags: KeyFlags | None = None
    """None when there is no such subpacket."""
    primary_user_id: bool = False
    back_signature: SelfSignature | None = None
    """Of a subkey binding: the verified signature by the subkey (type 0x19) that signing keys must carry."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """A verified revocation by the certificate's own primary key."""

    created: datetime
    hash_algorithm: str
    kind: RevocationKind
    reason: str = ""
    """In fixed words for people, such as "superseded"; never text that the certificate carries."""


@dataclass(frozen=True, slots=True)
class UserIdFacts:
    """One user ID and what its owner says of it."""

    text: str
    certifications: tuple[SelfSignature, ...] = ()
    revocations: tuple[Revocation, ...] = ()


@dataclass(frozen=True, slots=True)
class Certification:
    """A verified statement of another certificate's primary key about a user ID."""

    user_id: str
    created: datetime
    expires: datetime | None = None
    """When the statement itself expires."""
    revokes: bool = False
    """It takes earlier ones back."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The primary key or a subkey. For the primary key, `bindings` are the direct-key signatures."""

    fingerprint: Fingerprint
    created: datetime
    algorithm: Algorithm
    bindings: tuple[SelfSignature, ...] = ()
    revocations: tuple[Revocation, ...] = ()


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """A whole certificate."""

    version: int
    primary: KeyFacts
    user_ids: tuple[UserIdFacts, ...] = ()
    subkeys: tuple[KeyFacts, ...] = ()
    broken: int = 0
    """How many signatures claim to be self-signatures and are not: damaged, forged or not understood."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Of the primary key."""
        return self.primary.fingerprint

    @property
    def keys(self) -> tuple[KeyFacts, ...]:
        """The primary key, then the subkeys in their order."""
        return (self.primary, *self.subkeys)
