"""Lines for paper: what is printed can be typed again, and a slip is found in its line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import KeyRefused
from keystore.paper import lines, octets_of

OCTETS = bytes(range(90))
MADE = lines(OCTETS)


@given(st.binary(min_size=1, max_size=200))
def test_what_is_printed_comes_back(octets: bytes) -> None:
    assert octets_of("\n".join(lines(octets))) == octets


def test_as_people_type_it() -> None:
    """Any order, any case, letters that look alike, text around; or scanned, with slashes."""
    typed = "\n\n".join(reversed(MADE)).lower().replace("1", "l").replace("0", "o")
    typed = re.sub(r"(?m)^\S+:", lambda match: match[0].replace("l", "1").replace("o", "0"), typed)
    assert octets_of("Secret key\n" + typed + "\n(end of page)") == OCTETS
    assert octets_of(" / ".join(line.replace(":", "") for line in MADE)) == OCTETS
    assert all(re.fullmatch(r"[0-9A-Z :]+", line) for line in MADE)


@given(st.integers(0, len(MADE) - 2), st.integers(0, 60), st.sampled_from("0123456789ABCDEFGHJKMNPQRSTVWXYZ"))
def test_a_mistyped_letter_is_found(line: int, at: int, letter: str) -> None:
    start = MADE[line].index(":") + 2
    at = start + at % (len(MADE[line]) - start)
    changed = MADE[line][:at] + letter + MADE[line][at + 1 :]
    if changed.replace(" ", "") == MADE[line].replace(" ", ""):
        return
    with pytest.raises(KeyRefused, match=f"line {line + 1} is mistyped"):
        octets_of("\n".join([*MADE[:line], changed, *MADE[line + 1 :]]))


def test_what_is_missing_is_named() -> None:
    for left, said in ((MADE[:1] + MADE[2:], "line 2 is missing"), (MADE[:-2] + MADE[-1:], "at the end")):
        with pytest.raises(KeyRefused, match=said):
            octets_of("\n".join(left))
    for nothing in ("", "no lines", "9999: AAAAA", MADE[0]):
        with pytest.raises(KeyRefused):
            octets_of(nothing)
