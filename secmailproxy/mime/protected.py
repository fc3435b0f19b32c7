"""Header protection: the fields of a message go into its payload; what stays outside is decided per field.

A *header confidentiality policy* says of each field what, if anything, stands outside. What stood outside
when the message was made is listed inside in HP-Outer fields, so that readers can tell later additions apart.
`protected-headers="v1"` says the same to readers of the older draft (Thunderbird, K-9, NeoMutt, Enigmail).

Standards: RFC 9788 (hp, HP-Outer, hcp_baseline), RFC 9787 section 1.1.1 (structural fields),
RFC 5322 section 3.6 (fields, and how often each may occur).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from secmailproxy.errors import MalformedMessage
from secmailproxy.mime.canonical import LINE_MOST, CanonicalEntity
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.header import is_structural
from secmailproxy.mime.presented import Edit, apply
from secmailproxy.mime.shown import ORIGINAL_FIELD

HIDDEN_SUBJECT = b"Subject: [...]\r\n"

CONTROL_PREFIXES = ("secmail-", "x-secmailproxy-")
"""Fields that only this program writes or reads; they never leave it."""

_BLIND = frozenset({"bcc", "resent-bcc"})
_GOSSIP = "autocrypt-gossip"
"""Tells who else got the message; it stands inside, where this program writes it, or nowhere."""
_OURS_TO_WRITE = frozenset({"hp-outer"})
_AT_MOST_ONCE = (
    "from",
    "sender",
    "subject",
    "date",
    "message-id",
    "content-type",
    "content-transfer-encoding",
)
_TELLS_OF_CONTENT = frozenset(
    {"keywords", "comments", "thread-topic", "summary", "x-subject", "x-original-subject", "original-subject"}
)
_OWN_COPY = frozenset({"from", "to", "date", "message-id", "in-reply-to", "references", "x-tuid"})
_NAME = re.compile(r"[!-9;-~]+")
_HP_PARAMETER = re.compile(rb';\s*(?:hp|protected-headers)\s*=\s*(?:"[^"]*"|[^;\s"]*)', re.IGNORECASE)

HeaderPolicy = Callable[[str, bytes], bytes | None]
"""Given a field's name in lower case and its octets with CRLF: the octets that stand outside, or None."""


class Protects(Enum):
    """What protects the payload; the value of the parameter hp."""

    CLEAR = "clear"
    CIPHER = "cipher"


@dataclass(frozen=True, slots=True)
class ProtectedMessage:
    """A payload with its header inside, and the fields that stand outside (without Content-Type)."""

    outer: tuple[bytes, ...]
    payload: bytes


def show_all(name: str, raw: bytes) -> bytes | None:
    """The policy of signed mail, and of encrypted mail whose subject may be seen."""
    return raw


def hide_subject(name: str, raw: bytes) -> bytes | None:
    """hcp_baseline: the subject is replaced, Keywords and Comments stay inside.

    So does what repeats the subject: Outlook's Thread-Topic and its kin.
    """
    if name == "subject":
        return HIDDEN_SUBJECT
    return None if name in _TELLS_OF_CONTENT else raw


def own_copy(name: str, raw: bytes) -> bytes | None:
    """For drafts and sent mail, which only the owner reads: what clients search by stays outside."""
    if name == "subject":
        return HIDDEN_SUBJECT
    return raw if name in _OWN_COPY or name.startswith("x-offlineimap") else None


def field_name(raw: bytes) -> str:
    """The name of a field in lower case; "" of a line that is no field."""
    colon = raw.find(b":")
    return raw[:colon].rstrip(b" \t").lower().decode("latin-1") if colon >= 0 else ""


def is_mark(raw: bytes) -> bool:
    """Whether the field tells the digest of an original."""
    return field_name(raw) == ORIGINAL_FIELD


def may_leave(name: str) -> bool:
    """Whether the field (name in lower case) may leave in a header that others read, or that a client made.

    No blind recipients, nothing of ours (SMTP-08), no certificates of others.
    """
    return name not in _BLIND and name != _GOSSIP and not name.startswith(CONTROL_PREFIXES)


