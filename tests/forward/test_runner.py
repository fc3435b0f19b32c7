"""One runner at a time, woken when something is new, started where none runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from secmailproxy.accounts import password_secret
from secmailproxy.forward.attempts import Fate, Outcome
from secmailproxy.forward.deliveries import Deliveries
from secmailproxy.forward.hops import Begun
from secmailproxy.forward.model import Product
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.rounds import AFTER_FAILURE, Rounds
from secmailproxy.forward.runner import Runner
from secmailproxy.forward.spool import Route
from secmailproxy.forward.wake import HASTE, LOCK_VARIABLE, POKE, inherited_lock, lock, poke, see_to_delivery
from tests.fixtures.alone import ALICE, PASSWORD, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyHome
from tests.fixtures.queued import put, sealed
from tests.smtp.peers import Peer, Scripted, until


class Paper:
    """Deliveries that are only counted; each takes everything out of the queue."""

    def __init__(self, folder: Path) -> None:
        self.queue = Queue(folder)
        self.rounds = 0
        self.hasty = 0
        self.stopped = False

    async def due(self) -> float | None:
        self.rounds += 1
        for name in self.queue.names():
            self.queue.drop(name)
        return None

    def waiting(self) -> bool:
        return bool(self.queue.names())

    def spare_nobody(self) -> None:
        self.hasty += 1

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "spool"
    made.mkdir(mode=0o700)
    return made


def runner(paper: Paper) -> Runner:
    return Runner(paper.queue, paper)  # type: ignore[arg-type]  # in the place of Deliveries


@contextlib.asynccontextmanager
async def running(one: Runner) -> Iterator[None]:
    task = asyncio.create_task(one.run())
    yield
    one.close()
    await asyncio.wait_for(task, 10)


async def test_it_runs_at_the_start_and_when_it_is_woken_or_poked(folder: Path) -> None:
    paper = Paper(folder)
    one = runner(paper)
    async with running(one):
        await until(lambda: paper.rounds == 1)
        one.wake()
        await until(lambda: paper.rounds == 2)
        await until(lambda: poke(folder))
        await until(lambda: paper.rounds == 3)
        assert poke(folder, HASTE)
        await until(lambda: paper.rounds == 4)
        assert paper.hasty == 1
        assert lock(folder) is None
    assert paper.stopped
    assert not poke(folder)
    held = lock(folder)
    assert held is not None
    os.close(held)


async def test_the_second_one_waits_and_tells_the_first(folder: Path) -> None:
    first, second = Paper(folder), Paper(folder)
    async with running(runner(first)):
        await until(lambda: first.rounds)
        other = runner(second)
        async with running(other):
            await until(lambda: poke(folder))
            before = first.rounds
            while first.rounds == before:
                other.wake()
                await asyncio.sleep(0.001)
        assert second.rounds == 0
        assert await runner(second).once() is False
        await until(lambda: first.hasty == 1)
    assert await runner(second).once() is True
    assert second.rounds == 1


class Bell:
    """Something else that is done in time."""

    def __init__(self) -> None:
        self.rung = 0

    async def due(self) -> float | None:
        self.rung += 1
        return None


async def test_whoever_delivers_digests_and_warnings_come(folder: Path) -> None:
    """A runner that a pipe has started only delivers, and has the lock as long as anything waits."""
    held = lock(folder)
    assert held is not None
    paper, bell = Paper(folder), Bell()
    one = Runner(paper.queue, paper, bell)  # type: ignore[arg-type]  # in the place of Deliveries
    assert await one.once() is False
    assert bell.rung == 1
    async with running(one):
        await until(lambda: bell.rung == 2)
        one.wake()
        await until(lambda: bell.rung == 3)
    os.close(held)
    assert paper.rounds == 0


async def test_it_looks_again_though_nothing_is_said_to_be_due(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock may be set, and the machine sleep: the time of a wait is neither's."""
    monkeypatch.setattr("secmailproxy.forward.runner._NAP_MOST", 0.01)
    paper = Paper(folder)
    async with running(runner(paper)):
        await until(lambda: paper.rounds > 2)


async def test_what_comes_while_the_lock_is_given_away_is_delivered_too(folder: Path) -> None:
    """Whoever finds the lock taken relies on the one who has it."""

    class Late(Paper):
        def waiting(self) -> bool:
            if self.rounds == 1:
                put(folder)
                held = lock(folder)
                assert held is not None  # it has been given away
                os.close(held)
            return super().waiting()

    paper = Late(folder)
    held = lock(folder)
    assert held is not None
    await asyncio.wait_for(runner(paper).until_empty(held), 10)
    assert paper.rounds == 2
    assert paper.queue.names() == []


async def test_a_foreign_file_in_the_place_of_the_pipe_is_replaced(folder: Path) -> None:
    (folder / POKE).write_text("mine")
    paper = Paper(folder)
    async with running(runner(paper)):
        await until(lambda: poke(folder))
        assert stat.S_ISFIFO((folder / POKE).stat().st_mode)


async def test_what_fails_keeps_nothing_else_waiting(caplog: pytest.LogCaptureFixture) -> None:
    done = []

    class Fails:
        async def due(self) -> float | None:
            raise RuntimeError("treasure")

    class Works:
        async def due(self) -> float | None:
            done.append(1)
            return 1000.0

    assert await Rounds((Fails(), Works())).once() == AFTER_FAILURE
    assert await Rounds((Works(),)).once() == 1000.0
    assert await Rounds(()).once() is None
    assert len(done) == 2
    assert "treasure" not in caplog.text


def test_only_a_real_lock_is_inherited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for told in ("", "x", "987"):
        monkeypatch.setenv(LOCK_VARIABLE, told)
        assert inherited_lock() is None
        assert LOCK_VARIABLE not in os.environ


