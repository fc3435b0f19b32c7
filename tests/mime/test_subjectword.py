"""Words are taken off a subject whole, and nothing else changes in what is read."""

from __future__ import annotations

import base64
import quopri
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.mime.header import decode_words, pieces
from secmailproxy.mime.subjectword import cut

WORD = "[encrypt]"


@pytest.mark.parametrize(
    ("value", "left"),
    [
        (b" [encrypt] Hello", b" Hello"),
        (b" Hello [encrypt]", b" Hello"),
        (b" [ENCRYPT]   Hello", b" Hello"),
        (b" [encrypt]", b""),
        (b" [encrypt] [encrypt] a [encrypt]", b" a"),
        (b" Hello\r\n [encrypt]", b" Hello"),
        (b" [encrypt]\r\n\tone\r\n two", b" one\r\n two"),
        (b" [encrypt] one  two\r\n\t three", b" one  two\r\n\t three"),
        (b" [encrypt] Gr\xc3\xbc\xc3\x9fe", b" Gr\xc3\xbc\xc3\x9fe"),
        (b" [encrypt] Gr\xfc\xdfe", b" Gr\xfc\xdfe"),
        (b" [encrypt] =?utf-8?q?Gr=C3=BC=C3=9Fe?=", b" =?utf-8?q?Gr=C3=BC=C3=9Fe?="),
        (b" =?utf-8?Q?[encrypt]?= Hello", b" Hello"),
        (b" =?utf-8?Q?[encrypt]_?=\r\n =?iso-8859-1?Q?=FC?=", b" =?iso-8859-1?Q?=FC?="),
        (b" =?utf-8?Q?[encrypt]_=C3=BC?= and on", b" =?utf-8?B?w7w=?= and on"),
        (b" on and =?iso-8859-1?Q?=FC_[encrypt]?=", b" on and =?utf-8?B?w7w=?="),
        (b" =?utf-8?Q?=C3=BC_[enc?=\r\n =?utf-8?Q?rypt]?=", b" =?utf-8?B?w7w=?="),
    ],
)
def test_a_word_goes_and_the_octets_of_the_rest_stay(value: bytes, left: bytes) -> None:
    got = cut(value, [WORD])
    assert got.value == left
    assert {*got.at_start, *got.at_end} == {WORD}


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b" ",
        b" Hello",
        b" Re: [encrypt] Hello",
        b" [encrypt]Hello",
        b" x[encrypt]",
        b" [encrypt",
        b" =?x",
    ],
)
def test_what_is_no_whole_word_at_an_end_stays(value: bytes) -> None:
    assert cut(value, [WORD]) == cut(value, []) == (value, [], [])


def test_it_is_told_where_the_words_stood() -> None:
    assert cut(b" [key] [encrypt] a [KEY]", [WORD, "[key]"]) == (b" a", ["[key]", WORD], ["[key]"])


def test_letters_written_in_two_ways_are_the_same() -> None:
    composed, apart = "verschl\u00fcsselt:", "VERSCHLu\u0308SSELT:"
    assert cut(b" " + apart.encode() + b" x", [composed]) == (b" x", [composed], [])
    assert cut(b" STRASSE x", ["stra\u00dfe"]) == (b" x", ["stra\u00dfe"], [])


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=40).filter(
    lambda text: "=?" not in text and text.isprintable()
)


def in_b(text: str, charset: str) -> bytes:
    return b"=?%s?B?%s?=" % (charset.encode(), base64.b64encode(text.encode(charset)))


def in_q(text: str, charset: str) -> bytes:
    encoded = quopri.encodestring(text.encode(charset), header=True).replace(b"=\n", b"")
    return b"=?%s?q?%s?=" % (charset.encode(), encoded.replace(b"?", b"=3F"))


def raw(text: str, charset: str) -> bytes:
    return text.encode()


FORMS = st.sampled_from([in_b, in_q, raw])


@given(TEXT, TEXT, FORMS, FORMS, st.sampled_from(["utf-8", "utf-16", "gb18030"]), st.booleans())
def test_the_rest_is_read_as_before_whatever_encodes_it(
    one: str, two: str, form: object, other: object, charset: str, first: bool
) -> None:
    assert callable(form)
    assert callable(other)
    start, end = (f"{WORD} {one}", two) if first else (one, f"{two} {WORD}")
    value = b" " + form(start, charset) + b" x\r\n " + other(end, charset)
    got, *found = cut(value, [WORD])
    assert found == ([[WORD], []] if first else [[], [WORD]])
    assert decode_words(got).split() == [one, "x", two]
    assert all(len(word) <= 75 for word in re.findall(rb"=\?utf-8\?B\?[^?]*\?=", got) if word not in value)


@given(st.binary(max_size=80))
def test_pieces_are_all_of_the_value(value: bytes) -> None:
    assert b"".join(piece.octets for piece in pieces(value)) == value
    got, *found = cut(value, [WORD, "a"])
    assert any(found) or got == value
    assert cut(got, [WORD, "a"]) == (got, [], [])
