"""The form of a message that can be signed: 7bit, and safe from what relays do to mail on its way.

Only what must change is changed. A leaf that already is safe keeps its octets; another gets a transfer
encoding, and of its header only the field Content-Transfer-Encoding is replaced. Decoding a leaf gives the
same octets before and after.

    found                                      done
    8-bit, NUL, bare CR or LF, a line of       text and message/*: quoted-printable (base64 where that is
    more than 998, a blank at a line's end,    shorter, or there are NULs in it); other types: base64
    a line that starts with "From "
    the same in a leaf already encoded         encoded anew, the content is the same
    base64 not in lines of 76,                 the same, for relays re-wrap it at 76: the signature would
    quoted-printable in lines of more          break
    the name of a field with a blank after     the blank goes ("From : a@b" would begin with "From ")
    it, if it is From
    the same inside an embedded message        its leaves are encoded, to any depth
    ... that would break a signature in it,    the embedded message becomes message/global in base64,
        or in its header                       its octets untouched
    the same in preamble or epilogue           dropped (RFC 2046: they are to be ignored)
    blank lines in their place                 dropped, and a line end put after each close-delimiter: GMime
                                               (notmuch, Balsa and others) counts them wrongly
    blanks at the end of header lines          moved to the next line, or dropped where the field ends

Standards: RFC 3156 sections 3 and 5, RFC 8551 section 3.1, RFC 2045 sections 2.7 and 6, RFC 2046 section 5,
RFC 6532 section 3.7 (message/global may be encoded), RFC 3676 (format=flowed keeps its blanks as =20).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from secmailproxy.errors import MalformedMessage
from secmailproxy.mime import transfer
from secmailproxy.mime.encodedword import ADDRESS_FIELDS, ascii_field
from secmailproxy.mime.entity import Entity

LINE_MOST = 998
"""Octets in a line, CRLF not counted (RFC 5322 section 2.1.1)."""

_ENCODED = frozenset({transfer.BASE64, transfer.QUOTED_PRINTABLE})
_LINE_END = re.compile(rb"\r?\n")
# Tried at the first of a run of blanks only: from each of them, a long run would cost its square.
_BLANKS_AND_LINE_END = re.compile(rb"(?<![ \t])[ \t]*+\r?\n")
_FOLDS = re.compile(rb"(?<![ \t])[ \t]*+\r\n[ \t]+(?:\r\n[ \t]+)*")
_RFC822 = re.compile(rb"message[ \t]*/[ \t]*rfc822", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CanonicalEntity:
    """An entity ready to be signed: its fields, each ending in CRLF, and its body."""

    fields: tuple[bytes, ...]
    body: bytes

    @property
    def octets(self) -> bytes:
        """Header section, blank line and body."""
        return b"".join(self.fields) + b"\r\n" + self.body


class _MustNotChange(Exception):
    """Something inside needs a change that would break a signature, or has no safe form."""


def crlf(octets: bytes) -> bytes:
    """A message as it comes from a file or pipe, with CRLF line ends; one that has them is left alone."""
    first = octets.find(b"\n")
    if first < 0 or octets[first - 1 : first] == b"\r":
        return octets
    return _LINE_END.sub(b"\r\n", octets)


def canonical(message: Entity) -> CanonicalEntity:
    """The signable form of a message or part.

    Raises MalformedMessage where there is none: what would have to change is inside a signature, or is a
    broken header, or an unknown transfer encoding.
    """
    try:
        return _canonical(message, embedded=False)
    except _MustNotChange as error:
        raise MalformedMessage(f"the message cannot be signed without changing it: {error}") from None


def is_safe(octets: bytes) -> bool:
    """Whether a signature over `octets` survives transport: 7bit, CRLF, short lines, nothing to strip."""
    if not octets.isascii() or b"\0" in octets:
        return False
    lines = octets.count(b"\r\n")
    if lines != octets.count(b"\n") or lines != octets.count(b"\r"):
        return False
    if b" \r\n" in octets or b"\t\r\n" in octets or octets.endswith((b" ", b"\t")):
        return False
    if octets.startswith(b"From ") or b"\nFrom " in octets:
        return False
    return not has_long_line(octets)


def has_long_line(octets: bytes) -> bool:
    """Whether a line has more than LINE_MOST octets; looks at one line end in a thousand octets."""
    start = 0
    while len(octets) - start > LINE_MOST:
        end = octets.rfind(b"\r\n", start, start + LINE_MOST + 2)
        if end < 0:
            return True
        start = end + 2
    return False


def embedding(octets: bytes) -> str:
    """What encoding an embedded message may claim (RFC 2046 section 5.2.1) when it is not changed."""
    bare = octets.count(b"\r\n") != octets.count(b"\n") or octets.count(b"\r\n") != octets.count(b"\r")
    if bare or b"\0" in octets or has_long_line(octets):
        return "binary"
    return "7bit" if octets.isascii() else "8bit"


def _canonical(entity: Entity, *, embedded: bool) -> CanonicalEntity:
    """`embedded`: inside an embedded message, whose fields are not ours to rewrite in ASCII."""
    fields = _fields(entity, embedded=embedded)
    encoding = transfer.encoding_of(entity)
    if entity.is_multipart and entity.parts:
        body = _signed(entity) if _is_crypto(entity) else _multipart(entity, embedded=embedded)
        return _with_encoding(fields, encoding, "7bit" if encoding in transfer.IDENTITY else encoding, body)
    if entity.is_rfc822 and encoding in transfer.IDENTITY:
        try:
            body = _canonical(entity.parts[0], embedded=True).octets
        except _MustNotChange:
            fields = _renamed_global(fields)
            return _with_encoding(fields, encoding, transfer.BASE64, transfer.encode_base64(entity.body))
        return _with_encoding(fields, encoding, "7bit", body)
    return _leaf(entity, fields, encoding)


def _leaf(entity: Entity, fields: list[bytes], encoding: str) -> CanonicalEntity:
    body = entity.body
    if encoding in _ENCODED:
        return _encoded_leaf(body, fields, encoding)
    if is_safe(body):
        return _with_encoding(fields, encoding, "7bit" if encoding in transfer.IDENTITY else encoding, body)
    if encoding not in transfer.IDENTITY or entity.is_multipart:
        raise _MustNotChange(f"a part of type {entity.content_type.full} is 8bit or has lines too long")
    if entity.content_type.maintype in ("text", "message") and b"\0" not in body:
        return _with_encoding(fields, encoding, *transfer.encode_text(body))
    return _with_encoding(fields, encoding, transfer.BASE64, transfer.encode_base64(body))


def _encoded_leaf(body: bytes, fields: list[bytes], encoding: str) -> CanonicalEntity:
    """A leaf that came in an encoding keeps it, unless 8-bit octets that have no place there made it grow."""
    if encoding == transfer.BASE64:
        return CanonicalEntity(tuple(fields), _base64(body))
    if transfer.is_regular(body, encoding) and is_safe(body):
        return CanonicalEntity(tuple(fields), body)
    if body.isascii():
        return CanonicalEntity(tuple(fields), transfer.repair_quoted_printable(body))
    return _with_encoding(fields, encoding, *transfer.encode_text(transfer.decode(body, encoding)))


def _base64(body: bytes) -> bytes:
    """Base64 in lines of 76. What is none, whatever it says, stays as it is: nobody knows what it means."""
    if transfer.is_regular(body, transfer.BASE64) or (not transfer.is_base64(body) and is_safe(body)):
        return body
    if not transfer.is_base64(body, whole=False):
        raise _MustNotChange("a part that is said to be base64 has something else in it")
    return transfer.repair_base64(body)


def _is_crypto(entity: Entity) -> bool:
    return entity.content_type.subtype in ("signed", "encrypted")


def _signed(entity: Entity) -> bytes:
    """The body of a multipart that somebody else signed or encrypted: as it is, or not at all."""
    if not is_safe(entity.body):
        raise _MustNotChange("a part of it is signed and not 7bit")
    return entity.body


def _multipart(entity: Entity, *, embedded: bool) -> bytes:
    octets, position = entity.octets, entity.body_start
    pieces, apart = [], b""
    for index, part in enumerate(entity.parts):
        between = _BLANKS_AND_LINE_END.sub(b"\r\n", octets[position : part.start])
        pieces.append(_apart(apart, between) if index else _opening(between))
        _demand_safe(pieces[-1])
        pieces.append(_canonical(part, embedded=embedded).octets if part.end > part.start else b"")
        position = part.end
        # The line end of an inner close-delimiter is not that of the outer delimiter too.
        apart = b"\r\n" if part.is_multipart and part.parts else b""
    end = _BLANKS_AND_LINE_END.sub(b"\r\n", octets[position : entity.end])
    pieces.append(_closing(_apart(apart, end)))
    _demand_safe(pieces[-1])
    return b"".join(pieces)


def _apart(line_end: bytes, delimiter: bytes) -> bytes:
    return line_end + delimiter if delimiter.startswith(b"--") else delimiter


def _demand_safe(delimiter: bytes) -> None:
    if not is_safe(delimiter):
        raise _MustNotChange("a boundary line has more than the boundary")


def _opening(preamble: bytes) -> bytes:
    """A preamble and the delimiter line at its end; the line alone unless there is a text that can stay."""
    delimiter = preamble[preamble.rfind(b"\n", 0, len(preamble) - 1) + 1 :]
    text = preamble.removesuffix(delimiter)
    return preamble if text.strip() and is_safe(preamble) else delimiter


def _closing(end: bytes) -> bytes:
    """The line end, close-delimiter and line end before an epilogue; the epilogue if it can stay."""
    delimiter, _, text = end.removeprefix(b"\r\n").partition(b"\r\n")
    if not delimiter or (text.strip() and is_safe(end)):
        return end
    start = b"\r\n" if end.startswith(b"\r\n") else b""
    return start + delimiter + b"\r\n"


def _fields(entity: Entity, *, embedded: bool) -> list[bytes]:
    head = entity.header
    if is_safe(head) and head.endswith(b"\r\n"):
        return [field.raw(entity.octets) for field in entity.fields]
    return [_field(entity, index, embedded=embedded) for index in range(len(entity.fields))]


def _field(entity: Entity, index: int, *, embedded: bool) -> bytes:
    field = entity.fields[index]
    raw = clean_field(field.raw(entity.octets))
    if raw.startswith(b"From ") and field.name == "From":
        raw = b"From:" + raw.partition(b":")[2]
    checked = raw
    if not embedded:
        raw = checked = ascii_field(raw)
        if field.name.lower() in ADDRESS_FIELDS:
            # Raw UTF-8 in an address has no other form (RFC 6532); such mail travels by SMTPUTF8 only.
            checked = raw.decode("latin-1").encode("ascii", "replace")
    if not is_safe(checked) or raw == b"\r\n":
        raise _MustNotChange("a header field has control characters, raw 8-bit text or a line too long")
    return raw


def clean_field(raw: bytes) -> bytes:
    """A field with CRLF line ends and no blank before any of them; unfolding it gives the same value."""
    lines = _LINE_END.sub(b"\r\n", raw)
    moved = _FOLDS.sub(lambda match: b"\r\n" + match[0].replace(b"\r\n", b""), lines)
    return moved.rstrip(b" \t\r\n") + b"\r\n"


def _with_encoding(fields: list[bytes], old: str, new: str, body: bytes) -> CanonicalEntity:
    if old == new:
        return CanonicalEntity(tuple(fields), body)
    field = b"Content-Transfer-Encoding: " + new.encode() + b"\r\n"
    name = b"content-transfer-encoding"
    places = [at for at, raw in enumerate(fields) if raw.partition(b":")[0].strip().lower() == name]
    if not places:
        return CanonicalEntity((*fields, field), body)
    changed = [raw for at, raw in enumerate(fields) if at not in places[1:]]
    changed[places[0]] = field
    return CanonicalEntity(tuple(changed), body)


def _renamed_global(fields: list[bytes]) -> list[bytes]:
    """The fields of an embedded message as message/global, the type that may be encoded."""
    changed = [
        _RFC822.sub(b"message/global", raw, count=1)
        if raw.partition(b":")[0].strip().lower() == b"content-type"
        else raw
        for raw in fields
    ]
    return changed if changed != fields else [*changed, b"Content-Type: message/global\r\n"]
