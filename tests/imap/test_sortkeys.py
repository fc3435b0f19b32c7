"""What SORT compares, of headers that nobody has written in good faith."""

from __future__ import annotations

from functools import partial

import pytest

from secmailproxy.imap.sortkeys import CRITERIA, Sorted
from tests.fixtures.growth import assert_linear


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
    ("start", "piece"),
    [
        (b"", b"X:\r\n"),
        (b"From: ", b","),
        (b"To: ", b"a:b@c,d@e,"),
        (b"Subject: ", b"=?a?q?x?="),
        (b"Cc: ", b'"'),
    ],
)
def test_the_cost_grows_no_faster_than_the_header(start: bytes, piece: bytes) -> None:
    assert_linear(partial(of_size, start, piece), all_values, 100_000)


def of_size(start: bytes, piece: bytes, size: int) -> Sorted:
    return Sorted(1, start + piece * (size // len(piece)) + b"\r\n\r\n", 7, 8)


def all_values(message: Sorted) -> None:
    for criterion in CRITERIA:
        message.value(criterion)
