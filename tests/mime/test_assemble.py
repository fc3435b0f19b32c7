"""multipart/signed and multipart/encrypted as RFC 3156 has them, and what is recognised as such."""

from __future__ import annotations

import base64

import pytest

from keystore.model import DetachedSignature
from secmailproxy.mime import encrypted, signed
from secmailproxy.mime.assemble import Made, made, openpgp_ciphertext
from secmailproxy.mime.assemble import encrypted as make_encrypted
from secmailproxy.mime.assemble import signed as make_signed
from secmailproxy.mime.entity import parse

OUTER = (b"From: a@example.org\r\n", b"Subject: s\r\n")
ARMOR = b"-----BEGIN PGP MESSAGE-----\r\n\r\nabcd\r\n-----END PGP MESSAGE-----\r\n"
SIGNATURE = DetachedSignature(
    b"-----BEGIN PGP SIGNATURE-----\r\n\r\nabcd\r\n-----END PGP SIGNATURE-----\r\n", "pgp-sha512"
)


@pytest.mark.parametrize(
    "payload", [b"A: b\r\n\r\ntext\r\n", b"A: b\r\n\r\nno line end", b"\r\n", b"A: b\r\n\r\n\r\n"]
)
def test_the_signed_part_is_exactly_the_payload(payload: bytes) -> None:
    root = parse(make_signed(OUTER, payload, SIGNATURE, "bound"))
    assert made(root) is Made.SIGNED
    assert root.content_type.param("micalg") == "pgp-sha512"
    taken = signed.take_apart(root)
    assert taken is not None
    assert taken.octets == payload
    assert taken.signature == SIGNATURE.armored
    assert [field.raw(root.octets) for field in root.fields][:2] == list(OUTER)


def test_the_encrypted_message_has_exactly_two_parts() -> None:
    root = parse(make_encrypted(OUTER, ARMOR, "bound"))
    assert made(root) is Made.ENCRYPTED
    assert openpgp_ciphertext(root) == ARMOR
    taken = encrypted.take_apart(root)
    assert taken is not None
    assert taken.ciphertext == ARMOR
    control, data = root.parts
    assert control.body == b"Version: 1\r\n"
    assert data.content_type.param("name") == "encrypted.asc"


def multipart(subtype: bytes, protocol: bytes, *parts: bytes) -> bytes:
    inside = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    head = b'Content-Type: multipart/%s; protocol="%s"; boundary=b\r\n\r\n' % (subtype, protocol)
    return head + inside + b"--b--\r\n"


CONTROL = b"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
DATA = b"Content-Type: application/octet-stream\r\n\r\n" + ARMOR
BASE64_DATA = (
    b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    + base64.b64encode(ARMOR)
)
PGP, SMIME = b"application/pgp-signature", b"application/x-pkcs7-signature"
TEXT = b"Content-Type: text/plain\r\n\r\nx"


def cms(oid: str, encoding: bytes = b"base64", *, smime_type: bytes = b"") -> bytes:
    content = b"\x30\x80" + bytes.fromhex(oid) + b"\xa0\x80" + b"\0" * 100
    octets = base64.encodebytes(content).replace(b"\n", b"\r\n") if encoding == b"base64" else content
    kind = b"Content-Type: application/pkcs7-mime" + smime_type
    return kind + b"\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n" + octets


SIGNED_DATA, ENVELOPED = "06092a864886f70d010702", "06092a864886f70d010703"
AUTH_ENVELOPED, COMPRESSED = "060b2a864886f70d0109100117", "060b2a864886f70d0109100109"


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (multipart(b"encrypted", b"application/pgp-encrypted", CONTROL, DATA), Made.ENCRYPTED),
        (multipart(b"Encrypted", b"Application/PGP-Encrypted", CONTROL, BASE64_DATA), Made.ENCRYPTED),
        (multipart(b"encrypted", b"application/pgp-encrypted", CONTROL, DATA, TEXT), Made.NOTHING),
        (multipart(b"encrypted", b"application/pgp-encrypted", DATA, CONTROL), Made.NOTHING),
        (multipart(b"encrypted", b"application/pgp-encrypted", CONTROL, TEXT), Made.NOTHING),
        (
            multipart(
                b"encrypted",
                b"application/pgp-encrypted",
                CONTROL,
                b"Content-Type: application/octet-stream\r\n\r\nclear text",
            ),
            Made.NOTHING,
        ),
        (multipart(b"encrypted", b"other", CONTROL, DATA), Made.NOTHING),
        (multipart(b"mixed", b"application/pgp-encrypted", CONTROL, DATA), Made.NOTHING),
        (multipart(b"signed", PGP, TEXT, b"Content-Type: " + PGP + b"\r\n\r\nsig"), Made.SIGNED),
        (
            multipart(b"signed", SMIME, TEXT, b"Content-Type: application/pkcs7-signature\r\n\r\nsig"),
            Made.SIGNED,
        ),
        (multipart(b"signed", PGP, TEXT, b"Content-Type: " + SMIME + b"\r\n\r\nsig"), Made.NOTHING),
        (multipart(b"signed", PGP, TEXT), Made.NOTHING),
        (multipart(b"signed", PGP, TEXT, b"Content-Type: " + PGP + b"\r\n\r\n"), Made.NOTHING),
        (cms(ENVELOPED), Made.ENCRYPTED),
        (cms(AUTH_ENVELOPED, b"binary"), Made.ENCRYPTED),
        (cms(SIGNED_DATA), Made.SIGNED),
        (cms(SIGNED_DATA, smime_type=b"; smime-type=enveloped-data"), Made.SIGNED),
        (cms(COMPRESSED), Made.NOTHING),
        (b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nclear text", Made.NOTHING),
        (cms(SIGNED_DATA + "a0803080020101" + ENVELOPED), Made.SIGNED),
        (cms(COMPRESSED + "a0803080" + ENVELOPED), Made.NOTHING),
        (b"Content-Type: text/plain\r\n\r\n" + ARMOR, Made.NOTHING),
        (b"Content-Type: message/rfc822\r\n\r\n" + multipart(b"signed", PGP, TEXT, TEXT), Made.NOTHING),
    ],
)
def test_smtp_15_protection_is_recognised_by_structure(message: bytes, found: Made) -> None:
    assert made(parse(message)) is found
