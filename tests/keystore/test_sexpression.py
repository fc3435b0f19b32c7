"""Canonical S-expressions: octets out and in again, and nothing else read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.sexpression import Expression, read, value, write

EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(
    st.binary(max_size=40), lambda inner: st.lists(inner, max_size=4).map(tuple), max_leaves=12
)


@given(EXPRESSIONS)
def test_what_is_written_is_read(expression: Expression) -> None:
    assert read(write(expression)) == expression


@given(st.binary(max_size=60))
def test_whatever_is_read_is_canonical(octets: bytes) -> None:
    try:
        expression = read(octets)
    except ValueError:
        return
    # A length may have been written with leading zeros.
    assert read(write(expression)) == expression


@pytest.mark.parametrize(
    "octets",
    [b"", b"(", b")", b"()()", b"3:ab", b"-1:a", b":", b"1234567:a", b"(1:a", b"1:a)", b"a", b"(3:abc1:)"],
)
def test_what_is_no_expression(octets: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        read(octets)


def test_a_value_at_any_depth() -> None:
    found = read(b"(7:sig-val(5:eddsa(1:r3:abc)(1:s0:)))")
    assert found == (b"sig-val", (b"eddsa", (b"r", b"abc"), (b"s", b"")))
    assert [value(found, name) for name in (b"r", b"s", b"t", b"sig-val")] == [b"abc", b"", None, None]
    assert value(b"r", b"r") is None
