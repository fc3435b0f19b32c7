"""Values that the keystore hands out. Octets are `bytes`; times are aware UTC `datetime`s.

Standards: RFC 9580 (OpenPGP). A *certificate* is public; a *key* is secret (docs/glossary.md).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import NewType

from keystore.domainnames import registered

Fingerprint = NewType("Fingerprint", str)
"""Upper-case hexadecimal, no blanks: the only identifier of a certificate.

OpenPGP: 40 (v4) or 64 (v6) digits. X.509: the SHA-256 of its DER, 64 digits. `Certificate.scheme` tells them
apart, the digits do not."""


def key_id(fingerprint: str) -> str:
    """The key ID, 16 digits, of a v4 (the last) or v6 (the first) fingerprint (RFC 9580 section 5.5.4).

    X.509 certificates have none; by the first digits of theirs the store finds them again.
    """
    return fingerprint[:16] if len(fingerprint) == 64 else fingerprint[-16:]


def lower_case(address: str) -> str:
    """An address as it is compared and kept: in lower case, its domain in ASCII (RFC 5891).

    People write both forms of a domain in certificates and to mail programs, which turn one into the other. A
    few letters, such as the Kelvin sign, have an ASCII letter as their small one, and are not the same: an
    address with one of them stays as it is, and so does a domain that is not written as it is registered.
    """
    if address.isascii():
        return address.lower()
    if any(not one.isascii() and one.lower().isascii() for one in address):
        return address
    local, at, domain = address.lower().rpartition("@")
    return local + at + (domain if domain.isascii() else registered(domain))


HIDDEN = "0" * 16
"""The key ID that a message names in place of a recipient's own (RFC 9580 section 5.1.8)."""


class Scheme(Enum):
    """The two ways to protect mail."""

    OPENPGP = "openpgp"
    SMIME = "smime"


class Holder(Enum):
    """Who holds the secret half of a certificate."""

    NONE = "none"
    OWN = "own"
    GNUPG = "gnupg"
    PKCS11 = "pkcs11"


class Trust(Enum):
    """How far the owner of this store trusts that a certificate belongs to its addresses."""

    UNKNOWN = "unknown"
    KNOWN = "known"
    VERIFIED = "verified"
    REJECTED = "rejected"


class Purpose(Enum):
    """What a certificate is asked to serve for."""

    ENCRYPT = "encrypt"
    VERIFY = "verify"
    SIGN = "sign"


class Reason(Enum):
    """Why a certificate is not usable. The values appear in JSON output and replies."""

    NO_CERTIFICATE = "no certificate"
    OTHER_SCHEME = "a certificate of the other scheme"
    NOT_FOR_ADDRESS = "no user ID with this address"
    REVOKED = "revoked"
    USER_ID_REVOKED = "user ID revoked"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid by this machine's clock"
    BAD_BINDING = "self-signature missing or broken"
    WEAK_ALGORITHM = "weak algorithm"
    UNSUPPORTED = "algorithm not supported"
    NO_CAPABLE_KEY = "no key for this purpose"
    SUBKEY_EXPIRED = "every key for this purpose has expired"
    SUBKEY_REVOKED = "every key for this purpose is revoked"
    REJECTED = "rejected by the user"
    HELD = "another certificate than before"
    """One for the same address waits for the owner's decision, and the one in use no longer serves."""
    AUTHORITY = "a certificate authority's, not a person's"
    ENGINE_REFUSES = "a trial encryption failed"


