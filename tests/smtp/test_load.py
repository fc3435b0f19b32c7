"""Many submissions: each arrives once, and nothing stays behind in the proxy."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from bench.load import sessions, submit_all
from secmailproxy.crew import Crew
from secmailproxy.model import Envelope
from secmailproxy.outbound import Outbound, OutboundSettings
from tests.fixtures.certificates import TestCA
from tests.fixtures.desk import ALICE, BOB, MADE, Desk, desk
from tests.fixtures.growth import cost
from tests.fixtures.processes import DEADLINE, free_port, running
from tests.fixtures.proxy import SOURCES
from tests.fixtures.workers import hired, until
from tests.smtp.peers import PASSWORD, Proxy

__all__ = ["desk"]

SESSIONS = 10
MESSAGES = 60


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


def letters(first: int, count: int, lines: int = 40) -> Iterator[bytes]:
    for number in range(first, first + count):
        head = f"From: {ALICE}\r\nTo: {BOB}\r\nSubject: a secret\r\nMessage-ID: <{number}@example.org>\r\n"
        yield head.encode() + b"\r\n" + b"Meet me at the windmill, and bring the map.\r\n" * lines + b".\r\n"


@dataclass(frozen=True)
class Held:
    """What this process holds."""

    objects: int
    tasks: int
    descriptors: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        # A connection of SQLite keeps dead references to its last two hundred cursors, and an event loop a
        # hundred timers that were given up, with what they were to call.
        timers = [one for one in gc.get_objects() if isinstance(one, asyncio.TimerHandle) and one.cancelled()]
        kept = {id(inside) for one in timers for inside in (one, one._context, one._args)}
        found = gc.get_objects()
        objects = sum(not isinstance(one, weakref.ref) and id(one) not in kept for one in found)
        return cls(objects, len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd")))


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

        def submit() -> list[Held]:
            """What is held after each lot, by the same sessions: a closed connection lingers."""
            held = []
            with sessions(SESSIONS, running_proxy.port, ALICE, BOB, PASSWORD) as found:
                for lot in range(3):
                    submit_all(found, letters(MESSAGES * lot, MESSAGES))
                    assert all(b"encrypted" in session.last for session in found)
                    held.append(asyncio.run_coroutine_threadsafe(_held(), loop).result(DEADLINE))
            return held

        async def _held() -> Held:
            return Held.now()

        loop = asyncio.get_running_loop()
        # The first lot fills what is filled once.
        _, before, after = await asyncio.to_thread(submit)
        assert len(workers.processes) == 2
    assert taker.arrived() == Counter(f"<{number}@example.org>" for number in range(3 * MESSAGES))
    assert after.tasks == before.tasks
    assert after.descriptors == before.descriptors
    assert after.objects - before.objects < MESSAGES, "one object or more for each message"


@contextmanager
def turns(found: list[float], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put into `found` the seconds of the processor that each turn of the event loop takes."""
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        found.append(time.thread_time() - began)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield


async def test_a_large_message_takes_no_long_turn_of_the_loop(
    desk: Desk,
    taker: Smarthost,
    proxy: Callable[..., Awaitable[Proxy]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other sessions wait for a small part of what protecting takes: that is done elsewhere, in pieces."""
    (message,) = letters(100_000, 1, lines=50_000)
    async with hired(desk) as workers:
        workers.call()
        await until(workers, 2)
        outbound = Outbound(desk.keystore, OutboundSettings(), crew=Crew(workers))
        port = (await proxy(taker.port, outbound)).port

        def submit() -> None:
            with sessions(1, port, ALICE, BOB, PASSWORD) as (session,):
                session.submit(message)
                assert b"encrypted" in session.last

        found: list[float] = []
        with turns(found, monkeypatch):
            await asyncio.to_thread(submit)
    here = cost(lambda: outbound.steadily("_protect", (Envelope(ALICE, (BOB,)), message, ALICE, ALICE, None)))
    assert 5 * max(found) < here
