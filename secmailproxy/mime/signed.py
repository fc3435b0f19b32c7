"""multipart/signed, taken apart: the very octets that were signed, and the signature.

Standards: RFC 1847 section 2.1, RFC 3156 section 5.
Security: exactly two parts between exact boundary lines, or it is no signed message. The line end before the
boundary is not signed; everything else of the first part is, as it was received.
"""

from __future__ import annotations

from dataclasses import dataclass

from secmailproxy.mime.entity import Entity
from secmailproxy.mime.layers import SIGNATURE_TYPES, LayerKind, is_unambiguous, layer_kind
from secmailproxy.mime.transfer import decoded_body


@dataclass(frozen=True, slots=True)
class SignedEntity:
    """A multipart/signed of the right shape."""

    kind: LayerKind
    part: Entity
    """The signed part."""
    octets: bytes
    """What the signature covers: `part` with CRLF line ends."""
    signature: bytes
    """The body of the second part, transfer encoding undone."""


def take_apart(entity: Entity) -> SignedEntity | None:
    """The pieces of a multipart/signed, or None when `entity` is not exactly one."""
    kind = layer_kind(entity)
    if kind is None or kind not in SIGNATURE_TYPES or not entity.is_multipart:
        return None
    if len(entity.parts) != 2 or not is_unambiguous(entity):
        return None
    signed, signature = entity.parts
    if signature.content_type.full not in SIGNATURE_TYPES[kind]:
        return None
    return SignedEntity(kind, signed, canonical(signed.whole), decoded_body(signature))


def canonical(octets: bytes) -> bytes:
    """`octets` with CRLF for a bare LF (a message that was stored with LF); nothing else changes."""
    if octets.count(b"\n") == octets.count(b"\r\n"):
        return octets
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
