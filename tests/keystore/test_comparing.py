"""Fingerprints as people and telephones give them."""

from __future__ import annotations

import pytest

from keystore.comparing import as_scanned, from_scan
from keystore.model import Fingerprint

PRINT = Fingerprint("0123456789ABCDEF0123456789ABCDEF01234567")
SPACED = "0123 4567 89ab cdef 0123  4567 89AB CDEF 0123 4567"


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (as_scanned(PRINT), PRINT),
        (f"openpgp4fpr:{PRINT.lower()}", PRINT),
        (f"OPENPGP4FPR:{PRINT}#a=bob%40example.org&n=Bob", PRINT),
        (SPACED, PRINT),
        (f"0x{PRINT}", PRINT),
        ("AB" * 32, Fingerprint("AB" * 32)),
        ("", None),
        (PRINT[:-1], None),
        (PRINT[-16:], None),
        (f"{PRINT[:-1]}G", None),
        (f"{PRINT}#{PRINT[1:]}", PRINT),
        (f"x{PRINT}", None),
    ],
)
def test_only_a_whole_fingerprint_counts(text: str, read: Fingerprint | None) -> None:
    assert from_scan(text) == read
