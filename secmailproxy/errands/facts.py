"""What a server says of a mailbox and its messages, as values. PURE.

Standards: RFC 9051 sections 7.1 and 7.5.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz

from secmailproxy.imap import grammar

CODE = re.compile(rb"\[([A-Za-z0-9-]+)(?: ([^\]]*))?\]")
"""A response code: its name and its arguments."""
_NOT_OURS = frozenset({rb"\recent", rb"\deleted"})


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command led to: the untagged responses whole, and the text of the OK."""

    untagged: list[bytes]
    text: bytes

    def code(self, name: bytes) -> bytes | None:
        """The arguments of a response code, wherever it stands."""
        lines = [self.text, *(line[5:] for line in self.untagged if line[:5].upper() == b"* OK ")]
        for line in lines:
            code = CODE.match(line)
            if code is not None and code[1].upper() == name:
                return code[2] or b""
        return None


@dataclass(frozen=True, slots=True)
class Selection:
    """A mailbox that was opened."""

    uidvalidity: int
    uidnext: int
    """The first UID that a message to come can have."""
    exists: int
    """How many messages there are."""
    read_only: bool
    """Or without the right to delete."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the server says of one message, without its text."""

    uid: int
    flags: frozenset[bytes]
    """Flags and keywords as the server writes them, without Recent and Deleted."""
    deleted: bool
    date: bytes
    """INTERNALDATE in its quotes; empty if it was not asked for."""
    size: int = 0
    header: bytes = b""
    """The Content-Type field, and those beside it that were asked for."""
    octets: bytes = b""
    """The whole message, if it was asked for."""


def same_moment(one: bytes, other: bytes) -> bool:
    """Whether two INTERNALDATEs, perhaps in different zones, are the same second."""
    return one == other or _moment(one) == _moment(other)


def _moment(date: bytes) -> float:
    parsed = parsedate_tz(date.decode("ascii", "replace").strip('" '))
    return mktime_tz(parsed) if parsed is not None else float("nan")


def has_body(told: Mapping[str, bytes]) -> bool:
    """Whether octets of the message are among the FETCH attributes."""
    return any(key.startswith("BODY[") for key in told)


def facts_of(uid: int, told: Mapping[str, bytes]) -> Facts:
    """From the FETCH attributes of one message, with FLAGS among them."""
    flags = told["FLAGS"].strip(b"()").split()
    size = told.get("RFC822.SIZE", b"")
    body = told.get("BODY[]")
    header = next((raw for key, raw in told.items() if key.startswith("BODY[HEADER")), b"NIL")
    return Facts(
        uid,
        frozenset(one for one in flags if one.lower() not in _NOT_OURS),
        any(one.lower() == rb"\deleted" for one in flags),
        told.get("INTERNALDATE", b""),
        int(size) if size.isdigit() else 0,
        grammar.string_value(header) or b"",
        grammar.string_value(body) or b"" if body is not None else b"",
    )
