"""FWD-06: killed at every step, the queue loses nothing, doubles at most one, and holds nothing in clear."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from secmailproxy.accounts import password_secret
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.spool import Route
from secmailproxy.forward.wake import lock
from secmailproxy.mime import header
from secmailproxy.mime.entity import parse
from tests.fixtures.alone import ALICE, PASSWORD, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.killing import DELIVER, PIPE, Killer, killer
from tests.fixtures.people import SUBJECT, TEXT, leaked
from tests.fixtures.proxy import ProxyHome
from tests.fixtures.queued import ADMIN, put, sealed
from tests.smtp.peers import Peer, Scripted

KILLED = -9
CRON = f"From: root\nTo: root\nSubject: {SUBJECT}\n\n{TEXT}\n".encode()


async def refuse_nobody(peer: Peer) -> None:
    """RCPT is refused for one address."""
    refused = b"nobody@" in peer.lines[-1]
    await peer.say(b"550 5.1.1 who?\r\n" if refused else b"250 2.1.5 ok\r\n")


@pytest.fixture
async def smarthost(ca: TestCA) -> Iterator[Scripted]:
    """Takes everything but what is for nobody@."""
    async with Scripted({"RCPT": refuse_nobody}, tls=ca.server_context()).running() as peer:
        yield peer


@pytest.fixture
def home(smarthost: Scripted, ca: TestCA, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyHome]:
    """With an account whose password is stored; temporary files would be in it too."""
    with alone(ca, smarthost.port, ADMIN, config="") as made:
        made.set_secret(password_secret(ALICE), PASSWORD)
        (made.folder / "tmp").mkdir()
        monkeypatch.setenv("TMPDIR", str(made.folder / "tmp"))
        yield made


def in_clear(home: ProxyHome) -> list[Path]:
    """Files with a word of the message."""
    return [one for one in home.folder.rglob("*") if one.is_file() and leaked(one.read_bytes())]


def put_until_done(home: ProxyHome, run: Killer, pipe: str = "forward") -> int:
    """The pipe is killed at each of its steps, and called once more, as a mail program does."""
    queue, step = Queue(home.folders.spool), 0
    while True:
        step += 1
        status = run.run(pipe, "--to", ADMIN, data=CRON, step=step)
        left = len(queue.names())
        assert left <= 1, step
        assert in_clear(home) == [], step
        if status == 0:
            assert left == 1
            return step
        assert status == KILLED, step
        assert run.run(pipe, "--to", ADMIN, data=CRON) == 0
        assert 1 <= len(queue.names()) <= 1 + left, step
        for name in queue.names():
            with queue.taken(name) as taken:
                assert taken.product(0).envelope.rcpt_tos == (ADMIN,)
            queue.drop(name)
        assert in_clear(home) == [], step


async def test_fwd_06_the_pipe_is_killed_at_every_step(home: ProxyHome) -> None:
    """FWD-06: a message is whole in the queue or not in it at all, and never in clear on the disk."""
    home.folders.spool.mkdir(mode=0o700, parents=True)
    held = lock(home.folders.spool)  # no runner starts
    assert held is not None
    try:
        with killer(home) as run:
            steps = await asyncio.to_thread(put_until_done, home, run)
    finally:
        os.close(held)
    assert steps > 6


async def test_fwd_06_the_pipe_with_a_plan_is_killed_at_every_step(home: ProxyHome) -> None:
    """FWD-06: the same holds for the quick way."""
    home.folders.spool.mkdir(mode=0o700, parents=True)
    held = lock(home.folders.spool)
    assert held is not None
    try:
        with killer(home) as run:
            while not list(home.folders.state.glob("forward-plan-*")):
                assert await asyncio.to_thread(run.run, PIPE, "--to", ADMIN, data=CRON) == 0
            for name in Queue(home.folders.spool).names():
                Queue(home.folders.spool).drop(name)
            steps = await asyncio.to_thread(put_until_done, home, run, PIPE)
    finally:
        os.close(held)
    # The file, its two pieces, fsync, rename, fsync, the runner's lock, the journal; the full way takes more.
    assert steps == 8 + 1


async def test_fwd_06_the_runner_is_killed_at_every_step(home: ProxyHome, smarthost: Scripted) -> None:
    """FWD-06: of two messages that came together, one is taken, and one refused, whose sender is told."""
    route, spool, step = Route("smarthost", ALICE), home.folders.spool, 0
    outcomes: Counter[int] = Counter()
    status = KILLED
    with killer(home) as run:
        while status != 0:
            step += 1
            put(spool, sealed(2 * step), sealed(2 * step + 1, ("nobody@example.org",)), route=route)
            before = len(smarthost.messages)
            status = await asyncio.to_thread(run.run, DELIVER, step=step)
            assert status in (0, KILLED), step
            if Queue(spool).names():
                assert await asyncio.to_thread(run.run, DELIVER) == 0
            assert Queue(spool).names() == [], step
            got = smarthost.messages[before:]
            ids = Counter(header.value(parse(one), "Message-ID") or b"" for one in got)
            assert 1 <= ids.pop(b"<%d@host.example>" % (2 * step)) <= 2, step
            told = [one for one in got if b"multipart/report" in one]
            assert 1 <= len(told) <= 2, step
            assert all(b"Message-ID: <%d@host.example>" % (2 * step + 1) in one for one in told)
            assert sum(ids.values()) == len(told), step
            outcomes[len(got)] += 1
    assert outcomes[2] > outcomes[3] > outcomes[4] == 0
    assert step > 30
    assert in_clear(home) == []
