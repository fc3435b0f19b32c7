"""The quick way as mail programs run it: nothing heavy is imported, and nothing differs in what leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.forward.journal import journal_of
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.quick import GUARD
from secmailproxy.forward.wake import HANDED_OVER, NEWS, POKE, lock
from secmailproxy.mime.assemble import openpgp_ciphertext
from secmailproxy.mime.entity import parse
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import SOURCES, ProxyHome, empty_home, serving

ADMIN, ACCOUNT = "admin@example.org", "host@example.org"
CRON = (
    b"From root@host Thu Jan  1 00:00:00 2026\nReturn-Path: <root@host>\nX-Original-To: root\n"
    b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> backup -p treasure\n\nwindmill \n.\nend"
)
HEAVY = frozenset(
    "click pydantic asyncio sqlite3 cryptography email logging subprocess socket re enum dataclasses typing "
    "json pathlib datetime inspect hashlib threading signal secmailproxy.cli secmailproxy.mime "
    "secmailproxy.config keystore.keystore keystore.openpgp keystore.model secmailproxy.forward.model".split()
)
RUN = "from secmailproxy.__main__ import main; main()"
"""As the console script does; what an editable installation imports at its start is left out (-S)."""

SENDMAIL = """#!/bin/sh
if [ -e {folder}/broken ]; then echo x >> {folder}/calls; exit 69; fi
printf "%s\\n" "$@" > {folder}/words
ulimit -c > {folder}/core-limit
cat > {folder}/sent
"""


@dataclass(frozen=True)
class Ran:
    """One process: how it ended, and what it had imported."""

    status: int
    said: bytes
    imported: frozenset[str]

    @property
    def quick(self) -> bool:
        return "secmailproxy.cli" not in self.imported


@dataclass(frozen=True)
class Pipe:
    """A configured home whose sendmail keeps what it gets."""

    home: ProxyHome

    def run(self, data: bytes = CRON, *words: str) -> Ran:
        for name in ("sent", "words"):
            (self.home.folder / name).unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, "-S", "-X", "importtime", "-c", RUN, "forward", *words],
            input=data,
            env={**self.home.environment, "PYTHONPATH": f"{SOURCES}:{sysconfig.get_path('purelib')}"},
            capture_output=True,
            check=False,
        )
        assert done.stdout == b""
        lines = done.stderr.splitlines(keepends=True)
        imports = [line for line in lines if line.startswith(b"import time:")]
        said = b"".join(line for line in lines if line not in imports)
        return Ran(
            done.returncode, said, frozenset(line.split(b"|")[-1].strip().decode() for line in imports[1:])
        )

    @property
    def sent(self) -> bytes:
        return (self.home.folder / "sent").read_bytes()

    @property
    def words(self) -> list[str]:
        return (self.home.folder / "words").read_text().splitlines()

    def payload(self, product: bytes = b"") -> bytes:
        """What is inside a message: the one that was sent."""
        ciphertext = openpgp_ciphertext(parse(product or self.sent))
        assert ciphertext is not None
        with self.home.keystore() as keystore:
            return keystore.decrypt(ciphertext, datetime.now(UTC)).octets

    def settle(self) -> None:
        """Let everything be older than a tick of the clock, and have a message leave a plan."""
        began = time.time()
        wait_until(lambda: time.time() > began + 0.12, "the clock")
        assert self.run().status == 0
        assert list(self.home.folders.state.glob("forward-plan-*"))


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipe:
    home = empty_home(tmp_path_factory.mktemp("quick") / "home")
    sendmail = home.folder / "sendmail"
    sendmail.write_text(SENDMAIL.format(folder=home.folder))
    sendmail.chmod(0o755)
    with home.keystore() as keystore:
        fingerprint = keystore.generate(ADMIN).fingerprint
    home.add_config(
        f'[forward]\nvia = "sendmail"\nsendmail = "{sendmail}"\nsender = "bounce@host.example"\n'
        f'[[forward.targets]]\naddress = "{ADMIN}"\nfingerprint = "{fingerprint}"\n'
        f'[[accounts]]\naddress = "{ACCOUNT}"\nimap = {{ host = "localhost" }}\n'
        'smtp = { host = "localhost" }\n'
    )
    home.folders.verdict_token()
    made = Pipe(home)
    made.settle()
    return made


def general(octets: bytes) -> bytes:
    """The octets without what is different in every message."""
    octets = re.sub(rb"(Date|Message-ID): [^\r\n]+", rb"\1: *", octets)
    octets = re.sub(rb"=-[0-9a-f]{40}", b"*", octets)
    return re.sub(rb"(?s)-----BEGIN.*-----END PGP MESSAGE-----", b"*", octets)


def test_the_quick_way_imports_next_to_nothing(pipe: Pipe) -> None:
    ran = pipe.run()
    assert (ran.status, ran.said) == (0, b"")
    assert ran.quick
    assert pipe.payload().endswith(b"\r\nwindmill \r\n.\r\nend")
    assert not HEAVY & ran.imported
    assert len(ran.imported) < 60
    assert (pipe.home.folder / "core-limit").read_text() == "0\n"  # the message would be in a core file


EIGHT_BIT = (
    b"To: root\nSubject: s\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n"
    b"--b\nContent-Type: text/plain; charset=UTF-8\nContent-Transfer-Encoding: 8bit\n\n"
    b"M\xc3\xbcnchen \xff\n--b--\n"
)
MESSAGES = {
    "cron": CRON,
    "parts, and octets of any kind": EIGHT_BIT,
    "bounce without a subject": b"Return-Path: <>\nTo: root\n\nx\n",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_fwd_02_both_ways_make_the_same(name: str, pipe: Pipe) -> None:
    quick = pipe.run(MESSAGES[name])
    made = general(pipe.sent), general(pipe.payload()), pipe.words
    full = CliRunner(env={HOME_VARIABLE: str(pipe.home.folder)}).invoke(program, ["forward"], MESSAGES[name])
    assert (quick.quick, quick.status, full.exit_code) == (True, 0, 0)
    assert made == (general(pipe.sent), general(pipe.payload()), pipe.words)
    date = re.search(rb"\r\nDate: ([^\r\n]+)\r\n", pipe.payload())
    assert date is not None
    assert re.fullmatch(rb"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d \+0000", date[1])


QUEUED = ("--via", "smarthost", "--account", ACCOUNT)


def queued(pipe: Pipe) -> tuple[bytes, tuple[object, ...]]:
    """The only message of the queue, which it leaves; what is the same in each of them."""
    queue = Queue(pipe.home.folders.spool)
    (name,) = queue.names()
    with queue.taken(name) as taken:
        product = taken.product(0)
        told = product.envelope, taken.queued.route, taken.queued.bounces, product.held, product.is_notice
    queue.drop(name)
    return product.octets, told


def test_fwd_06_our_own_queue_gets_the_same_by_both_ways(pipe: Pipe) -> None:
    """By a plan too it is whole and readable in the queue, and the runner hears of it."""
    spool = pipe.home.folders.spool
    spool.mkdir(mode=0o700, exist_ok=True)
    held = lock(spool)
    assert held is not None
    os.mkfifo(spool / POKE)
    poked = os.open(spool / POKE, os.O_RDWR | os.O_NONBLOCK)
    try:
        full = pipe.run(EIGHT_BIT, *QUEUED)
        first, told = queued(pipe)
        assert os.read(poked, 10) == NEWS
        quick = pipe.run(EIGHT_BIT, *QUEUED)
        second, told_again = queued(pipe)
        assert os.read(poked, 10) == NEWS
        assert (full.quick, quick.quick, full.status, quick.status) == (False, True, 0, 0)
        assert not {"pathlib", "contextlib", *HEAVY} & quick.imported
        assert (general(first), told) == (general(second), told_again)
        assert general(pipe.payload(first)) == general(pipe.payload(second))
        spool.chmod(0o755)
        assert not pipe.run(EIGHT_BIT, *QUEUED).quick
        queued(pipe)
    finally:
        os.close(poked)
        os.close(held)


def test_both_ways_are_counted(pipe: Pipe) -> None:
    def outcomes() -> list[tuple[str, ...]]:
        since = datetime.now(UTC) - timedelta(days=1)
        found = journal_of(pipe.home.folders).records(since, None)
        return [record.outcomes for record in found]

    before = len(outcomes())
    assert pipe.run().quick
    (pipe.home.folder / "broken").touch()
    assert pipe.run().quick
    (pipe.home.folder / "broken").unlink()
    (pipe.home.folder / "calls").unlink()
    assert outcomes()[before:] == [("forwarded",), ("deferred",)]
    for file in pipe.home.folders.journal.iterdir():
        file.unlink()
    assert not pipe.run().quick
    assert outcomes() == [("forwarded",)]


NOT_PLAIN = b"Subject: s\r\n t\r\n\r\nM\xc3\xbcnchen\r\n" + b"0123456789\r\n" * 110_000


def test_fwd_02_what_is_not_plain_arrives_whole_by_the_full_way(pipe: Pipe) -> None:
    """Larger than a pipe of the system holds: what was read and what was not come to the full way in one."""
    ran = pipe.run(NOT_PLAIN)
    assert (ran.status, ran.said, ran.quick) == (0, b"", False)
    assert pipe.payload().endswith(b"\r\n\r\n" + NOT_PLAIN)


def test_fwd_01_what_the_full_way_refuses_is_refused(pipe: Pipe) -> None:
    pipe.run()
    own = pipe.sent
    again = pipe.run(own)
    assert again.status == 75
    assert again.said == b"4.3.0 the message was forwarded by this host before (mail loop)\n"


def test_fwd_01_a_sendmail_that_fails_is_told_by_the_quick_way_too(pipe: Pipe) -> None:
    """Exactly one program was called: what it took or did not take is for it to say."""
    (pipe.home.folder / "broken").touch()
    try:
        ran = pipe.run()
    finally:
        (pipe.home.folder / "broken").unlink()
    assert (ran.status, ran.quick) == (75, True)
    assert ran.said == f"4.3.0 {pipe.home.folder}/sendmail ended with status 69\n".encode()
    assert (pipe.home.folder / "calls").read_text() == "x\n"
    (pipe.home.folder / "calls").unlink()


def test_fwd_05_what_a_sendmail_program_brings_back_goes_the_full_way(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert GUARD == HANDED_OVER
    monkeypatch.setenv(GUARD, "1")
    ran = pipe.run()
    assert (ran.status, ran.quick) == (75, False)
    assert b"mail loop" in ran.said


def test_a_running_daemon_does_it(pipe: Pipe) -> None:
    """The pipe imports even less. A daemon that was killed, or knows an old configuration, is no loss."""
    with serving(pipe.home) as proxy:
        ran = pipe.run()
        assert (ran.status, ran.said, ran.quick) == (0, b"", True)
        assert "_socket" in ran.imported
        assert not {"openpgp", "zlib", *HEAVY} & ran.imported
        assert pipe.payload().endswith(b"\r\nwindmill \r\n.\r\nend")
        assert pipe.words[2] == "bounce@host.example"
        (pipe.home.folder / "broken").touch()
        failed = pipe.run()
        (pipe.home.folder / "broken").unlink()
        assert (failed.status, failed.quick) == (75, True)
        assert failed.said == f"4.3.0 {pipe.home.folder}/sendmail ended with status 69\n".encode()
        assert (pipe.home.folder / "calls").read_text() == "x\n"
        (pipe.home.folder / "calls").unlink()
        assert not leaked(proxy.log().encode())
        pipe.home.folders.config_file.touch()
        other = pipe.run()
        assert (other.status, other.quick) == (0, False)
        proxy.process.kill()
        proxy.process.wait()
        assert (pipe.home.folders.state / "forward.sock").exists()
        assert pipe.run().status == 0
        assert pipe.payload().endswith(b"\r\nwindmill \r\n.\r\nend")


def leaked(octets: bytes) -> bool:
    return any(word in octets for word in (b"windmill", b"treasure"))


def test_fwd_03_a_certificate_that_was_deleted_is_not_used_any_more(pipe: Pipe) -> None:
    assert pipe.run().quick
    with pipe.home.keystore() as keystore:
        (certificate,) = keystore.certificates(ADMIN)
        keystore.delete(certificate.fingerprint)
    ran = pipe.run()
    assert ran.status == 75
    assert ran.said.startswith(b"4.7.5 no encryption key for <admin@example.org>")
    assert not (pipe.home.folder / "sent").exists()
