"""Log lines: one line each, key=value, and nothing of a message whatever a record holds."""

from __future__ import annotations

import logging
import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secmailproxy.logs import KeyValueFormatter


def record(name: str, message: str, *values: object, error: BaseException | None = None) -> logging.LogRecord:
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(name, logging.WARNING, __file__, 1, message, values, exc_info)


def line(one: logging.LogRecord, *, everything: bool = False) -> str:
    one.created = 1_700_000_000
    return KeyValueFormatter(shows_everything=everything).format(one)


def test_our_record() -> None:
    one = record("secmailproxy.smtp.server", "accepted %d", 3)
    one.reference, one.why = "ab12", 'said "no"\r\nand = more'
    assert line(one) == (
        "2023-11-14T22:13:20Z level=warning from=smtp.server "
        'event="accepted 3" reference=ab12 why="said \\"no\\"\\r\\nand = more"'
    )


@pytest.mark.parametrize("name", ["mail.log", "asyncio", "aiosmtplib", "secmailproxyx", "root"])
def test_a_librarys_text_is_not_shown(name: str) -> None:
    one = record(name, "DATA: %s", "Subject: private")
    one.body = "private"
    assert line(one).endswith(f'level=warning from={name} event="a library reported a problem"')
    assert "private" in line(one, everything=True)


def test_an_exception_shows_as_type_and_place() -> None:
    try:
        raise ValueError("Subject: private")
    except ValueError as error:
        one = record("secmailproxy.imap", "broke", error=error)
    assert "exception=ValueError at=test_logs.py:" in line(one)
    assert "private" not in line(one)
    shown = line(one, everything=True)
    assert "Traceback" in shown
    assert "private" in shown


@example("", "'")
@given(st.text(), st.text())
def test_always_one_line_that_splits_into_pairs(event: str, value: str) -> None:
    one = record("secmailproxy.x", "%s", event)
    one.value = value
    shown = line(one)
    assert len(shown.splitlines()) == 1
    assert shown.isascii()
    words = shlex.split(shown)
    assert [word.partition("=")[0] for word in words[1:]] == ["level", "from", "event", "value"]
