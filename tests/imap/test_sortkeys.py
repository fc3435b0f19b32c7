"""What SORT compares, of headers that nobody has written in good faith."""

from __future__ import annotations

import time

import pytest

from secmailproxy.imap.sortkeys import CRITERIA, Sorted


@pytest.mark.parametrize("charset", ["base64", "hex", "zip", "undefined", "mbcs", "utf-7", "utf-16", "x"])
def test_what_is_no_charset_is_no_obstacle(charset: str) -> None:
    word = f"=?{charset}?q?=FFab?="
    message = Sorted(1, f"Subject: {word}\r\nFrom: {word} <a@b>\r\nTo: {word}\r\n\r\n".encode(), 7, 8)
    for criterion in CRITERIA:
        message.value(criterion)


@pytest.mark.parametrize("date", ["9" * 20 + " Jan 2026", "1 Jan 2026 10:00 +" + "9" * 5000, "1 Jan -1", "0"])
def test_a_date_that_is_none_is_no_obstacle(date: str) -> None:
    assert isinstance(Sorted(1, f"Date: {date}\r\n\r\n".encode(), 7, 8).value("DATE"), int)


@pytest.mark.parametrize(
    "header",
    [
        b"X:\r\n" * 2_000_000,
        b"From: " + b"," * 1_000_000,
        b"To: " + b"a:b@c,d@e," * 100_000,
        b"Subject: " + b"=?a?q?x?=" * 100_000,
        b"Cc: " + b'"' * 1_000_000,
    ],
)
def test_megabytes_of_header_cost_little(header: bytes) -> None:
    message = Sorted(1, header + b"\r\n\r\n", 7, 8)
    before = time.process_time()
    for criterion in CRITERIA:
        message.value(criterion)
    assert time.process_time() - before < 3
