"""Header sections are heard as they pass, and nothing is held up or changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap.passing import HEARD_MOST, Passing

SECTION = b"From: alice@example.org\r\nAutocrypt: addr=alice@example.org; keydata=AAAA\r\n\r\n"


def heard(fragment: bytes, *chunks: bytes) -> list[bytes]:
    passing = Passing()
    passing.announced(fragment)
    for chunk in chunks:
        passing.passes(chunk)
    return passing.sections


@given(st.lists(st.integers(0, 120), max_size=6))
def test_a_header_is_heard_at_any_segmentation(cuts: list[int]) -> None:
    message = SECTION + b"Text.\r\nAutocrypt: of the text\r\n\r\n"
    ends = sorted({*cuts, len(message)})
    chunks = [message[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert heard(b"* 1 FETCH (UID 7 BODY[] {%d}\r\n" % len(message), *chunks) == [SECTION]


def test_which_literals_are_whole_messages_or_headers() -> None:
    for item in (b"BODY[]", b"BODY[HEADER]", b"body[header]", b"RFC822", b"RFC822.HEADER"):
        assert heard(b"* 1 FETCH (" + item + b" {99}\r\n", SECTION) == [SECTION]
    for item in (b"BODY[1]", b"BODY[HEADER.FIELDS (AUTOCRYPT)]", b"BODY[]<0>", b"BODY[TEXT]", b"ENVELOPE"):
        assert heard(b"* 1 FETCH (" + item + b" {99}\r\n", SECTION) == []


def test_the_field_may_stand_first() -> None:
    first = b"AUTOCRYPT: addr=a@example.org; keydata=AAAA\r\nFrom: a@example.org\r\n\r\n"
    assert heard(b"* 1 FETCH (BODY[] {99}\r\n", first + b"Text.\r\n") == [first]


def test_what_says_nothing_is_not_kept() -> None:
    announced = b"* 1 FETCH (BODY[] {99}\r\n"
    assert heard(announced, b"From: alice@example.org\r\n\r\nAutocrypt: addr=x\r\n\r\n") == []
    assert heard(announced, b"X: y\r\n" * (HEARD_MOST // 6 + 1), SECTION) == []
    passing = Passing()
    passing.announced(announced)
    passing.passes(SECTION[:20])
    passing.stop()
    passing.passes(SECTION[20:])
    assert passing.sections == []
