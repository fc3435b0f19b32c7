"""Raw 8-bit header fields in ASCII: readers see the same, and addresses are never touched."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.mime import header
from secmailproxy.mime.encodedword import ascii_field


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Subject: plain\r\n", "plain"),
        ("Subject: Gr\u00fc\u00dfe aus K\u00f6ln an alle\r\n", "Gr\u00fc\u00dfe aus K\u00f6ln an alle"),
        ("Subject: " + "\u00fc" * 60 + "\r\n", "\u00fc" * 60),
        ("Subject: a\r\n \u00fc\r\n b\r\n", "a \u00fc b"),
        ("From: J\u00f6rg M\u00fcller <j@x.org>\r\n", "J\u00f6rg M\u00fcller <j@x.org>"),
        ('To: "\u00dc, B \\"x\\"" <b@x.org>, c@d.org\r\n', "=?utf-8?B?w5wsIEIgIngi?= <b@x.org>, c@d.org"),
        ("To: a <b@c.org> (\u00fcmlaut)\r\n", "a <b@c.org> (\u00fcmlaut)"),
    ],
)
def test_readers_see_the_same(text: str, read: str) -> None:
    made = ascii_field(text.encode())
    assert made.isascii()
    value = header.unfold(made.partition(b":")[2].rstrip(b"\r\n")).strip()
    assert read in (header.decode_words(value), value.decode())
    assert all(len(line) <= 78 for line in made.split(b"\r\n"))


@pytest.mark.parametrize("text", ["To: j\u00f6rg@b\u00fccher.de\r\n", "Cc: Hans <h\u00e4nse@x.org>\r\n"])
def test_addresses_in_utf_8_stay(text: str) -> None:
    assert ascii_field(text.encode()) == text.encode()


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('filename="\u00fc 1.txt"', b"filename*=utf-8''%C3%BC%201.txt"),
        ("filename=\u00fc.txt; size=1", b"filename*=utf-8''%C3%BC.txt; size=1"),
        ('a="b"; filename="\u00fc \\"q\\""', b"a=\"b\"; filename*=utf-8''%C3%BC%20%22q%22"),
    ],
)
def test_parameters_are_extended(text: str, made: bytes) -> None:
    field = ascii_field(f"Content-Disposition: attachment; {text}\r\n".encode())
    assert field == b"Content-Disposition: attachment; " + made + b"\r\n"


def test_octets_that_are_no_utf_8_are_read_as_latin_1() -> None:
    made = ascii_field(b"Subject: Gr\xfc\xdfe\r\n")
    assert made == b"Subject: =?iso-8859-1?B?R3L832U=?=\r\n"


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Z", "Cs"]), min_size=1, max_size=80))
def test_another_reader_agrees(word: str) -> None:
    made = ascii_field(f"Subject: x {word} y\r\n".encode())
    parsed = email.message_from_bytes(made + b"\r\n", policy=email.policy.default)
    if "=?" not in word:
        assert str(parsed["Subject"]) == f"x {word} y"


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        (
            b"Subject: =?koi8-r?Q?\xcb\xcc\xc1?= and =?iso-8859-1?q?fr\xfcsche?=\r\n",
            "\u043a\u043b\u0430 and fr\u00fcsche",
        ),
        (b"Subject: =?utf-8?q?one?= tw\xc3\xb6 =?utf-8?q?three?=\r\n", "one tw\u00f6 three"),
        (b"Subject: tw\xc3\xb6\r\n =?utf-8?q?three?=\r\n", "tw\u00f6 three"),
        (b"To: =?iso-8859-1?Q?J\xfcrgen?= <j@x>\r\n", "J\u00fcrgen <j@x>"),
    ],
)
def test_raw_octets_in_and_beside_encoded_words_are_shown_as_before(field: bytes, shown: str) -> None:
    made = ascii_field(field)
    assert made.isascii()
    assert header.decode_words(header.unfold(made.partition(b":")[2])).strip() == shown
