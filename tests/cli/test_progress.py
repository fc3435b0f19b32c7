"""Bars are for people at a terminal, and for nobody else."""

from __future__ import annotations

import contextlib
import io
import os
import pty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest

from secmailproxy.cli.progress import Progress


@pytest.fixture
def terminal() -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A terminal to write to, and all that it showed until it was closed."""
    ours, theirs = pty.openpty()
    stream = os.fdopen(theirs, "w")

    def shown() -> str:
        stream.close()
        text = b""
        # Linux reports the other end's closing as an error, once everything was read.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                text += piece
        return text.decode()

    yield stream, shown
    stream.close()
    os.close(ours)


def test_at_a_terminal_the_bar_ends_full_and_on_a_line_of_its_own(
    terminal: tuple[TextIO, Callable[[], str]],
) -> None:
    stream, shown = terminal
    with Progress("INBOX", stream=stream) as progress:
        progress(1, 4)
        progress(4, 4)
    text = shown()
    assert "INBOX" in text
    assert "4/4" in text
    assert text.endswith("\n")


def test_little_work_has_no_bar(terminal: tuple[TextIO, Callable[[], str]]) -> None:
    stream, shown = terminal
    with Progress("few", least=5, stream=stream) as progress:
        progress(4, 4)
    with Progress("nothing", stream=stream) as progress:
        progress(0, 0)
    assert shown() == ""


def test_what_is_no_terminal_gets_nothing() -> None:
    stream = io.StringIO()
    with Progress("INBOX", stream=stream) as progress:
        progress(1, 2)
    assert stream.getvalue() == ""


def test_an_import_of_many_says_how_far_it_is(home: Path) -> None:
    """After each transaction, up to all of them."""
    from secmailproxy.cli.context import Passphrase, load_config, open_keystore

    told: list[tuple[int, int]] = []
    certificate = Path("tests/corpus/openpgp/alice.asc").read_bytes()
    with contextlib.closing(open_keystore(load_config(), Passphrase())) as keystore:
        results = keystore.import_keys(
            certificate * 3, source="the tests", progress=lambda done, total: told.append((done, total))
        )
    assert len(results) == 3
    assert told[-1] == (3, 3)