@pytest.fixture
async def smarthost(ca: TestCA) -> Iterator[Scripted]:
    async with Scripted({}, tls=ca.server_context()).running() as peer:
        yield peer


@pytest.fixture
def home(smarthost: Scripted, ca: TestCA) -> Iterator[ProxyHome]:
    with alone(ca, smarthost.port, config="") as made:
        made.set_secret(password_secret(ALICE), PASSWORD)
        yield made


START = (
    "import sys, os, pathlib\nfrom secmailproxy.forward.wake import see_to_delivery\n"
    "see_to_delivery(pathlib.Path(sys.argv[1]))"
)


async def test_a_runner_is_started_on_its_own_and_keeps_nothing_of_its_starter(
    home: ProxyHome, smarthost: Scripted
) -> None:
    """The caller's pipes are closed when the starter ends, though the runner still works (FWD-01)."""
    spool = home.folders.spool
    put(spool, route=Route("smarthost", ALICE))
    more = os.pipe()
    stalled = asyncio.Event()

    async def hold(peer: object) -> None:
        stalled.set()
        await release.wait()
        await peer.say(b"250 2.0.0 ok\r\n")  # type: ignore[attr-defined]

    release = asyncio.Event()
    smarthost.script["."] = hold
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", START, spool],
        env=home.environment,
        capture_output=True,
        pass_fds=more,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    os.close(more[1])
    assert await asyncio.wait_for(asyncio.to_thread(os.read, more[0], 1), 10) == b""
    os.close(more[0])
    await asyncio.wait_for(stalled.wait(), 10)
    assert lock(spool) is None
    put(spool, sealed(1), route=Route("smarthost", ALICE))
    see_to_delivery(spool)  # there is one: it is told
    release.set()
    await asyncio.to_thread(wait_until, lambda: not Queue(spool).names(), "both are delivered")
    assert len(smarthost.messages) == 2
    held = await asyncio.to_thread(wait_until, lambda: lock(spool), "the runner ends when nothing waits")
    os.close(held)


async def test_a_runner_that_a_pipe_has_started_goes_by_the_configuration_as_it_is_now(
    home: ProxyHome, smarthost: Scripted
) -> None:
    spool, file = home.folders.spool, home.folders.config_file
    right = file.read_text()
    file.write_text(right.replace(f'address = "{ALICE}"', 'address = "other@example.org"'))
    name = put(spool, route=Route("smarthost", ALICE))
    await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", START, spool], env=home.environment, check=True
    )
    queue = Queue(spool)
    await asyncio.to_thread(wait_until, lambda: queue.progress(name).tries, "it has no way out")
    file.write_text(right)
    queue.hasten(name)
    assert poke(spool, HASTE)
    await asyncio.to_thread(wait_until, lambda: not queue.names(), "it is delivered")
    assert len(smarthost.messages) == 1


async def test_told_to_stop_it_finishes_what_is_being_sent(home: ProxyHome, smarthost: Scripted) -> None:
    """Else the message would be sent twice, each time the service that started the pipe is stopped."""
    spool, release, stalled = home.folders.spool, asyncio.Event(), asyncio.Event()
    route = Route("smarthost", ALICE)
    put(spool, route=route)
    second = put(spool, sealed(1), route=route)

    async def hold(peer: Peer) -> None:
        stalled.set()
        await release.wait()
        await peer.say(b"250 2.0.0 ok\r\n")

    smarthost.script["."] = hold
    with subprocess.Popen(home.command("queue", "run"), env=home.environment) as process:
        await asyncio.wait_for(stalled.wait(), 20)
        process.terminate()
        release.set()
        assert await asyncio.to_thread(process.wait, 20) == 0
    assert len(smarthost.messages) == 1
    assert Queue(spool).names() == [second]
    assert not Queue(spool).progress(second).begun


async def test_what_is_queued_leaves_though_the_keystore_is_damaged(
    home: ProxyHome, smarthost: Scripted
) -> None:
    """It is ciphertext already. What does need the keystore is complained of afterwards."""
    put(home.folders.spool, route=Route("smarthost", ALICE))
    for path in home.folders.keystore.glob("keystore.sqlite3*"):
        path.write_bytes(b"broken\0")
    done = await asyncio.to_thread(home.run, "queue", "run", check=False)
    assert len(smarthost.messages) == 1
    assert done.returncode not in (0, 1)
    assert b"keystore" in done.stderr
    assert Queue(home.folders.spool).names() == []


async def test_fwd_06_many_at_once_are_delivered(home: ProxyHome, smarthost: Scripted) -> None:
    """FWD-06: none is lost or doubled, by few connections."""
    spool, route = home.folders.spool, Route("smarthost", ALICE)
    products = [sealed(number) for number in range(200)]
    for product in products:
        put(spool, product, route=route)
    done = await asyncio.to_thread(home.run, "queue", "run")
    assert done.stdout == b""
    assert sorted(smarthost.messages) == sorted(one.octets + b".\r\n" for one in products)
    assert len(smarthost.peers) <= 5
    assert Queue(spool).names() == []


async def test_however_many_wait_few_are_in_memory(folder: Path) -> None:
    at_once, most, sent = 0, 0, 0

    class Slow:
        async def send(self, product: Product, rcpt_tos: Sequence[str], begun: Begun) -> Mapping[str, Fate]:
            nonlocal at_once, most, sent
            at_once += 1
            most = max(most, at_once)
            await begun()
            at_once -= 1
            sent += 1
            return dict.fromkeys(rcpt_tos, Fate(Outcome.ACCEPTED))

    for number in range(50):
        put(folder, sealed(number), sealed(number + 100))
    assert await Deliveries(Queue(folder), lambda route: Slow()).due() is None
    assert sent == 100
    assert 1 < most <= 4
