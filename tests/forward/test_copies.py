"""Plain copies: whole or not there, once however often the message comes, never forgotten."""

from __future__ import annotations

import mailbox
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import pytest

from secmailproxy.errors import ConfigError
from secmailproxy.forward.copies import Copies
from secmailproxy.forward.model import Entrance, Keep, SystemMail
from secmailproxy.forward.traces import FORGOTTEN_AFTER

OCTETS = b"From: root@host\r\nSubject: x\r\n\r\nbody \xff\r\nFrom here on\r\n"
TEXT = OCTETS.replace(b"\r\n", b"\n")
MAIL = SystemMail(OCTETS, "root@host", ("root",), Entrance.PIPE)
FORMS: list[Literal["maildir", "mbox"]] = ["maildir", "mbox"]


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "traces", patience=10)


def stored(action: Keep) -> list[bytes]:
    """The messages in a mailbox, as any program reads them."""
    path = Path(action.path)
    if action.form == "maildir":
        return [one.read_bytes() for part in ("new", "cur") for one in (path / part).glob("*")]
    with open(path, "rb") as file:
        text = file.read()
    box = mailbox.mbox(path)
    try:
        assert text.startswith(b"From ")
        return [bytes(box.get_bytes(key)).replace(b"\n>From ", b"\nFrom ") for key in list(box.iterkeys())]
    finally:
        box.close()


def attempt(copies: Copies, action: Keep, mail: SystemMail = MAIL, *, through: bool = True) -> None:
    """One try to process `mail`; with `through`, the encrypted message was handed over too."""
    with copies.attempt(mail) as copying:
        copying.keep(action)
        if through:
            copying.finish()


@pytest.fixture(params=FORMS)
def action(request: pytest.FixtureRequest, tmp_path: Path) -> Keep:
    return Keep(str(tmp_path / "box"), request.param)


def test_a_copy_is_whole_and_private(copies: Copies, action: Keep) -> None:
    attempt(copies, action)
    assert stored(action) == [TEXT]
    made = [Path(action.path), *Path(action.path).rglob("*")]
    assert {stat.S_IMODE(one.stat().st_mode) for one in made} <= {0o600, 0o700}
    assert list(copies.traces.iterdir()) == []


def test_what_is_tried_again_is_not_kept_again(copies: Copies, action: Keep) -> None:
    for _ in range(3):
        attempt(copies, action, through=False)
    attempt(copies, action)
    assert stored(action) == [TEXT]


def test_a_copy_that_was_read_or_deleted_does_not_come_back(copies: Copies, tmp_path: Path) -> None:
    action = Keep(str(tmp_path / "box"), "maildir")
    attempt(copies, action, through=False)
    (new,) = (tmp_path / "box" / "new").iterdir()
    seen = new.rename(tmp_path / "box" / "cur" / f"{new.name}:2,S")
    attempt(copies, action, through=False)
    assert stored(action) == [TEXT]
    seen.unlink()
    attempt(copies, action)
    assert stored(action) == []


def test_a_message_that_comes_after_success_is_another_one(copies: Copies, action: Keep) -> None:
    """Such as the report of the next night, alike to the octet."""
    attempt(copies, action)
    attempt(copies, action)
    assert stored(action) == [TEXT, TEXT]


def test_messages_under_way_at_the_same_time_are_several(copies: Copies, action: Keep) -> None:
    with copies.attempt(MAIL) as one, copies.attempt(MAIL) as other:
        one.keep(action)
        other.keep(action)
        one.keep(action)
        other.finish()
    assert stored(action) == [TEXT, TEXT]
    attempt(copies, action)
    assert stored(action) == [TEXT, TEXT]
    assert list(copies.traces.iterdir()) == []


