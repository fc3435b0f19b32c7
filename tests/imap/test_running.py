"""Tasks whose server answers without end, and tasks that fail as none should."""

from __future__ import annotations

import pytest

from secmailproxy.imap import answers, running
from tests.fixtures.staged import Staged

ASKED = b"BODY[HEADER.FIELDS (CONTENT-TYPE CONTENT-DISPOSITION)]"


def test_answers_without_end_fail_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would fill the memory; each is too small to be counted in octets."""
    monkeypatch.setattr(running, "ANSWERS_MOST", 100)
    told = [b'* %d FETCH (UID %d %b "")\r\n' % (n, n, ASKED) for n in range(1, 102)]
    staged = Staged(lambda command: b"".join(told) + b"T OK\r\n")
    staged.select(102)
    assert staged.client(b"a UID FETCH 1:* BODY[]\r\n").startswith(b"a NO [SERVERBUG]")
    assert len(staged.asked) == 1


def test_results_without_end_fail_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "ANSWERS_MOST", 100)
    staged = Staged(lambda command: b"* SEARCH 1 2 3\r\n" * 40 + b"T OK\r\n")
    staged.select(10)
    assert staged.client(b"a UID SORT (DATE) UTF-8 ALL\r\n").startswith(b"a NO [SERVERBUG]")


def test_a_fault_of_ours_fails_one_command_and_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """However a message makes us stumble, the client can read the others."""

    def stumble(*_: object, **__: object) -> bytes:
        raise IndexError

    monkeypatch.setattr(answers, "leftover", stumble)
    header = b'* 1 FETCH (UID 1 %b "")\r\n' % ASKED
    staged = Staged(lambda command: header + b"T OK\r\n" if b"FIELDS" in command else b"T OK\r\n")
    staged.select(2)
    assert staged.client(b"a UID FETCH 1 BODY[]\r\n") == b"a NO Internal error in secmailproxy.\r\n"
    assert staged.client(b"b NOOP\r\n") == b"b OK\r\n"
    assert [type(fault) for fault in staged.faults] == [IndexError]
