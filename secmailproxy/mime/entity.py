"""The one parser: a message as a tree of spans of its own octets.

Header sections, bodies and parts are never copied or printed again, so what is verified, measured and served
are the very octets that came. Parsing follows what Dovecot does with malformed mail, so that structures agree
with those of real servers: a missing blank line ends the header at a boundary or at the end, a missing final
boundary ends at the end, the first of duplicate fields and parameters wins.

Standards: RFC 5322 section 2.1, RFC 2045, RFC 2046 section 5.1 (multipart) and 5.2.1 (message/rfc822).
Security: depth, number of parts, fields and header size are limited (`LimitExceeded`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from secmailproxy.errors import LimitExceeded
from secmailproxy.mime import header
from secmailproxy.mime.header import Field
from secmailproxy.mime.parameter import ContentType, content_type

_BOUNDARY_MOST = 80
"""Octets of a boundary that count; RFC 2046 allows 70."""

DEFAULT_TYPE = ContentType()
_RFC822 = ContentType("message", "rfc822")


@dataclass(frozen=True, slots=True)
class Limits:
    """How deep and large a message may be before it is left alone."""

    depth: int = 20
    parts: int = 1000
    fields: int = 1000
    header_octets: int = 256 * 1024
    """Of one header section."""
    all_header_octets: int = 512 * 1024
    """Of all header sections together."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A MIME entity. All offsets count from the start of the whole message `octets`."""

    octets: bytes
    """The whole message, shared by all entities of the tree."""
    start: int
    body_start: int
    """Just after the blank line."""
    end: int
    """Before the line end that belongs to the next boundary."""
    fields: tuple[Field, ...]
    content_type: ContentType
    parts: tuple[Entity, ...] = ()
    """The parts of a multipart; of message/rfc822 the one embedded message."""
    is_message: bool = True
    """The root or an embedded message; False for a part of a multipart."""

    @property
    def header(self) -> bytes:
        """The header section with its blank line."""
        return self.octets[self.start : self.body_start]

    @property
    def body(self) -> bytes:
        """The body, still transfer-encoded."""
        return self.octets[self.body_start : self.end]

    @property
    def whole(self) -> bytes:
        """Header section and body: what a signature over this entity covers."""
        return self.octets[self.start : self.end]

    @property
    def is_multipart(self) -> bool:
        """Whether `parts` are the parts of a multipart."""
        return self.content_type.maintype == "multipart"

    @property
    def is_rfc822(self) -> bool:
        """Whether this is message/rfc822, with the embedded message as its one part."""
        return self.content_type.full == "message/rfc822"


class _Delimiter(NamedTuple):
    """A boundary line found: where its line starts, and which of the open boundaries it is."""

    position: int
    level: int


def parse(octets: bytes, limits: Limits | None = None, *, default_type: ContentType = DEFAULT_TYPE) -> Entity:
    """The tree of the message `octets`, LF or CRLF; `default_type` serves without a Content-Type field.

    Never fails on malformed input; raises `LimitExceeded` beyond `limits`.
    """
    return _Parser(octets, limits or Limits()).entity(0, default_type, is_message=True)[0]


def parse_or_leaf(octets: bytes) -> Entity:
    """The message as `parse` gives it, or where it is over the limits, as one text without parts."""
    try:
        return parse(octets)
    except LimitExceeded:
        return leaf(octets)


def leaf(octets: bytes, limits: Limits | None = None) -> Entity:
    """The message as one text without parts: what is left to serve when `parse` raised LimitExceeded.

    Fields that describe the structure are left out, and all fields when there are too many.
    """
    limits = limits or Limits()
    end = header.section_end(octets, 0, min(len(octets), limits.header_octets)) or 0
    try:
        found = header.scan(octets, 0, end, limits.fields)
    except LimitExceeded:
        found = ()
    fields = tuple(field for field in found if not field.name.lower().startswith(("content-", "mime-")))
    return Entity(octets, 0, end, len(octets), fields, DEFAULT_TYPE)


def _own_delimiter(kind: ContentType) -> bytes | None:
    boundary = kind.param("boundary") if kind.maintype == "multipart" else None
    return None if boundary is None else b"--" + boundary.encode("latin-1", "replace")[:_BOUNDARY_MOST]


