"""What FETCH BINARY[...] names: a message or a part of it with the transfer encodings undone.

Of a part that is itself a multipart or a message, and of the whole message, every leaf inside is decoded and
says so in its own header ("Content-Transfer-Encoding: binary"), as Dovecot does it.

Standards: RFC 3516 sections 4.2 and 4.3; RFC 9051 section 6.4.5.
"""

from __future__ import annotations

from collections.abc import Iterator

from secmailproxy.mime import header, transfer
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.presented import Edit, apply
from secmailproxy.mime.section import find_part

_DECODED = frozenset({transfer.BASE64, transfer.QUOTED_PRINTABLE})
_NAME = "Content-Transfer-Encoding"
_BINARY = b"Content-Transfer-Encoding: binary\r\n"


class UnknownEncoding(Exception):
    """A transfer encoding that nobody knows how to undo."""


def binary(message: Entity, path: tuple[int, ...]) -> bytes | None:
    """The octets of the part `path`, or of all, decoded; None when there is no such part.

    Partials are cut by the caller. Raises `UnknownEncoding`.
    """
    part = find_part(message, path) if path else message
    if part is None:
        return None
    edits = list(_edits(part, header_too=not path))
    return apply(message.octets, part.body_start if path else part.start, part.end, edits)


def _edits(part: Entity, *, header_too: bool) -> Iterator[Edit]:
    encoding = transfer.encoding_of(part)
    if encoding not in _DECODED and encoding not in transfer.IDENTITY:
        raise UnknownEncoding
    for inner in part.parts:
        yield from _edits(inner, header_too=True)
    if part.parts or encoding not in _DECODED or part.body_start == part.end:
        return
    if header_too:
        for field in header.find_all(part, _NAME):
            yield Edit(field.start, field.end, b"")
        blank = part.body_start - (2 if part.header.endswith(b"\r\n") else 1)
        yield Edit(blank, blank, _BINARY)
    yield Edit(part.body_start, part.end, transfer.decode(part.body, encoding))
