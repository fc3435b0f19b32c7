"""Cryptographic layers by their outward form, and the errant ones among the parts.

A layer counts only in the unbroken run from the root (the cryptographic envelope); the same structure
anywhere else is errant: shown, never counted.

What an S/MIME entity really is, its CMS octets decide (`pkcs7`): gateways and old programs leave smime-type
out, or the media type.

Standards: RFC 1847, RFC 3156, RFC 8551 sections 3.2.1 (names) and 3.10, RFC 9787 (layer, envelope, payload,
errant layer).
"""

from __future__ import annotations

import re
from enum import Enum

from secmailproxy.mime import header
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.filenames import file_names
from secmailproxy.mime.parameter import ContentType

_IDENTITY = frozenset({b"", b"7bit", b"8bit", b"binary"})
_PKCS7_MIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_PKCS7_SIGNATURE = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_PKCS7_ENDINGS = (".p7m", ".p7z", ".p7s")
_BOUNDARY = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
"""RFC 2046 section 5.1.1. Some readers keep the backslash before another character, or decode encoded words;
Python's email takes angle brackets off."""
_TOKEN = rb"[!#-'*+.0-9A-Z^-~-]+"
_VALUE = rb"""(?:"(?:[^"\\]|\\[ -~])*"|[!#-'*+./:=?@0-9A-Z^-~-]+)"""
_MICALG = rb"(?i:micalg)[ \t]*=[-,0-9A-Za-z]*(?=[ \t]*(?:;|\Z))"
"""Nobody needs it to read a message, so it may be empty or a list."""
_WELL_FORMED = re.compile(
    rb"%b/%b(?:[ \t]*;[ \t]*(?>%b|%b[ \t]*=[ \t]*%b))*+[ \t]*+;?[ \t]*"
    % (_TOKEN, _TOKEN, _MICALG, _TOKEN, _VALUE)
)
"""A Content-Type that all readers cut alike: no comments, nothing behind a value (RFC 2045 section 5.1)."""
_CONTINUED = re.compile(rb"\bboundary\s*\*", re.IGNORECASE)
_SAID = re.compile(rb"\bboundary\s*=\s*(?:\"([^\"]*)\"|([^\s;]*))", re.IGNORECASE)
_ODD = re.compile(rb"\x00|\r(?!\n)")
"""Octets at which some readers end a line and others do not."""
_BLANKS_TO_LINE_END = re.compile(rb"[ \t]*\r?(?:\n|\Z)")


class LayerKind(Enum):
    """What a structure claims to be."""

    PGP_SIGNED = "multipart/signed with OpenPGP"
    PGP_ENCRYPTED = "multipart/encrypted"
    SMIME_SIGNED = "S/MIME signed"
    SMIME_ENCRYPTED = "S/MIME enveloped"
    """Or anything else that CMS may hold, if the label does not say."""
    UNKNOWN = "multipart/signed of another kind"


SIGNATURE_TYPES = {
    LayerKind.PGP_SIGNED: frozenset({"application/pgp-signature"}),
    LayerKind.SMIME_SIGNED: _PKCS7_SIGNATURE,
}
"""The media types of the second part of a multipart/signed. Of S/MIME the old and the new name mix."""


def layer_kind(entity: Entity) -> LayerKind | None:
    """What cryptographic structure the Content-Type of `entity` claims, None for none."""
    kind = entity.content_type
    if kind.full == "multipart/signed":
        protocol = (kind.param("protocol") or "").lower()
        if protocol == "application/pgp-signature":
            return LayerKind.PGP_SIGNED
        return LayerKind.SMIME_SIGNED if protocol in _PKCS7_SIGNATURE else LayerKind.UNKNOWN
    if kind.full == "multipart/encrypted":
        return LayerKind.PGP_ENCRYPTED
    if kind.full in _PKCS7_MIME:
        return _labelled(kind, file_names(entity))
    if kind.full == "application/octet-stream":
        names = [name for name in file_names(entity) if name.endswith(_PKCS7_ENDINGS)]
        return _labelled(kind, names) if names else None
    return None


def _labelled(kind: ContentType, names: list[str]) -> LayerKind | None:
    """What CMS calls itself; None for certificates alone, which are no message (RFC 8551 section 3.8)."""
    said = (kind.param("smime-type") or "").lower()
    if not said:
        endings = {name[-4:] for name in names}
        said = "certs-only" if ".p7c" in endings else "signed-data" if ".p7s" in endings else ""
    if said == "certs-only":
        return None
    return LayerKind.SMIME_SIGNED if said == "signed-data" else LayerKind.SMIME_ENCRYPTED


def errant_layers(entity: Entity) -> int:
    """How many cryptographic structures there are in `entity`, itself included."""
    here = 0 if layer_kind(entity) is None else 1
    return here + sum(map(errant_layers, entity.parts))


def is_unambiguous(entity: Entity) -> bool:
    """Whether every reader cuts the multipart `entity` into the same parts.

    One Content-Type, one plain boundary, no transfer encoding, every boundary line exactly that, the last
    closed, and outside of the parts nothing that some reader could take for another boundary.
    """
    boundary = _sole_boundary(entity)
    if boundary is None or not entity.parts:
        return False
    if any(
        encoding.lower() not in _IDENTITY for encoding in header.values(entity, "content-transfer-encoding")
    ):
        return False
    return _delimited(entity, b"--" + boundary)


def _sole_boundary(entity: Entity) -> bytes | None:
    declared = header.values(entity, "content-type")
    found = [value for name, value in entity.content_type.params if name == "boundary"]
    if len(declared) != 1 or len(found) != 1 or _CONTINUED.search(declared[0]):
        return None
    if not _WELL_FORMED.fullmatch(declared[0]):
        return None
    boundary = found[0].encode("latin-1", "replace")
    # As received: escaped, folded in its midst or said in another value as well, it is read differently.
    said = [
        one or other
        for one, other in _SAID.findall(header.find_all(entity, "content-type")[0].value(entity.octets))
    ]
    is_word = b"=?" in boundary and b"?=" in boundary
    return boundary if said == [boundary] and _BOUNDARY.fullmatch(boundary) and not is_word else None


def _delimited(entity: Entity, delimiter: bytes) -> bool:
    octets = entity.octets
    position = entity.body_start
    # Lines inside of parts that only begin like it are boundaries to some.
    if octets.count(b"\n" + delimiter, position - 1, entity.end) != len(entity.parts) + 1:
        return False
    for part in entity.parts:
        line_start = octets.rfind(b"\n", 0, part.start - 1) + 1
        if not _is_delimiter(octets, line_start, delimiter) or _ODD.search(octets, position, part.start):
            return False
        position = part.end
    last = position if octets.startswith(delimiter, position) else octets.find(b"\n", position) + 1
    return (
        _is_delimiter(octets, last, delimiter + b"--")
        and octets.find(b"\n" + delimiter, last, entity.end) < 0
        and not _ODD.search(octets, position, entity.end)
    )


def _is_delimiter(octets: bytes, line_start: int, delimiter: bytes) -> bool:
    return octets.startswith(delimiter, line_start) and bool(
        _BLANKS_TO_LINE_END.match(octets, line_start + len(delimiter))
    )
