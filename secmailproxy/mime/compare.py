"""Compares a message with what became of it: nothing may be lost or changed on the way into its payload.

Standards: RFC 2045 (what a transfer encoding may change), RFC 9788 (what header protection adds).
Security: the last check before a message leaves. The answers name kinds of parts and fields, never content.
"""

from __future__ import annotations

from collections.abc import Sequence

from secmailproxy.mime import header
from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.header import is_structural
from secmailproxy.mime.protected import may_leave
from secmailproxy.mime.transfer import decoded_body, encoding_of

_BY_MEANING = frozenset({"hp-outer", "content-type", "content-transfer-encoding"})
_ADDED_PARAMETERS = frozenset({"hp", "protected-headers"})


def difference(original: Entity, payload: Entity) -> str | None:
    """What the cryptographic payload lacks or changes of the message `original`; None when nothing."""
    lost = _changed_field(original, payload, root=True)
    if lost:
        return f"the field {lost} differs"
    return _different(original, payload, root=True)


def _different(before: Entity, after: Entity, *, root: bool = False) -> str | None:
    kind = before.content_type.full
    if before.is_rfc822 and after.content_type.full == "message/global":
        return None if before.body == decoded_body(after) else "an embedded message differs"
    if kind != after.content_type.full or _parameters(before) != _parameters(after):
        return f"the type {kind} became {after.content_type.full}, or its parameters differ"
    if not root and (lost := _changed_field(before, after, root=False)):
        return f"in a part of type {kind} the field {lost} differs"
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


def _parameters(entity: Entity) -> Sequence[tuple[str, str]]:
    return [
        (name, _as_text(value)) for name, value in entity.content_type.params if name not in _ADDED_PARAMETERS
    ]


def _as_text(value: str) -> str:
    """A parameter with raw octets read the way they are read when they are written in ASCII."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def _changed_field(before: Entity, after: Entity, *, root: bool) -> str | None:
    """The name of the first field that is not the same in both; those that a signer may touch left out."""
    olds = [item for item in _readings(before) if not root or may_leave(item[0])]
    news = _readings(after)
    if root:
        names = {name for name, _ in olds}
        news = [item for item in news if item[0] in names or item[0] not in ("date", "message-id")]
    if olds == news:
        return None
    for old, new in zip(olds, news, strict=False):
        if old != new:
            return old[0]
    return max(olds, news, key=len)[min(len(olds), len(news))][0]


def _readings(entity: Entity) -> list[tuple[str, str]]:
    """Names in lower case and values as readers see them, without blanks, in order.

    Content-Type and the transfer encoding are compared by what they mean. Parameters with raw octets have
    only one reading, that of their ASCII form.
    """
    readings = []
    for field in entity.fields:
        name = field.name.strip().lower()
        if name not in _BY_MEANING:
            raw = field.raw(entity.octets)
            value = (ascii_field(raw) if is_structural(name) else raw).partition(b":")[2]
            readings.append((name, "".join(header.decode_words(header.unfold(value)).split())))
    return readings
