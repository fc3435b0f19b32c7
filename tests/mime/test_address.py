"""Addresses that decide: only what every reader takes for the same one is valid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.mime.address import address_list, is_plain

GOOD = {
    b"a@b": ["a@b"],
    b"A B <a@b.c>": ["a@b.c"],
    b'"x, y" <a@b>, c@d (z)': ["a@b", "c@d"],
    b"g: a@b, c@d;, e@f": ["a@b", "c@d", "e@f"],
    b" \t a@b \r\n ": ["a@b"],
}
BAD = [b"a", b"a b", b"a@b c@d", b"a@b <c@d>", b"<a@b", b"x <>", b"a@", b"@b", b"a@b@c", b"a@b;", b"<@x:a@b>"]


@pytest.mark.parametrize(("value", "expected"), GOOD.items())
def test_valid_lists(value: bytes, expected: list[str]):
    mailboxes = [one for one in address_list(value) if one.is_mailbox]
    assert [one.addr_spec for one in mailboxes] == expected
    assert all(one.valid for one in mailboxes)


@pytest.mark.parametrize("value", BAD)
def test_lists_that_readers_may_take_differently(value: bytes):
    assert not any(one.valid and one.is_mailbox for one in address_list(value))


@given(st.one_of(st.binary(max_size=60), st.text('ab@<>,;:()" .\\', max_size=40).map(str.encode)))
def test_any_value_is_read(value: bytes):
    for one in address_list(value):
        assert isinstance(one.addr_spec, str)


@pytest.mark.parametrize(
    "address", ["a@b", "alice@example.org", "o'brien+x@example.org", "grüße@bücher.example"]
)
def test_plain_addresses(address: str):
    assert is_plain(address)


@pytest.mark.parametrize(
    "address",
    ["", "a", "@b", "a@", "a@b@c", "a b@c", "<a@b>", "a@b,c@d", '"a"@b', "a@[::1]", "a@b\n", "a\x7f@b"],
)
def test_addresses_that_need_quotes_or_are_none(address: str):
    assert not is_plain(address)
