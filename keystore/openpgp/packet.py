"""PURE. Packets and their framing: octets -> (tag, body) and back, and ASCII armor.

The engine reads packets too, but shows neither the octets inside an encrypted message nor all subpackets.

Standards: RFC 9580 sections 4.2 (packet headers), 6 (armor), 3.2 (multiprecision integers).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple


class Malformed(Exception):
    """The octets are no OpenPGP packets; the text is for developers and carries no input."""


class Tag(IntEnum):
    """Packet types that we know (RFC 9580 section 5)."""

    PKESK = 1
    SIGNATURE = 2
    SKESK = 3
    ONE_PASS_SIGNATURE = 4
    SECRET_KEY = 5
    PUBLIC_KEY = 6
    SECRET_SUBKEY = 7
    COMPRESSED = 8
    SED = 9
    MARKER = 10
    LITERAL = 11
    TRUST = 12
    USER_ID = 13
    PUBLIC_SUBKEY = 14
    USER_ATTRIBUTE = 17
    SEIPD = 18
    GNUPG_AEAD = 20
    PADDING = 21


CHUNK_OCTETS, FREE_CHUNKS = 64, 1024
"""How long partial lengths are on average, at least, after so many; only the first must have 512 octets."""
MAX_PACKETS = 4096
"""Packets of one message: a thousand recipients and all that may stand beside them."""

STREAMED = frozenset({Tag.COMPRESSED, Tag.SED, Tag.LITERAL, Tag.SEIPD, Tag.GNUPG_AEAD})
"""The only packets that may have a partial or an indeterminate length (RFC 9580 section 4.2.1.4)."""


_FIRST_UNCRITICAL = 40


def is_ignored(tag: int) -> bool:
    """Whether a reader passes such a packet over (RFC 9580 sections 4.3, 5.8 and 5.14)."""
    return tag in (Tag.MARKER, Tag.PADDING) or tag >= _FIRST_UNCRITICAL


class Packet(NamedTuple):
    """One packet. `tag` is a number because unknown ones exist."""

    tag: int
    body: bytes

    @property
    def octets(self) -> bytes:
        """The packet with a header in the current format."""
        return write(self.tag, self.body)


def write(tag: int, body: bytes) -> bytes:
    """Frame a packet (RFC 9580 section 4.2.1)."""
    return bytes([0xC0 | tag]) + length_octets(len(body)) + body


def length_octets(length: int) -> bytes:
    """A new-format length, as packets and subpackets use it (RFC 9580 section 4.2.1)."""
    if length < 192:
        return bytes([length])
    if length < 8384:
        return bytes([((length - 192) >> 8) + 192, (length - 192) & 0xFF])
    return b"\xff" + length.to_bytes(4, "big")


def packets(octets: bytes, most: int | None = None) -> Iterator[Packet]:
    """Split binary octets into packets.

    Raises Malformed on anything that does not add up, or after `most` packets, after the packets before it
    were handed out.
    """
    at = count = 0
    while at < len(octets):
        count += 1
        if most is not None and count > most:
            raise Malformed("too many packets")
        first = octets[at]
        if not first & 0x80:
            raise Malformed("no packet header")
        tag, read = (first & 0x3F, _new_format) if first & 0x40 else ((first >> 2) & 0x0F, _old_format)
        body, at = read(octets, at, tag)
        yield Packet(tag, body)


def _old_format(octets: bytes, at: int, tag: int) -> tuple[bytes, int]:
    kind = octets[at] & 3
    if kind == 3:
        if tag not in STREAMED:
            raise Malformed("indeterminate length")
        return octets[at + 1 :], len(octets)
    width = 1 << kind
    start = at + 1 + width
    return _cut(octets, start, int.from_bytes(_exactly(octets, at + 1, width), "big"))


def _new_format(octets: bytes, at: int, tag: int) -> tuple[bytes, int]:
    at += 1
    start = at
    chunks: list[bytes] = []
    while True:
        first = _exactly(octets, at, 1)[0]
        if not 224 <= first < 255:
            length, at = read_length(octets, at)
            body, at = _cut(octets, at, length)
            return (b"".join([*chunks, body]) if chunks else body), at
        # RFC 9580 section 4.2.1.4: the first chunk of a packet of partial lengths has at least 512 octets.
        if tag not in STREAMED or (not chunks and first < 224 + 9):
            raise Malformed("partial length")
        if (len(chunks) - FREE_CHUNKS) * CHUNK_OCTETS > at - start:
            raise Malformed("partial lengths of hardly anything")
        chunk, at = _cut(octets, at + 1, 1 << (first & 0x1F))
        chunks.append(chunk)


def read_length(octets: bytes, at: int) -> tuple[int, int]:
    """Read a new-format length at `at`; return it and the place after it. Raises Malformed."""
    first = _exactly(octets, at, 1)[0]
    if first < 192:
        return first, at + 1
    if first == 255:
        return int.from_bytes(_exactly(octets, at + 1, 4), "big"), at + 5
    return ((first - 192) << 8) + _exactly(octets, at + 1, 1)[0] + 192, at + 2


def _cut(octets: bytes, start: int, length: int) -> tuple[bytes, int]:
    return _exactly(octets, start, length), start + length


def _exactly(octets: bytes, start: int, length: int) -> bytes:
    piece = octets[start : start + length]
    if len(piece) != length:
        raise Malformed("cut off")
    return piece


class Reader:
    """Takes fields from the front of a packet body; raises Malformed at its end."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.at = 0

    def take(self, length: int) -> bytes:
        """The next `length` octets."""
        piece, self.at = _cut(self.octets, self.at, length)
        return piece

    def number(self, width: int = 1) -> int:
        """An unsigned big-endian number of `width` octets."""
        return int.from_bytes(self.take(width), "big")

    def integer(self) -> bytes:
        """A multiprecision integer without its length (RFC 9580 section 3.2)."""
        return self.take((self.number(2) + 7) // 8)

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self.octets) - self.at)


