"""The sections of a message that FETCH BODY[...] names, cut from its spans.

Standards: RFC 3501 and RFC 9051 section 6.4.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from secmailproxy.mime.entity import Entity

SectionText = Literal["", "HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME"]


@dataclass(frozen=True, slots=True)
class Section:
    """What stands between the brackets. `names` are the field names of HEADER.FIELDS, case ignored."""

    path: tuple[int, ...] = ()
    text: SectionText = ""
    names: tuple[bytes, ...] = ()


def section(entity: Entity, asked: Section) -> bytes | None:
    """The octets of `asked` in the message `entity`; None when there is no such part.

    HEADER.FIELDS keeps the message's order and always ends in a blank line. HEADER, HEADER.FIELDS and TEXT
    below a part number exist only for message/rfc822. Partials are cut by the caller.
    """
    if not asked.path:
        return _of_message(entity, asked)
    part = find_part(entity, asked.path)
    if part is None:
        return None
    if asked.text == "":
        return part.body
    if asked.text == "MIME":
        return part.header
    return _of_message(part.parts[0], asked) if part.is_rfc822 else None


def find_part(entity: Entity, path: tuple[int, ...]) -> Entity | None:
    """The part that the numbers `path` name (RFC 3501 section 6.4.5), or None."""
    part = entity
    for depth, number in enumerate(path):
        if number < 1:
            return None
        last = depth == len(path) - 1
        if part.is_multipart:
            if number > len(part.parts):
                return None
            part = part.parts[number - 1]
        elif number != 1 or not (last or part.is_rfc822):
            return None
        if not last and part.is_rfc822:
            part = part.parts[0]
    return part


def _of_message(message: Entity, asked: Section) -> bytes | None:
    match asked.text:
        case "":
            return message.whole
        case "HEADER":
            return message.header
        case "TEXT":
            return message.body
        case "MIME":
            return None
        case "HEADER.FIELDS":
            return _fields(message, asked.names, wanted=True)
        case "HEADER.FIELDS.NOT":
            return _fields(message, asked.names, wanted=False)
        case _:
            assert_never(asked.text)


def _fields(message: Entity, names: tuple[bytes, ...], *, wanted: bool) -> bytes:
    asked = {name.lower().decode("latin-1") for name in names}
    chosen = [
        field.raw(message.octets) for field in message.fields if (field.name.lower() in asked) is wanted
    ]
    return b"".join(chosen) + b"\r\n"
