"""The journal: what was written before a crash is there after it; a torn line is none; one at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from secmailproxy.errands.journal import Entry, MailboxRenewed, journal_of
from secmailproxy.errands.plan import Errand, State
from secmailproxy.errors import UsageError

ENTRY = Entry(5, State.COPYING, "boundary:=-0a", 17, frozenset({rb"\Seen", b"later"}))


def written(folder: Path) -> Path:
    """A journal of an errand that was cut short."""
    with journal_of(folder, "a@example.test", b"INBOX") as journal:
        journal.begin(Errand.ENCRYPT, 7)
        journal.note(ENTRY, replace(ENTRY, uid=6))
        journal.note(replace(ENTRY, state=State.COPIED, copy=18))
        journal.settle([6])
        journal.finish()
        return journal.path


def test_what_was_noted_is_read_again(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert path.stat().st_mode & 0o077 == 0
    with journal_of(tmp_path, "A@example.test", b"INBOX") as journal:
        assert journal.errand is Errand.ENCRYPT
        assert journal.entries == {5: replace(ENTRY, state=State.COPIED, copy=18)}
        journal.check(7)
        journal.settle([5])
        journal.finish()
    assert path.read_bytes() == b""


def test_cut_anywhere_it_is_what_was_written_whole(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    ends = [at + 1 for at, octet in enumerate(whole) if octet == 10]
    seen = []
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        with journal_of(tmp_path, "a@example.test", b"INBOX") as journal:
            seen.append(dict(journal.entries))
            if cut % 50 == 7:
                journal.settle([99])
        if cut % 50 == 7:  # what was written next is a line of its own
            with journal_of(tmp_path, "a@example.test", b"INBOX") as journal:
                assert journal.entries == seen[-1]
    assert [seen[end] for end in ends] == [
        {},
        {5: ENTRY},
        {5: ENTRY, 6: replace(ENTRY, uid=6)},
        {5: replace(ENTRY, state=State.COPIED, copy=18), 6: replace(ENTRY, uid=6)},
        {5: replace(ENTRY, state=State.COPIED, copy=18)},
    ]


def test_another_uidvalidity_is_refused_while_something_is_begun(tmp_path: Path) -> None:
    path = written(tmp_path)
    with (
        journal_of(tmp_path, "a@example.test", b"INBOX") as journal,
        pytest.raises(MailboxRenewed, match=str(path)),
    ):
        journal.check(8)
    path.write_bytes(b"")
    with journal_of(tmp_path, "a@example.test", b"INBOX") as journal:
        journal.check(8)


def test_one_at_a_time_on_a_mailbox(tmp_path: Path) -> None:
    with journal_of(tmp_path, "a@example.test", b"INBOX"):
        with (
            pytest.raises(UsageError, match="Another secmailproxy works on this mailbox"),
            journal_of(tmp_path, "a@example.test", b"INBOX"),
        ):
            pass
        with journal_of(tmp_path, "a@example.test", b"Other"), journal_of(tmp_path, "b@x", b"INBOX"):
            pass


def test_a_damaged_journal_says_what_to_do(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(b'{"uid": 5}\n')
    with (
        pytest.raises(UsageError, match=r"is damaged.*remove the file"),
        journal_of(tmp_path, "a@example.test", b"INBOX"),
    ):
        pass
