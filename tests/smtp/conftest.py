"""Fixtures that start the other sides of the SMTP tests in the loop of the test."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest

from secmailproxy.smtp.server import SubmissionServer, SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost, SmarthostSettings
from secmailproxy.smtp.submission import Accepted, Report, log_only, nothing_to_add
from tests.fixtures.certificates import TestCA
from tests.smtp.peers import SCRIPT, Answer, Client, Door, PassThrough, Proxy, Scripted, Sink, SinkSession


@pytest.fixture
async def sink(ca: TestCA) -> AsyncIterator[Sink]:
    """A sink with implicit TLS."""
    sink = Sink()
    listener = await asyncio.get_running_loop().create_server(
        lambda: SinkSession(sink, None), "127.0.0.1", 0, ssl=ca.server_context()
    )
    sink.port = listener.sockets[0].getsockname()[1]
    yield sink
    listener.close()


@pytest.fixture
async def starttls_sink(ca: TestCA) -> AsyncIterator[Sink]:
    """A sink that demands STARTTLS."""
    sink = Sink()
    context = ca.server_context()
    listener = await asyncio.get_running_loop().create_server(
        lambda: SinkSession(sink, context), "127.0.0.1", 0
    )
    sink.port = listener.sockets[0].getsockname()[1]
    yield sink
    listener.close()


@pytest.fixture
async def scripted(ca: TestCA) -> AsyncIterator[Callable[..., Awaitable[Scripted]]]:
    """Start scripted smarthosts; `scripted(script, tls=context|None)`, implicit TLS by default."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            script: Mapping[str, Answer] = SCRIPT, *, tls: ssl.SSLContext | str | None = "ours"
        ) -> Scripted:
            context = ca.server_context() if tls == "ours" else tls
            return await stack.enter_async_context(Scripted(script, tls=context).running())

        yield start


@pytest.fixture
async def smarthost(ca: TestCA) -> AsyncIterator[Callable[..., Smarthost]]:
    """Make smarthosts for a port; they are closed at the end."""
    made: list[Smarthost] = []

    def make(port: int, **settings: object) -> Smarthost:
        values = {"host": "localhost", "port": port, "ca_file": ca.ca_file, "timeout": 5.0, **settings}
        made.append(Smarthost(SmarthostSettings(**values)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


@pytest.fixture
async def proxy(
    smarthost: Callable[..., Smarthost],
) -> AsyncIterator[Callable[..., Awaitable[Proxy]]]:
    """Start listeners: `proxy(port_of_smarthost, outbound, report=…, upstream={…}, **settings)`."""
    started: list[SubmissionServer] = []

    async def start(
        port: int,
        outbound: object = None,
        *,
        report: Report = log_only,
        accepted: Accepted = nothing_to_add,
        upstream: Mapping[str, object] | None = None,
        **settings: object,
    ) -> Proxy:
        host = smarthost(port, **(upstream or {}))
        server = SubmissionServer(
            SubmissionSettings(**{"port": 0, "login_delay": 0.0, **settings}),
            Door(host),
            outbound or PassThrough(),
            smarthosts=lambda: (host,),
            report=report,
            accepted=accepted,
        )
        _, bound = await server.start()
        started.append(server)
        return Proxy(server, bound, host)

    yield start
    for server in started:
        await server.stop(grace=0)


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., Awaitable[Client]]]:
    """Connect raw clients: `client(port)`, logged in unless `login=False`; `tls` from the first octet."""
    writers: list[asyncio.StreamWriter] = []

    async def connect(port: int, *, login: bool = True, tls: ssl.SSLContext | None = None) -> Client:
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
        writers.append(writer)
        made = Client(reader, writer)
        if login:
            await made.login()
        return made

    yield connect
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
