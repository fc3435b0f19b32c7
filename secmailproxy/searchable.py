"""What of a presented form a SEARCH looks at, ready to be searched for folded text. PURE.

The reference is what Dovecot finds in the same octets in clear: encoded words, transfer encodings and
charsets are undone, case and compatibility forms are folded, a term matches anywhere. Header fields of all
parts count for TEXT, bodies only where they are text; the tags of HTML are text like any other.

Standards: RFC 9051 section 6.4.4; RFC 5051 (i;unicode-casemap).
Security: decoded text is bounded, and charsets whose decoding costs more than their octets are not used.
"""

from __future__ import annotations

import codecs
import email.utils
import re
import struct
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

from secmailproxy.mime import entity, header, transfer
from secmailproxy.mime.address import address_list
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.header import Field

TEXT_MOST = 64 * 1024 * 1024
"""Octets of folded text that are kept of one message; what is beyond is not found."""
ADDRESS_KEYS = ("FROM", "TO", "CC", "BCC")
"""Keys that look at addresses, not at the field as it is written."""

_FOLD_START = re.compile(rb"\r?\n[ \t]")
_LINE_END = re.compile(rb"\r?\n")
_ENCODED_WORD = re.compile(rb"=\?([^?]+)\?([bBqQ])\?([^?]*)\?=")
_Q_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")
_BLANKS = re.compile(rb"[ \t\r\n]+")
_ATEXT = bytes(
    code for code in range(256) if chr(code).isalnum() or chr(code) in "!#$%&'*+-/=?^_`{|}~" or code > 127
)
_ESCAPED = re.compile(rb'["\\]')
_REPLACED = re.compile("\ufffd{2,}")
_DECODABLE = transfer.IDENTITY | {transfer.BASE64, transfer.QUOTED_PRINTABLE}
# Not text encodings that mail uses, and dear or strange to decode.
_NO_CHARSETS = frozenset({"punycode", "idna", "unicode_escape", "raw_unicode_escape", "undefined", "charmap"})
_AT_ONCE = 64 * 1024
"""Characters."""
_SEPARATOR = b"\xff"
"""Between runs of text; no UTF-8 holds it, so no term reaches across."""


class _Folding(dict[int, str]):
    """Code point to its folded form, made as they are met."""

    def __missing__(self, code: int) -> str:
        title = chr(code).title()
        folded = _decomposed(title if len(title) == 1 else chr(code))
        if len(self) < 0x4000:
            self[code] = folded
        return folded


def _decomposed(letter: str) -> str:
    """One step of decomposition, as Dovecot takes it: none into several beyond the basic plane."""
    if "\uac00" <= letter <= "\ud7a3":
        return unicodedata.normalize("NFD", letter)
    codes = [code for code in unicodedata.decomposition(letter).split() if not code.startswith("<")]
    if not codes or (len(codes) > 1 and letter > "\uffff"):
        return letter
    return "".join(chr(int(code, 16)) for code in codes)


_FOLDING = _Folding()


def fold(text: str) -> bytes:
    """Text as it is compared: titlecase, then decomposed (RFC 5051), as UTF-8."""
    if text.isascii():
        return text.upper().encode()
    text = _REPLACED.sub("\ufffd", text)
    if len(text) <= _AT_ONCE:
        return text.translate(_FOLDING).encode("utf-8", "replace")
    # No other thread runs while text is translated.
    pieces = (text[at : at + _AT_ONCE] for at in range(0, len(text), _AT_ONCE))
    return b"".join(piece.translate(_FOLDING).encode("utf-8", "replace") for piece in pieces)


@dataclass(frozen=True, slots=True)
class Searchable:
    """One message, folded. Everything is octets of UTF-8."""

    fields: tuple[tuple[bytes, bytes], ...]
    """Name and value of each field of the message's own header."""
    keys: tuple[tuple[bytes, bytes], ...]
    """The search keys with a reading of their own (SUBJECT, FROM and so on), and what each sees."""
    text: bytes
    """The header and body of each part, with separators."""
    bodies: tuple[tuple[int, int], ...]
    """Where in `text` bodies are: start and end."""
    size: int
    """Octets of the whole message."""
    sent: int
    """The sender's day as `date.toordinal` counts; 0 when the Date field tells none."""

    @property
    def octets(self) -> int:
        """About how much memory it takes."""
        return (
            len(self.text)
            + sum(len(name) + len(value) + 150 for name, value in self.fields + self.keys)
            + 300
        )

    def in_header(self, name: bytes, term: bytes) -> bool:
        """HEADER: whether a field `name` (folded) has `term`; the empty term asks for the field alone."""
        return any(value.find(term) >= 0 for field, value in self.fields if field == name)

    def in_key(self, key: bytes, term: bytes) -> bool:
        """SUBJECT, FROM, TO, CC, BCC."""
        return any(value.find(term) >= 0 for name, value in self.keys if name == key)

    def in_body(self, term: bytes) -> bool:
        """BODY."""
        return not term or any(self.text.find(term, start, end) >= 0 for start, end in self.bodies)


