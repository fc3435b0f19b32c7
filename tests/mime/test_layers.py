"""Cryptographic structures by their form: what counts, what is errant, what is exactly one."""

from __future__ import annotations

import pytest

from secmailproxy.mime import encrypted, entity, signed
from secmailproxy.mime.layers import LayerKind, errant_layers, is_unambiguous, layer_kind
from tests.fixtures.growth import assert_linear

SIGNED = (
    b'Content-Type: multipart/signed; boundary="b"; protocol="application/pgp-signature"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain\r\n\r\nHello\r\n"
    b"--b\r\nContent-Type: application/pgp-signature\r\n\r\nSIG\r\n--b--\r\n"
)
ENCRYPTED = (
    b'Content-Type: multipart/encrypted; boundary="b"; protocol="application/pgp-encrypted"\r\n\r\n'
    b"--b\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n"
    b"--b\r\nContent-Type: application/octet-stream\r\n\r\nDATA\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (b"text/plain", None),
        (b'multipart/signed; protocol="Application/PGP-Signature"', LayerKind.PGP_SIGNED),
        (b"multipart/signed; protocol=application/x-pkcs7-signature", LayerKind.SMIME_SIGNED),
        (b"multipart/signed", LayerKind.UNKNOWN),
        (b"multipart/encrypted", LayerKind.PGP_ENCRYPTED),
        (b"application/pkcs7-mime", LayerKind.SMIME_ENCRYPTED),
        (b"application/x-pkcs7-mime; smime-type=signed-data", LayerKind.SMIME_SIGNED),
        (b"application/pkcs7-mime; name=smime.p7s", LayerKind.SMIME_SIGNED),
        (b"application/octet-stream; name=smime.p7m", LayerKind.SMIME_ENCRYPTED),
        (b"application/octet-stream; name=smime.p7s", LayerKind.SMIME_SIGNED),
        (b"application/octet-stream\r\nContent-Disposition: x; filename=A.P7Z", LayerKind.SMIME_ENCRYPTED),
        (b"application/octet-stream; name=smime.p7c", None),
        (b"application/pkcs7-mime; smime-type=certs-only; name=smime.p7m", None),
        (b"application/pkcs7-mime; name=certificates.p7c", None),
        (b"application/octet-stream", None),
    ],
)
def test_kinds(kind: bytes, expected: LayerKind | None):
    assert layer_kind(entity.parse(b"Content-Type: " + kind + b"\r\n\r\n")) is expected


def test_layers_are_counted_at_any_depth():
    forward = b"Content-Type: message/rfc822\r\n\r\n" + SIGNED
    mixed = (
        b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n"
        + forward
        + b"--m\r\n"
        + ENCRYPTED
        + b"--m--\r\n"
    )
    assert errant_layers(entity.parse(mixed)) == 2
    assert errant_layers(entity.parse(SIGNED)) == 1
    assert errant_layers(entity.parse(b"\r\nx")) == 0


CHANGES = [
    (b"Version: 1", b"Version: 2"),
    (b"Version: 1", b"Version: 1\r\n\r\nwords"),
    (b"application/octet-stream", b"text/plain"),
    (b"application/pgp-encrypted\r\n", b"text/plain\r\n"),
    (b'protocol="application/pgp-encrypted"', b'protocol="application/x"'),
    (b"\r\n--b--", b""),
    (b"\r\n--b--", b"\r\n--b\r\n\r\nmore\r\n--b--"),
    (b"--b--\r\n", b"--b--x\r\n"),
    (b"--b\r\n", b"--bx\r\n"),
    (b'boundary="b"', b'boundary="b"; boundary="c"'),
    (b"Content-Type: multipart", b"Content-Type: text/plain\r\nContent-Type: multipart"),
    (b"Content-Type: multipart", b"Content-Transfer-Encoding: base64\r\nContent-Type: multipart"),
]


