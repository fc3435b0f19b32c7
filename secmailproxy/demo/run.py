"""The whole demonstration, from an empty temporary folder to the last step."""

from __future__ import annotations

import asyncio
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from secmailproxy.demo.certificates import make_tls
from secmailproxy.demo.homes import Home, give_certificate, make_home, running_proxy
from secmailproxy.demo.servers import MailServer
from secmailproxy.demo.steps import STRICT_DOMAIN, Outcome, Stage, tell

PEOPLE = (("alice@example.org", "Alice"), ("bob@example.org", "Bob"))

Opening = Callable[[Stage], None]
Closing = Callable[[Stage, tuple[Outcome, ...], float], None]


@asynccontextmanager
async def stage_in(folder: Path) -> AsyncIterator[Stage]:
    """The mail server, both people with keys exchanged, and their proxies, running."""
    tls = make_tls(folder, datetime.now(UTC))
    alice, bob = (
        Home(address, name, secrets.token_urlsafe(12), folder / name.lower()) for address, name in PEOPLE
    )
    server = MailServer(tls, {one.address: one.password for one in (alice, bob)})
    async with server.running():
        keys = [await asyncio.to_thread(make_home, one, server, STRICT_DOMAIN) for one in (alice, bob)]
        await asyncio.to_thread(give_certificate, alice, keys[0], bob)
        await asyncio.to_thread(give_certificate, bob, keys[1], alice)
        async with running_proxy(alice, keys[0]) as hers, running_proxy(bob, keys[1]) as his:
            yield Stage(server, hers, his)


async def run_demo(
    opening: Opening, report: Callable[[Outcome], None], closing: Closing, *, keep: bool
) -> bool:
    """Tell the story; True when every step held. With `keep`, stay until SIGINT or SIGTERM afterwards."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="secmailproxy-demo-") as folder:
        async with stage_in(Path(folder)) as stage:
            opening(stage)
            outcomes = await tell(stage, report)
            closing(stage, outcomes, time.monotonic() - began)
            if keep:
                await _until_told()
    return all(one.held for one in outcomes)


async def _until_told() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(one, told.set)
    await told.wait()
