"""A certificate that is found while a message is submitted protects this very message, in the real proxy."""

from __future__ import annotations

import asyncio
import re
import signal
from datetime import timedelta
from pathlib import Path

from keystore import openpgp
from tests.e2e.test_local_troubles import client, send
from tests.fixtures.alone import REQUIRED, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.keystores import NOW
from tests.fixtures.people import leaked
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import Proxy, serving
from tests.smtp.peers import PIPELINING, Scripted

BOB = "bob@example.org"


async def test_what_a_folder_holds_encrypts(ca: TestCA, tmp_path: Path) -> None:
    """With a rule that demands it, RCPT waits for the search."""
    key = openpgp.generate(BOB, now=NOW - timedelta(days=1))
    (tmp_path / "bob.asc").write_bytes(key.certificate_octets)
    config = f'{REQUIRED}\n[discovery]\nfolder = "{tmp_path}"\n'
    async with Scripted({"EHLO": PIPELINING}, tls=ca.server_context()).running() as smarthost:
        with alone(ca, smarthost.port, config=config) as home, serving(home) as proxy:
            async with client(proxy) as user:
                assert await send(user, "found", BOB.encode()) == b"250 2.0.0 queued\r\n"
    (message,) = smarthost.messages
    assert b"multipart/encrypted" in message
    assert not leaked(message)


def reconfigure(proxy: Proxy, discovery: str) -> None:
    """SIGHUP with another [discovery], until it counts."""
    file = proxy.home.folders.config_file
    file.write_text(re.sub(r"\[discovery\]\n[^\[]*", f"[discovery]\n{discovery}\n", file.read_text()))
    before = proxy.log().count("was read again")
    proxy.process.send_signal(signal.SIGHUP)
    wait_until(lambda: proxy.log().count("was read again") > before, proxy.log)


async def test_sources_change_while_it_runs(ca: TestCA, tmp_path: Path) -> None:
    """SIGHUP: off, a folder, then the web behind a proxy, which is asked, and nobody beside it."""
    asked = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    key = openpgp.generate(BOB, now=NOW - timedelta(days=1))
    (tmp_path / "bob.asc").write_bytes(key.certificate_octets)
    listener = await asyncio.start_server(refuse, "127.0.0.1")
    port = listener.sockets[0].getsockname()[1]
    config = f"{REQUIRED}\n[discovery]\nwkd = false\n"
    async with listener, Scripted({"EHLO": PIPELINING}, tls=ca.server_context()).running() as smarthost:
        with alone(ca, smarthost.port, config=config) as home, serving(home) as proxy:
            async with client(proxy) as user:
                await user.ask(b"MAIL FROM:<alice@example.org>")
                assert (await user.ask(f"RCPT TO:<{BOB}>".encode())).startswith(b"550 ")
                await asyncio.to_thread(reconfigure, proxy, f'folder = "{tmp_path}"')
                assert (await user.ask(f"RCPT TO:<{BOB}>".encode())).startswith(b"250 ")
                allowed = 'wkd = true\nallow_domains = ["example.org"]'
                await asyncio.to_thread(reconfigure, proxy, f'{allowed}\nproxy = "http://127.0.0.1:{port}"')
                assert (await user.ask(b"RCPT TO:<carol@example.org>")).startswith(b"550 ")
                await user.ask(b"QUIT")
    assert asked == [b"openpgpkey.example.org:443", b"example.org:443"]
