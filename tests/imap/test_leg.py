"""From streams to callbacks, with nothing lost in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from secmailproxy.imap.leg import Leg


class Side:
    """A leg over one end of a socket pair, and what it has told; the test holds the other end."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.left = asyncio.Event()
        self.full = asyncio.Event()
        self.leg = Leg(self.heard.extend, self.left.set, self._steer)

    async def start(self) -> None:
        """Streams, as at the login."""
        self.far, near = socket.socketpair()
        self.reader, self.writer = await asyncio.open_connection(sock=near)

    def _steer(self) -> None:
        if not self.leg.takes:
            self.full.set()

    async def end(self) -> None:
        """The far end says and hears no more."""
        self.far.close()
        self.leg.read(True)
        async with asyncio.timeout(30):
            await self.left.wait()
        self.writer.transport.abort()


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    """One that is connected."""
    one = Side()
    await one.start()
    yield one
    await one.end()


async def heard_by_the_stream(side: Side, octets: bytes) -> None:
    """What waits in the reader when the leg takes over: all but the first octet."""
    side.far.sendall(b"x" + octets)
    assert await side.reader.readexactly(1) == b"x"


async def test_what_was_received_and_not_read_is_handed_on_first(side: Side) -> None:
    await heard_by_the_stream(side, b"one")
    assert await side.leg.take_over(side.reader, side.writer) == b"one"
    side.far.sendall(b"two")
    assert side.heard == b""
    side.leg.read(True)
    side.far.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(30):
        await side.left.wait()
    assert side.heard == b"two"


async def test_an_end_that_the_streams_have_seen_is_heard_of(side: Side) -> None:
    """As of a client whose whole session comes from a pipe; it can still be answered."""
    side.far.sendall(b"last")
    side.far.shutdown(socket.SHUT_WR)
    assert await side.reader.readexactly(1) == b"l"
    while not side.reader.at_eof():
        assert await side.reader.read(1) in (b"a", b"s", b"t", b"")
    assert await side.leg.take_over(side.reader, side.writer) == b""
    assert not side.left.is_set()
    side.leg.read(True)
    async with asyncio.timeout(30):
        await side.left.wait()
    side.leg.write(b"answer")
    assert await asyncio.get_running_loop().run_in_executor(None, side.far.recv, 64) == b"answer"


async def test_a_connection_that_is_closed_already_has_left(side: Side) -> None:
    side.writer.close()
    assert await side.leg.take_over(side.reader, side.writer) == b""
    side.leg.read(True)
    assert side.left.is_set()
    side.leg.write(b"to nobody")


async def test_one_that_is_full_says_so_and_waits(side: Side) -> None:
    await side.leg.take_over(side.reader, side.writer)
    octets = b"o" * 8_000_000
    side.leg.write(octets)
    assert side.full.is_set()
    waiting = asyncio.create_task(side.leg.drained())
    side.far.setblocking(False)
    got = 0
    async with asyncio.timeout(30):
        while got < len(octets):
            got += len(await asyncio.get_running_loop().sock_recv(side.far, 1 << 20))
        await waiting
    assert side.leg.takes


async def test_who_waits_for_one_that_is_lost_waits_no_longer(side: Side) -> None:
    await side.leg.take_over(side.reader, side.writer)
    side.leg.write(b"o" * 8_000_000)
    assert not side.leg.takes
    side.far.close()
    async with asyncio.timeout(30):
        await side.leg.drained()
        await side.left.wait()
