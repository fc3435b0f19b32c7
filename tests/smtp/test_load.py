"""Many submissions: each arrives once, and nothing stays behind in the proxy."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bench.load import sessions, submit_all
from secmailproxy.crew import Crew
from secmailproxy.outbound import Outbound, OutboundSettings
from tests.fixtures.certificates import TestCA
from tests.fixtures.desk import ALICE, BOB, MADE, Desk, desk
from tests.fixtures.processes import free_port, running
from tests.fixtures.proxy import SOURCES
from tests.fixtures.workers import hired, until
from tests.smtp.peers import PASSWORD, Proxy

__all__ = ["desk"]

SESSIONS = 10
MESSAGES = 120


@dataclass(frozen=True)
class Smarthost:
    """A process that takes what it gets, and the file in which it notes each Message-ID."""

    port: int
    ledger: Path

    def arrived(self) -> Counter[str]:
        return Counter(self.ledger.read_text().split())


@pytest.fixture(scope="module")
def taker(ca: TestCA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Smarthost]:
    folder, port = tmp_path_factory.mktemp("taker"), free_port()
    argv = [sys.executable, "-m", "bench.sink", str(port), ca.cert_file, ca.key_file, folder / "ledger"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    with running(argv, ports=[port], log=folder / "log", env=environment):
        yield Smarthost(port, folder / "ledger")


def letters(first: int, count: int) -> Iterator[bytes]:
    for number in range(first, first + count):
        head = f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: a secret\r\nMessage-ID: <{number}@example.org>\r\n"
        yield head.encode() + b"\r\n" + b"Meet me at the windmill.\r\n" * 40 + b".\r\n"


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    objects: int
    tasks: int
    descriptors: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        return cls(len(gc.get_objects()), len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")))


async def test_smtp_01_many_submissions_arrive_once_each_and_leave_nothing_behind(
    desk: Desk, taker: Smarthost, proxy: Callable[..., Awaitable[Proxy]]
) -> None:
    """None lost, none doubled; objects, tasks and descriptors are as many after as before."""
    async with hired(desk) as workers:
        workers.call()
        await until(workers, 2)
        # A fixed time, so that answers that hold for one second are not remembered for many.
        clock = MADE + timedelta(minutes=1)
        outbound = Outbound(desk.keystore, OutboundSettings(), lambda: clock, Crew(workers))
        running_proxy = await proxy(taker.port, outbound, login_delay=0)

        def submit(first: int) -> Held:
            with sessions(SESSIONS, running_proxy.port, ALICE, BOB, PASSWORD) as found:
                submit_all(found, letters(first, MESSAGES))
                assert all(b"encrypted" in session.last for session in found)
                return asyncio.run_coroutine_threadsafe(_held(), loop).result(30)

        async def _held() -> Held:
            return Held.now()

        loop = asyncio.get_running_loop()
        # The first lot fills what is filled once.
        _, before, after = [await asyncio.to_thread(submit, MESSAGES * lot) for lot in range(3)]
        assert len(workers.processes) == 2
    assert taker.arrived() == Counter(f"<{number}@example.org>" for number in range(3 * MESSAGES))
    assert after.tasks == before.tasks
    assert after.descriptors == before.descriptors
    assert after.objects - before.objects < MESSAGES, "one object or more for each message"
