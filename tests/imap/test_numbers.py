"""Message sets against Python's own sets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap.numbers import STAR, Numbers, parse_ranges

sets = st.sets(st.integers(1, 60), max_size=40)


@given(sets, sets)
def test_arithmetic_is_that_of_sets(a: set[int], b: set[int]) -> None:
    x, y = Numbers.each(a), Numbers.each(b)
    assert set(x.union(y)) == a | b
    assert set(x.intersection(y)) == a & b
    assert set(x.difference(y)) == a - b
    assert all((n in x) == (n in a) for n in range(62))
    assert bool(x) == bool(a)
    assert x.highest == max(a, default=0)


@given(sets, st.integers(3, 40))
def test_texts_are_short_and_read_back(a: set[int], limit: int) -> None:
    texts = list(Numbers.each(a).texts(limit))
    assert all(len(text) <= limit + 6 for text in texts)
    back: set[int] = set()
    for text in texts:
        ranges = parse_ranges(text)
        assert ranges is not None
        back |= set(Numbers.of(ranges))
    assert back == a
    assert bytes(Numbers.each(a)) == b",".join(Numbers.each(a).texts())


@given(sets)
def test_ranges_are_sorted_disjoint_and_not_adjacent(a: set[int]) -> None:
    ranges = Numbers.each(a).ranges
    assert all(high + 1 < low for (_, high), (low, _) in itertools.pairwise(ranges))


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        (b"1", ((1, 1),)),
        (b"3:1,7", ((1, 3), (7, 7))),
        (b"5:*", ((5, STAR),)),
        (b"*:5", ((5, STAR),)),
        (b"*", ((STAR, STAR),)),
        (b"0", None),
        (b"1,,2", None),
        (b"1:2:3", None),
        (b"99999999999", None),
        (b"4294967295:*", ((STAR - 1, STAR),)),
        (b"4294967296", None),
        (b"1:4294967296", None),
        (b"$", None),
        (b"", None),
    ],
)
def test_parse(text: bytes, ranges: object) -> None:
    assert parse_ranges(text) == ranges
