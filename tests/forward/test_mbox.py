"""The mbox that is shared with other programs: its form, its locks, and real readers and writers."""

from __future__ import annotations

import fcntl
import mailbox
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from secmailproxy.errors import ConfigError
from secmailproxy.forward import mbox
from tests.fixtures.processes import service_folder, wait_until
from tests.fixtures.proxy import SOURCES

EPOCH = b"Thu Jan  1 00:00:00 1970\n"

ENTRIES = [
    (b"A: b\n\nc\n", "a@b", b"From a@b ", b"A: b\n\nc\n\n"),
    (b"A: b\n\nno end", "", b"From MAILER-DAEMON ", b"A: b\n\nno end\n\n"),
    (b"A: b\n\nFrom x\n>From y\n From\n", "a@b", b"From a@b ", b"A: b\n\n>From x\n>>From y\n From\n\n"),
    (b"From x\n", "a b\nFrom c", b"From a-b-From-c ", b">From x\n\n"),
    (
        b"Content-Length: 9\nX-IMAPbase: 1 2\nStatus: RO\nA: b\nX-UID: 3\n\nStatus: x\n",
        "a@b",
        b"From a@b ",
        b"A: b\n\nStatus: x\n\n",
    ),
]


@pytest.mark.parametrize(("octets", "sender", "separator", "text"), ENTRIES)
def test_the_form_is_mboxrd(octets: bytes, sender: str, separator: bytes, text: bytes) -> None:
    assert mbox.entry(octets, sender, 0) == separator + EPOCH + text


def put(path: Path, octets: bytes, patience: float = 0.05) -> None:
    mbox.deliver(path, mbox.entry(octets, "a@b", 0), None, lambda _: None, patience)


BEFORE = [b"", b"From x\n\ntext\n\n", b"From x\n\ntext\n", b"From x\n\ncut off"]


@pytest.mark.parametrize("before", BEFORE)
def test_there_is_a_blank_line_above(before: bytes, tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(before)
    put(path, b"A: b\n\nc\n")
    assert path.read_bytes() == before.rstrip(b"\n") + (b"\n\n" if before else b"") + mbox.entry(
        b"A: b\n\nc\n", "a@b", 0
    )


def test_wrong_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "second").hardlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "real", "second", "folder", "pipe"):
        with pytest.raises(ConfigError, match=f"{name} is no mbox file"):
            put(tmp_path / name, b"x")
    with pytest.raises(ConfigError, match="/dev/null is no mbox file"):
        put(Path("/dev/null"), b"x")
    assert (tmp_path / "real").read_bytes() == b""


