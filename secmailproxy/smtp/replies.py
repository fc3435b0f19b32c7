"""SMTP replies: from errors, from the octets of the smarthost, and as octets for the client.

PURE. Standards: RFC 5321 sections 4.2, 4.2.1 (several lines) and 4.5.3.1.5 (512 octets), RFC 2034 and
RFC 3463 (enhanced codes).

Security: the text of an exception that is not ours is never in a reply, nor is a control character of the
smarthost's, so that nobody can forge a second reply (SMTP-18).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from keystore.errors import StoreLocked
from secmailproxy.errors import KeystoreLocked, SecMailProxyError
from secmailproxy.model import Reply

LINE_LIMIT = 512
"""Octets of one reply line with code and CRLF."""
_CHALLENGE_LIMIT = 12288
"""The same for a challenge (RFC 4954 section 4), which is of no use when it is cut."""

_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?=\s|$)")

_STATUS = {
    221: "2.0.0",
    235: "2.7.0",
    500: "5.5.2",
    501: "5.5.4",
    502: "5.5.1",
    503: "5.5.1",
    504: "5.5.4",
}
"""Enhanced status codes of replies that have an own one by their code; the others get X.0.0."""

_READ_LIMIT = 32 * 1024
"""Octets of one reply that we read, whatever its lines; servers go beyond the 512 of the standard."""

_LINE = re.compile(rb"([2-5]\d\d)(?:([ -])(.*))?", re.DOTALL)

_WITHOUT_STATUS = frozenset({220, 334, 354})


class NotSmtp(Exception):
    """Octets that are no SMTP reply; nothing that comes after them can be trusted."""


class ReplyReader:
    """Cuts what a server sends into replies."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._code = 0
        self._lines: list[str] = []
        self._length = 0

    def feed(self, octets: bytes) -> Iterator[Reply]:
        """The replies that are complete with these octets, their lines joined by LF, not cleaned.

        Raises NotSmtp, after the replies before: for a line without code, lines of one reply with different
        codes, and a reply that is too long.
        """
        self._buffer += octets
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            if self._take(line):
                reply = Reply(self._code, "\n".join(self._lines))
                self._code, self._lines, self._length = 0, [], 0
                yield reply
        if self._length + len(self._buffer) > _READ_LIMIT:
            raise NotSmtp

    def _take(self, line: bytes) -> bool:
        """Whether this line is the last one of its reply."""
        found = _LINE.fullmatch(line)
        self._length += len(line)
        if found is None or self._length > _READ_LIMIT:
            raise NotSmtp
        code, mark, text = int(found[1]), found[2], found[3] or b""
        if self._lines and code != self._code:
            raise NotSmtp
        self._code = code
        self._lines.append(text.strip().decode("utf-8", "surrogateescape"))
        return mark != b"-"


def reply_for(error: BaseException, reference: str) -> Reply:
    """The one-line reply for any error; `reference` joins an unexpected one to its log record."""
    if isinstance(error, StoreLocked):
        error = KeystoreLocked(str(error))
    if isinstance(error, SecMailProxyError):
        return Reply(error.smtp_code, f"{error.enhanced_status} {clean(error.text)}".rstrip())
    return Reply(451, f"4.3.0 internal error (ref {reference})")


def clean(text: str) -> str:
    """One line of printable ASCII; anything else becomes "?", control characters become blanks."""
    if text.isascii() and text.isprintable():
        return " ".join(text.split())
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.encode("ascii", "replace").decode("ascii").split())


def with_status(reply: Reply) -> Reply:
    """The reply with an enhanced status code on each line, added where it is missing (RFC 2034 section 4)."""
    if reply.code in _WITHOUT_STATUS or not 200 <= reply.code <= 599 or reply.code // 100 == 3:
        return reply
    lines = reply.text.split("\n")
    found = _ENHANCED.match(lines[0])
    status = found.group() if found else _STATUS.get(reply.code, f"{reply.code // 100}.0.0")
    return Reply(
        reply.code,
        "\n".join(line if _ENHANCED.match(line) else f"{status} {line}".rstrip() for line in lines),
    )


def render(reply: Reply) -> bytes:
    """The octets of a reply, one line or several, each at most 512 octets of printable ASCII with CRLF."""
    limit = _CHALLENGE_LIMIT if reply.code == 334 else LINE_LIMIT
    lines = [clean(line)[: limit - 6] for line in reply.text.split("\n")]
    marks = ["-"] * (len(lines) - 1) + [" "]
    return b"".join(
        f"{reply.code}{mark}{line}\r\n".encode("ascii") for mark, line in zip(marks, lines, strict=True)
    )


def split_status(text: str) -> tuple[str, str]:
    """Enhanced status code ("" when there is none) and the rest of the first line."""
    found = _ENHANCED.match(text)
    return (found.group(), text[found.end() :].lstrip(" ")) if found else ("", text)