@dataclass(frozen=True, slots=True)
class Usability:
    """The answer of `keystore.policy.usability`.

    `keys` are the fingerprints of the (sub)keys that serve the purpose, best (newest) first; empty when not
    usable. `reason` is None exactly when usable. `detail` adds a date or algorithm, in plain words.
    """

    keys: tuple[Fingerprint, ...]
    reason: Reason | None = None
    detail: str = ""

    @property
    def usable(self) -> bool:
        """Whether at least one key serves."""
        return self.reason is None

    @property
    def explanation(self) -> str:
        """For people, such as "expired (on 2026-01-02)"; "" when usable."""
        if self.reason is None:
            return ""
        return f"{self.reason.value} ({self.detail})" if self.detail else self.reason.value


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that the store knows."""

    fingerprint: Fingerprint
    octets: bytes
    """Transferable public key, binary (RFC 9580 section 10.1)."""
    user_ids: tuple[str, ...]
    addresses: tuple[str, ...]
    """Addr-specs of the user IDs, lower case, in the order of the user IDs, without repeats."""
    created: datetime
    expires: datetime | None
    algorithm: str
    """Of the primary key, for people: "Ed25519", "RSA 3072"."""
    holder: Holder = Holder.NONE
    trust: Trust = Trust.KNOWN
    source: str = ""
    """Where it came from, for people: "file alice.asc", "GnuPG", "generated"."""
    scheme: Scheme = Scheme.OPENPGP


@dataclass(frozen=True, slots=True)
class Selection:
    """The certificates to encrypt to for one address, or why there are none."""

    address: str
    certificates: tuple[Certificate, ...]
    reason: Reason | None = None
    explanation: str = ""
    """One sentence for people: "key 1234… expired 2026-01-02"."""

    @property
    def usable(self) -> bool:
        """Whether there is a certificate to encrypt to."""
        return bool(self.certificates)


@dataclass(frozen=True, slots=True)
class Identity:
    """An own address with its key for signing and decryption."""

    address: str
    certificate: Certificate


class SignatureState(Enum):
    """What became of one signature."""

    GOOD = "good"
    """Mathematically right and acceptable by policy at its time and now."""
    BAD = "bad"
    """The octets are not what was signed."""
    UNKNOWN_KEY = "unknown-key"
    UNACCEPTABLE = "unacceptable"
    """Right by mathematics, refused by policy: weak hash, revoked or expired key, wrong key flags."""


class RevocationState(Enum):
    """What is known of the revocation of a certificate (X.509)."""

    GOOD = "not revoked"
    """Current lists were at hand for all certificates of the path but the root, and none is on them."""
    NOT_CHECKED = "not checked"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class SignatureResult:
    """One signature, judged. `fingerprint` and the rest come from the certificate, never from the message."""

    state: SignatureState
    fingerprint: Fingerprint | None = None
    """Primary key of the signer; for UNKNOWN_KEY the issuer that the signature names, if any."""
    addresses: tuple[str, ...] = ()
    """Addr-specs of user IDs that are valid at the signature's time, lower case."""
    user_id: str = ""
    created: datetime | None = None
    trust: Trust = Trust.UNKNOWN
    reason: str = ""
    certificate: bytes = field(default=b"", repr=False)
    """X.509 alone: the signer's, DER, wherever it came from; empty where none made the signature."""
    capabilities: bytes = field(default=b"", repr=False)
    """What the signer's program says that it reads, as it is signed: SMIMECapabilities; empty for nothing."""
    chain: tuple[bytes, ...] = field(default=(), repr=False)
    """X.509 alone: the authorities (DER) above it, lowest first, the root last; () where none vouches."""
    revocation: RevocationState | None = None
    """X.509 alone, where somebody vouches for it."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """A correspondent's S/MIME certificate, as a valid signature for an address introduces it. DER."""

    address: str
    """Whom the message shows as its author, lower case."""
    certificate: bytes = field(repr=False)
    authorities: tuple[bytes, ...] = field(default=(), repr=False)
    """Those that vouch for it, without the root."""
    capabilities: bytes = field(default=b"", repr=False)
    """As in `SignatureResult`."""
    signed: datetime | None = None
    """When the signature says that it was made."""


@dataclass(frozen=True, slots=True)
class DetachedSignature:
    """A signature and what multipart/signed must say of it (RFC 3156 section 5)."""

    armored: bytes
    """ASCII armor, CRLF line endings, ending in CRLF."""
    micalg: str
    """Such as "pgp-sha512"."""


class ImportAction(StrEnum):
    """What became of one key that was offered for import."""

    ADDED = "added"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of one key that was offered for import."""

    action: ImportAction
    fingerprint: Fingerprint | None = None
    """None when the octets could not be read so far."""
    addresses: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    secret: bool = False
    """Whether the store (or GnuPG, as holder) now has the secret half."""
    reason: str = ""
    """Why refused, or what the certificate cannot serve for; "" when there is nothing to say."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An opened OpenPGP message. Of one that was encrypted, integrity is proven (MDC or AEAD)."""

    octets: bytes
    signatures: tuple[SignatureResult, ...] = ()
    recipients: tuple[str, ...] = field(default=())
    """Key IDs (16 hex digits) that the message names as recipients; zeros for a hidden one."""
    encrypted: bool = True
    """False: it was signed only, in the form of a message, and nothing was secret."""


@dataclass(frozen=True, slots=True)
class OpenedEnvelope:
    """A decrypted S/MIME message."""

    octets: bytes
    """The MIME entity inside, as it was encrypted."""
    authenticated: bool
    """Whether integrity is proven (AuthEnvelopedData, AES-GCM); with CBC nothing is (RFC 8551 section 6)."""


@dataclass(frozen=True, slots=True)
class SignedContent:
    """An S/MIME signature, or several, judged."""

    octets: bytes | None
    """The MIME entity that the message encapsulates; None: the signatures are detached."""
    signatures: tuple[SignatureResult, ...]
    """One for each that the message has, at most 16; empty when nobody signed."""
