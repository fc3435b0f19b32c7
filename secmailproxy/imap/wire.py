"""Octets to lines and literals, in both directions. PURE.

A response or command is a run of *fragments* (lines, CRLF included) with *literals* between them (RFC 9051
section 4.3). Lines are cut here, once, before any grammar looks at them: malformed input cannot turn the
octets of a literal into commands. Every octet that goes in comes out, in order.

Standards: RFC 9051 sections 2.2, 4.3, 7; RFC 7888 (LITERAL-).
Security: line and literal sizes are bounded; a breach raises `WireError` and the connection is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

RESPONSE_LINE_LIMIT = 4 * 1024 * 1024
"""Octets; one FETCH line may hold an ENVELOPE with a very long To."""
COMMAND_LINE_LIMIT = 64 * 1024
"""Octets; RFC 7162 section 4 asks for at least 8192."""
NON_SYNC_LIMIT = 4096
"""Octets of a non-synchronising literal under LITERAL- (RFC 7888 section 5)."""

_LITERAL = re.compile(rb"(~?)\{(\d{1,19})(\+?)\}\r?\n\Z")
# Text after these is human text: it may end in "{5}" and announce nothing (RFC 9051 section 7.1).
_STATUS = re.compile(rb"(?:\*|[^\s*+]+) (?:OK|NO|BAD|BYE|PREAUTH)\b|\+", re.IGNORECASE)


class WireError(Exception):
    """The peer broke framing limits; the text is safe to log and to show."""


class Fragment(NamedTuple):
    """A line or the piece of it up to a literal; `octets` end in CRLF (or a lone LF, as received)."""

    octets: bytes
    first: bool
    last: bool


class Chunk(NamedTuple):
    """Some octets of the literal that the fragment before announced."""

    octets: bytes


class ResponseSplitter:
    """Cuts a server's octets into fragments and chunks, at any segmentation with the same joined result."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._literal_left = 0
        self._in_response = False
        self._status = False
        self._scanned = 0

    @property
    def mid_response(self) -> bool:
        """Whether a response has begun and not ended."""
        return self._in_response or self._literal_left > 0 or bool(self._buffer)

    @property
    def half_out(self) -> bool:
        """Whether a part of a response has been yielded, and not its end."""
        return self._in_response

    @property
    def literal_left(self) -> int:
        """Octets still to come of the literal that was announced last."""
        return self._literal_left

    @property
    def rest(self) -> bytes:
        """The beginning of a line whose end has not come."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> Iterator[Fragment | Chunk]:
        """Yield what `data` completes. Raises `WireError` on a line beyond the limit."""
        if self._buffer:
            self._buffer += data
            data = bytes(self._buffer)
            self._buffer.clear()
        at, end = 0, len(data)
        while at < end:
            left = self._literal_left
            if left:
                take = left if left < end - at else end - at
                self._literal_left = left - take
                yield Chunk(data[at : at + take])
                at += take
                continue
            stop = data.find(b"\n", at + self._scanned) + 1
            if not stop:
                if end - at > RESPONSE_LINE_LIMIT:
                    raise WireError("the server sent a line of more than 4 MiB")
                self._scanned = end - at
                self._buffer += data[at:]
                return
            self._scanned = 0
            yield self._fragment(data[at:stop])
            at = stop

    def _fragment(self, line: bytes) -> Fragment:
        first = not self._in_response
        literal = None
        if line.endswith((b"}\r\n", b"}\n")):
            if first:
                self._status = _STATUS.match(line) is not None
            literal = None if self._status else _LITERAL.search(line)
        if literal is not None:
            self._literal_left = int(literal[2])
        self._in_response = literal is not None
        return Fragment(line, first, literal is None)


@dataclass(slots=True)
class Command:
    """A whole client command: fragments and literals alternate, beginning and ending with a fragment."""

    fragments: list[bytes] = field(default_factory=list)
    literals: list[bytes] = field(default_factory=list)

    @property
    def octets(self) -> bytes:
        """As the client sent it."""
        out = [self.fragments[0]]
        for literal, fragment in zip(self.literals, self.fragments[1:], strict=True):
            out += (literal, fragment)
        return b"".join(out)


@dataclass(frozen=True, slots=True)
class LiteralAhead:
    """The command so far ends in a literal of `size` octets. A synchronising one waits for `accept`."""

    command: Command
    size: int
    synchronising: bool


@dataclass(frozen=True, slots=True)
class LiteralPart:
    """Octets of a literal that is streamed, not collected. `left` octets are still to come."""

    octets: bytes
    left: int


ClientEvent = Command | LiteralAhead | LiteralPart


class CommandReader:
    """Collects whole commands of a client; asks before each literal.

    After `LiteralAhead` the caller answers with `collect`, `stream` or `refuse` before reading on.
    Events come one at a time from `next_event`, so that the answer to one governs the next.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._command = Command()
        self._literal: bytearray | None = None
        self._left = 0
        self._streaming = False
        self._asked = False

    def feed(self, data: bytes) -> None:
        """Add octets received from the client."""
        self._buffer += data

    @property
    def pending(self) -> int:
        """Octets received and not yet consumed."""
        return len(self._buffer)

    def take_line(self) -> bytes | None:
        """One raw line, for continuation data (AUTHENTICATE, DONE); None when incomplete."""
        stop = self._buffer.find(b"\n") + 1
        if not stop:
            self._check_length(len(self._buffer))
            return None
        line = bytes(self._buffer[:stop])
        del self._buffer[:stop]
        return line

    def take_all(self) -> bytes:
        """Everything received and not yet consumed."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def collect(self) -> None:
        """Keep the literal ahead in memory as part of the command."""
        self._asked = False
        self._literal = bytearray()

    def stream(self) -> None:
        """Hand the literal ahead out in parts."""
        self._asked = False
        self._streaming = True

    def refuse(self) -> None:
        """Forget the command; the client sends no octets of a synchronising literal after a tagged NO."""
        self._asked = False
        self._left = 0
        self._command = Command()

    def next_event(self) -> ClientEvent | None:
        """The next event, or None when more octets (or an answer to `LiteralAhead`) are needed."""
        if self._asked:
            return None
        if self._streaming:
            return self._stream_part()
        if self._literal is not None and not self._fill_literal(self._literal):
            return None
        line = self.take_line()
        if line is None:
            return None
        self._check_length(sum(map(len, self._command.fragments)) + len(line))
        self._command.fragments.append(line)
        literal = _LITERAL.search(line)
        if literal is None:
            command, self._command = self._command, Command()
            return command
        size, synchronising = int(literal[2]), not literal[3]
        if not synchronising and size > NON_SYNC_LIMIT:
            raise WireError("a non-synchronising literal of more than 4096 octets (RFC 7888)")
        self._left, self._asked = size, True
        return LiteralAhead(self._command, size, synchronising)

    def _stream_part(self) -> LiteralPart | None:
        if not self._buffer and self._left:
            return None
        part = bytes(self._buffer[: self._left])
        del self._buffer[: len(part)]
        self._left -= len(part)
        if not self._left:
            self._streaming = False
            # However many messages a command has, what came before is not kept.
            self._command = Command([b""], [b""])
        return LiteralPart(part, self._left)

    def _fill_literal(self, literal: bytearray) -> bool:
        part = self._buffer[: self._left]
        literal += part
        del self._buffer[: len(part)]
        self._left -= len(part)
        if self._left:
            return False
        self._command.literals.append(bytes(literal))
        self._literal = None
        return True

    @staticmethod
    def _check_length(length: int) -> None:
        if length > COMMAND_LINE_LIMIT:
            raise WireError("a command line of more than 64 KiB")