def searchable(octets: bytes) -> Searchable:
    """What to search of the message `octets`. Never fails."""
    root = entity.parse_or_leaf(octets)
    values = [(fold(field.name), _value(octets, field)) for field in root.fields]
    runs: list[bytes] = []
    bodies: list[tuple[int, int]] = []
    length = 0
    for head, body in _parts(root):
        room = max(0, TEXT_MOST - length)
        runs.append((head + body)[:room])
        if body:
            bodies.append(
                (min(length + len(head), TEXT_MOST), min(length + len(head) + len(body), TEXT_MOST))
            )
        length += len(runs[-1]) + len(_SEPARATOR)
    return Searchable(
        tuple((name, _text(value)) for name, value in values),
        tuple(_keys(values)),
        _SEPARATOR.join(runs),
        tuple(bodies),
        len(octets),
        _sent(root),
    )


def _keys(values: list[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for name, value in values:
        if name == b"SUBJECT":
            yield name, _text(_BLANKS.sub(b" ", value).lstrip(b" "))
        elif name.decode("utf-8") in ADDRESS_KEYS:
            yield name, _text(_addresses(value))


def _addresses(value: bytes) -> bytes:
    """The addresses of a field in one spelling, whatever quotes and comments it was written with."""
    written: list[bytes] = []
    group: list[bytes] | None = None
    for one in address_list(value):
        if one.is_mailbox:
            spec = b"%b@%b" % (_quoted(one.mailbox or b"", b"."), one.domain or b"")
            name = b"" if not one.name else _quoted(one.name) + b" "
            route = one.route + b":" if one.route else b""
            (written if group is None else group).append(b"%b<%b%b>" % (name, route, spec))
        elif group is None:
            group = []
            written.append(_quoted(one.mailbox or b"") + b":")
        else:
            written[-1] += (b" " if group else b"") + b", ".join(group) + b";"
            group = None
    return b", ".join(written)


def _quoted(word: bytes, also_plain: bytes = b"") -> bytes:
    """A word in quotes where it needs them; encoded words never have any."""
    if b"=?" in word or not word.translate(None, _ATEXT + also_plain):
        return word
    return b'"' + _ESCAPED.sub(rb"\\\g<0>", word) + b'"'


def _value(octets: bytes, field: Field) -> bytes:
    """The value on one line, without the blank after the colon."""
    value = _LINE_END.sub(b"", _FOLD_START.sub(b" ", field.value(octets)))
    return value[1:] if value[:1] in (b" ", b"\t") else value


def decode_text(value: bytes) -> str:
    """A value with its encoded words decoded one by one; the rest is UTF-8."""
    if b"=?" not in value:
        return value.decode("utf-8", "replace")
    pieces = []
    at = 0
    for word in _ENCODED_WORD.finditer(value):
        between = value[at : word.start()]
        if between.strip(b" \t"):
            pieces.append(between.decode("utf-8", "replace"))
        pieces.append(_word(word[2], word[3]).decode(_codec(word[1].decode("latin-1")), "replace"))
        at = word.end()
    return "".join([*pieces, value[at:].decode("utf-8", "replace")])


def _text(value: bytes) -> bytes:
    """A value folded, its encoded words decoded."""
    if value.isascii() and b"=?" not in value:
        return value.upper()
    return fold(decode_text(value))


def _word(encoding: bytes, encoded: bytes) -> bytes:
    if encoding in b"bB":
        return transfer.decode(encoded, transfer.BASE64)
    return _Q_OCTET.sub(lambda match: bytes.fromhex(match[1].decode()), encoded.replace(b"_", b" "))


def _parts(one: Entity) -> Iterator[tuple[bytes, bytes]]:
    """The folded header and body of each part, the message itself first."""
    yield _head(one), _body(one)
    for part in one.parts:
        yield from _parts(part)


def _head(one: Entity) -> bytes:
    lines = []
    for field in one.fields:
        between = one.octets[field.start + len(field.name.encode("latin-1")) : field.value_start]
        value = _value(one.octets, field)
        blank = one.octets[field.value_start : field.value_start + 1]
        if blank in (b" ", b"\t"):
            between += blank
        lines.append(fold(field.name) + between + _text(value) + b"\r\n")
    return b"".join(lines) + b"\r\n"


def _body(one: Entity) -> bytes:
    if one.parts or one.content_type.maintype not in {"text", "message"}:
        return b""
    encoding = transfer.encoding_of(one)
    if encoding not in _DECODABLE or header.value(one, "content-transfer-encoding") == b"":
        return b""
    octets = transfer.decode(one.body, encoding)[:TEXT_MOST]
    return _folded(octets, one.content_type.param("charset") or "")[:TEXT_MOST]


def _folded(octets: bytes, charset: str) -> bytes:
    codec = _codec(charset)
    if octets.isascii() and codec in {"utf-8", "iso8859-1", "iso8859-15", "cp1252"}:
        return octets.upper()
    return fold(octets.decode(codec, "replace"))


def _codec(charset: str) -> str:
    try:
        codec = codecs.lookup(charset)
        # Some codecs are not for text, and say so only when there is something to decode.
        b"x".decode(codec.name, "replace")
    except (LookupError, ValueError):
        return "utf-8"
    # ASCII with octets beyond it is UTF-8 more often than anything else.
    return "utf-8" if codec.name in _NO_CHARSETS or codec.name == "ascii" else codec.name


def _sent(root: Entity) -> int:
    value = header.value(root, "date")
    parsed = email.utils.parsedate(value.decode("latin-1")) if value is not None else None
    try:
        return date(*parsed[:3]).toordinal() if parsed is not None else 0
    except (ValueError, OverflowError):
        return 0


@dataclass(frozen=True, slots=True)
class Key:
    """One search key that a presented form answers; `matches` decides."""

    name: str
    """SUBJECT, FROM, TO, CC, BCC, HEADER, BODY, TEXT, LARGER, SMALLER, SENTBEFORE, SENTON or SENTSINCE."""
    term: bytes = b""
    """Folded."""
    field: bytes = b""
    """Of HEADER: the field's name, folded."""
    number: int = 0
    """A size in octets, or a day as `date.toordinal` counts."""

    def matches(self, text: Searchable) -> bool:
        """Whether the message has it."""
        match self.name:
            case "HEADER":
                return text.in_header(self.field, self.term)
            case "TEXT":
                return self.term in text.text
            case "BODY":
                return text.in_body(self.term)
            case "LARGER":
                return text.size > self.number
            case "SMALLER":
                return text.size < self.number
            case "SENTBEFORE":
                return 0 < text.sent < self.number
            case "SENTON":
                return text.sent == self.number
            case "SENTSINCE":
                return text.sent >= self.number
            case _:
                return text.in_key(self.name.encode(), self.term)


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave."""

    uids: Sequence[Sequence[int]]
    """For each key."""
    missing: Sequence[int]
    """Messages of these kinds whose views are not fixed yet, so that they could not be searched."""


_COUNTS = struct.Struct(">4IQ")


def pack(found: Searchable) -> bytes:
    """For storage; `unpack` reads it."""
    pairs = [octets for pair in found.fields + found.keys for octets in pair]
    spans = [at for span in found.bodies for at in span]
    counts = _COUNTS.pack(len(found.fields), len(found.keys), len(found.bodies), found.sent, found.size)
    numbers = struct.pack(f">{len(spans) + len(pairs)}I", *spans, *map(len, pairs))
    return counts + numbers + b"".join(pairs) + found.text


def unpack(octets: bytes) -> Searchable:
    """What `pack` wrote."""
    fields, keys, bodies, sent, size = _COUNTS.unpack_from(octets)
    numbers = struct.unpack_from(f">{2 * (bodies + fields + keys)}I", octets, _COUNTS.size)
    at = _COUNTS.size + 4 * len(numbers)
    strings = []
    for length in numbers[2 * bodies :]:
        strings.append(octets[at : at + length])
        at += length
    pairs = tuple(zip(strings[::2], strings[1::2], strict=True))
    spans = numbers[: 2 * bodies]
    return Searchable(
        pairs[:fields],
        pairs[fields:],
        octets[at:],
        tuple(zip(spans[::2], spans[1::2], strict=True)),
        size,
        sent,
    )
