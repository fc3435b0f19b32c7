"""Messages and parts with their transfer encodings undone (RFC 3516)."""

from __future__ import annotations

import pytest

from secmailproxy.mime.binary import UnknownEncoding, binary
from secmailproxy.mime.entity import parse
from secmailproxy.mime.section import find_part
from secmailproxy.mime.transfer import decoded_body

HEAD = b"From: a@example.org\r\nMIME-Version: 1.0\r\n"
BASE64 = HEAD + b"content-transfer-encoding: BASE64\r\nX: y\r\n\r\nAAEC\r\n"
NESTED = (
    HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\nbefore\r\n"
    b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\none =3D two=\r\nx \r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
    b"Subject: in\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n"
    b"--b\r\n\r\nplain\r\n--b--\r\nafter\r\n"
)


@pytest.mark.parametrize(
    ("message", "path", "octets"),
    [
        (BASE64, (), HEAD + b"X: y\r\nContent-Transfer-Encoding: binary\r\n\r\n\x00\x01\x02"),
        (BASE64, (1,), b"\x00\x01\x02"),
        (BASE64, (2,), None),
        (NESTED, (1,), b"one = twox"),
        (NESTED, (2,), b"Subject: in\r\nContent-Transfer-Encoding: binary\r\n\r\nhello"),
        (NESTED, (2, 1), b"hello"),
        (NESTED, (3,), b"plain"),
        (NESTED, (4,), None),
        (b"Subject: no body\r\nContent-Transfer-Encoding: base64\r\n", (1,), b""),
        (b"Subject: 8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n\xc3\xa9\r\n", (1,), b"\xc3\xa9\r\n"),
    ],
)
def test_parts_are_decoded(message: bytes, path: tuple[int, ...], octets: bytes | None) -> None:
    assert binary(parse(message), path) == octets


def test_the_whole_message_says_in_each_header_that_it_is_decoded() -> None:
    assert binary(parse(NESTED), ()) == (
        HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\nbefore\r\n"
        b"--b\r\nContent-Transfer-Encoding: binary\r\n\r\none = twox\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\n"
        b"Subject: in\r\nContent-Transfer-Encoding: binary\r\n\r\nhello\r\n"
        b"--b\r\n\r\nplain\r\n--b--\r\nafter\r\n"
    )


def test_a_leaf_is_its_decoded_body() -> None:
    for path in ((1,), (3,)):
        part = find_part(parse(NESTED), path)
        assert part is not None
        assert binary(parse(NESTED), path) == decoded_body(part)


@pytest.mark.parametrize(("path", "known"), [((), False), ((1,), False), ((2,), True)])
def test_an_encoding_that_nobody_knows(path: tuple[int, ...], known: bool) -> None:
    message = parse(
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Transfer-Encoding: x-odd\r\n\r\none\r\n--b\r\n\r\ntwo\r\n--b--\r\n"
    )
    if known:
        assert binary(message, path) == b"two"
    else:
        with pytest.raises(UnknownEncoding):
            binary(message, path)


@pytest.mark.parametrize("message", [BASE64, NESTED])
@pytest.mark.parametrize("path", [(), (1,), (2,), (2, 1), (3,)])
def test_dovecot_answers_the_same(dovecot, message: bytes, path: tuple[int, ...]) -> None:
    item = b"BINARY.PEEK[" + b".".join(b"%d" % number for number in path) + b"]"
    assert dovecot.fetch(dovecot.store(message), item) == (binary(parse(message), path) or b"")
