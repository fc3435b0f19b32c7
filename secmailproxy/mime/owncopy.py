"""What of a message goes into its encryption to its owner alone, and what stays visible. PURE.

Drafts, sent mail and mailboxes at rest; whichever scheme encrypts, `kept.original` gives the octets back.

Standards: RFC 9788 section 2.
"""

from __future__ import annotations

from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.canonical import clean_field
from secmailproxy.mime.encodedword import ascii_field
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.header import is_structural
from secmailproxy.mime.kept import kept
from secmailproxy.mime.protected import ProtectedMessage, field_name, may_leave, own_copy


def for_owner(message: Entity) -> ProtectedMessage:
    """The payload of a draft or sent mail for its owner."""
    if made(message) is not Made.SIGNED:
        return for_rest(message)
    # Its header is protected, or not, by the signature inside; what was sent in clear stays visible.
    fields = _whole_fields(message)
    outer = tuple(_outside(raw) for raw in fields if _stays_visible(raw))
    return ProtectedMessage(outer, b"".join(fields) + b"\r\n" + message.body)


def for_rest(message: Entity) -> ProtectedMessage:
    """The payload of a message for the owner of a mailbox, from which `kept.original` gives it back."""
    return kept(message, _whole_fields(message), _own_copy_outside)


def _whole_fields(message: Entity) -> list[bytes]:
    """The fields as they stand; the last of a message without a body may lack its line end."""
    whole = (field.raw(message.octets) for field in message.fields)
    return [raw.removesuffix(b"\n").removesuffix(b"\r") + b"\r\n" for raw in whole]


def _outside(raw: bytes) -> bytes:
    return ascii_field(clean_field(raw))


def _own_copy_outside(name: str, raw: bytes) -> bytes | None:
    shown = own_copy(name, raw)
    return None if shown is None else _outside(shown)


def _stays_visible(raw: bytes) -> bool:
    name = field_name(raw)
    return may_leave(name) and bool(name) and not is_structural(name)