_BEGIN, _END = b"-----BEGIN PGP ", b"-----END PGP "
# Possessive: what is given up cannot be tried otherwise, and need not be remembered.
_ARMOR_HEADERS = re.compile(rb"(?:[A-Za-z0-9-]+:[^\n]*\n)*+")


def is_armored(octets: bytes) -> bool:
    """Whether the octets are text with armor rather than packets, whose first octet has its high bit set."""
    return _BEGIN in octets and not octets[0] & 0x80


def dearmor(octets: bytes) -> list[tuple[str, bytes]]:
    """All blocks of armored text, as (kind, binary); kind is such as "PUBLIC KEY BLOCK".

    Text around the blocks is passed over. Raises Malformed when a block is damaged or has no end. A checksum
    line is not compared: RFC 9580 section 6.1 forbids to refuse for its sake, and real integrity lies
    elsewhere.
    """
    return list(_blocks(octets))


def _blocks(octets: bytes) -> Iterator[tuple[str, bytes]]:
    at = 0
    while (start := _line_start(octets, _BEGIN, at)) >= 0:
        mark = octets.find(b"\n", start)
        if mark < 0:
            raise Malformed("armor without an end")
        begin_line = octets[start:mark].rstrip()
        kind = begin_line.removeprefix(_BEGIN).removesuffix(b"-----")
        end = _line_start(octets, _END + kind + b"-----", mark)
        if end < 0 or not begin_line.endswith(b"-----"):
            raise Malformed("armor without an end")
        yield kind.decode("ascii", "replace"), _unarmor(octets[mark + 1 : end])
        at = end + 1


def _line_start(octets: bytes, wanted: bytes, at: int) -> int:
    """Where `wanted` stands at the start of a line, from `at` on, or -1."""
    found = octets.find(wanted, at)
    while found > 0 and octets[found - 1] != 0x0A:
        found = octets.find(wanted, found + 1)
    return found


def _unarmor(text: bytes) -> bytes:
    # The blank line after the headers is missing in armor that was pasted by hand.
    headers = _ARMOR_HEADERS.match(text)
    body = text[headers.end() if headers else 0 :]
    packed = body.translate(None, b" \t\r\n")
    # A checksum is "=" and four digits in a line of their own; padding is "=" at the end of a group of four.
    if len(packed) % 4 == 1 and packed[-5:-4] == b"=":
        packed = packed[:-5]
    try:
        return binascii.a2b_base64(packed, strict_mode=True)
    except binascii.Error:
        raise Malformed("armor") from None


def binary(octets: bytes, kind: str) -> bytes:
    """The packets of `octets`, armored (the first block of this kind) or not. Raises Malformed."""
    if not is_armored(octets):
        return octets
    for found, packed in _blocks(octets):
        if found == kind:
            return packed
    raise Malformed("no such block")


def sole(octets: bytes, kind: str) -> bytes:
    """The packets of a message: binary, or one block of this kind with nothing but blanks around it.

    Raises Malformed. What else there is might be shown by one reader and not by another.
    """
    if not is_armored(octets):
        return octets
    text = octets.strip(b" \t\r\n")
    mark = _END + kind.encode("ascii") + b"-----"
    if not text.startswith(_BEGIN) or _line_start(text, mark, 0) != len(text) - len(mark):
        raise Malformed("not one block")
    blocks = dearmor(text)
    if [found for found, _ in blocks] != [kind]:
        raise Malformed("not one block")
    return blocks[0][1]
