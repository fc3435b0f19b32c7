"""Assembles multipart/signed and multipart/encrypted, and recognises what others have assembled.

Standards: RFC 3156 sections 4 and 5 (PGP/MIME), RFC 1847, RFC 8551 section 3 (S/MIME), RFC 5652 (CMS).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from keystore.model import DetachedSignature
from secmailproxy.mime import transfer
from secmailproxy.mime.entity import Entity

_SIGNATURE_TYPES = {
    "application/pgp-signature": "application/pgp-signature",
    "application/pkcs7-signature": "application/pkcs7-signature",
    "application/x-pkcs7-signature": "application/pkcs7-signature",
}
_PKCS7_MIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_CMS_START = 64
"""Octets in which a CMS ContentInfo names its content type, whatever the form of its lengths."""
_CONTENT_INFO = re.compile(rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)", re.DOTALL)
"""A sequence and its length; the content type is what comes first in it (RFC 5652 section 3)."""
_OID_SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
_OID_ENVELOPED_DATA = bytes.fromhex("06092a864886f70d010703")
_OID_AUTH_ENVELOPED_DATA = bytes.fromhex("060b2a864886f70d0109100117")


class Made(Enum):
    """What protection a message already has at its root."""

    NOTHING = "nothing"
    SIGNED = "signed"
    ENCRYPTED = "encrypted"


def signed(outer: Sequence[bytes], payload: bytes, signature: DetachedSignature, boundary: str) -> bytes:
    """multipart/signed: `outer` fields around `payload`, which keeps the octets that were signed.

    `boundary` must not occur in `payload`.
    """
    mark = b"--" + boundary.encode("ascii")
    return b"".join(
        (
            *outer,
            b"MIME-Version: 1.0\r\n",
            b'Content-Type: multipart/signed; micalg="%s";\r\n' % signature.micalg.encode("ascii"),
            b' protocol="application/pgp-signature";\r\n boundary="%s"\r\n\r\n' % boundary.encode("ascii"),
            b"This is an OpenPGP/MIME signed message (RFC 9580 and 3156)\r\n",
            mark + b"\r\n" + payload + b"\r\n" + mark + b"\r\n",
            b'Content-Type: application/pgp-signature; name="signature.asc"\r\n',
            b"Content-Description: OpenPGP digital signature\r\n",
            b'Content-Disposition: attachment; filename="signature.asc"\r\n\r\n',
            signature.armored + b"\r\n" + mark + b"--\r\n",
        )
    )


def encrypted(outer: Sequence[bytes], ciphertext: bytes, boundary: str) -> bytes:
    """multipart/encrypted: `outer` fields around the armored `ciphertext`, whose lines end in CRLF."""
    mark = b"--" + boundary.encode("ascii")
    return b"".join(
        (
            *outer,
            b"MIME-Version: 1.0\r\n",
            b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted";\r\n',
            b' boundary="%s"\r\n\r\n' % boundary.encode("ascii"),
            b"This is an OpenPGP/MIME encrypted message (RFC 9580 and 3156)\r\n",
            mark + b"\r\n",
            b"Content-Type: application/pgp-encrypted\r\n",
            b"Content-Description: PGP/MIME version identification\r\n\r\n",
            b"Version: 1\r\n\r\n" + mark + b"\r\n",
            b'Content-Type: application/octet-stream; name="encrypted.asc"\r\n',
            b"Content-Description: OpenPGP encrypted message\r\n",
            b'Content-Disposition: inline; filename="encrypted.asc"\r\n\r\n',
            ciphertext + b"\r\n" + mark + b"--\r\n",
        )
    )


def made(root: Entity) -> Made:
    """What protection a message has at its root, judged by its structure, never by words in it."""
    kind = root.content_type
    if kind.full == "multipart/encrypted":
        return Made.ENCRYPTED if openpgp_ciphertext(root) is not None else Made.NOTHING
    if kind.full == "multipart/signed":
        return Made.SIGNED if _has_signature(root) else Made.NOTHING
    if kind.full in _PKCS7_MIME:
        return _cms(root)
    return Made.NOTHING


def openpgp_ciphertext(root: Entity) -> bytes | None:
    """The ASCII-armored ciphertext of a multipart/encrypted message, or None where it is not one."""
    if (root.content_type.param("protocol") or "").lower() != "application/pgp-encrypted":
        return None
    if [part.content_type.full for part in root.parts] != [
        "application/pgp-encrypted",
        "application/octet-stream",
    ]:
        return None
    control, data = root.parts
    ciphertext = transfer.decoded_body(data)
    versioned = b"version: 1" in control.body.lower()
    armored = ciphertext.lstrip().startswith(b"-----BEGIN PGP MESSAGE-----")
    return ciphertext if versioned and armored else None


def _has_signature(root: Entity) -> bool:
    if len(root.parts) != 2:
        return False
    protocol = _SIGNATURE_TYPES.get((root.content_type.param("protocol") or "").lower())
    found = _SIGNATURE_TYPES.get(root.parts[1].content_type.full)
    return protocol is not None and protocol == found and bool(root.parts[1].body.strip())


def _cms(root: Entity) -> Made:
    """By the type that the CMS object itself names; the parameter smime-type is only a claim."""
    encoding = transfer.encoding_of(root)
    encoded = root.body[: 4 * _CMS_START] if encoding == transfer.BASE64 else root.body
    start = transfer.decode(encoded, encoding)[:_CMS_START]
    head = _CONTENT_INFO.match(start)
    if head is None:
        return Made.NOTHING
    # Only there: signed content may bear any type, and say of itself that it is enveloped.
    if start.startswith((_OID_ENVELOPED_DATA, _OID_AUTH_ENVELOPED_DATA), head.end()):
        return Made.ENCRYPTED
    return Made.SIGNED if start.startswith(_OID_SIGNED_DATA, head.end()) else Made.NOTHING
