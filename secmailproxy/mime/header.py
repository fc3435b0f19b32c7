"""The header section: fields as spans of the received octets, and readings of their values.

Nothing here prints a field: octets are kept, and a value is only interpreted.

Standards: RFC 5322 sections 2.2 and 3.6, RFC 2047 (encoded words).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Collection
from typing import NamedTuple, Protocol

from secmailproxy.errors import LimitExceeded

_FIELD = re.compile(rb"([^\n:]*)(:?)[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")
_BLANK_LINE = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\r?\n")
_ENCODED_WORD = re.compile(rb"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?]*)\?=")
_Q_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")


class Field(NamedTuple):
    """One header field as a span of the message: name, colon, value, folded lines, final line end."""

    name: str
    """As written, without the colon; a line without a colon is all name."""
    start: int
    value_start: int
    """Just after the colon."""
    end: int

    def raw(self, octets: bytes) -> bytes:
        """The octets of the field with its final line end."""
        return octets[self.start : self.end]

    def value(self, octets: bytes) -> bytes:
        """The octets after the colon, folds included, final line end excluded."""
        return octets[self.value_start : self.end].rstrip(b"\r\n")

    def named(self, name: str) -> bool:
        """Whether this is the field `name`, case ignored."""
        return self.name.lower() == name.lower()


class HasFields(Protocol):
    """What the finders need of an entity."""

    @property
    def octets(self) -> bytes:
        """The whole message."""

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields in order, as spans of `octets`."""


def is_structural(name: str) -> bool:
    """Whether a field describes the MIME structure, and so belongs to one layer (RFC 9787 section 1.1.1)."""
    lower = name.lower()
    return lower == "mime-version" or lower.startswith("content-")


def section_end(octets: bytes, start: int, limit: int) -> int | None:
    """Offset just after the blank line that ends the header section at `start`, or None without one."""
    if octets.startswith(b"\n", start, limit):
        return start + 1
    if octets.startswith(b"\r\n", start, limit):
        return start + 2
    blank = _BLANK_LINE.search(octets, start, limit)
    return blank.end() if blank else None


def scan(octets: bytes, start: int, end: int, most: int = 1000) -> tuple[Field, ...]:
    """The fields between `start` and `end`, LF or CRLF; stops at a blank line.

    Raises `LimitExceeded` when there are more than `most`. Lines that are no fields are kept as fields whose
    name is the whole line, so that the spans cover the section without a gap.
    """
    fields: list[Field] = []
    for match in _FIELD.finditer(octets, start, end):
        at = match.start()
        if at == end or (octets[at] in b"\r\n" and octets.startswith((b"\n", b"\r\n"), at, end)):
            break
        if len(fields) == most:
            raise LimitExceeded(f"a header section has more than {most} fields")
        name, colon = match.groups()
        stop = match.end()
        fields.append(
            Field(name.rstrip(b" \t\r").decode("latin-1"), at, match.end(2) if colon else stop, stop)
        )
    return tuple(fields)


def find(entity: HasFields, name: str) -> Field | None:
    """The first field `name`, or None."""
    wanted = name.lower()
    return next((field for field in entity.fields if field.name.lower() == wanted), None)


def find_all(entity: HasFields, name: str) -> tuple[Field, ...]:
    """Every field `name`, in order."""
    wanted = name.lower()
    return tuple(field for field in entity.fields if field.name.lower() == wanted)


def values(entity: HasFields, name: str) -> tuple[bytes, ...]:
    """The unfolded, stripped values of every field `name`, in order."""
    return tuple(unfold(field.value(entity.octets)).strip() for field in find_all(entity, name))


def value(entity: HasFields, name: str) -> bytes | None:
    """The unfolded, stripped value of the first field `name`, or None."""
    field = find(entity, name)
    return None if field is None else unfold(field.value(entity.octets)).strip()


