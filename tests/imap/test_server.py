"""The listener: how many may come, and how long they may take."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from secmailproxy.imap import front, server
from secmailproxy.imap.server import ImapServer, ImapSettings
from secmailproxy.imap.upstream import LoginRefusedByServer
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import proxy_user
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import Proxy, ProxyFactory
from tests.fixtures.transcript import RawImap, proxied


def set_limit(config_file: Path, limit: int) -> None:
    text = config_file.read_text()
    kept = [line for line in text.splitlines() if not line.startswith("connections_per_client")]
    at = kept.index("[listen]") + 1
    config_file.write_text("\n".join([*kept[:at], f"connections_per_client = {limit}", *kept[at:]]) + "\n")


def welcomed(proxy: Proxy) -> bool:
    with socket.create_connection(("127.0.0.1", proxy.imap_port), timeout=30) as connection:
        return RawImap(connection).response().startswith(b"* OK")


def test_one_connection_too_many_is_told_so_and_logged(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    """Those that are there go on; a place that is left is free again; SIGHUP changes the limit."""
    user = proxy_user(proxies, dovecot.mailbox("crowd"))
    config_file = user.home.folders.config_file
    set_limit(config_file, 2)
    proxy, mailbox = user.proxy, user.mailbox
    with proxied(proxy, mailbox) as first:
        with proxied(proxy, mailbox), contextlib.ExitStack() as third:
            with pytest.raises(AssertionError):
                third.enter_context(proxied(proxy, mailbox))
            lines = [line for line in proxy.log().splitlines() if "imap too many connections" in line]
            assert len(lines) == 1
            assert lines[0].endswith(" client=127.0.0.1 limit=2")
            first.ok(b"NOOP")
        first.ok(b"NOOP")
        set_limit(config_file, 1)
        proxy.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "read again" in proxy.log(), proxy.log)
        with pytest.raises(AssertionError), proxied(proxy, mailbox):
            pass
        first.ok(b"NOOP")
    wait_until(lambda: welcomed(proxy), "the place is free again")


@contextlib.asynccontextmanager
async def listening(**settings: float) -> AsyncIterator[int]:
    """A listener without accounts; its port."""
    listener = ImapServer(ImapSettings("127.0.0.1", 0, "X-0", **settings), None, None, None, None)  # type: ignore[arg-type]  # nobody gets so far
    _, port = await listener.start()
    yield port
    await listener.stop(0)


@pytest.mark.parametrize(
    "said", [b"", b"a NOOP\r\n" * 9, b"a LOGIN {5}\r\n", b"a AUTHENTICATE PLAIN\r\n", b"x" * 1000]
)
async def test_who_does_not_log_in_is_cut_off(said: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "secmailproxy"):
        async with listening(login_seconds=0.05) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            heard = await reader.read()
            writer.close()
    assert heard.endswith(b"\r\n* BYE No login in time.\r\n")
    (record,) = caplog.records
    assert (record.getMessage(), record.client) == ("imap no login in time", "127.0.0.1")  # type: ignore[attr-defined]  # an extra


async def flood(writer: asyncio.StreamWriter) -> None:
    """Ask and do not read, until nothing more is taken: TimeoutError."""
    while True:
        writer.write(b"a CAPABILITY\r\n" * 2000)
        async with asyncio.timeout(1.0):
            await writer.drain()


async def test_who_does_not_read_keeps_no_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Left alone while answers wait for it."""
    monkeypatch.setattr(server, "_LINGER_SECONDS", 0.05)
    monkeypatch.setattr(front, "COMMANDS_BEFORE_LOGIN", 1_000_000)
    before = len(os.listdir("/proc/self/fd"))
    async with listening() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        with pytest.raises(TimeoutError):
            await flood(writer)
    # The listener has stopped. What is left is our own end.
    async with asyncio.timeout(10):
        while len(os.listdir("/proc/self/fd")) > before + 1:
            await asyncio.sleep(0)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("completion", "judged"),
    [
        (b"NO [AUTHENTICATIONFAILED] wrong\r\n", True),
        (b"NO wrong\r\n", True),
        (b"NO [UNAVAILABLE] the password database is away\r\n", False),
        (b"no [inuse] later\r\n", False),
        (b"NO [LIMIT] too many connections\r\n", False),
        (b"NO the mailbox [UNAVAILABLE]\r\n", True),
    ],
)
def test_a_server_in_trouble_judges_no_password(completion: bytes, judged: bool) -> None:
    """Who logs in meanwhile is not locked out, and no guard bans the owner."""
    assert server._is_judged(LoginRefusedByServer(completion)) == judged
