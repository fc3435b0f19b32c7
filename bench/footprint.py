"""What the running proxy takes: time until it is ready, and memory with many clients at once."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.crypto import Keys, entity, keys
from bench.imap import Place, message, place
from bench.measure import Aim, Row, seconds
from tests.fixtures.dovecot import Mailbox
from tests.fixtures.proxy import Proxy, serving
from tests.fixtures.transcript import proxied

IDLING = 50
SYNCING = 10
MESSAGES = 1000
"""Of 5 KB; every tenth is encrypted."""
STARTS = 7


def rows() -> Iterator[Row]:
    """Start, then memory."""
    with place() as where, keys() as both:
        yield _start(where)
        yield _memory(where, both)


def _start(where: Place) -> Row:
    home = where.factory.home(where.dovecot.mailbox("start"))
    with home.keystore() as keystore:
        keystore.generate("start@example.test")

    def once() -> None:
        with ExitStack() as stack:
            times.append(seconds(lambda: stack.enter_context(serving(home))))

    times: list[float] = []
    for _ in range(STARTS):
        once()
    took, best = statistics.median(times), min(times)
    return Row("from start to ready", "median", took, "best", best, took, "s", Aim.AT_MOST, 0.5)


def _memory(where: Place, both: Keys) -> Row:
    now = datetime.now(UTC)
    mailbox = where.dovecot.account("bob@example.org")
    plain = b"From: a@example.org\nSubject: plain\nMIME-Version: 1.0\n" + entity()
    mailbox.fill(
        message(n, both.keystore.encrypt(entity(), [both.bob], both.alice, now)) if n % 10 == 0 else plain
        for n in range(MESSAGES)
    )
    home = where.factory.home(mailbox)
    settings = home.folders.config_file
    settings.write_text(settings.read_text().replace("[listen]", "[listen]\nconnections_per_client = 100", 1))
    with home.keystore() as keystore:
        keystore.import_keys(both.keystore.export(both.bob, secret=True), source="bench")
    with serving(home) as proxy, ExitStack() as stack:
        before = resident(proxy)
        for _ in range(IDLING):
            imap = stack.enter_context(proxied(proxy, mailbox))
            imap.ok(b"SELECT INBOX")
            imap.send(b"i IDLE\r\n")
            assert imap.response().startswith(b"+")
        idling = resident(proxy)
        with ThreadPoolExecutor(SYNCING) as pool:
            took = [pool.submit(_sync, proxy, mailbox) for _ in range(SYNCING)]
            most = idling
            while not all(one.done() for one in took):
                most = max(most, resident(proxy))
        for one in took:
            one.result()
    what = f"memory: {IDLING} clients idling and {SYNCING} syncing"
    return Row(what, f"{idling:.0f} MB idling, from", before, "most", most, most, "MB", Aim.AT_MOST, 200)


def _sync(proxy: Proxy, mailbox: Mailbox) -> None:
    with proxied(proxy, mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        found = imap.ok(b"UID FETCH 1:* (UID FLAGS RFC822.SIZE BODY.PEEK[])")
        assert len(found) == MESSAGES + 1


@dataclass(frozen=True)
class Held:
    """What the proxy and the processes it has started hold."""

    megabytes: float
    """In memory; shared pages count in each."""
    descriptors: int
    threads: int
    """These two of the proxy alone: the others come and go."""

    @classmethod
    def by(cls, proxy: Proxy) -> Held:
        """Now."""
        own = Path(f"/proc/{proxy.process.pid}")
        return cls(resident(proxy), len(list((own / "fd").iterdir())), len(list((own / "task").iterdir())))

    def __str__(self) -> str:
        return f"{self.megabytes:.1f} MB, {self.descriptors} descriptors, {self.threads} threads"


def resident(proxy: Proxy) -> float:
    """Megabytes in memory, of the proxy and the processes it has started; shared pages count in each."""
    return sum(_resident(process) for process in (proxy.process.pid, *_helpers(proxy)))


def processor_seconds(proxy: Proxy) -> tuple[float, float]:
    """What the proxy has used of the processors so far, and what the processes have that it has started."""
    return _used(proxy.process.pid), sum(_used(process) for process in _helpers(proxy))


def _helpers(proxy: Proxy) -> list[int]:
    tasks = Path(f"/proc/{proxy.process.pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]


def _used(process: int) -> float:
    """In user mode and in the system (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0.0  # it has ended meanwhile
    return next(
        (int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0.0
    )
