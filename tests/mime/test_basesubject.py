"""Base subjects (RFC 5256 section 2.1); against Dovecot in tests/imap/test_ordering.py."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secmailproxy.mime.basesubject import base_subject
from tests.fixtures.growth import assert_linear


@pytest.mark.parametrize(
    ("subject", "base", "answers"),
    [
        (b"PLAIN", b"PLAIN", False),
        (b" TWO \t  WORDS ", b"TWO WORDS", False),
        (b"RE: WORD", b"WORD", True),
        (b"RE : FW: FWD[X]: WORD", b"WORD", True),
        (b"[LIST] WORD", b"WORD", False),
        (b"[LIST] [B]RE: [C] WORD (FWD) (FWD)", b"WORD", True),
        (b"[FWD: WORD]", b"WORD", True),
        (b"[FWD: RE: [FWD: WORD] ]", b"WORD", True),
        (b"[ALONE]", b"[ALONE]", False),
        (b"RE:", b"", True),
        (b"RESULT: X", b"RESULT: X", False),
        (b"", b"", False),
    ],
)
def test_base_subjects(subject: bytes, base: bytes, answers: bool) -> None:
    assert base_subject(subject) == (base, answers)


@pytest.mark.parametrize(
    "of_size",
    [
        lambda size: b"[A]" * size,
        lambda size: b"[]" * size,
        lambda size: b"[A] " * size + b"RE",
        lambda size: b"[FWD:" * size + b"(FWD)" * size + b"X" + b"]" * size,
        lambda size: b"RE:[" * size,
        lambda size: b" (FWD)" * size + b"X",
    ],
)
def test_the_cost_grows_no_faster_than_the_subject(of_size: Callable[[int], bytes]) -> None:
    assert_linear(of_size, base_subject, 2000)
    assert_linear(of_size, base_subject, 100_000)
