"""BER to definite lengths: the same values, whatever form they came in, and no work without end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore.smime import ber
from tests.fixtures.growth import assert_linear

INDEFINITE, END = b"\x80", b"\0\0"

leaves = st.tuples(st.sampled_from([0x02, 0x04, 0x06, 0x80]), st.binary(max_size=200))
trees = st.recursive(
    leaves, lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0, 0xA1]), st.lists(inner)), max_leaves=12
)
Tree = tuple[int, "bytes | list[Tree]"]


def plain(tree: Tree) -> bytes:
    """DER."""
    tag, inside = tree
    return ber.element(tag, inside if isinstance(inside, bytes) else b"".join(plain(one) for one in inside))


def loose(tree: Tree, draw: Callable[[int], int]) -> bytes:
    """BER, in a form that `draw` chooses."""
    tag, inside = tree
    if not isinstance(inside, bytes):
        contents = b"".join(loose(one, draw) for one in inside)
    elif tag != ber.OCTET_STRING or not draw(1):
        return ber.element(tag, inside)
    else:
        tag, step = 0x24, 1 + draw(60)
        contents = b"".join(ber.element(4, inside[at : at + step]) for at in range(0, len(inside), step))
    return bytes((tag,)) + INDEFINITE + contents + END if draw(1) else ber.element(tag, contents)


@settings(max_examples=80)
@given(trees, st.data())
def test_every_form_comes_to_the_same(tree: Tree, data: st.DataObject) -> None:
    """X.690 section 8: lengths of both kinds, strings in one piece and in many."""
    form = loose(tree, lambda most: data.draw(st.integers(0, most)))
    assert ber.definite(form) == plain(tree)


@settings(max_examples=80)
@given(st.binary(max_size=60))
def test_anything_is_read_or_refused(octets: bytes) -> None:
    try:
        found = ber.definite(octets)
    except ber.Malformed:
        return
    assert ber.definite(found) == found
    assert len(ber.elements(found)) == 1


def test_what_is_definite_keeps_its_octets() -> None:
    """Signatures stand over certificates as they are, needlessly long lengths and all."""
    certificate = b"\x30\x81\x04\x04\x81\x01x"
    assert ber.definite(certificate) == certificate
    streamed = b"\x30\x80" + certificate + END
    assert ber.definite(streamed) == ber.element(ber.SEQUENCE, certificate)


def test_a_string_within_a_string() -> None:
    """Pieces of pieces (X.690 section 8.7.3), under the own tag and under another."""
    pieces = b"\x24\x80\x04\x01a\x24\x80\x04\x01b\x04\x00\0\0\x04\x01c\0\0"
    assert ber.definite(pieces) == b"\x04\x03abc"
    (other,) = ber.elements(ber.definite(b"\xa0\x80" + pieces + END))
    assert ber.joined(other, 0x80) == b"abc"


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x80\0",
        b"\x30\x02\x04",
        b"\x30\x03\x04\x05x",
        b"\x04\x80x\0\0",
        b"\x04\x01x\x04\x01x",
        b"\x24\x03\x02\x01\x01",
        b"\x24\x02\x30\x00",
        b"\x1f\x81\x01\x01x",
        b"\0\0",
        b"\x04\x89" + bytes(9),
        b"\x04\x88" + b"\xff" * 8,
        b"\x30\x04\x30\x80\0\0\0\0",
        b"\x30\x80" * 65 + END * 65,
        b"\x30\x80" * 100_000,
        b"\x30\x84\x7f\xff\xff\xff",
    ],
)
def test_what_is_no_value(octets: bytes) -> None:
    with pytest.raises(ber.Malformed):
        ber.definite(octets)


def test_too_many_elements() -> None:
    with pytest.raises(ber.Malformed, match="too many"):
        ber.definite(b"\x30\x80" + b"\x05\x00" * ber.MAX_ELEMENTS + END)


@pytest.mark.parametrize(
    "make",
    [
        lambda number: b"\x24\x80" + b"\x04\x01x" * number + END,
        lambda number: b"\x30\x80" + b"\x24\x80\x04\x01x\0\0" * (number // 3) + END,
        lambda number: b"\x30\x80" * 60 + b"\x05\x00" * number + END * 60,
    ],
    ids=["pieces", "strings in pieces", "deep inside"],
)
def test_cost_grows_with_the_input_only(make: Callable[[int], bytes]) -> None:
    assert_linear(make, ber.definite, 40_000)


def test_fields_are_taken_in_order() -> None:
    fields = ber.Fields(b"\x02\x01\x05\x04\x01x")
    assert fields.optional(ber.OCTET_STRING) is None
    assert fields.take(ber.INTEGER).contents == b"\x05"
    with pytest.raises(ber.Malformed):
        fields.end()
    with pytest.raises(ber.Malformed):
        fields.take(ber.INTEGER)
    assert fields.take().whole == b"\x04\x01x"
    fields.end()
    with pytest.raises(ber.Malformed):
        fields.take()