@pytest.mark.parametrize(("old", "new"), CHANGES)
def test_only_the_exact_shape_is_an_encrypted_message(old: bytes, new: bytes):
    assert encrypted.take_apart(entity.parse(ENCRYPTED)) == encrypted.EncryptedEntity(b"DATA")
    assert old in ENCRYPTED
    assert encrypted.take_apart(entity.parse(ENCRYPTED.replace(old, new, 1))) is None


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"", b""),
        (b"Version: 1", b""),
        (b"Version: 1", b"\r\nversion:1 \r\n"),
        (b"\r\n\r\n--b\r\n", b"\r\n\r\npreamble\r\n--b  \r\n"),
        (b"--b--\r\n", b"--b-- \r\nepilogue\r\n"),
        (b"--b--\r\n", b"--b--"),
        (b"\r\n\r\nDATA", b"\r\nContent-Transfer-Encoding: base64\r\n\r\nREFUQQ=="),
        (b'; protocol="application/pgp-encrypted"', b""),
    ],
)
def test_what_transport_does_is_tolerated(old: bytes, new: bytes, line_end: bytes):
    received = ENCRYPTED.replace(old, new, 1).replace(b"\r\n", line_end)
    said = encrypted.NO_PROTOCOL if old.startswith(b"; protocol") else ""
    assert encrypted.take_apart(entity.parse(received)) == encrypted.EncryptedEntity(b"DATA", said)


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_the_signed_octets(line_end: bytes):
    taken = signed.take_apart(entity.parse(SIGNED.replace(b"\r\n", line_end)))
    assert taken is not None
    assert taken.octets == b"Content-Type: text/plain\r\n\r\nHello"
    assert taken.signature == b"SIG"
    assert taken.kind is LayerKind.PGP_SIGNED


def test_line_ends_before_the_boundary_are_told_apart():
    more = SIGNED.replace(b"Hello\r\n", b"Hello\r\n\r\n")
    taken = signed.take_apart(entity.parse(more))
    assert taken is not None
    assert taken.octets.endswith(b"Hello\r\n")
    assert signed.canonical(b"a\rb\nc\r\n") == b"a\rb\r\nc\r\n"


def test_a_multipart_without_parts_is_ambiguous():
    assert not is_unambiguous(entity.parse(b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x--"))
    assert not is_unambiguous(entity.parse(b"Content-Type: multipart/mixed\r\n\r\n"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"; protocol", b"; micalg=; protocol"),
        (b"; protocol", b"; MICALG=pgp-sha1,pgp-sha512; protocol"),
    ],
)
def test_a_header_that_all_readers_cut_alike(old: bytes, new: bytes):
    """An algorithm that nobody needs may be missing or a list."""
    taken = signed.take_apart(entity.parse(SIGNED.replace(old, new, 1)))
    assert taken is not None
    assert taken.signature == b"SIG"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"; protocol", b"; micalg=a(b); protocol"),
        (b"; protocol", b"; micalg=a b; protocol"),
        (b"; protocol", b";; protocol"),
        (b"; protocol", b"; boundary=; protocol"),
        (b"Content-Type: multipart", b"Content-Type: multipart/signed\r\nContent-Type: multipart"),
        (b"\r\n\r\nSIG", b"\r\nno field\r\n\r\nSIG"),
    ],
)
def test_a_header_that_readers_cut_in_two_ways(old: bytes, new: bytes):
    """A line that is no field ends the header for some, who then show the signature as a text."""
    assert signed.take_apart(entity.parse(SIGNED.replace(old, new, 1))) is None


@pytest.mark.parametrize("piece", [b" ", b"; micalg=a", b'; a="b"', b"; a=b "])
def test_a_content_type_without_end_costs_its_length(piece: bytes):
    """MIME-08: blanks that end in nothing once took the square of their number, and a header is 256 KiB."""

    def made(size: int) -> entity.Entity:
        old = b'; protocol="application/pgp-signature"'
        found = entity.parse(SIGNED.replace(old, old + piece * (size // len(piece)) + b"x"))
        assert len(found.parts) == 2
        return found

    assert_linear(made, is_unambiguous, 100_000)
