"""FWD-06: what is put into the queue is there whole, on the disk, and ciphertext."""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from secmailproxy.errors import ConfigError, MalformedMessage, NotAllowed
from secmailproxy.forward.model import ForwardSettings, Product
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.spool import Route, Spool, route_of
from secmailproxy.model import Envelope
from tests.fixtures.processes import die_with_parent
from tests.fixtures.queued import ADMIN, SENDER, SMARTHOST, files, put, sealed

CLEAR = b"From: root\r\nSubject: treasure\r\n\r\nwindmill\r\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "spool"


def test_several_messages_are_one_file_that_gives_them_back(folder: Path) -> None:
    products = [
        sealed(1),
        sealed(2, ("ä@example.org", "b@example.org"), mail_from=""),
        sealed(3, size=300_000),
    ]
    name = put(folder, *products)
    assert files(folder) == [f"{name}.mail"]
    with Queue(folder).taken(name) as taken:
        assert [taken.product(at) for at in range(3)] == products
        assert taken.queued.route == SMARTHOST
        assert (taken.queued.bounces, taken.queued.name) == (SENDER, name)


def test_folder_and_files_are_for_their_owner_alone(folder: Path) -> None:
    before = os.umask(0)
    try:
        name = put(folder)
    finally:
        os.umask(before)
    assert (folder.stat().st_mode & 0o777, (folder / f"{name}.mail").stat().st_mode & 0o777) == (0o700, 0o600)
    folder.chmod(0o755)
    put(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_what_was_not_put_in_for_certain_does_not_leave(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever brought it has heard of an error, and brings it again."""
    put(folder)
    before, fsync = files(folder), os.fsync

    def broken(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EIO, "Input/output error")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        put(folder, sealed(1), dataclasses.replace(sealed(2), held="for the escrow"))
    assert files(folder) == before


def test_it_is_on_the_disk_before_it_is_said_to_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FWD-06: the octets before the name, the name before the return; a folder that is new as well."""
    done: list[str] = []

    def noted(name: str, act: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object) -> object:
            kind = stat.S_IFMT(os.fstat(args[0]).st_mode) if name == "fsync" else 0
            done.append({0: name, stat.S_IFREG: "fsync file", stat.S_IFDIR: "fsync folder"}[kind])
            return act(*args)

        return call

    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    put(folder)
    put(folder)
    assert done == ["fsync folder", *["fsync file", "rename", "fsync folder"] * 2]


def test_ids_sort_by_time_and_none_is_there_twice(folder: Path) -> None:
    names = [put(folder) for _ in range(50)]
    assert Queue(folder).names() == names == sorted(set(names))


@pytest.mark.parametrize(
    "octets",
    [
        CLEAR,
        b"",
        b"Content-Type: multipart/encrypted\r\n\r\nwindmill",
        sealed().octets.replace(b"-----BEGIN PGP MESSAGE", b"-----BEGIN TREASURE MAP"),
        sealed().octets.replace(b"multipart/encrypted", b"multipart/mixed"),
    ],
)
def test_fwd_06_nothing_in_clear_is_ever_written(octets: bytes, folder: Path) -> None:
    """FWD-06: not even for a moment, nor beside messages that are encrypted."""
    with pytest.raises(NotAllowed, match="not encrypted"):
        Spool(folder).put([sealed(), Product(octets, Envelope("", (ADMIN,)))], SMARTHOST)
    assert not folder.exists()
    notice = Product(octets, Envelope("", (ADMIN,)), is_notice=True)
    with Queue(folder).taken(Spool(folder).put([notice], SMARTHOST)) as taken:
        assert taken.product(0) == notice


@pytest.mark.parametrize("rcpt_tos", [(), tuple(f"{number}@example.org" for number in range(100_000))])
def test_a_message_for_nobody_or_for_too_many_is_refused(rcpt_tos: tuple[str, ...], folder: Path) -> None:
    """Else it would leave the queue undelivered, or could not be read again."""
    with pytest.raises(MalformedMessage):
        Spool(folder).put([sealed(1), Product(sealed().octets, Envelope(SENDER, rcpt_tos))], SMARTHOST)
    assert not folder.exists() or files(folder) == []


def test_what_was_prepared_is_queued_by_commit_alone(folder: Path) -> None:
    spool = Spool(folder)
    with spool.prepared([sealed()], SMARTHOST):
        assert Queue(folder).names() == []
        assert len(files(folder)) == 1
    assert files(folder) == []
    with pytest.raises(InterruptedError), spool.prepared([sealed()], SMARTHOST):
        raise InterruptedError
    assert files(folder) == []


def test_a_folder_of_somebody_else_or_no_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="no folder of this user's"):
        put(folder)
    folder.unlink()
    folder.write_text("")
    with pytest.raises(ConfigError, match="no folder of this user's"):
        put(folder)


def test_a_full_disk_leaves_nothing_behind(folder: Path) -> None:
    """The write fails half-way, as on a full disk: an error, and no file."""
    script = (
        "import resource, signal, sys, pathlib\n"
        "from tests.fixtures.queued import put, sealed\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    put(pathlib.Path(sys.argv[1]), sealed(size=100_000))\n"
        "except OSError as error:\n    print(error.errno)\n"
    )
    words = [sys.executable, "-Bc", script, folder]
    done = subprocess.run(words, capture_output=True, text=True, preexec_fn=die_with_parent, check=True)
    assert done.stdout == "27\n"
    assert files(folder) == []


@pytest.mark.parametrize(("via", "name"), [("smarthost", "a@b"), ("sendmail", "/x"), ("smtp", "127.0.0.1:1")])
def test_the_route_is_that_of_the_settings(via: str, name: str) -> None:
    settings = ForwardSettings(via=via, account="a@b", sendmail="/x", relay="127.0.0.1:1")
    assert route_of(settings) == Route(via, name)


def test_putting_imports_nothing_slow() -> None:
    """A pipe puts one message in and ends."""
    slow = ["asyncio", "pydantic", "click", "email", "sqlite3", "logging", "subprocess", "socket"]
    script = f"import sys, secmailproxy.forward.outlets\nprint([one for one in {slow} if one in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-Sc", f"import sys; sys.path[:0] = {sys.path!r}\n" + script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_what_is_for_the_escrow_is_held_from_the_beginning(folder: Path) -> None:
    """Nobody else's message waits for it."""
    held = dataclasses.replace(sealed(1), held="no usable certificate")
    put(folder, sealed(2), held, sealed(3))
    queue = Queue(folder)
    first, second = queue.names()
    assert (queue.progress(first).held, queue.progress(second).held) == ("no usable certificate", "")
    assert [len(queue.look(name)[0].messages) for name in (first, second)] == [1, 2]
    queue.release(first)
    assert queue.progress(first).held == ""
