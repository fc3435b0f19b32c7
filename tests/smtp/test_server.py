"""Listening on loopback, stopping with and without grace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest

from secmailproxy.admission import Admission, Limits
from secmailproxy.errors import (
    ConfigError,
)
from secmailproxy.smtp.server import SubmissionServer, SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost
from tests.smtp.peers import (
    DOT,
    MESSAGE,
    Client,
    Door,
    PassThrough,
    Peer,
    Proxy,
    Scripted,
    Sink,
    stall,
    submit,
    until,
)

Scripts = Callable[..., Awaitable[Scripted]]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]

# Listening and stopping.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
async def test_only_loopback(host: str, sink: Sink, smarthost: Callable[..., Smarthost]) -> None:
    """Refused at the start, with the remedy."""
    server = SubmissionServer(
        SubmissionSettings(host=host, port=0), Door(smarthost(sink.port)), PassThrough()
    )
    with pytest.raises(ConfigError, match=r"loopback only, such as 127\.0\.0\.1"):
        await server.start()


async def test_an_address_in_use(sink: Sink, proxy: Proxies, smarthost: Callable[..., Smarthost]) -> None:
    """OSError, for the caller to explain."""
    taken = await proxy(sink.port)
    server = SubmissionServer(SubmissionSettings(port=taken.port), Door(smarthost(sink.port)), PassThrough())
    with pytest.raises(OSError, match="in use"):
        await server.start()


async def test_too_many_sessions(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """Those that are there are not disturbed."""
    front = await proxy(sink.port, max_sessions=1)
    first = await client(front.port)
    second = await client(front.port, login=False)
    assert (await second.reply()).startswith(b"421 4.7.0 ")
    assert await second.reply() == b""
    assert (await first.ask(b"NOOP")).startswith(b"250 ")


async def test_one_address_has_its_share(
    sink: Sink, proxy: Proxies, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """421 beyond it, and one line in the log; a place that is left is free again."""
    front = await proxy(sink.port, admission=Admission("submission", Limits(connections=1)))
    first = await client(front.port)
    second = await client(front.port, login=False)
    assert (await second.reply()).startswith(b"421 4.7.0 ")
    records = [one for one in caplog.records if one.getMessage() == "submission too many connections"]
    assert [one.client for one in records] == ["127.0.0.1"]  # type: ignore[attr-defined]  # an extra
    assert (await first.ask(b"QUIT")).startswith(b"221 ")
    assert await first.reply() == b""
    await client(front.port)


@pytest.mark.parametrize("said", [b"", b"NOOP\r\n", b"EHLO x\r\nAUTH PLAIN\r\n", b"x" * 100])
async def test_who_does_not_log_in_is_cut_off(
    said: bytes, sink: Sink, proxy: Proxies, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """However busy; who is logged in may take its time."""
    front = await proxy(sink.port, login_timeout=0.3)
    user = await client(front.port)
    guest = await client(front.port, login=False)
    await guest.send(said)
    replies = [await guest.reply()]
    while replies[-1]:
        replies.append(await guest.reply())
    assert replies[-2] == b"421 4.7.0 no login in time\r\n"
    records = [one for one in caplog.records if one.getMessage() == "submission no login in time"]
    assert len(records) == 1
    assert (await user.ask(b"NOOP")).startswith(b"250 ")


async def test_stop_lets_what_has_begun_finish(scripted: Scripts, proxy: Proxies, client: Clients) -> None:
    """Idle clients get 421 at once; a message that is being relayed gets its reply, and then 421."""
    release = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await release.wait()
        await peer.say(b"250 2.0.0 queued\r\n")

    peer = await scripted({".": slow})
    front = await proxy(peer.port)
    idle, relaying, writing = await client(front.port), await client(front.port), await client(front.port)
    await relaying.begin()
    await writing.begin()
    assert (await relaying.ask(b"DATA")).startswith(b"354 ")
    assert (await writing.ask(b"DATA")).startswith(b"354 ")
    await relaying.send(MESSAGE + DOT)
    await until(lambda: peer.messages)
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(front.server.stop(grace=30))
        assert (await idle.reply()).startswith(b"421 4.3.2 ")
        assert await idle.reply() == b""
        with pytest.raises(ConnectionRefusedError):
            await client(front.port)
        await writing.send(MESSAGE + DOT)
        release.set()
        for user in (relaying, writing):
            assert await user.reply() == b"250 2.0.0 queued\r\n"
            assert (await user.reply()).startswith(b"421 4.3.2 ")
        await stopping
    assert len(peer.messages) == 2


async def test_stop_without_grace_cuts_the_transaction_without_the_dot(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """No 250 for a message that is not upstream."""
    peer = await scripted({"DATA": stall})
    front = await proxy(peer.port)
    user = await client(front.port)
    await user.begin()
    assert (await user.ask(b"DATA")).startswith(b"354 ")
    await user.send(MESSAGE + DOT)
    await until(lambda: "DATA" in peer.verbs())
    await front.server.stop(grace=0)
    assert await user.reply() == b""
    assert peer.messages == []


async def test_sessions_do_not_wait_for_each_other(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """One smarthost connection each; a stalled one holds up nobody else."""
    stalled: list[Peer] = []

    async def first_stalls(peer: Peer) -> None:
        if not stalled:
            stalled.append(peer)
            await stall(peer)
        await peer.say(b"250 2.0.0 queued\r\n")

    peer = await scripted({".": first_stalls})
    front = await proxy(peer.port)
    slow, quick = await client(front.port), await client(front.port)
    await slow.begin()
    assert (await slow.ask(b"DATA")).startswith(b"354 ")
    await slow.send(MESSAGE + DOT)
    await until(lambda: stalled)
    await quick.begin()
    assert await submit(quick) == b"250 2.0.0 queued\r\n"


def test_loopback_is_the_default() -> None:
    """Nobody has to know."""
    assert socket.inet_aton(SubmissionSettings().host) == b"\x7f\0\0\1"