def test_notes_are_forgotten_in_time(copies: Copies, action: Keep) -> None:
    attempt(copies, action, through=False)
    (note,) = copies.traces.iterdir()
    assert b"body" not in note.read_bytes()
    long_ago = note.stat().st_mtime - FORGOTTEN_AFTER - 1
    os.utime(note, (long_ago, long_ago))
    attempt(copies, action, through=False)
    assert len(stored(action)) == 2
    os.utime(note, (long_ago, long_ago))
    attempt(copies, action, SystemMail(b"another", "a@b", (), Entrance.PIPE))
    assert list(copies.traces.iterdir()) == []


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"mbox:%b": "x", "maildir:%b": ["/etc/x"]}'])
def test_damaged_notes_lose_nothing(damage: bytes, copies: Copies, action: Keep) -> None:
    attempt(copies, action, through=False)
    (note,) = copies.traces.iterdir()
    note.write_bytes(damage.replace(b"%b", action.path.encode()))
    attempt(copies, action, through=False)
    assert TEXT in stored(action)


CALLS = ("pwrite", "write", "fsync", "ftruncate", "rename", "unlink", "open")
"""What reaches the disk; a process can die before and after each."""


def killed_at(number: int, work: Callable[[], None]) -> bool:
    """Do `work` in a process that is killed (9) when it makes call `number`; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [number]
        for name in CALLS:
            _count(name, left)
        try:
            work()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def _count(name: str, left: list[int]) -> None:
    call = getattr(os, name)

    def counted(*arguments: object, **more: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            if name == "pwrite":
                # Cut off in the middle: half of it is on the disk.
                call(arguments[0], bytes(arguments[1])[: len(bytes(arguments[1])) // 2], arguments[2])  # type: ignore[call-overload]
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **more)

    setattr(os, name, counted)


def test_fwd_06_killed_at_every_step(action: Keep, copies: Copies) -> None:
    """However far a try came: the next one leaves exactly one whole copy, beside what was there."""
    before = SystemMail(b"Subject: before\r\n\r\nx\r\n", "a@b", (), Entrance.PIPE)
    attempt(copies, action, before)
    was = stored(action)
    for number in range(1, 60):
        mail = SystemMail(OCTETS.replace(b"Subject: x", b"Subject: x%d" % number), "r@h", (), Entrance.PIPE)
        came_so_far = killed_at(number, lambda mail=mail: attempt(copies, action, mail, through=False))  # type: ignore[misc]
        Path(f"{action.path}.lock").unlink(missing_ok=True)  # nobody lives who made it
        attempt(copies, action, mail)
        was.append(mail.octets.replace(b"\r\n", b"\n"))
        assert sorted(stored(action)) == sorted(was), number
        if not came_so_far:
            break
    assert 5 < number < 59


@contextmanager
def small_files(octets: int) -> Iterator[None]:
    """The system refuses to let any file grow beyond this, as a full disk does."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_changes_nothing(action: Keep, copies: Copies) -> None:
    attempt(copies, action)
    large = SystemMail(OCTETS + b"x" * 99_999 + b"\r\n", "a@b", (), Entrance.PIPE)
    with small_files(20_000), pytest.raises(OSError, match="File too large"):
        attempt(copies, action, large)
    assert stored(action) == [TEXT]
    attempt(copies, action, large)
    assert sorted(map(len, stored(action))) == [len(TEXT), len(TEXT) + 100_000]


@pytest.mark.parametrize("part", ["", "new", "tmp", "cur"])
def test_no_link_leads_a_copy_out_of_its_maildir(part: str, copies: Copies, tmp_path: Path) -> None:
    """Its owner may be somebody else than who writes."""
    maildir, elsewhere = tmp_path / "Maildir", tmp_path / "elsewhere"
    for folder in ("", "cur", "new", "tmp"):
        (elsewhere / folder).mkdir()
        if folder or part:
            (maildir / folder).mkdir(exist_ok=True, parents=True)
    link = maildir / part
    if part:
        link.rmdir()
    else:
        shutil.rmtree(maildir)
    link.symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="a link or a file"):
        attempt(copies, Keep(str(maildir), "maildir"))
    assert not [one for one in elsewhere.rglob("*") if one.is_file()]
