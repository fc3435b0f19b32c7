"""multipart/signed, taken apart: the very octets that were signed, and the signature.

Standards: RFC 1847 section 2.1, RFC 3156 section 5.
Security: exactly two parts between exact boundary lines, or it is no signed message. The line end before the
boundary is not signed; everything else of the first part is, as it was received. Nobody has signed the second
part: it must be a signature for all readers, and have nothing else in it that one of them could show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.filenames import file_names
from secmailproxy.mime.layers import SIGNATURE_TYPES, LayerKind, is_unambiguous, layer_kind
from secmailproxy.mime.shown import is_cut_alike
from secmailproxy.mime.transfer import decoded_body

_AT_MOST_ONCE = ("content-type", "content-transfer-encoding", "content-disposition")
_NAME = re.compile(r"[^.]*|.*\.(?:asc|sig|sign|signature|pgp|gpg|p7s|p7m|dat)", re.DOTALL)
"""Of a signature: readers that verify none list it as a file, and go by its ending."""
_BEGIN, _END = b"-----BEGIN PGP SIGNATURE-----", b"-----END PGP SIGNATURE-----"


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
    if signature.content_type.full not in SIGNATURE_TYPES[kind] or not _is_nothing_else(signature):
        return None
    octets = decoded_body(signature)
    if kind is LayerKind.PGP_SIGNED and not _is_bare(octets):
        return None
    return SignedEntity(kind, signed, canonical(signed.whole), octets)


def _is_nothing_else(signature: Entity) -> bool:
    """Whether all readers find one type and no name of another kind of file in the header of a signature."""
    if not is_cut_alike(signature):
        return False
    if any(len(header.find_all(signature, name)) > 1 for name in _AT_MOST_ONCE):
        return False
    return all(map(_NAME.fullmatch, file_names(signature)))


def _is_bare(signature: bytes) -> bool:
    """Whether there are no words around the armor, if there is any."""
    stripped = signature.strip()
    return _BEGIN not in stripped or (stripped.startswith(_BEGIN) and stripped.endswith(_END))


def canonical(octets: bytes) -> bytes:
    """`octets` with CRLF for a bare LF (a message that was stored with LF); nothing else changes."""
    if octets.count(b"\n") == octets.count(b"\r\n"):
        return octets
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