def test_both_locks_are_heeded(tmp_path: Path) -> None:
    path, lock = tmp_path / "box", tmp_path / "box.lock"
    put(path, b"1")
    holder = (
        "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f,2); print(1,flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(mbox.MailboxBusy, match="locked by another program"):
            put(path, b"2")
        assert not lock.exists()
        other.kill()
    # Living, dead, without a number, as procmail and liblockfile write them; then their age counts.
    for owner, waits_when_old in (
        (b"%d\n" % os.getpid(), True),
        (b"0", False),
        (b"", False),
        (b"4194304\n", False),
    ):
        lock.write_bytes(owner)
        with pytest.raises(mbox.MailboxBusy):
            put(path, b"3")
        os.utime(lock, (0, 0))
        if waits_when_old:
            with pytest.raises(mbox.MailboxBusy):
                put(path, b"4")
            lock.unlink()
        else:
            put(path, b"5")
            assert not lock.exists()
    assert path.read_bytes().count(b"From a@b") == 4


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder in which the user, who is not root for a while, can make no file."""
    with service_folder("mbox") as folder:
        (folder / "box").touch()
        if os.geteuid() == 0:
            os.chown(folder / "box", 65534, 65534)
        folder.chmod(0o555)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(was)
            folder.chmod(0o755)


def test_where_no_lock_file_can_be_made_the_other_lock_does(closed_folder: Path) -> None:
    """Such as /var/mail, for users who are not in the group mail."""
    put(closed_folder / "box", b"A: b\n\nc\n")
    assert (closed_folder / "box").read_bytes().count(b"From ") == 1


def test_a_mailbox_that_is_replaced_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader renames a new file over the old one just before we have the lock: ours goes into the new."""
    path = tmp_path / "box"
    path.write_bytes(b"old")
    lockf = fcntl.lockf
    renamed = []

    def lock_late(descriptor: int, operation: int) -> None:
        if not renamed:
            (tmp_path / "new").write_bytes(b"From x\n\nkept\n\n")
            renamed.append((tmp_path / "new").rename(path))
        lockf(descriptor, operation)

    monkeypatch.setattr(fcntl, "lockf", lock_late)
    put(path, b"A: b\n\nc\n")
    assert path.read_bytes() == b"From x\n\nkept\n\n" + mbox.entry(b"A: b\n\nc\n", "a@b", 0)


WRITER = """
import sys
from pathlib import Path
from secmailproxy.forward import mbox
for number in range(7):
    octets = f"Subject: {sys.argv[2]}-{number}\\n\\n{'x' * 5000}\\nFrom here\\n".encode()
    mbox.deliver(Path(sys.argv[1]), mbox.entry(octets, "a@b", 0), None, lambda _: None)
"""
PROCMAIL = """
for number in 0 1 2 3 4 5 6; do
    printf 'Subject: %s-%s\\n\\n%05000d\\nFrom here\\n' "$1" "$number" 7 | procmail -f a@b -m "$2" || exit 1
done
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mbox into which three of us and two procmail have written at the same time."""
    folder = tmp_path_factory.mktemp("shared")
    rc = folder / "rc"
    rc.write_text(f"SHELL=/bin/sh\nLOCKSLEEP=1\nDEFAULT={folder}/box\n:0:\n{folder}/box\n")
    rc.chmod(0o600)
    ours = [[sys.executable, "-c", WRITER, folder / "box", f"ours{number}"] for number in range(3)]
    theirs = [["sh", "-c", PROCMAIL, "sh", f"procmail{number}", rc] for number in range(2)]
    running = [subprocess.Popen(argv, cwd=SOURCES) for argv in (*ours, *theirs)]
    assert [one.wait(60) for one in running] == [0] * 5
    return folder


SUBJECTS = {
    f"{name}-{number}"
    for name in ("ours0", "ours1", "ours2", "procmail0", "procmail1")
    for number in range(7)
}


def test_writers_at_the_same_time_lose_nothing(shared: Path) -> None:
    box = mailbox.mbox(shared / "box")
    try:
        assert len(box) == len(SUBJECTS)
        assert {one["Subject"] for one in box} == SUBJECTS
        assert {len(one.get_payload()) for one in box} == {len("x" * 5000 + "\n>From here\n")}
    finally:
        box.close()


def test_dovecot_reads_it(shared: Path) -> None:
    with service_folder("mboxread") as folder:
        copy = folder / "box"
        copy.write_bytes((shared / "box").read_bytes())
        user, group = (65534, 65534) if os.geteuid() == 0 else (os.getuid(), os.getgid())
        for path in (folder, copy):
            os.chown(path, user, group)
        (folder / "conf").write_text(
            f"mail_location = mbox:{folder}/more:INBOX={copy}\nbase_dir = {folder}/run\nssl = no\n"
            f"log_path = {folder}/log\nprotocols =\n"
            f"mail_uid = {user}\nmail_gid = {group}\nfirst_valid_uid = 1\n"
        )
        argv = ["doveadm", "-c", folder / "conf", "fetch", "hdr.subject", "mailbox", "INBOX"]
        environment = os.environ | {"HOME": str(folder), "USER": "someone"}
        done = subprocess.run(argv, env=environment, capture_output=True, check=True, text=True)
        found = [
            line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith("hdr.subject")
        ]
        assert len(found) == len(SUBJECTS)
        assert set(found) == SUBJECTS


@pytest.mark.parametrize("form", ["mbox", "maildir"])
def test_mutt_reads_it(form: str, shared: Path, tmp_path: Path) -> None:
    place = shared / "box"
    if form == "maildir":
        from secmailproxy.forward import maildir

        place = tmp_path / "maildir"
        for subject in SUBJECTS:
            octets = f"Subject: {subject}\n\nFrom here\n".encode()
            maildir.deliver(place, maildir.new_name(), octets)
    (tmp_path / "rc").write_text(
        f'set folder={tmp_path} pipe_decode=no pipe_split=yes pipe_sep="" wait_key=no quit=yes mark_old=no\n'
        f'push "<tag-pattern>~A<enter><tag-prefix><pipe-message>cat >>{tmp_path}/out<enter><exit>"\n'
    )
    (tmp_path / "out").touch()
    command = f"mutt -n -F {tmp_path}/rc -R -f {place}"
    environment = os.environ | {"TERM": "xterm", "HOME": str(tmp_path)}
    with open(tmp_path / "screen", "wb") as screen:
        subprocess.run(
            ["script", "-qec", command, "/dev/null"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=screen,
            check=True,
            timeout=60,
        )
    wait_until(lambda: (tmp_path / "out").read_text().count("Subject: ") >= len(SUBJECTS), "mutt")
    lines = (tmp_path / "out").read_text().splitlines()
    found = [line.partition(": ")[2] for line in lines if line.startswith("Subject: ")]
    assert len(found) == len(SUBJECTS)
    assert set(found) == SUBJECTS
