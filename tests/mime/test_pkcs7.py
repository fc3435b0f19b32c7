"""CMS octets in a message, and what they say they are (RFC 5652 section 3)."""

from __future__ import annotations

import pytest

from secmailproxy.mime import entity
from secmailproxy.mime.pkcs7 import CmsKind, cms_kind, received_cms

SIGNED = b"\x06\x09" + CmsKind.SIGNED.value


@pytest.mark.parametrize(
    ("octets", "kind"),
    [
        (b"\x30\x20" + SIGNED + b"\xa0", CmsKind.SIGNED),
        (b"\x30\x80" + SIGNED, CmsKind.SIGNED),
        (b"\x30\x81\xff" + SIGNED, CmsKind.SIGNED),
        (b"\x30\x82\x0a\x0a" + SIGNED, CmsKind.SIGNED),
        (b"\x30\x84\x00\x00\x01\x00" + SIGNED, CmsKind.SIGNED),
        (b"\x30\x80\x06\x09" + CmsKind.ENVELOPED.value, CmsKind.ENVELOPED),
        (b"\x30\x80\x06\x0b" + CmsKind.AUTH_ENVELOPED.value, CmsKind.AUTH_ENVELOPED),
        (b"\x30\x80\x06\x0b" + CmsKind.COMPRESSED.value, CmsKind.COMPRESSED),
        (b"\x30\x80\x06\x0a" + CmsKind.SIGNED.value + b"\x05", None),
        (b"\x30\x80\x06\x09" + CmsKind.SIGNED.value[:-1], None),
        (b"\x31\x80" + SIGNED, None),
        (b"\x30\x80\x06\x80" + CmsKind.SIGNED.value, None),
        (b"MIIB", None),
        (b"", None),
    ],
)
def test_kinds(octets: bytes, kind: CmsKind | None):
    assert cms_kind(octets) is kind


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (b"application/pkcs7-mime", b"cms"),
        (b"application/octet-stream; name=x.p7m", b"cms"),
        (b"application/octet-stream", None),
        (b"application/pkcs7-signature; name=smime.p7s", None),
        (b"application/pkcs7-mime; smime-type=certs-only", None),
        (b"multipart/signed; protocol=application/pkcs7-signature; boundary=x", None),
    ],
)
def test_only_what_may_be_a_message_is_decoded(kind: bytes, found: bytes | None):
    head = b"Content-Type: " + kind + b"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    assert received_cms(entity.parse(head + b"Y21z\r\n")) == found
