"""The presented form: a message without its protection, in a shape that any IMAP server could have stored.

CRLF line ends, no NUL, binary parts in base64, no copy of the verdict field anywhere, and its name struck out
where it stands in no field that we can see. All changes are edits
of spans; what is not edited is the octets that came out of the encryption. The same input gives the same
octets, always.

Standards: RFC 9051 section 4.3.1 and 7.5.2 (no NUL, binary encoded), RFC 9788 section 4.5.3 and
draft-autocrypt-lamps-protected-headers (legacy display parts).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from secmailproxy.errors import LimitExceeded
from secmailproxy.mime import header, transfer
from secmailproxy.mime.entity import Entity, Limits, parse
from secmailproxy.mime.header import is_structural
from secmailproxy.mime.shown import is_field

_LEGACY_DIV = re.compile(
    rb"<div[^<>]{0,200}\bclass=[\"']?header-protection-legacy-display[\"'\s>][^<>]{0,200}", re.IGNORECASE
)
_DIV_END = re.compile(rb"</div\s*>", re.IGNORECASE)
_LEGACY_TEXT = re.compile(rb"(?:[!-9;-~]+:[^\n]*\n(?:[ \t][^\n]*\n)*)+[ \t]*\r?\n")
_LEGACY_MOST = 64 * 1024
"""Octets that repeat a header, at most; matching takes memory for every line."""
_ENCODED = frozenset({transfer.BASE64, transfer.QUOTED_PRINTABLE})
_LEGACY_PARTS = frozenset({"text/plain", "text/rfc822-headers"})


@dataclass(frozen=True, slots=True)
class Edit:
    """Octets that replace a span."""

    start: int
    end: int
    octets: bytes


def settled(root: Entity, limits: Limits) -> Entity:
    """`root` as a storable message of its own: binary parts encoded, then line ends and NUL put right.

    It is parsed anew when anything changed, so that later edits see what a client will see. Raises
    LimitExceeded.
    """
    octets = storable(apply(root.octets, root.start, root.end, list(_encodings(root))))
    return root if octets == root.octets else parse(octets, limits)


def assemble(fields: list[bytes], root: Entity, verdict_field: str, *, legacy_display: bool = False) -> bytes:
    """The presented message: `fields` (whole, not structural), then what the settled `root` is.

    With `legacy_display` the copies of the header that senders put in for old readers are left out.
    """
    structural = [
        field.raw(root.octets)
        for field in root.fields
        if is_field(field) and is_structural(field.name) and not field.named("mime-version")
    ]
    lines = [_whole(raw) for raw in (*fields, b"MIME-Version: 1.0\r\n", *structural)]
    edits = list(_copies(root, verdict_field))
    if legacy_display:
        edits += _legacy_edits(root)
    body = apply(root.octets, root.body_start, root.end, edits)
    kept = b"".join(raw for raw in lines if not _is_named(raw, verdict_field))
    return _struck(kept, verdict_field) + b"\r\n" + _struck(body, verdict_field)


def without_field(message: Entity, verdict_field: str) -> bytes:
    """The whole of the settled `message` without the copies of the verdict field at any level."""
    without = apply(message.octets, message.start, message.end, list(_copies(message, verdict_field)))
    return _struck(without, verdict_field)


def storable(octets: bytes) -> bytes:
    """`octets` with CRLF line ends only and without NUL."""
    if b"\x00" in octets:
        octets = octets.replace(b"\x00", b"")
    pairs = octets.count(b"\r\n")
    if octets.count(b"\n") == pairs and octets.count(b"\r") == pairs:
        return octets
    # Far faster than a regular expression, under which no other thread runs.
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")


def apply(octets: bytes, start: int, end: int, edits: list[Edit]) -> bytes:
    """The span of `octets` with `edits` made; of overlapping edits the outermost and first counts."""
    pieces: list[bytes] = []
    position = start
    for edit in sorted(edits, key=lambda edit: (edit.start, -edit.end)):
        if edit.start < position or edit.end > end:
            continue  # inside an edit that is already made, or outside the span
        pieces += (octets[position : edit.start], edit.octets)
        position = edit.end
    pieces.append(octets[position:end])
    return b"".join(pieces)


def _whole(raw: bytes) -> bytes:
    """The field with its line end, and no blank before its colon: the header ends there for some readers."""
    name, colon, rest = raw.partition(b":")
    return name.rstrip(b" \t") + colon + (rest if rest.endswith(b"\n") else rest + b"\r\n")


def _is_named(raw: bytes, name: str) -> bool:
    return raw.partition(b":")[0].rstrip(b" \t").lower() == name.lower().encode("latin-1", "replace")


def _copies(entity: Entity, verdict_field: str) -> Iterator[Edit]:
    for field in entity.fields:
        if field.named(verdict_field):
            yield Edit(field.start, field.end, b"")
    encoding = transfer.encoding_of(entity)
    if entity.content_type.maintype == "message" and encoding in _ENCODED:
        # Not allowed (RFC 2046 section 5.2), but there are readers that decode it and show a message.
        decoded = transfer.decoded_body(entity)
        if (without := _without_inside(decoded, verdict_field)) != decoded:
            yield Edit(entity.body_start, entity.end, _encoded(without, encoding))
        return
    for part in entity.parts:
        yield from _copies(part, verdict_field)


def _without_inside(octets: bytes, verdict_field: str) -> bytes:
    try:
        return without_field(parse(octets), verdict_field)
    except LimitExceeded:
        return _struck(octets, verdict_field)


def _struck(octets: bytes, verdict_field: str) -> bytes:
    """`octets` with the token in the name of the field overwritten, where text only looks like the field."""
    head, token = (part.encode("latin-1", "replace") for part in verdict_field.rsplit("-", 1))
    if token.isdigit() and token not in octets:
        return octets
    name = re.compile(b"(" + re.escape(head) + b"-)" + re.escape(token), re.IGNORECASE)
    return name.sub(rb"\g<1>" + b"0" * len(token), octets)


def _encodings(entity: Entity) -> Iterator[Edit]:
    encoding = transfer.encoding_of(entity)
    if entity.parts or entity.is_multipart:
        if encoding == "binary":
            yield from _say_encoding(entity, b"8bit")
        for part in entity.parts:
            yield from _encodings(part)
        return
    if encoding == "binary" or (
        encoding in transfer.IDENTITY and entity.octets.find(b"\x00", entity.body_start, entity.end) >= 0
    ):
        yield from _say_encoding(entity, b"base64")
        yield Edit(entity.body_start, entity.end, _base64(entity.body))


def _say_encoding(entity: Entity, encoding: bytes) -> Iterator[Edit]:
    said = b"Content-Transfer-Encoding: " + encoding + b"\r\n"
    fields = header.find_all(entity, "content-transfer-encoding")
    if not fields:
        yield Edit(entity.start, entity.start, said)
    for field in fields:
        yield Edit(field.start, field.end, said if field is fields[0] else b"")


def _legacy_edits(payload: Entity) -> Iterator[Edit]:
    """Leave out what only repeats the protected header for readers that cannot show it."""
    if _has_legacy_part(payload):
        first, second = payload.parts[:2]
        yield Edit(first.start, second.start, b"")
        return
    for part in _main_texts(payload):
        if part.content_type.param("hp-legacy-display") == "1":
            yield from _without_legacy_text(part)


def _has_legacy_part(payload: Entity) -> bool:
    """The older scheme: a first part of its own in a multipart/mixed that has at least one more."""
    if payload.content_type.full != "multipart/mixed" or len(payload.parts) < 2:
        return False
    first = payload.parts[0]
    if first.content_type.full not in _LEGACY_PARTS or first.content_type.param("protected-headers") is None:
        return False
    # It repeats the header and has no other words, or readers who cannot leave it out would see more than we.
    text = transfer.decoded_body(first)[:_LEGACY_MOST].strip()
    return not text or bool(_LEGACY_TEXT.fullmatch(text + b"\n\n"))


def _main_texts(entity: Entity) -> Iterator[Entity]:
    if entity.content_type.maintype == "text":
        yield entity
    elif entity.is_multipart:
        for part in entity.parts:
            yield from _main_texts(part)


def _without_legacy_text(part: Entity) -> Iterator[Edit]:
    decoded = transfer.decoded_body(part)
    found = _legacy_html(decoded) if part.content_type.subtype == "html" else _legacy_text(decoded)
    if found is None:
        return
    rest = decoded[: found.start] + decoded[found.stop :]
    yield Edit(part.body_start, part.end, _encoded(rest, transfer.encoding_of(part)))


def _encoded(octets: bytes, encoding: str) -> bytes:
    """The body of a part with this transfer encoding."""
    if encoding == transfer.BASE64:
        return _base64(octets)
    if encoding == transfer.QUOTED_PRINTABLE:
        return transfer.encode_quoted_printable(storable(octets))
    return octets


def _base64(octets: bytes) -> bytes:
    """Without the last line end, which belongs to the boundary that follows."""
    return transfer.encode_base64(octets).removesuffix(b"\r\n")


def _legacy_text(text: bytes) -> slice | None:
    found = _LEGACY_TEXT.match(text, 0, _LEGACY_MOST)
    return slice(found.start(), found.end()) if found else None


def _legacy_html(text: bytes) -> slice | None:
    opening = _LEGACY_DIV.search(text)
    closing = _DIV_END.search(text, opening.end()) if opening else None
    return slice(opening.start(), closing.end()) if opening and closing else None
