"""Reading fields: values, encoded words, removal by octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errors import LimitExceeded
from secmailproxy.mime import entity, header
from tests.fixtures.growth import assert_linear

MESSAGE = b"A: 1\r\nb : two\r\n\tlines\r\nA:3\r\nno colon\r\n\r\nA: body\r\n"


def test_fields_are_found_whatever_their_case():
    root = entity.parse(MESSAGE)
    assert header.values(root, "a") == (b"1", b"3")
    assert header.value(root, "B") == b"two\tlines"
    assert header.find(root, "c") is None
    assert header.value(root, "c") is None
    assert header.text(root, "c") is None
    assert [field.raw(MESSAGE) for field in header.find_all(root, "A")] == [b"A: 1\r\n", b"A:3\r\n"]


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_removal_keeps_every_other_octet(line_end: bytes):
    message = MESSAGE.replace(b"\r\n", line_end)
    kept = b"b : two\r\n\tlines\r\nno colon\r\n\r\nA: body\r\n".replace(b"\r\n", line_end)
    assert header.remove_fields(message, {"a"}) == kept
    assert header.remove_fields(message, {"x"}) is message
    assert header.remove_fields(message, ()) is message


@pytest.mark.parametrize("header_only", [b"A: 1\r\nB: 2", b"A: 1\r\nB: 2\r\n", b"A: 1\r\nB: 2\r\n\r\n"])
def test_removal_from_a_header_section_alone(header_only: bytes):
    assert header.remove_fields(header_only, {"A"}) == header_only[6:]
    assert b"B" not in header.remove_fields(header_only, {"B"})


@given(
    st.lists(st.sampled_from([b"A: x\r\n", b"B:\r\n y\r\n", b"a : z\n", b"junk\n", b" cont\r\n"]), max_size=8)
)
def test_what_is_removed_is_gone_and_the_rest_stays(lines: list[bytes]):
    message = b"S: 1\r\n" + b"".join(lines) + b"\r\nA: body"
    left = header.remove_fields(message, {"a"})
    assert header.find(entity.parse(left), "a") is None
    assert left.endswith(b"A: body")
    assert header.values(entity.parse(left), "b") == header.values(entity.parse(message), "b")


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?q?gr=C3=BC=C3=9Fe?=", "grüße"),
        (b"=?UTF-8?B?Z3LDvMOfZQ==?= you", "grüße you"),
        (b"=?utf-8?b?w7w?=", "ü"),
        (b"=?utf-8?b?w7w?= =?utf-8?b?w7w=?=", "üü"),
        (b"=?utf-8?b?4oI=?= =?utf-8?b?rA==?=", "€"),
        (b"=?iso-8859-1?q?=FC?=\t=?utf-8?q?=C3=BC?=", "üü"),
        (b"a =?utf-8?q?=C3=BC?= b", "a ü b"),
        (b"=?utf-8*de?q?=C3=BC_x?=", "ü x"),
        (b"=?utf-8?q?a b?=", "a b"),
        (b"=?unknown-charset?q?=FC?=", "ü"),
        (b"=?utf-8?q?=FF?=", "\ufffd"),
        (b"=?utf-8?x?abc?=", "=?utf-8?x?abc?="),
        (b"=?utf-8?b?!?=", ""),
        (b"=?utf-8?b?AAAAA?=", "=?utf-8?b?AAAAA?="),
        (b"=?utf-8?q?open", "=?utf-8?q?open"),
        (b"raw \xc3\xbc", "raw ü"),
        (b"raw \xfc", "raw ü"),
        (b"=?rot13?q?abc?=", "abc"),
        (b"=?idna?q?=FF?=", "ÿ"),
    ],
)
def test_encoded_words(octets: bytes, text: str):
    assert header.decode_words(octets) == text


@given(st.binary(max_size=80))
def test_any_value_has_a_text(octets: bytes):
    assert isinstance(header.decode_words(octets), str)
    assert isinstance(header.decode_words(b"=?utf-8?q?" + octets + b"?="), str)


def test_too_many_fields():
    with pytest.raises(LimitExceeded):
        header.scan(b"a: b\n" * 4, 0, 20, 3)


def test_a_header_section_of_megabytes_costs_little_when_nothing_is_removed() -> None:
    def section(size: int) -> bytes:
        return b"Content-Type: multipart/encrypted\r\n" + b"x\n" * (size // 2)

    def removed(octets: bytes) -> bytes:
        return header.remove_fields(octets, {"Secmail-Verdict-4711"})

    octets = section(1_000_000)
    assert removed(octets) is octets
    assert_linear(section, removed, 4_000_000)


ODD_LINES = st.lists(
    st.sampled_from(
        [b"a", b"A", b"ab", b":", b" ", b"\t", b"\r", b"\n", b"\r\n", b"a:", b"\na: x\n y", b"b"]
    ),
    max_size=30,
).map(b"".join)


@given(ODD_LINES)
def test_removal_is_by_the_same_fields_that_are_read(octets: bytes) -> None:
    """Though it does not read them all."""
    kept = header.filter_fields(octets, lambda field: field.name.lower() != "a")
    assert header.remove_fields(octets, {"A"}) == kept


def test_removal_from_a_header_section_of_megabytes_makes_nothing_of_the_rest() -> None:
    """MIME-08: who knows the name could have every field of a huge section read."""

    def section(size: int) -> bytes:
        return b"x:\n" * (size // 3) + b"Secmail-Verdict-4711: valid\n"

    def removed(octets: bytes) -> None:
        assert header.remove_fields(octets, {"Secmail-Verdict-4711"}) == octets[:-28]

    assert_linear(section, removed, 4_000_000)