def text(entity: HasFields, name: str) -> str | None:
    """The first field `name` decoded to text, or None."""
    octets = value(entity, name)
    return None if octets is None else decode_words(octets)


def unfold(octets: bytes) -> bytes:
    """A value without its line ends (RFC 5322 section 2.2.3); the white space of a fold stays."""
    return _FOLD.sub(b"", octets)


def remove_fields(octets: bytes, names: Collection[str]) -> bytes:
    """`octets` (a message or header section) without the header fields `names`, case ignored."""
    end = section_end(octets, 0, len(octets))
    section = octets if end is None else octets[:end]
    lower = section.lower()
    wanted = [name.lower().encode() for name in names]
    if not any(name in lower for name in wanted):
        return octets
    # A header section can be all of a huge message: nothing is made of the fields that stay.
    one_of_them = rb"^(?:%b)[ \t\r]*(?::[^\n]*|(?=\n|\Z))(?:\n[ \t][^\n]*)*+(?:\n|\Z)" % b"|".join(
        map(re.escape, wanted)
    )
    kept = re.sub(one_of_them, b"", section, flags=re.IGNORECASE | re.MULTILINE)
    return octets if len(kept) == len(section) else kept + octets[len(section) :]


def filter_fields(octets: bytes, keep: Callable[[Field], bool]) -> bytes:
    """`octets` (a message or header section) with only the header fields for which `keep` holds."""
    end = section_end(octets, 0, len(octets))
    fields = scan(octets, 0, len(octets) if end is None else end, most=len(octets))
    if all(keep(field) for field in fields):
        return octets
    covered = fields[-1].end
    return b"".join(field.raw(octets) for field in fields if keep(field)) + octets[covered:]


class Piece(NamedTuple):
    """A stretch of a value: encoded words of one charset, or what stands between such."""

    octets: bytes
    """Blanks before it that are not shown are included."""
    text: str
    is_encoded: bool


def decode_words(octets: bytes) -> str:
    """A value as text: encoded words of RFC 2047 decoded, raw 8-bit read as UTF-8 or Latin-1.

    Tolerant: what does not decode stays as written; unknown charsets are read as Latin-1. White space between
    two encoded words vanishes, and words of one charset are joined before decoding, since some senders split
    characters between words.
    """
    return "".join(piece.text for piece in pieces(octets))


def pieces(octets: bytes) -> list[Piece]:
    """What `decode_words` reads, with the octets of each piece; these joined are `octets`."""
    found: list[Piece] = []
    run, charset, start, position = b"", "", -1, 0
    for match in _ENCODED_WORD.finditer(octets):
        decoded = _decode_word(match[2], match[3])
        if decoded is None:
            continue
        name = match[1].decode("ascii", "replace").lower()
        between = octets[position : match.start()]
        if start >= 0 and not between.strip() and name == charset:
            run += decoded
        else:
            if start >= 0:
                found.append(Piece(octets[start:position], _to_text(run, charset), True))
            shown = between if start < 0 or between.strip() else b""
            if shown:
                found.append(Piece(shown, _plain_text(shown), False))
            run, charset, start = decoded, name, position + len(shown)
        position = match.end()
    if start >= 0:
        found.append(Piece(octets[start:position], _to_text(run, charset), True))
    if rest := octets[position:]:
        found.append(Piece(rest, _plain_text(rest), False))
    return found


def _decode_word(encoding: bytes, encoded: bytes) -> bytes | None:
    if encoding in b"qQ":
        return _Q_OCTET.sub(lambda match: bytes.fromhex(match[1].decode()), encoded.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(encoded + b"=" * (-len(encoded) % 4))
    except binascii.Error:
        return None


def _to_text(octets: bytes, charset: str) -> str:
    try:
        return octets.decode(charset, "replace")
    except (LookupError, UnicodeError, ValueError):
        return octets.decode("latin-1")


def _plain_text(octets: bytes) -> str:
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        return octets.decode("latin-1")
