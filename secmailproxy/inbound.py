"""From a received message to its presented form and a summary."""

from __future__ import annotations

from enum import Enum

from secmailproxy.mime import entity, header, parameter


class MessageClass(Enum):
    """What the header section alone tells of a message."""

    PLAIN = "plain"
    SIGNED = "signed"
    """multipart/signed: presented as it is, with a verdict field before it."""
    ENCRYPTED = "encrypted"
    """May need another presented form than the stored octets."""
    FORGED = "forged"
    """Plain, but carrying our verdict field."""


_PKCS7 = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_PKCS7_NAMES = (".p7m", ".p7s", ".p7c", ".p7z")


def classify(header_octets: bytes, verdict_field: str) -> MessageClass:
    """The class of a message by its header section, or by just its Content-Type and verdict fields.

    A protected message with a copy of our field counts as ENCRYPTED: its presented form has none.
    """
    end = header.section_end(header_octets, 0, len(header_octets))
    fields = header.scan(header_octets, 0, len(header_octets) if end is None else end, len(header_octets))
    section = entity.Entity(
        header_octets, 0, len(header_octets), len(header_octets), fields, entity.DEFAULT_TYPE
    )
    declared = header.find(section, "content-type")
    kind = parameter.content_type(declared.value(header_octets)) if declared else entity.DEFAULT_TYPE
    forged = header.find(section, verdict_field) is not None
    name = (kind.param("name") or "").lower()
    if kind.full == "multipart/signed":
        return MessageClass.ENCRYPTED if forged else MessageClass.SIGNED
    if (
        kind.full == "multipart/encrypted"
        or kind.full in _PKCS7
        or (kind.full == "application/octet-stream" and name.endswith(_PKCS7_NAMES))
    ):
        return MessageClass.ENCRYPTED
    return MessageClass.FORGED if forged else MessageClass.PLAIN
