"""multipart/encrypted, taken apart, and the manglings of it that are recognised: one matcher each.

Standards: RFC 1847 section 2.2, RFC 3156 section 4, draft-dkg-openpgp-pgpmime-message-mangling.
Security: only exactly the known shapes. Ciphertext with siblings in a multipart is never decrypted, so that
no plaintext is ever stitched into somebody else's message (EFAIL).
"""

from __future__ import annotations

from dataclasses import dataclass

from secmailproxy.mime.entity import Entity
from secmailproxy.mime.layers import is_unambiguous
from secmailproxy.mime.transfer import decoded_body

CONTROL = "application/pgp-encrypted"
"""The type of the part before the ciphertext."""
MIXED_UP = "multipart/mixed"
"""What Exchange makes of multipart/encrypted."""
_DATA = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class EncryptedEntity:
    """A ciphertext that is all of its entity."""

    ciphertext: bytes
    """Binary or armored, transfer encoding undone."""
    mangling: str = ""
    """For people: how the structure was damaged on the way, "" when it was not."""


def take_apart(entity: Entity) -> EncryptedEntity | None:
    """The ciphertext of a PGP/MIME encrypted entity, or None when `entity` is not exactly one."""
    return _as_specified(entity) or _mixed_up(entity)


def _as_specified(entity: Entity) -> EncryptedEntity | None:
    if entity.content_type.full != "multipart/encrypted" or len(entity.parts) != 2:
        return None
    if (entity.content_type.param("protocol") or CONTROL).lower() != CONTROL or not is_unambiguous(entity):
        return None
    control, data = entity.parts
    return EncryptedEntity(decoded_body(data)) if _is_pair(control, data) else None


def _mixed_up(entity: Entity) -> EncryptedEntity | None:
    """Exchange makes it multipart/mixed and puts an empty text before the two parts."""
    if entity.content_type.full != MIXED_UP or len(entity.parts) != 3 or not is_unambiguous(entity):
        return None
    text, control, data = entity.parts
    if text.content_type.full != "text/plain" or decoded_body(text).strip() or not _is_pair(control, data):
        return None
    return EncryptedEntity(decoded_body(data), "its structure was changed on the way, as Exchange does")


def _is_pair(control: Entity, data: Entity) -> bool:
    return (
        control.content_type.full == CONTROL
        and data.content_type.full == _DATA
        and decoded_body(control).strip().lower().startswith(b"version: 1")
    )