def without_inner_marks(message: Entity) -> Entity:
    """The message without fields of ours in messages that are embedded in it, such as forwarded ones.

    They tell what was encrypted, and the name of the verdict field, which no correspondent should know. What
    is inside a signature or an encryption stays.
    """
    edits = list(_inner_marks(message))
    return parse(apply(message.octets, message.start, message.end, edits)) if edits else message


def _inner_marks(entity: Entity) -> Iterator[Edit]:
    if entity.content_type.full in ("multipart/signed", "multipart/encrypted"):
        return
    for part in entity.parts:
        if part.is_message:
            for field in part.fields:
                if field.name.lower().startswith(CONTROL_PREFIXES):
                    yield Edit(field.start, field.end, b"")
        yield from _inner_marks(part)


def outgoing_fields(
    fields: Iterable[bytes], *, date: bytes, message_id: bytes, replaced: Collection[str] = ()
) -> tuple[bytes, ...]:
    """The fields of a message that may leave, with Date and Message-ID added where they are missing.

    `date` and `message_id` are values; fields named in `replaced` (lower case) are left out. Raises
    MalformedMessage for a line that is no field, and for a second copy of a field that may occur once:
    readers would differ in which one they show.
    """
    kept = [raw for raw in fields if may_leave(name := field_name(raw)) and name not in replaced]
    names = [field_name(raw) for raw in kept]
    if not all(map(_NAME.fullmatch, names)):
        raise MalformedMessage("the header of the message has a line that is no field")
    for name in _AT_MOST_ONCE:
        if names.count(name) > 1:
            raise MalformedMessage(f"the message has more than one {name.title()} field")
    if "date" not in names:
        kept.append(b"Date: " + date + b"\r\n")
    if "message-id" not in names:
        kept.append(b"Message-ID: " + message_id + b"\r\n")
    return tuple(kept)


def protect_header(
    fields: Sequence[bytes],
    body: bytes,
    protects: Protects,
    policy: HeaderPolicy,
    *,
    inside: Sequence[bytes] = (),
) -> ProtectedMessage:
    """Puts `fields` into the payload, and outside what `policy` lets stand there.

    `fields` end in CRLF each; all of them, the structural ones too, stay in the payload in their order. After
    them come those of `inside`, which no policy is asked about.
    """
    kept = [raw for raw in fields if field_name(raw) not in _OURS_TO_WRITE]
    free = [(name, raw) for raw in kept if not is_structural(name := field_name(raw))]
    outer = tuple(shown for name, raw in free if (shown := policy(name, raw)) is not None)
    listed = [hp_outer(raw) for raw in outer] if protects is Protects.CIPHER else []
    payload = CanonicalEntity((*_marked(kept, protects), *inside, *listed), body)
    return ProtectedMessage(outer, payload.octets)


def hp_outer(raw: bytes) -> bytes:
    """The field that lists `raw`, which stands outside. Its lines are no longer than 998."""
    line = raw.find(b"\r\n")
    if len(b"HP-Outer: ") + line <= LINE_MOST:
        return b"HP-Outer: " + raw
    if len(b" ") + line <= LINE_MOST:
        return b"HP-Outer:\r\n " + raw
    name, _, value = raw.partition(b":")
    return b"HP-Outer: " + name + b":\r\n " + value.lstrip(b" \t")


def _marked(fields: list[bytes], protects: Protects) -> list[bytes]:
    """The fields with the parameters of header protection in Content-Type (RFC 9788 section 2.1)."""
    parameters = _parameters(protects)
    for at, raw in enumerate(fields):
        if field_name(raw) == "content-type":
            value = _HP_PARAMETER.sub(b"", raw).rstrip(b"; \t\r\n")
            return [*fields[:at], value + parameters, *fields[at + 1 :]]
    return [*fields, b"Content-Type: text/plain" + parameters]


def unmarked(raw: bytes) -> bytes:
    """A field without the parameters that `protect_header` gave to Content-Type of an encrypted payload."""
    parameters = _parameters(Protects.CIPHER)
    if field_name(raw) == "content-type" and raw.endswith(parameters):
        return raw.removesuffix(parameters) + b"\r\n"
    return raw


def _parameters(protects: Protects) -> bytes:
    return b';\r\n protected-headers="v1"; hp="%s"\r\n' % protects.value.encode()
