"""Octets from a submission client cut into command lines and messages; octets for a smarthost dot-stuffed.

PURE. Standards: RFC 5321 sections 2.3.8 (line endings), 4.1.1.4 (DATA), 4.5.2 (transparency), 4.5.3.1
(limits); RFC 4954 section 4 (length of an AUTH line).

Security: a message ends at CRLF "." CRLF and nowhere else, so that nothing inside it can pass for commands
(smuggling); what holds a bare CR, a bare LF or NUL is reported as a fault and must not be sent on. Where such
a message ends may have been meant otherwise, so that what follows it must not be read as commands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from secmailproxy.mime.canonical import LINE_MOST, has_long_line

LINE_LIMIT = 12288
"""Octets of a command line without CRLF: the longest that a standard allows, an AUTH line."""

_END = b"\r\n.\r\n"
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class LineFault(Exception):
    """A command line was thrown away: too long, not ended by CRLF, or with a control character."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came between 354 and the final dot."""

    octets: bytes
    """Without dot-stuffing, ending in CRLF unless empty; empty too when `too_large`."""
    too_large: bool = False
    fault: str = ""
    """Why the message cannot be passed on safely, nor what follows it be trusted, or ""."""

    @property
    def header_fault(self) -> str:
        """Why its header cannot be passed on, or "". A body can be encoded anew, a header cannot."""
        if self.octets.startswith(b"\r\n"):
            return ""
        end = self.octets.find(b"\r\n\r\n")
        if has_long_line(self.octets if end < 0 else self.octets[: end + 2]):
            return f"a line of the header has more than {LINE_MOST} octets"
        return ""


class Wire:
    """Cuts the stream of one client. Feed octets as they come; ask for a line or a message."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = False
        self._gathering = False
        self._too_large = False

    def feed(self, octets: bytes) -> None:
        """Take octets of any number."""
        self._buffer += octets

    @property
    def holds_octets(self) -> bool:
        """Whether anything has not been taken yet."""
        return bool(self._buffer)

    @property
    def holds_line(self) -> bool:
        """Whether `line` would give a line, or raise."""
        return b"\n" in self._buffer

    def line(self) -> bytes | None:
        """The next command line without CRLF, or None until there is one. Raises LineFault for a bad one."""
        end = self._buffer.find(b"\n", self._scanned)
        if end < 0:
            if len(self._buffer) > LINE_LIMIT + 1:
                self._skipping = True
                self._buffer.clear()
            self._scanned = len(self._buffer)
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._scanned = 0
        if self._skipping or len(line) > LINE_LIMIT + 2:
            self._skipping = False
            raise LineFault("line too long")
        if not line.endswith(b"\r\n"):
            raise LineFault("a line must end in CRLF")
        line = line[:-2]
        if _CONTROL.search(line):
            raise LineFault("control character in a line")
        return line

    @property
    def work(self) -> int:
        """Over how many octets `message` goes next: all, once the end seems to be there."""
        return len(self._buffer) if self._buffer.endswith(_END) else 0

    def message(self, limit: int) -> Gathered | None:
        """The message up to the final dot, or None until it is complete; at most `limit` octets are kept."""
        if not self._gathering:
            # The CRLF that ended the DATA command belongs to the end mark of an empty message.
            self._buffer[:0] = b"\r\n"
            self._gathering = True
            self._too_large = False
            self._scanned = 0
        end = self._buffer.find(_END, self._scanned)
        if end < 0:
            # Dot-stuffing, which does not count (RFC 1870 section 3), adds one octet to three at most.
            if len(self._buffer) > limit + limit // 3 + len(_END):
                self._too_large = True
                del self._buffer[: -len(_END) + 1]
            self._scanned = max(0, len(self._buffer) - len(_END) + 1)
            return None
        content = bytes(self._buffer[: end + 2])
        del self._buffer[: end + len(_END)]
        self._gathering = False
        self._scanned = 0
        octets = b"" if self._too_large else content.replace(b"\r\n.", b"\r\n")[2:]
        if self._too_large or len(octets) > limit:
            return Gathered(b"", too_large=True)
        return Gathered(octets, fault=fault(octets))


def fault(octets: bytes) -> str:
    """Why these octets cannot be sent as a message without becoming ambiguous, or ""."""
    if line_fault(octets) or octets.count(b"\r") != octets.count(b"\r\n"):
        return "bare CR or LF in the message; lines must end in CRLF"
    return "NUL octet in the message" if 0 in octets else ""


def line_fault(octets: bytes) -> str:
    """Why it cannot be told where a message with these octets ends, or "".

    NUL does no harm there, nor does a CR by itself, which programs write that show how far they are.
    """
    if octets.count(b"\n") != octets.count(b"\r\n"):
        return "bare LF in the message; lines must end in CRLF"
    return ""


def long_line_fault(octets: bytes) -> str:
    """Why these octets cannot leave as they are, though they are not ambiguous, or "".

    A relay would break the line, or refuse it. What we have protected has none.
    """
    if has_long_line(octets):
        return (
            f"a line of the message has more than {LINE_MOST} octets, and it would leave as it is; let the "
            "mail client encode it"
        )
    return ""


def dot_stuffed(octets: bytes) -> bytes:
    """The octets as they follow 354, with the final dot. A final CRLF is added where there is none."""
    stuffed = octets.replace(b"\r\n.", b"\r\n..")
    if stuffed.startswith(b"."):
        stuffed = b"." + stuffed
    if stuffed and not stuffed.endswith(b"\r\n"):
        stuffed += b"\r\n"
    return stuffed + b".\r\n"
