"""The name of our field never comes from the server (MIME-05)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap.mask import Mask, token_of

TOKEN = b"12121312"
PIECES = st.sampled_from([TOKEN, TOKEN.upper(), b"1212", b"12", b"1", b"1312", b"X-", b"\r\n", b"0"])


def test_the_token_of_a_name() -> None:
    assert token_of(b"Secmail-Verdict-0123") == b"0123"


@given(st.lists(PIECES, max_size=30), st.lists(st.integers(1, 9), max_size=40))
def test_any_segmentation_strikes_the_same(pieces: list[bytes], sizes: list[int]) -> None:
    data = b"".join(pieces)
    mask, out, at = Mask(TOKEN), b"", 0
    for size in [*sizes, len(data)]:
        out += mask.feed(data[at : at + size])
        at += size
    end = b"\r\n)"
    out += mask.feed(end)
    assert out == (data + end).replace(TOKEN, b"0" * len(TOKEN))
    assert TOKEN not in out


@given(st.binary(max_size=100).filter(lambda data: TOKEN not in data))
def test_other_octets_pass_as_they_are(data: bytes) -> None:
    assert Mask(TOKEN).feed(data + b")") == data + b")"
