"""What is to be told of the certificates that system mail depends on, and when. PURE.

A certificate is spoken of 30, 7 and 1 days before its end, and when it cannot be used any more; each time
once. After a renewal it begins anew. What keeps a single message from being encrypted is told once a day for
each cause.

An alert has two forms. The full one names certificates and dates, and only leaves encrypted. The bare one,
for who cannot be encrypted to, is the same for every cause: it says that something is wrong, and no more.

Standards: RFC 3834 section 5 (Auto-Submitted), RFC 5322.
Security: nothing of any message is in an alert, neither in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.stamp import Stamp

STAGES = (30, 7, 1)
"""Days before the end of a certificate at which it is spoken of."""
ENDED = 0
"""The stage of one that cannot be used."""
HORIZON = timedelta(days=max(STAGES))
AGAIN = timedelta(days=1)
"""After which the same cause is told again."""

BARE_SUBJECT = "System mail needs attention"
BARE_TEXT = (
    "Something is wrong with the encryption of system mail on this machine. It is not\r\n"
    "said here what, because this message could not be encrypted.\r\n\r\n"
    "Run on the machine: secmailproxy doctor\r\n"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One certificate that is used, at one time."""

    role: str
    """What for: "target", "escrow" or "host key"."""
    address: str
    fingerprint: str
    """"" where there is no certificate at all."""
    ends: datetime | None = None
    """When it can no longer be used; None for later than HORIZON, or where it cannot be used now."""
    why: str = ""
    """Why it cannot be used now; "" when it can."""

    @property
    def key(self) -> str:
        """What it is remembered by."""
        return f"{self.role} {self.address.lower()} {self.fingerprint}"

    def stage(self, now: datetime) -> int | None:
        """The number of days that has begun, ENDED, or None when there is nothing to say."""
        if self.why:
            return ENDED
        if self.ends is None:
            return None
        left = self.ends - now
        if left <= timedelta(0):
            return ENDED
        return next((days for days in sorted(STAGES) if left <= timedelta(days=days)), None)

    def about(self) -> str:
        """What distinguishes this end from another one of the same certificate."""
        return self.ends.isoformat() if self.ends is not None and not self.why else self.why

    def sentence(self) -> str:
        """For people, in one line."""
        named = f"{self.role} <{self.address}>"
        if self.fingerprint:
            named += f", certificate {self.fingerprint}"
        if self.why or self.ends is None:
            return f"{named}: {self.why or 'can be used'}"
        return f"{named}: can be used until {self.ends:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class Said:
    """What was said last of a certificate."""

    stage: int
    about: str


@dataclass(frozen=True, slots=True)
class Memory:
    """All that was said, by the key of the fact or cause."""

    warnings: Mapping[str, Said]
    causes: Mapping[str, datetime]
    """When each cause was told last."""


def due_warnings(facts: Iterable[Fact], memory: Memory, now: datetime) -> tuple[Fact, ...]:
    """The certificates that are to be spoken of now."""
    return tuple(one for one in facts if _is_due(one, memory.warnings.get(one.key), now))


def _is_due(fact: Fact, said: Said | None, now: datetime) -> bool:
    stage = fact.stage(now)
    if stage is None:
        return False
    return said is None or stage < said.stage or (fact.about() != said.about and stage != ENDED)


def cause_is_due(cause: str, memory: Memory, now: datetime) -> bool:
    """Whether to tell that a message could not be encrypted; a clock that was set back silences nobody."""
    told = memory.causes.get(cause)
    return told is None or not timedelta(0) <= now - told < AGAIN


def after_warnings(facts: Iterable[Fact], memory: Memory, now: datetime) -> Memory:
    """The memory when all that was due has been said: of certificates that are well, nothing."""
    staged = ((one, one.stage(now)) for one in facts)
    said = {one.key: Said(stage, one.about()) for one, stage in staged if stage is not None}
    return Memory(said, memory.causes)


def after_cause(cause: str, memory: Memory, now: datetime) -> Memory:
    """The memory when `cause` has been told; older ones that may be told again are forgotten."""
    recent = {one: told for one, told in memory.causes.items() if timedelta(0) <= now - told < AGAIN}
    return Memory(memory.warnings, {**recent, cause: now})


def full_alert(sentences: Iterable[str], host: str, author: str, rcpt_to: str, stamp: Stamp) -> bytes:
    """The message that names what is wrong, CRLF; it must leave encrypted. Addresses have been checked."""
    text = "\r\n".join(
        [
            f"On {host}, of the certificates and keys that system mail is encrypted or signed with:",
            "",
            *(f"* {one}" for one in sentences),
            "",
            "What cannot be encrypted is not sent: it waits where it came from, or in the queue",
            "(secmailproxy queue list). Renew a certificate and import it: secmailproxy key import FILE",
            "",
        ]
    )
    return _message(f"System mail of {host} needs attention", text, author, rcpt_to, stamp)


def bare_alert(author: str, rcpt_to: str, stamp: Stamp, mark: str) -> bytes:
    """The message that may leave in clear, CRLF, with the mark by which this host knows it again."""
    loop = f"X-Loop: {mark}\r\n".encode("ascii") if mark else b""
    return loop + _message(BARE_SUBJECT, BARE_TEXT, author, rcpt_to, stamp)


def _message(subject: str, text: str, author: str, rcpt_to: str, stamp: Stamp) -> bytes:
    fields = (
        f"From: {author}\r\nTo: {rcpt_to}\r\nSubject: {subject}\r\nDate: {stamp.date}\r\n"
        f"Message-ID: {stamp.message_id}\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    )
    return b"".join(map(ascii_field, fields.encode().splitlines(keepends=True))) + b"\r\n" + text.encode()
