"""What a digest and a report count messages by: sender, host and subject; and which messages are alike. PURE.

    sender   the address in From; without one the envelope sender
    host     the first of these that names one: a subject of cron ("Cron <user@host> ..."), the Message-ID,
             the oldest Received field, the domain of the sender. A short name is replaced by a longer one of
             these that begins with it (web1, web1.example.org).
    alike    the same sender, host, subject and contents, but for what changes each time a program runs:
             dates, times of day, durations, process numbers, counts of attempts. Other numbers are what a
             message is about ("95% full") and keep messages apart.

Security: all of it is what the message says of itself, for orientation; nothing is decided by it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from secmailproxy.mime import header
from secmailproxy.mime.address import address_list
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.preview import decoded_text
from secmailproxy.mime.transfer import BASE64, IDENTITY, QUOTED_PRINTABLE, decoded_body, encoding_of

UNKNOWN = "(unknown)"
_MOST = 200
"""Characters of a fact."""
_TEXT_MOST = 256 * 1024
"""Octets of a text in which changing words are looked for; what follows must be the same."""

_CRON = re.compile(r"Cron <[^@>\s]+@([^>\s]+)>")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253}[A-Za-z0-9])?")
# What is taken is never given back: a long word would cost its square.
_HOP = re.compile(r"\s*+(?:from\s++([^\s;()]++).*?)?\bby\s++([^\s;()]++)|\s*+from\s++([^\s;()]++)", re.DOTALL)
_LOCAL = re.compile(r"localhost(?:\..*)?|.*\.(?:invalid|localdomain)", re.IGNORECASE)

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6}\.?"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]{0,6}"
# Not in the middle of an address: "00:16:3e:..." of one card is not that of another.
_CLOCK = r"(?<![0-9A-Fa-f:]:)\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?!:[0-9A-Fa-f])"
_NAMED = r"UTC|GMT|CES?T|WES?T|EES?T|[BIJKM]S[TK]|[ECMP][SD]T|A[CEW][SD]T|NZ[SD]T"
_ZONE = rf"(?: ?(?:Z|[+-]\d\d:?\d\d|{_NAMED})\b)?"
_CHANGING = re.compile(
    rf"\b\d{{4}}-\d\d-\d\d(?:[T ]{_CLOCK}{_ZONE})?"
    rf"|\b(?:{_DAY},? +)?(?:\d{{1,2}} +{_MONTH}|{_MONTH} +\d{{1,2}})(?:,? +\d{{4}})?\b"
    rf"(?:,? +{_CLOCK}{_ZONE}(?: +\d{{4}})?)?"
    rf"|\b{_CLOCK}{_ZONE}"
    r"|\b\d{1,2}[./]\d{1,2}[./]\d{4}\b"
    r"|\b1[6-9]\d{8}(?:\.\d{1,9})?\b(?! ?(?:bytes|octets|B)\b)"  # seconds since 1970, from 2020 to 2033
    r"|\b\d{1,9}(?:[.,]\d{1,9})? ?(?:ms|msecs?|s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?)\b"
    r"|\b\d{1,6}m\d{1,2}(?:[.,]\d{1,9})?s\b"
    r"|\[\d{1,10}\]"
    r"|\b(?i:pid|process|attempt|try|retry|run|build|iteration|repeated)[ :=#]{1,3}\d{1,10}\b"
)
_STARS = "*"
_ENCODINGS = IDENTITY | {BASE64, QUOTED_PRINTABLE}


@dataclass(frozen=True, slots=True)
class Facts:
    """One line of text each, safe to show."""

    sender: str
    host: str
    subject: str


def facts_of(message: Entity, mail_from: str = "") -> Facts:
    """What `message` says of its sender, host and subject; `mail_from` is its envelope sender."""
    subject = header.text(message, "Subject") or ""
    sender = _sender(message) or mail_from or UNKNOWN
    return Facts(shown(sender), shown(_host(message, subject, sender)), shown(subject) or "(no subject)")


def likeness(message: Entity, facts: Facts) -> bytes:
    """The same octets for messages that are alike."""
    known = hashlib.sha256()
    # The whole subject: what is shown of it is cut.
    for word in (facts.sender, facts.host, steady(header.text(message, "Subject") or "")):
        known.update(word.encode("utf-8", "surrogatepass") + b"\0")
    for piece in _contents(message):
        known.update(len(piece).to_bytes(8, "big") + piece)
    return known.digest()


def steady(text: str) -> str:
    """`text` without what changes each time a program runs."""
    return _CHANGING.sub(_STARS, text)


def shown(text: str, most: int = _MOST) -> str:
    """One line of at most `most` characters; what is not seen, or changes what is, becomes "?"."""
    line = "".join(one if one.isprintable() else "?" for one in " ".join(text[: 4 * most].split()))
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _sender(message: Entity) -> str:
    addresses = address_list(header.value(message, "From") or b"")
    return next((one.addr_spec.lower() for one in addresses if one.is_mailbox and one.valid), "")


def _host(message: Entity, subject: str, sender: str) -> str:
    candidates = [one.lower() for one in _hosts(message, subject, sender) if _HOST.fullmatch(one)]
    told = [one for one in candidates if not _LOCAL.fullmatch(one)] or candidates
    if not told:
        return UNKNOWN
    return next((one for one in told if one.startswith(f"{told[0]}.")), told[0])


def _hosts(message: Entity, subject: str, sender: str) -> Iterator[str]:
    if cron := _CRON.match(subject):
        yield cron[1]
    identifier = (header.value(message, "Message-ID") or b"").decode("latin-1")
    yield identifier.rpartition("@")[2].rstrip("> \t")
    received = header.values(message, "Received")
    if received and (hop := _HOP.match(received[-1].decode("latin-1"))):
        yield hop[1] or hop[2] or hop[3]
    yield sender.rpartition("@")[2]


def _contents(entity: Entity) -> Iterator[bytes]:
    """What the leaves of a message are and say, without boundaries and encodings."""
    if entity.is_multipart or entity.is_rfc822:
        yield f"{entity.content_type.full} {len(entity.parts)}".encode()
        for part in entity.parts:
            yield from _contents(part)
        return
    yield entity.content_type.full.encode()
    if entity.content_type.maintype != "text":
        yield decoded_body(entity) if encoding_of(entity) in _ENCODINGS else entity.body
        return
    text = decoded_text(entity, _TEXT_MOST)
    yield steady(text).rstrip().encode("utf-8", "surrogatepass")
    # What could not be decoded looks the same, whatever it was.
    yield entity.body if "\ufffd" in text else entity.body[_TEXT_MOST:]
