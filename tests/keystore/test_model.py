"""The values of the keystore: what they say of themselves."""

from __future__ import annotations

import pytest

from keystore.model import Fingerprint, Reason, Usability, key_id

KEY = Fingerprint("0123456789ABCDEF0123456789ABCDEF01234567")


@pytest.mark.parametrize(
    ("fingerprint", "expected"),
    [(KEY, "89ABCDEF01234567"), ("0123456789ABCDEF" + "FEDCBA9876543210" * 3, "0123456789ABCDEF")],
    ids=["v4", "v6"],
)
def test_key_ids_of_both_versions(fingerprint: str, expected: str) -> None:
    assert key_id(fingerprint) == expected


@pytest.mark.parametrize(
    ("usability", "usable", "explanation"),
    [
        (Usability((KEY,)), True, ""),
        (Usability((), Reason.REVOKED), False, "revoked"),
        (Usability((), Reason.EXPIRED, "on 2026-01-02"), False, "expired (on 2026-01-02)"),
    ],
    ids=["usable", "reason", "detail"],
)
def test_why_a_certificate_does_not_serve(usability: Usability, usable: bool, explanation: str) -> None:
    assert (usability.usable, usability.explanation) == (usable, explanation)
