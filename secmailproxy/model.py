"""Values that travel between the modules. Frozen; octets are `bytes` with CRLF line endings unless said.

Standards: RFC 5321 (envelope), RFC 9787 (cryptographic envelope, payload, errant layers).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from keystore.model import Fingerprint, RevocationState, Scheme, Trust


@dataclass(frozen=True, slots=True)
class Envelope:
    """The SMTP envelope (RFC 5321 section 2.3.1). Options are ESMTP parameters as the client wrote them."""

    mail_from: str
    """Addr-spec without angle brackets; the null sender is ""."""
    rcpt_tos: tuple[str, ...]
    mail_options: tuple[str, ...] = ()
    rcpt_options: tuple[tuple[str, ...], ...] = ()
    """One tuple for each of `rcpt_tos`, or empty."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An SMTP reply (RFC 5321 section 4.2). `text` has no code; lines are joined by LF."""

    code: int
    text: str

    @property
    def positive(self) -> bool:
        """2yz or 3yz."""
        return 200 <= self.code < 400


class Protection(Enum):
    """What is done to a message on its way out."""

    NONE = "none"
    SIGNED = "signed"
    ENCRYPTED = "encrypted"
    SIGNED_AND_ENCRYPTED = "signed+encrypted"


class DecryptionState(Enum):
    """What became of the encryption layer."""

    NOT_NEEDED = "not-needed"
    OK = "ok"
    FAILED = "failed"


class Verdict(Enum):
    """What may be claimed of the author of the whole message."""

    NONE = "none"
    VALID = "valid"
    """The whole message is covered and the signer is bound to the From that is shown."""
    INVALID = "invalid"
    UNKNOWN_KEY = "unknown-key"
    MISMATCH = "mismatch"
    """Rightly signed, but not by the address that From shows."""
    UNACCEPTABLE = "unacceptable"


@dataclass(frozen=True, slots=True)
class SignatureSummary:
    """One signature of a message, and what alone it would give."""

    verdict: Verdict
    signer: str | None = None
    """Address, from the certificate, lower case; None unless the signature is good."""
    fingerprint: Fingerprint | None = None
    trust: Trust = Trust.UNKNOWN
    created: datetime | None = None
    """When it says that it was made."""
    reason: str | None = None
    counted: bool = True
    """False for a signature outside the encryption, which speaks of the ciphertext."""
    revocation: RevocationState | None = None
    """Of S/MIME, where an authority that is believed vouches for the signer."""


@dataclass(frozen=True, slots=True)
class CryptoSummary:
    """What may be claimed for one message (RFC 9787 section 4)."""

    scheme: Scheme | None = None
    protection: Protection = Protection.NONE
    decryption: DecryptionState = DecryptionState.NOT_NEEDED
    decryption_reason: str | None = None
    authenticated: bool = True
    """False: decrypted, and nothing proves that it is what was encrypted (CBC without a signature inside)."""
    verdict: Verdict = Verdict.NONE
    signer: str | None = None
    """Address of the signer, from the certificate, lower case."""
    fingerprint: Fingerprint | None = None
    trust: Trust = Trust.UNKNOWN
    verdict_reason: str | None = None
    subject: str | None = None
    """As presented, decoded to text."""
    protected_headers: tuple[str, ...] = ()
    """Names of the fields that the signature or encryption covers, as written inside."""
    errant_layers: int = 0
    signatures: tuple[SignatureSummary, ...] = ()
    """All of the envelope, outermost first."""


class SearchScope(Enum):
    """What SEARCH looks at, as the account is configured."""

    SERVER = "server"
    """What the server has: ciphertext stays ciphertext."""
    PRESENTED = "presented"
    """Protected mail as it is presented; the server gets the terms for the rest."""
    PRIVATE = "private"
    """Protected mail as it is presented, and no other: the server gets no terms."""
