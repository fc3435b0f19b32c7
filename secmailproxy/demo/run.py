"""The whole demonstration, from an empty temporary folder to the last step."""

from __future__ import annotations

import asyncio
import secrets
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from secmailproxy.demo.certificates import make_tls
from secmailproxy.demo.homes import Person, give_certificate, make_home, running_proxy
from secmailproxy.demo.servers import MailServer
from secmailproxy.demo.steps import STRICT_DOMAIN, Outcome, Stage, tell

PEOPLE = (("alice@example.org", "Alice"), ("bob@example.org", "Bob"))

Opening = Callable[[Stage], None]
Closing = Callable[[Stage, tuple[Outcome, ...], float], None]


@asynccontextmanager
async def stage_in(folder: Path) -> AsyncIterator[Stage]:
    """The mail server, both people with keys exchanged, and their proxies, running."""
    tls = make_tls(folder, datetime.now(UTC))
    people = [
        Person(address, name, secrets.token_urlsafe(12), folder / name.lower()) for address, name in PEOPLE
    ]
    server = MailServer(tls, {one.address: one.password for one in people})
    async with server.running(), AsyncExitStack() as stack:
        homes = [await asyncio.to_thread(make_home, one, server, STRICT_DOMAIN) for one in people]
        for home in homes:
            stack.callback(home.close)
        for giver, taker in (homes, homes[::-1]):
            await asyncio.to_thread(give_certificate, giver, taker)
        alice, bob = [await stack.enter_async_context(running_proxy(home)) for home in homes]
        yield Stage(server, alice, bob)


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
