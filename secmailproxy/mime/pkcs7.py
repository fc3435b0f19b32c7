"""Assembles S/MIME messages, and finds the CMS octets in them.

Standards: RFC 8551 sections 3.2 (application/pkcs7-mime), 3.3 (enveloped-data), 3.4 (authEnveloped-data) and
3.5.3 (multipart/signed), RFC 1847; RFC 5652 section 3, RFC 5083, RFC 3274 (content types).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum

from secmailproxy.mime import transfer
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.layers import layer_kind

_CONTENT_INFO = re.compile(rb"\x30(?:[\x00-\x80]|\x81.|\x82..|\x83...|\x84....)\x06([\x01-\x20])", re.DOTALL)
"""The start of ContentInfo, BER: a sequence that begins with an object identifier of few octets."""
_PEM = re.compile(rb"\s*-----BEGIN (?:PKCS7|CMS)-----([^-]*)-----END (?:PKCS7|CMS)-----\s*")
_ENVELOPE_TYPES = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})


def signed(outer: Sequence[bytes], payload: bytes, signature: bytes, micalg: str, boundary: str) -> bytes:
    """multipart/signed: `outer` fields around `payload`, which keeps the octets that were signed.

    `signature` is SignedData in DER, `micalg` such as "sha-256". `boundary` must not occur in `payload`.
    """
    return b"".join((*outer, b"MIME-Version: 1.0\r\n", signed_entity(payload, signature, micalg, boundary)))


def signed_entity(payload: bytes, signature: bytes, micalg: str, boundary: str) -> bytes:
    """The same without a message header, to be encrypted."""
    mark = b"--" + boundary.encode("ascii")
    return b"".join(
        (
            b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";\r\n',
            b' micalg=%s;\r\n boundary="%s"\r\n\r\n' % (micalg.encode("ascii"), boundary.encode("ascii")),
            b"This is an S/MIME signed message (RFC 8551)\r\n",
            mark + b"\r\n" + payload + b"\r\n" + mark + b"\r\n",
            b'Content-Type: application/pkcs7-signature; name="smime.p7s"\r\n',
            b"Content-Transfer-Encoding: base64\r\n",
            b'Content-Disposition: attachment; filename="smime.p7s"\r\n',
            b"Content-Description: S/MIME cryptographic signature\r\n\r\n",
            transfer.encode_base64(signature) + b"\r\n" + mark + b"--\r\n",
        )
    )


def enveloped(outer: Sequence[bytes], envelope: bytes, smime_type: str, *fields: bytes) -> bytes:
    """application/pkcs7-mime: `outer` fields and other `fields` of MIME over `envelope`, in DER.

    `smime_type` is "enveloped-data" or "authEnveloped-data", as the envelope is.
    """
    return b"".join(
        (
            *outer,
            b"MIME-Version: 1.0\r\n",
            b'Content-Type: application/pkcs7-mime; name="smime.p7m"; smime-type=%b\r\n'
            % smime_type.encode(),
            b"Content-Transfer-Encoding: base64\r\n",
            b'Content-Disposition: attachment; filename="smime.p7m"\r\n',
            b"Content-Description: S/MIME encrypted message\r\n",
            *fields,
            b"\r\n",
            transfer.encode_base64(envelope),
        )
    )


def cms_octets(root: Entity) -> bytes | None:
    """The CMS octets of application/pkcs7-mime, or None where the message is not one."""
    return transfer.decoded_body(root) if root.content_type.full in _ENVELOPE_TYPES else None


class CmsKind(Enum):
    """What CMS octets are; the values are the content types, DER without tag and length."""

    SIGNED = bytes.fromhex("2a864886f70d010702")
    ENVELOPED = bytes.fromhex("2a864886f70d010703")
    AUTH_ENVELOPED = bytes.fromhex("2a864886f70d0109100117")
    COMPRESSED = bytes.fromhex("2a864886f70d0109100109")


def cms_kind(cms: bytes) -> CmsKind | None:
    """What the octets are by their content type; None for what is no CMS, or of another kind."""
    start = _CONTENT_INFO.match(cms)
    if start is None:
        return None
    named = cms[start.end() : start.end() + start[1][0]]
    return next((kind for kind in CmsKind if kind.value == named), None)


def received_cms(part: Entity) -> bytes | None:
    """The octets of an entity that is or may be an S/MIME message by label or name; None for all others."""
    if part.is_multipart or layer_kind(part) is None:
        return None
    return binary(transfer.decoded_body(part))


def binary(octets: bytes) -> bytes:
    """CMS octets that may still be a text, as those of gateways: PEM, or base64 that nobody declared.

    The line end that a binary body has in a message is taken off.
    """
    if cms_kind(octets):
        return octets[: _length(octets)]
    armored = _PEM.fullmatch(octets)
    digits = octets if armored is None else armored[1]
    if digits.lstrip()[:1] == b"M" and transfer.is_base64(digits):
        return transfer.decode(digits, transfer.BASE64)
    return octets


def _length(octets: bytes) -> int:
    """Of the ContentInfo that `octets` start with, if there are only blanks behind; else of all."""
    stated = octets[1]
    if stated == 0x80:
        end = len(octets.rstrip(b" \t\r\n"))
        return end if octets.endswith(b"\0\0", 0, end) else len(octets)
    more = max(0, stated - 0x80)
    end = 2 + more + (int.from_bytes(octets[2 : 2 + more]) if more else stated)
    return len(octets) if octets[end:].strip(b" \t\r\n") else end
