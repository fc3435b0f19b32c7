"""CMS octets in a message, and what they say they are (RFC 5652 section 3)."""

from __future__ import annotations

import base64

import pytest

from secmailproxy.mime import entity
from secmailproxy.mime.pkcs7 import CmsKind, binary, cms_kind, received_cms

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


DEFINITE = b"\x30\x82\x01\x0d" + SIGNED + b"\n" * 0x102
OPEN = b"\x30\x80" + SIGNED + b"\0\0"
TEXT = base64.encodebytes(DEFINITE).replace(b"\n", b"\r\n")


@pytest.mark.parametrize("cms", [DEFINITE, OPEN, b"\x30\x0c" + SIGNED + b"\n"])
def test_the_line_end_of_a_binary_body_is_taken_off(cms: bytes):
    """MIME-04: a message ends in CRLF, and a part may; what lies within keeps its octets."""
    assert binary(cms) == binary(cms + b"\r\n") == binary(cms + b" \n\n") == cms
    assert binary(cms + b"x\r\n") == cms + b"x\r\n"
    assert binary(cms[:-1]) == cms[:-1]


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        b"\r\n" + TEXT + b"\r\n",
        b"-----BEGIN PKCS7-----\r\n" + TEXT + b"-----END PKCS7-----\r\n",
        b"\n-----BEGIN CMS-----\n" + TEXT + b"-----END CMS-----",
    ],
)
def test_a_text_that_stands_for_cms(text: bytes):
    """As gpgsm takes it, and with it KMail: base64 without its field, and PEM."""
    assert binary(text) == DEFINITE


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30",
        b"Meet me at the windmill.\r\n",
        TEXT + b"\r\n-- \r\nwords\r\n",
        b"words\r\n-----BEGIN PKCS7-----\r\n" + TEXT + b"-----END PKCS7-----\r\n",
        b"-----BEGIN PKCS7-----\r\nMIIB!\r\n-----END PKCS7-----\r\n",
        b"-----BEGIN CERTIFICATE-----\r\n" + TEXT + b"-----END CERTIFICATE-----\r\n",
    ],
)
def test_other_octets_stay(octets: bytes):
    assert binary(octets) == octets
