"""Urgent words: what they find, and what they leave to the digest."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.forward.severity import DEFAULT_WORDS, urgent_word
from secmailproxy.mime.entity import parse
from tests.fixtures.growth import assert_linear
from tests.fixtures.proxy import SOURCES

QUIET = b"Subject: Cron <root@host> backup\r\n\r\n"

TABLE = [
    (b"Subject: SMART error (CurrentPendingSector) detected on host: a\r\n\r\nThis is\r\n", "SMART error"),
    (b"Subject: DegradedArray event on /dev/md0:a\r\n\r\n", "DegradedArray"),
    (b"Subject: Fail event on /dev/md0:a\r\n\r\nA Fail event had been detected\r\n", "Fail event"),
    (b"Subject: ZFS device fault for pool tank on a\r\n\r\n", "device fault"),
    (b"Subject: x\r\n\r\n     Active: failed (Result: exit-code) since\r\n", "Active: failed"),
    (b"Subject: certbot\r\n\r\nAll renewals failed. The following\r\n", "renewals failed"),
    (
        b"Subject: *** SECURITY information for a ***\r\n\r\na : bob : user NOT in sudoers\r\n",
        "NOT in sudoers",
    ),
    (b"Subject: =?utf-8?B?" + base64.b64encode("Sicherung: FAILED ✗".encode()) + b"?=\r\n\r\n", "FAILED"),
    (QUIET + b"cp: error writing 'x': No space left on device\r\n", "no space left"),
    (QUIET + b"tar: no space\r\nleft on device\r\n", "no space left"),
    (QUIET + b"pool: tank\r\n state: DEGRADED\r\n", "degraded"),
    (QUIET + b"end_request: I/O error, dev sda\r\n", "I/O error"),
    (QUIET + b"0 failed, 12 passed\r\n", ""),
    (QUIET + b"UNDEGRADEDLY: FAILED_LOGINS=0 nofailure Critical\r\n", ""),
    (QUIET + b"x" * 17000 + b" FAILED\r\n", ""),
    (b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(b"x FATAL: y"), "FATAL"),
    (b"Content-Transfer-Encoding: strange\r\n\r\nFATAL: y", "FATAL"),
    (b"Content-Type: text/plain; charset=utf-16\r\n\r\n" + "x FATAL: y".encode("utf-16"), "FATAL"),
    (
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: image/png\r\n\r\nFATAL\r\n'
        b"--b\r\nContent-Type: text/html\r\n\r\n<b>CRITICAL</b>\r\n--b--\r\n",
        "CRITICAL",
    ),
    (b"Content-Type: application/octet-stream\r\n\r\nFATAL", ""),
    (b"X-Note: FATAL\r\n\r\nall is well\r\n", ""),
    (b"", ""),
]


@pytest.mark.parametrize(("message", "word"), TABLE)
def test_words_count_by_themselves_in_subject_and_beginning(message: bytes, word: str) -> None:
    assert urgent_word(parse(message), DEFAULT_WORDS) == word


def test_words_are_text_and_none_is_no_word() -> None:
    message = parse(QUIET + b"price: 3.50 (net) ... a.b\r\n")
    assert urgent_word(message, ["a*b", "(net)"]) == "(net)"
    assert urgent_word(message, ["3450", "acb", " ", ""]) == ""
    assert urgent_word(message, []) == ""


@given(st.binary(max_size=400), st.lists(st.text(max_size=12), max_size=4))
def test_no_message_and_no_word_is_too_strange(octets: bytes, words: list[str]) -> None:
    assert urgent_word(parse(octets), words) in {"", *words}


def test_the_cost_grows_with_the_message() -> None:
    assert_linear(
        lambda size: parse(b"Subject: " + b"no space " * size + b"\r\n\r\n" + b"no space\r\n" * size),
        lambda message: urgent_word(message, DEFAULT_WORDS),
        3000,
    )


def test_the_words_without_any_configuration_are_documented() -> None:
    told = " ".join((SOURCES / "docs" / "system-mail-rules.md").read_text().split())
    assert f"backup programs: {', '.join(DEFAULT_WORDS)}." in told
