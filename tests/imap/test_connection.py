"""Connections that share the room for answers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from dataclasses import dataclass

import pytest

from secmailproxy.imap.budget import Budget
from secmailproxy.imap.commands import Settings
from secmailproxy.imap.connection import _FINISH_SECONDS, Connection
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.session import Session
from secmailproxy.imap.steps import Present, Work
from secmailproxy.imap.upstream import Upstream
from secmailproxy.verdict import VERDICT_LENGTH
from secmailproxy.views import Kind
from tests.fixtures.staged import FIELD, Store

LARGE = 600_000
LIMIT = 1_000_000


class Desk:
    """Does the work when it may."""

    def __init__(self) -> None:
        self.store = Store()
        self.may_open = asyncio.Event()
        self.opening = asyncio.Event()

    async def carry_out(self, work: Work) -> object:
        """In place of the presenter."""
        if isinstance(work, Present):
            self.opening.set()
            await self.may_open.wait()
        return self.store.do(work)


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def pipe() -> tuple[Ends, Ends]:
    """Both ends of a connection."""
    return tuple([await asyncio.open_connection(sock=one) for one in socket.socketpair()])  # type: ignore[return-value]  # two


@dataclass
class Line:
    """A client, the proxy's connection, and a server, in one process."""

    desk: Desk
    client: Ends
    server: Ends
    running: asyncio.Task[None]

    async def ask(self) -> None:
        """The client wants message 1, and the server hears the question for it."""
        self.client[1].write(b"a UID FETCH 1 (BODY.PEEK[])\r\n")
        line = await self.server[0].readline()
        self.tag = line.split()[0]
        assert re.search(rb"UID FETCH 1 \(UID BODY\.PEEK\[\]<0\.\d+>\)", line)

    def announce(self, size: int = LARGE) -> None:
        """The server begins its answer."""
        self.server[1].write(b"* 1 FETCH (UID 1 BODY[]<0> {%d}\r\n" % size)

    def give(self, size: int = LARGE) -> None:
        """The server ends its answer."""
        self.server[1].write(b"x" * size + b")\r\n" + self.tag + b" OK\r\n")

    async def answer(self) -> bytes:
        """What the client hears in the end; the server is asked once more, for flags."""
        tag = (await self.server[0].readline()).split()[0]
        self.server[1].write(b"* 1 FETCH (UID 1)\r\n" + tag + b" OK done\r\n")
        return await self.client[0].readuntil(b"\r\na OK done\r\n")


@pytest.fixture
async def lines() -> object:
    """`await lines(budget)` makes one."""
    made: list[Line] = []
    writers: list[asyncio.StreamWriter] = []

    async def make(budget: Budget, **settings: float) -> Line:
        desk = Desk()
        desk.store.mailbox.covered = b"1"
        desk.store.mailbox.kinds[1] = Kind.SEALED
        session = Session(Settings(FIELD, VERDICT_LENGTH, tag_prefix=b"ours"))
        session.selection.selected = Selected(desk.store.mailbox, 1, 2)
        client, (reader, writer) = await pipe()
        server, ours = await pipe()
        upstream = Upstream(*ours, b"IMAP4rev1", b"OK\r\n")
        connection = Connection(reader, writer, upstream, session, desk, budget, **settings)  # type: ignore[arg-type]  # in place of the presenter
        line = Line(desk, client, server, asyncio.create_task(connection.run(b"a0 NOOP\r\n")))
        assert (await server[0].readline()).endswith(b" NOOP\r\n")
        server[1].write(b"a0 OK\r\n")
        assert await client[0].readline() == b"a0 OK\r\n"
        made.append(line)
        writers.extend((client[1], server[1], writer, ours[1]))
        return line

    yield make
    for line in made:
        line.running.cancel()
        await asyncio.gather(line.running, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def settle() -> None:
    """Let everybody do what can be done now."""
    for _ in range(50):
        await asyncio.sleep(0)


async def two_of_which_one_fills(budget: Budget, lines) -> tuple[Line, Line]:  # type: ignore[no-untyped-def]  # a factory
    """Two that have asked; the answer to the first is at hand and being opened."""
    one, two = await lines(budget), await lines(budget)
    for line in (one, two):
        await line.ask()
    one.announce()
    one.give()
    await one.desk.opening.wait()
    return one, two


async def test_an_answer_waits_until_there_is_room_for_it(lines) -> None:  # type: ignore[no-untyped-def]  # a factory
    """What is announced counts before it comes; what has been opened counts no more."""
    budget = Budget(LIMIT)
    one, two = await two_of_which_one_fills(budget, lines)
    two.announce()
    await settle()
    two.give()
    two.desk.may_open.set()
    await settle()
    assert LARGE <= budget.held <= LIMIT
    assert not two.desk.opening.is_set()
    one.desk.may_open.set()
    assert b"Subject: opened 1" in await one.answer()
    assert b"Subject: opened 1" in await two.answer()
    await settle()
    assert budget.held == 0


async def test_who_waits_for_too_long_fails_and_goes_on(lines) -> None:  # type: ignore[no-untyped-def]  # a factory
    """One command of one connection; the answer is read to its end, and not kept."""
    budget = Budget(LIMIT, patience=0.05)
    one, two = await two_of_which_one_fills(budget, lines)
    two.announce()
    await settle()
    two.give()
    assert (await two.client[0].readline()).startswith(b"a NO [LIMIT] Too much mail")
    two.client[1].write(b"b NOOP\r\n")
    assert await two.server[0].readline() == b"b NOOP\r\n"
    assert budget.held <= LIMIT
    one.desk.may_open.set()
    assert b"Subject: opened 1" in await one.answer()


async def test_what_is_announced_beyond_all_bounds_is_never_held(lines) -> None:  # type: ignore[no-untyped-def]  # a factory
    budget = Budget(LIMIT)
    one = await lines(budget)
    await one.ask()
    one.announce(200 * 1024 * 1024)
    await settle()
    assert budget.held == 0


async def test_a_connection_that_ends_gives_back(lines) -> None:  # type: ignore[no-untyped-def]  # a factory
    budget = Budget(LIMIT)
    one, two = await two_of_which_one_fills(budget, lines)
    two.announce()
    two.give()
    two.desk.may_open.set()
    one.running.cancel()
    assert b"Subject: opened 1" in await two.answer()


async def test_who_leaves_is_waited_for_until_its_command_is_done(lines) -> None:  # type: ignore[no-untyped-def]  # a factory
    """And no longer, for it has a place that another may want."""
    line = await lines(Budget(LIMIT))
    await line.ask()
    line.client[1].write_eof()
    line.announce()
    line.give()
    line.desk.may_open.set()
    assert b"Subject: opened 1" in await line.answer()
    async with asyncio.timeout(_FINISH_SECONDS / 3):
        await line.running


async def test_a_client_that_waits_is_told_so(lines) -> None:  # type: ignore[no-untyped-def]  # a factory
    """RFC 9585, at each interval, from the question on until the answer; never inside of a response."""
    line = await lines(Budget(LIMIT), interject_seconds=0.001)
    told = b'* OK [INPROGRESS ("a" NIL NIL)] Still working.\r\n'
    await line.ask()
    assert await line.client[0].readline() == told
    line.announce()
    assert await line.client[0].readline() == told
    line.give()
    await line.desk.opening.wait()
    assert await line.client[0].readline() == told
    line.desk.may_open.set()
    heard = await line.answer()
    assert re.fullmatch(b"(?:" + re.escape(told) + rb")*\* 1 FETCH \(.*\)\r\na OK done\r\n", heard, re.DOTALL)