class _Parser:
    def __init__(self, octets: bytes, limits: Limits) -> None:
        self.octets = octets
        self.limits = limits
        self.parts = 0
        self.open: list[bytes] = []
        """The delimiters of the multiparts we are in, outermost first, with their leading hyphens."""
        self.depth = 0
        self.header_octets = 0
        self.found: dict[bytes, tuple[int, int, int]] = {}
        """Per delimiter: from where and until where it was searched, and what was found (-1: nothing)."""

    def entity(
        self, start: int, default: ContentType, *, is_message: bool
    ) -> tuple[Entity, _Delimiter | None]:
        """The entity at `start`, and the delimiter of an enclosing multipart that ended it."""
        self._count()
        stop = self._delimiter(start)
        header_end, has_body = self._header_end(start, stop)
        self.header_octets += header_end - start
        if self.header_octets > self.limits.all_header_octets:
            raise LimitExceeded(f"the header sections are larger than {self.limits.all_header_octets} octets")
        fields = header.scan(self.octets, start, header_end, self.limits.fields)
        kind = self._content_type(fields, default)
        if (
            has_body
            and stop is not None
            and stop.position == header_end
            and not self._opens(header_end, kind, stop)
        ):
            # The line end before the boundary is the boundary's, even if it looks like the blank line.
            header_end, has_body = self._end_before(stop, start), False
        end = header_end
        parts: tuple[Entity, ...] = ()
        if has_body:
            self.depth += 1
            end, parts, stop = self._body(header_end, kind)
            self.depth -= 1
        elif kind.full == _RFC822.full:
            parts = (self._empty(header_end),)
        return Entity(self.octets, start, header_end, end, fields, kind, parts, is_message), stop

    def _body(self, start: int, kind: ContentType) -> tuple[int, tuple[Entity, ...], _Delimiter | None]:
        """The end of the body at `start`, its parts, and the delimiter that ended it."""
        delimiter = _own_delimiter(kind)
        if delimiter is not None:
            return self._multipart(start, delimiter, _RFC822 if kind.subtype == "digest" else DEFAULT_TYPE)
        if kind.full == _RFC822.full:
            embedded, stop = self.entity(start, DEFAULT_TYPE, is_message=True)
            return embedded.end, (embedded,), stop
        stop = self._delimiter(start)
        return self._end_before(stop, start), (), stop

    def _opens(self, start: int, kind: ContentType, stop: _Delimiter) -> bool:
        """Whether the multipart `kind` begins with its own boundary at `start`, though `stop` matches too."""
        delimiter = _own_delimiter(kind)
        return (
            delimiter is not None
            and len(delimiter) >= len(self.open[stop.level])
            and self.octets.startswith(delimiter, start)
        )

    def _count(self) -> None:
        self.parts += 1
        if self.parts > self.limits.parts:
            raise LimitExceeded(f"the message has more than {self.limits.parts} parts")
        if self.depth > self.limits.depth:
            raise LimitExceeded(f"the message is nested deeper than {self.limits.depth} levels")

    def _header_end(self, start: int, stop: _Delimiter | None) -> tuple[int, bool]:
        """Where the header section ends, and whether a body follows."""
        limit = len(self.octets) if stop is None else stop.position
        most = self.limits.header_octets
        end = header.section_end(self.octets, start, min(limit, start + most + 2))
        if end is not None:
            return end, True
        if limit - start > most:
            raise LimitExceeded(f"a header section is larger than {most} octets")
        return self._end_before(stop, start), False

    def _content_type(self, fields: tuple[Field, ...], default: ContentType) -> ContentType:
        for field in fields:
            if field.name.lower() == "content-type":
                return content_type(field.value(self.octets))
        return default

    def _multipart(
        self, start: int, delimiter: bytes, default: ContentType
    ) -> tuple[int, tuple[Entity, ...], _Delimiter | None]:
        mine = len(self.open)
        self.open.append(delimiter)
        parts: list[Entity] = []
        stop = self._delimiter(start)
        end = self._end_before(stop, start)
        while stop is not None and stop.level == mine:
            after = self._line_end(stop.position)
            if self.octets.startswith(b"--", stop.position + len(delimiter)):
                self.open.pop()
                stop = self._delimiter(after)
                return self._end_before(stop, after), tuple(parts), stop
            if not self.octets.endswith(b"\n", stop.position, after):
                stop, end = None, after
                break
            part, stop = self.entity(after, default, is_message=False)
            parts.append(part)
            end = part.end
        del self.open[mine:]
        return len(self.octets) if stop is None else end, tuple(parts), stop

    def _empty(self, at: int) -> Entity:
        self._count()
        return Entity(self.octets, at, at, at, (), DEFAULT_TYPE)

    def _line_end(self, position: int) -> int:
        line_end = self.octets.find(b"\n", position)
        return len(self.octets) if line_end < 0 else line_end + 1

    def _end_before(self, stop: _Delimiter | None, floor: int) -> int:
        """The end of an entity before `stop`: the line end there belongs to the boundary (RFC 2046)."""
        if stop is None:
            return len(self.octets)
        end = stop.position
        if end > floor and self.octets[end - 1] == 0x0A:
            end -= 1
            if end > floor and self.octets[end - 1] == 0x0D:
                end -= 1
        return end

    def _delimiter(self, position: int) -> _Delimiter | None:
        """The first boundary line of an open multipart at or after the line start `position`.

        Where one boundary is the beginning of another the longer one counts, then the inner one.
        """
        best: _Delimiter | None = None
        for index, delimiter in enumerate(self.open):
            # Not beyond what an outer one has found: else each of many siblings would search the whole rest.
            at = self._next(delimiter, position, len(self.octets) if best is None else best.position)
            if at < 0:
                continue
            if (
                best is None
                or at < best.position
                or (at == best.position and len(delimiter) >= len(self.open[best.level]))
            ):
                best = _Delimiter(at, index)
        return best

    def _next(self, delimiter: bytes, position: int, limit: int) -> int:
        """Where `delimiter` next begins a line, from the line start `position` to `limit`; -1 for nowhere."""
        start, stop, found = self.found.get(delimiter, (0, -1, -1))
        if start <= position and (found >= position or (found < 0 and limit <= stop)):
            return found if found <= limit else -1
        if self.octets.startswith(delimiter, position):
            found = position
        else:
            found = self.octets.find(b"\n" + delimiter, max(position - 1, 0), limit + len(delimiter))
            found = found + 1 if found >= 0 else -1
        self.found[delimiter] = (position, limit, found)
        return found
