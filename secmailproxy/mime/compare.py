"""Compares a message with what became of it: nothing may be lost or changed on the way into its payload.

Standards: RFC 2045 (what a transfer encoding may change), RFC 9788 (what header protection adds).
Security: the last check before a message leaves. The answers name kinds of parts and fields, never content.
"""

from __future__ import annotations

from collections.abc import Iterable

from secmailproxy.mime import header
from secmailproxy.mime.enclosures import MOVES_WITH_ITS_BODY, NOTHING, Enclosures
from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.header import is_structural
from secmailproxy.mime.protected import may_leave
from secmailproxy.mime.transfer import decoded_body, encoding_of

_NOT_BY_VALUE = frozenset({"hp-outer", "content-type", "content-transfer-encoding"})
_ADDED_PARAMETERS = frozenset({"hp", "protected-headers"})
_ADDED_WHERE_MISSING = ("date", "message-id")

_Reading = tuple[str, str]


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
    if not root and (lost := _first_difference(_readings(before), _readings(after))):
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


def _parameters(entity: Entity, *, root: bool) -> list[_Reading]:
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
    own = [field.raw(payload.octets) for field in payload.fields if field.name.lower() not in _NOT_BY_VALUE]
    if tuple(own[len(own) - len(added) :]) != added:
        return "that was to be added"
    olds = [one for one in _readings(original) if may_leave(one[0]) and one[0] not in enclosures.names]
    known = {name for name, _ in olds}
    news = _readings(payload)
    news = [
        one for one in news[: len(news) - len(added)] if one[0] in known or one[0] not in _ADDED_WHERE_MISSING
    ]
    moved, stayed = _split(news)
    described, expected = _split(olds)
    if carrier is not payload:
        moved += _readings(carrier)
    return _first_difference(expected, stayed) or _first_difference(described, moved)


def _split(readings: Iterable[_Reading]) -> tuple[list[_Reading], list[_Reading]]:
    """The fields that describe the body, and the others."""
    sorted_out: tuple[list[_Reading], list[_Reading]] = ([], [])
    for reading in readings:
        sorted_out[not reading[0].startswith(MOVES_WITH_ITS_BODY)].append(reading)
    return sorted_out


def _first_difference(olds: list[_Reading], news: list[_Reading]) -> str | None:
    """The name of the first field that is not the same in both."""
    if olds == news:
        return None
    for old, new in zip(olds, news, strict=False):
        if old != new:
            return old[0]
    return max(olds, news, key=len)[min(len(olds), len(news))][0]


def _readings(entity: Entity) -> list[_Reading]:
    """Names in lower case and values as readers see them, without blanks, in order.

    Content-Type and the transfer encoding are compared by what they mean. Parameters with raw octets have
    only one reading, that of their ASCII form.
    """
    readings = []
    for field in entity.fields:
        name = field.name.strip().lower()
        if name not in _NOT_BY_VALUE:
            raw = field.raw(entity.octets)
            value = (ascii_field(raw) if is_structural(name) else raw).partition(b":")[2]
            readings.append((name, "".join(header.decode_words(header.unfold(value)).split())))
    return readings
