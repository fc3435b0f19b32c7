"""Compares a message with what became of it: nothing may be lost or changed on the way into its payload.

Standards: RFC 2045 (what a transfer encoding may change), RFC 9788 (what header protection adds).
Security: the last check before a message leaves. The answers name kinds of parts and fields, never content.
"""

from __future__ import annotations

from collections.abc import Iterable

from secmailproxy.mime import header
from secmailproxy.mime.address import address_list
from secmailproxy.mime.enclosures import MOVES_WITH_ITS_BODY, NOTHING, Enclosures
from secmailproxy.mime.encodedword import ADDRESS_FIELDS, ascii_field
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.header import is_structural
from secmailproxy.mime.protected import may_leave
from secmailproxy.mime.transfer import decoded_body, encoding_of

_NOT_BY_VALUE = frozenset({"hp-outer", "content-type", "content-transfer-encoding"})
"""Fields that header protection writes, or that are compared by what they mean."""
_ADDED_PARAMETERS = frozenset({"hp", "protected-headers"})
_ADDED_WHERE_MISSING = ("date", "message-id")

_Field = tuple[str, bytes]


def difference(original: Entity, payload: Entity, enclosures: Enclosures = NOTHING) -> str | None:
    """What the cryptographic payload lacks, changes or has beyond `enclosures`, against `original`; or None.

    HP-Outer fields are not looked at: `preparation.prove_protection` does that.
    """
    if enclosures.part and not _has_part(payload, enclosures.part):
        return "the key that was to be attached differs"
    carrier = payload.parts[0] if enclosures.part else payload
    if lost := _changed_root_field(original, payload, carrier, enclosures):
        return f"the field {lost} differs"
    return _different(original, carrier, root=True)


def _has_part(payload: Entity, part: bytes) -> bool:
    """Whether `payload` is a multipart/mixed of something without a header of its own, and `part`."""
    return (
        payload.content_type.full == "multipart/mixed"
        and len(payload.parts) == 2
        and payload.parts[1].whole == part
        and all(field.name.lower().startswith(MOVES_WITH_ITS_BODY) for field in payload.parts[0].fields)
    )


def _different(before: Entity, after: Entity, *, root: bool = False) -> str | None:
    kind = before.content_type.full
    became = after.content_type.full
    whole = before.is_rfc822 and became == "message/global"
    if (kind != became and not whole) or _parameters(before, root=root) != _parameters(after, root=root):
        return f"the type {kind} became {became}, or its parameters differ"
    if not root and (lost := _first_difference(_fields(before), _fields(after))):
        return f"in a part of type {kind} the field {lost} differs"
    if whole:
        return None if before.body == decoded_body(after) else "an embedded message differs"
    if len(before.parts) != len(after.parts):
        return f"{kind} has {len(before.parts)} parts, then {len(after.parts)}"
    if before.parts:
        pairs = zip(before.parts, after.parts, strict=True)
        return next((found for one, other in pairs if (found := _different(one, other))), None)
    if before.body == after.body and encoding_of(before) == encoding_of(after):
        return None
    return (
        None
        if decoded_body(before) == decoded_body(after)
        else f"the content of a part of type {kind} differs"
    )


def _parameters(entity: Entity, *, root: bool) -> list[tuple[str, str]]:
    added = _ADDED_PARAMETERS if root else frozenset()
    return [(name, _as_text(value)) for name, value in entity.content_type.params if name not in added]


def _as_text(value: str) -> str:
    """A parameter with raw octets read the way they are read when they are written in ASCII."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _changed_root_field(
    original: Entity, payload: Entity, carrier: Entity, enclosures: Enclosures
) -> str | None:
    """The name of the first field that is not as it was; those that a signer may touch left out."""
    added = (*enclosures.fields, *enclosures.inside)
    replaced = enclosures.names
    olds = [one for one in _fields(original) if may_leave(one[0]) and one[0] not in replaced]
    news = _fields(payload)
    own = len(news) - len(added)
    if tuple(raw for _, raw in news[own:]) != added:
        return "that was to be added"
    known = {name for name, _ in olds}
    fresh = [name for name, _ in news[:own] if name not in known and name in _ADDED_WHERE_MISSING]
    if twice := next((name for name in fresh if fresh.count(name) > 1), None):
        return twice
    moved, stayed = _split(one for one in news[:own] if one[0] not in fresh)
    described, expected = _split(olds)
    if carrier is not payload:
        moved += _fields(carrier)
    return _first_difference(expected, stayed) or _first_difference(described, moved)


def _split(fields: Iterable[_Field]) -> tuple[list[_Field], list[_Field]]:
    """The fields that describe the body, and the others."""
    sorted_out: tuple[list[_Field], list[_Field]] = ([], [])
    for field in fields:
        sorted_out[not field[0].startswith(MOVES_WITH_ITS_BODY)].append(field)
    return sorted_out


def _first_difference(olds: list[_Field], news: list[_Field]) -> str | None:
    """The name of the first field that does not say the same in both."""
    for old, new in zip(olds, news, strict=False):
        if old != new and (old[0] != new[0] or _reading(*old) != _reading(*new)):
            return old[0]
    return None if len(olds) == len(news) else max(olds, news, key=len)[min(len(olds), len(news))][0]


def _fields(entity: Entity) -> list[_Field]:
    """Names in lower case and octets, in order, of the fields that are compared by their value."""
    octets = entity.octets
    named = ((field.name.strip().lower(), field) for field in entity.fields)
    return [(name, field.raw(octets)) for name, field in named if name not in _NOT_BY_VALUE]


def _reading(name: str, raw: bytes) -> str:
    """The value as readers see it, without blanks; of addresses without quotes, with what they are read as.

    Parameters with raw octets have only one reading, that of their ASCII form.
    """
    value = (ascii_field(raw) if is_structural(name) else raw).partition(b":")[2]
    text = "".join(header.decode_words(header.unfold(value)).split())
    if name not in ADDRESS_FIELDS:
        return text
    addresses = (one.addr_spec if one.is_mailbox else "" for one in address_list(header.unfold(value)))
    return "\n".join((text.replace('"', "").replace("\\", ""), *addresses))
