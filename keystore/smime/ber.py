"""PURE. BER made readable: definite lengths, strings in one piece, and bounds on what strangers write.

S/MIME programs that stream write indefinite lengths and strings in many pieces (openssl, gpgsm, Apple,
Outlook). What comes out holds the same values with definite lengths; whatever was in definite lengths
already, as certificates are, keeps its very octets, for signatures stand over them. Work and memory grow with
the input only: nothing recurses.

Standards: X.690 section 8 (BER); RFC 5652 sections 5.1 and 6.1 (where BER may stand).
"""

from __future__ import annotations

from dataclasses import dataclass, field

MAX_DEPTH = 64
"""Structures of real messages are some fifteen deep."""
MAX_ELEMENTS = 100_000
"""Large messages come in pieces of 1 KB or more, so that this is some 100 MB."""

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
SEQUENCE, SET = 0x30, 0x31
"""Tag octets."""

_CONSTRUCTED = 0x20
_PIECES = OCTET_STRING | _CONSTRUCTED
_LONG_TAG = 0x1F
_INDEFINITE = 0x80
_END = b"\0\0"


class Malformed(ValueError):
    """These octets are no BER, or beyond all bounds."""


@dataclass(slots=True)
class _Open:
    """A constructed element whose end has not been reached."""

    tag: int
    start: int
    end: int | None
    """Where its contents end; None while only an end mark can tell."""
    limit: int
    """Where they end at the latest."""
    changed: bool
    """Whether it must be written anew."""
    pieces: list[memoryview | bytes] = field(default_factory=list)
    length: int = 0


def definite(octets: bytes) -> bytes:
    """One BER value and nothing behind it, with definite lengths throughout. Raises Malformed."""
    whole = memoryview(octets)
    outermost = _Open(_CONSTRUCTED, 0, len(octets), len(octets), changed=False)
    stack, position = [outermost], 0
    for _ in range(MAX_ELEMENTS):
        current = stack[-1]
        marked = current.end is None and whole[position : position + 2] == _END
        if marked or position == current.end:
            if current is outermost:
                break
            position += len(_END) if marked else 0
            stack.pop()
            _close(current, stack[-1], whole[current.start : position])
        elif current is outermost and outermost.pieces:
            raise Malformed("more than one value")
        else:
            position = _begin(whole, position, stack)
    if position != len(octets) or not octets:
        raise Malformed("too many elements, or none")
    return b"".join(outermost.pieces) if outermost.changed else octets


@dataclass(frozen=True, slots=True)
class Element:
    """One element out of `definite`. Octets are copied when they are asked for."""

    tag: int
    view: memoryview
    """Header and contents."""
    header: int
    """How long the header is."""

    @property
    def inside(self) -> memoryview:
        """The contents, not copied."""
        return self.view[self.header :]

    @property
    def contents(self) -> bytes:
        """The contents."""
        return bytes(self.view[self.header :])

    @property
    def whole(self) -> bytes:
        """Header and contents."""
        return bytes(self.view)


class Fields:
    """The elements of a sequence or set, taken one after the other. What does not fit raises Malformed."""

    def __init__(self, contents: bytes | memoryview) -> None:
        self._left = elements(contents)[::-1]

    def take(self, *tags: int) -> Element:
        """The next, which has one of these tag octets; any without."""
        if not self._left or (tags and self._left[-1].tag not in tags):
            raise Malformed("another element than there must be")
        return self._left.pop()

    def optional(self, *tags: int) -> Element | None:
        """The next where it has one of these tag octets, else None."""
        return self._left.pop() if self._left and self._left[-1].tag in tags else None

    def __bool__(self) -> bool:
        """Whether anything is left."""
        return bool(self._left)

    def end(self) -> None:
        """Nothing must be left."""
        if self._left:
            raise Malformed("more than there must be")


def elements(contents: bytes | memoryview) -> list[Element]:
    """The elements that stand one after the other, out of `definite`. Raises Malformed."""
    view, size = memoryview(contents), len(contents)
    found, position = [], 0
    while position < size:
        tag, inside, length = _header(view, position, size)
        if length is None or inside + length > size:
            raise Malformed("longer than what holds it")
        end = inside + length
        found.append(Element(tag, view[position:end], inside - position))
        position = end
    return found


def only(contents: bytes | memoryview, tag: int) -> Element:
    """The one element, with this tag octet, that `contents` are. Raises Malformed."""
    fields = Fields(contents)
    found = fields.take(tag)
    fields.end()
    return found


def joined(string: Element, tag: int) -> bytes:
    """A string under a tag of its own, `tag`, in one piece or in several. Raises Malformed."""
    if string.tag == tag:
        return string.contents
    pieces = elements(string.inside)
    if string.tag != tag | _CONSTRUCTED or any(one.tag != OCTET_STRING for one in pieces):
        raise Malformed("not the pieces of a string")
    return b"".join(one.inside for one in pieces)


def element(tag: int, contents: bytes) -> bytes:
    """An element, DER."""
    return _written(tag, len(contents)) + contents


def _begin(whole: memoryview, position: int, stack: list[_Open]) -> int:
    """Take one primitive element over, or enter one that holds others; where to go on."""
    current = stack[-1]
    tag, inside, length = _header(whole, position, current.limit)
    end = None if length is None else inside + length
    if (end or inside) > current.limit:
        raise Malformed("longer than what holds it")
    if current.tag == _PIECES and tag not in (OCTET_STRING, _PIECES):
        raise Malformed("a string of other things than strings")
    if tag & _CONSTRUCTED:
        if len(stack) > MAX_DEPTH:
            raise Malformed("nested too deep")
        changed = end is None or tag == _PIECES
        stack.append(_Open(tag, position, end, current.limit if end is None else end, changed))
        return inside
    if end is None:
        raise Malformed("a primitive element without a length")
    piece = whole[inside if current.tag == _PIECES else position : end]
    current.pieces.append(piece)
    current.length += len(piece)
    return end


def _close(done: _Open, holder: _Open, verbatim: memoryview) -> None:
    """Put a complete element into the one that holds it: anew where it must be, else in its own octets."""
    pieces: list[memoryview | bytes] = [verbatim]
    length = len(verbatim)
    if done.changed:
        holder.changed = True
        pieces, length = done.pieces, done.length
        if holder.tag != _PIECES:
            header = _written(OCTET_STRING if done.tag == _PIECES else done.tag, length)
            holder.pieces.append(header)
            length += len(header)
    holder.pieces.extend(pieces)
    holder.length += length


def _header(whole: memoryview, position: int, limit: int) -> tuple[int, int, int | None]:
    """Tag octet, where the contents start, and their length; None for an indefinite one."""
    if position + 2 > limit:
        raise Malformed("cut off")
    tag, length = whole[position], whole[position + 1]
    if tag & _LONG_TAG == _LONG_TAG or tag == 0:
        raise Malformed("a tag that stands in no message")
    position += 2
    if length < _INDEFINITE:
        return tag, position, length
    if length == _INDEFINITE:
        return tag, position, None
    more = length - _INDEFINITE
    if more > 8 or position + more > limit:
        raise Malformed("a length beyond all bounds")
    return tag, position + more, int.from_bytes(whole[position : position + more])


def _written(tag: int, length: int) -> bytes:
    if length < _INDEFINITE:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8)
    return bytes((tag, _INDEFINITE | len(octets))) + octets
