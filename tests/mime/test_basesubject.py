"""Base subjects (RFC 5256 section 2.1); against Dovecot in tests/imap/test_ordering.py."""

from __future__ import annotations

import time

import pytest

from secmailproxy.mime.basesubject import base_subject


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
    "subject",
    [
        b"[A]" * 100_000,
        b"[]" * 100_000,
        b"[A] " * 2000 + b"RE",
        b"[FWD:" * 2000 + b"(FWD)" * 2000 + b"X" + b"]" * 2000,
        b"RE:[" * 100_000,
        b" (FWD)" * 100_000 + b"X",
    ],
)
def test_hostile_subjects_are_read_in_no_time(subject: bytes) -> None:
    started = time.process_time()
    for _ in range(20):
        base_subject(subject)
    assert time.process_time() - started < 2
