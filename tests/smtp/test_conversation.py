"""TLS with the client, clients that leave or do not read, and replies that say nothing of what went wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace

import pytest

from secmailproxy.accounts import Mechanism, SubmissionAccount
from secmailproxy.logs import KeyValueFormatter
from secmailproxy.model import Envelope
from secmailproxy.smtp import conversation
from secmailproxy.smtp.server import SubmissionServer, SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost
from tests.fixtures.certificates import TestCA
from tests.smtp.peers import (
    DOT,
    MESSAGE,
    PASSWORD,
    USERNAME,
    Client,
    Door,
    PassThrough,
    Peer,
    PlainCopy,
    Proxy,
    Scripted,
    Sink,
    submit,
    until,
)

Scripts = Callable[..., Awaitable[Scripted]]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]
TOKEN = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode())


@pytest.fixture(scope="module")
def server_tls(ca: TestCA) -> dict[str, object]:
    """Settings of a listener with a certificate."""
    context = ca.server_context()
    return {"tls": lambda: context}


@pytest.fixture(scope="module")
def trusting(ca: TestCA) -> ssl.SSLContext:
    """What a client with the certificate trusts."""
    return ca.client_context()


Settings = dict[str, object]


async def secured(client: Clients, port: int, trusting: ssl.SSLContext, way: str) -> Client:
    """A client that has TLS, before its EHLO."""
    if way == "implicit":
        user = await client(port, login=False, tls=trusting)
        assert (await user.reply()).startswith(b"220 ")
        return user
    user = await client(port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    assert b"STARTTLS" in await user.ask(b"EHLO client.example")
    await user.start_tls(trusting)
    return user


async def logged_in(client: Clients, port: int, trusting: ssl.SSLContext, way: str) -> Client:
    """The same with a login."""
    user = await secured(client, port, trusting, way)
    assert (await user.ask(b"EHLO client.example")).startswith(b"250")
    assert (await user.ask(b"AUTH PLAIN " + TOKEN)).startswith(b"235 ")
    return user


def settings_for(way: str, server_tls: Settings) -> Settings:
    return {**server_tls, "implicit_tls": way == "implicit"}


WAYS = pytest.mark.parametrize("way", ["starttls", "implicit"])

# TLS.


@WAYS
async def test_a_message_over_tls(
    way: str,
    server_tls: Settings,
    trusting: ssl.SSLContext,
    scripted: Scripts,
    proxy: Proxies,
    client: Clients,
) -> None:
    """RFC 3207, RFC 8314: everything as in clear, and a large message octet for octet."""
    peer = await scripted()
    front = await proxy(peer.port, **settings_for(way, server_tls))
    user = await secured(client, front.port, trusting, way)
    ehlo = await user.ask(b"EHLO client.example")
    assert b"STARTTLS" not in ehlo
    assert b"AUTH LOGIN PLAIN" in ehlo
    assert (await user.ask(b"STARTTLS")).startswith(b"503 5.5.1 ")
    assert (await user.ask(b"AUTH PLAIN " + TOKEN)).startswith(b"235 ")
    message = b"Subject: x\r\n\r\n" + b"0123456789" * 50 + b"\r\n" + (b"y" * 76 + b"\r\n") * 20_000
    await user.begin()
    assert (await submit(user, message)).startswith(b"250 ")
    assert peer.messages == [message + DOT]
    assert (await user.ask(b"QUIT")).startswith(b"221 ")
    assert await user.reply() == b""


async def test_what_came_before_the_handshake_is_forgotten(
    server_tls: Settings,
    trusting: ssl.SSLContext,
    sink: Sink,
    proxy: Proxies,
    client: Clients,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """RFC 3207 section 6: commands put in front of the client's in clear are never carried out."""
    front = await proxy(sink.port, **server_tls)
    user = await client(front.port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    await user.ask(b"EHLO client.example")
    injected = b"EHLO evil.example\r\nAUTH PLAIN " + TOKEN + b"\r\nMAIL FROM:<evil@example.org>\r\nNOO"
    await user.send(b"STARTTLS\r\n" + injected)
    assert (await user.reply()).startswith(b"220 ")
    await user.writer.start_tls(trusting, server_hostname="localhost")
    assert (await user.ask(b"AUTH PLAIN " + TOKEN)).startswith(b"503 5.5.1 ")  # no EHLO, and no "NOO" before
    assert sink.logins == 0
    assert (await user.ask(b"EHLO client.example")).startswith(b"250")
    assert (await user.ask(b"MAIL FROM:<a@example.org>")).startswith(b"530 5.7.0 ")
    refused = [vars(one) for one in caplog.records if "protocol abuse" in one.getMessage()]
    assert [(one["client"], one["why"]) for one in refused] == [
        ("127.0.0.1", "commands before the TLS handshake")
    ]


async def test_octets_in_clear_after_the_reply_end_the_connection(
    server_tls: Settings, sink: Sink, proxy: Proxies, client: Clients
) -> None:
    """They are no handshake."""
    front = await proxy(sink.port, **server_tls)
    user = await client(front.port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    await user.ask(b"EHLO client.example")
    assert (await user.ask(b"STARTTLS")).startswith(b"220 ")
    await user.send(b"EHLO evil.example\r\n" * 10)
    with contextlib.suppress(ConnectionResetError):
        assert b"250" not in await user.reader.read()
    await until(lambda: not front.server._sessions)


async def test_a_login_in_clear_does_not_outlive_starttls(
    server_tls: Settings, trusting: ssl.SSLContext, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """RFC 3207 section 4.2: neither EHLO nor AUTH nor a transaction is kept."""
    peer = await scripted()
    user = await client((await proxy(peer.port, **server_tls)).port)
    await user.begin()
    await user.start_tls(trusting)
    assert (await user.ask(b"RCPT TO:<bob@example.org>")).startswith(b"503 ")
    assert (await user.ask(b"EHLO client.example")).startswith(b"250")
    assert (await user.ask(b"MAIL FROM:<alice@example.org>")).startswith(b"530 5.7.0 ")
    assert (await user.ask(b"AUTH PLAIN " + TOKEN)).startswith(b"235 ")
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")
    assert peer.messages == [MESSAGE + DOT]


@pytest.mark.parametrize(("line", "reply"), [(b"STARTTLS now", b"501 5.5.4 "), (b"starttls", b"220 2.0.0 ")])
async def test_starttls_has_no_argument(
    line: bytes, reply: bytes, server_tls: Settings, sink: Sink, proxy: Proxies, client: Clients
) -> None:
    user = await client((await proxy(sink.port, **server_tls)).port, login=False)
    await user.reply()
    assert (await user.ask(line)).startswith(reply)


@WAYS
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x00", b"EHLO client.example\r\n"])
async def test_a_handshake_that_comes_to_nothing(
    way: str, said: bytes, server_tls: Settings, sink: Sink, proxy: Proxies, client: Clients
) -> None:
    """Such as a client in clear at the port for TLS: over in the time for a login, with nothing said."""
    front = await proxy(sink.port, login_timeout=0.2, **settings_for(way, server_tls))
    user = await client(front.port, login=False)
    if way == "starttls":
        assert (await user.reply()).startswith(b"220 ")
        assert (await user.ask(b"STARTTLS")).startswith(b"220 ")
    await user.send(said)
    with contextlib.suppress(ConnectionResetError):
        assert not (await user.reader.read()).startswith(b"2")
    await until(lambda: not front.server._sessions)


async def test_a_client_that_is_gone_before_the_handshake_leaves_nothing(
    server_tls: Settings, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """It resets the connection while STARTTLS waits for a login: no handshake would ever come to an end."""
    gone = asyncio.Event()

    async def auth(peer: Peer) -> None:
        await gone.wait()
        await peer.say(b"235 2.7.0 welcome\r\n")

    front = await proxy((await scripted({"AUTH": auth})).port, login_timeout=1, **server_tls)
    user = await client(front.port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    await user.ask(b"EHLO client.example")
    (session,) = front.server._sessions.values()
    await user.send(b"AUTH PLAIN " + TOKEN + b"\r\nSTARTTLS\r\n")
    await until(lambda: session._wire.holds_line)
    end = user.writer.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    user.writer.transport.abort()
    await until(lambda: session.transport is None)
    gone.set()
    await until(lambda: not front.server._sessions)


@WAYS
async def test_stop_does_not_wait_for_a_handshake(
    way: str, server_tls: Settings, sink: Sink, proxy: Proxies, client: Clients
) -> None:
    front = await proxy(sink.port, **settings_for(way, server_tls))
    user = await client(front.port, login=False)
    if way == "starttls":
        assert (await user.reply()).startswith(b"220 ")
        assert (await user.ask(b"STARTTLS")).startswith(b"220 ")
    await until(lambda: any(one._shaking_hands for one in front.server._sessions.values()))
    async with asyncio.timeout(5):
        await front.server.stop(grace=60)
    with contextlib.suppress(ConnectionResetError):
        assert await user.reader.read() == b""


@WAYS
async def test_stop_tells_those_over_tls(
    way: str,
    server_tls: Settings,
    trusting: ssl.SSLContext,
    sink: Sink,
    proxy: Proxies,
    client: Clients,
) -> None:
    front = await proxy(sink.port, **settings_for(way, server_tls))
    user = await logged_in(client, front.port, trusting, way)
    async with asyncio.TaskGroup() as group:
        group.create_task(front.server.stop(grace=30))
        assert (await user.reply()).startswith(b"421 4.3.2 ")
        assert await user.reply() == b""


async def test_who_is_not_admitted_is_not_shaken_hands_with(
    server_tls: Settings, trusting: ssl.SSLContext, sink: Sink, proxy: Proxies, client: Clients
) -> None:
    """A handshake costs more than a place does."""
    front = await proxy(sink.port, max_sessions=1, **settings_for("implicit", server_tls))
    first = await logged_in(client, front.port, trusting, "implicit")
    with pytest.raises(ConnectionError):
        await client(front.port, login=False, tls=trusting)
    assert (await first.ask(b"NOOP")).startswith(b"250 ")


# Clients that leave, clients that are slow, and those that do not read: over TLS as in clear.


@WAYS
@pytest.mark.parametrize("leaving", ["close", "abort"])
async def test_a_client_that_leaves_after_the_dot_does_not_stop_the_relay(
    leaving: str,
    way: str,
    server_tls: Settings,
    trusting: ssl.SSLContext,
    scripted: Scripts,
    proxy: Proxies,
    client: Clients,
) -> None:
    """SMTP-03: the dot and the end of TLS come in one segment, and the message is relayed all the same."""
    accepted: list[Peer] = []
    release = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await release.wait()
        await peer.say(b"250 2.0.0 queued\r\n")
        accepted.append(peer)

    peer = await scripted({".": slow})
    front = await proxy(peer.port, **settings_for(way, server_tls))
    user = await logged_in(client, front.port, trusting, way)
    await user.begin()
    assert (await user.ask(b"DATA")).startswith(b"354 ")
    user.writer.write(MESSAGE + DOT)
    if leaving == "close":
        user.writer.close()
    else:
        await until(lambda: peer.messages)
        user.writer.transport.abort()
    await until(lambda: peer.messages)
    release.set()
    await until(lambda: accepted)
    await until(lambda: not front.server._sessions)
    assert peer.messages == [MESSAGE + DOT]


@WAYS
async def test_a_slow_smarthost_never_costs_the_client_its_reply(
    way: str,
    server_tls: Settings,
    trusting: ssl.SSLContext,
    scripted: Scripts,
    proxy: Proxies,
    client: Clients,
) -> None:
    """SMTP-04: slower than the idle limit, over TLS."""
    idle = 0.8  # in which the handshake must be done, too

    async def slow(peer: Peer) -> None:
        await asyncio.sleep(1.5 * idle)
        await peer.say(b"250 2.0.0 slow\r\n")

    peer = await scripted({".": slow})
    front = await proxy(peer.port, idle_timeout=idle, **settings_for(way, server_tls))
    user = await logged_in(client, front.port, trusting, way)
    await user.begin()
    assert await submit(user) == b"250 2.0.0 slow\r\n"


async def test_an_idle_client_over_tls_is_told(
    server_tls: Settings, trusting: ssl.SSLContext, sink: Sink, proxy: Proxies, client: Clients
) -> None:
    front = await proxy(sink.port, idle_timeout=1.0, **settings_for("implicit", server_tls))
    user = await logged_in(client, front.port, trusting, "implicit")
    assert await user.reply() == b"421 4.4.2 idle for too long\r\n"
    assert await user.reply() == b""


@pytest.mark.parametrize("over", ["clear", "tls"])
@pytest.mark.parametrize("limit", ["idle_timeout", "login_timeout"])
async def test_who_does_not_read_keeps_nothing(
    limit: str,
    over: str,
    server_tls: Settings,
    trusting: ssl.SSLContext,
    sink: Sink,
    proxy: Proxies,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither its session nor its descriptor, a moment after the idle limit or the time for a login."""
    monkeypatch.setattr(conversation, "_LINGER_SECONDS", 0.05)
    values = {"idle_timeout": 60, "login_timeout": 60, **server_tls, limit: 1.0 if over == "tls" else 0.3}
    front = await proxy(sink.port, implicit_tls=over == "tls", **values)
    plain = socket.create_connection(("127.0.0.1", front.port))
    await until(lambda: front.server._sessions)
    (session,) = front.server._sessions.values()
    descriptor = session._writer.transport.get_extra_info("socket")
    for one, buffer in ((plain, socket.SO_RCVBUF), (descriptor, socket.SO_SNDBUF)):
        one.setsockopt(socket.SOL_SOCKET, buffer, 4096)  # full after a few replies
    loop = asyncio.get_running_loop()

    def flood() -> None:
        """Ask for more than the buffers hold, and read nothing."""
        stream = trusting.wrap_socket(plain, server_hostname="localhost") if over == "tls" else plain
        with stream, contextlib.suppress(OSError):  # what is flooded ends the connection
            while True:
                stream.sendall(b"EHLO client.example\r\n" * 1000)

    flooding = loop.run_in_executor(None, flood)
    await until(lambda: not front.server._sessions)
    await until(lambda: descriptor.fileno() == -1)
    await flooding


async def test_the_last_reply_is_read_by_who_was_still_writing(
    sink: Sink, proxy: Proxies, client: Clients
) -> None:
    """421 comes through, though what the client has sent meanwhile is never read as commands."""
    front = await proxy(sink.port)
    user = await client(front.port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    for _ in range(10_000):
        user.writer.write(b"NOOP " + b"x" * 500 + b"\r\n")
    replies = []
    while reply := await user.reply():
        replies.append(reply)
    assert replies[-1] == b"421 4.7.0 too many commands before a login\r\n"


# Replies that tell nothing.

SECRET = "hunter2 and the plan"


class Failing:
    """Fails in a way nobody thought of, whatever is done with it."""

    def __call__(self) -> None:
        raise RuntimeError(SECRET)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError(SECRET)


class FailingDoor(Door):
    """Accounts that fail at AUTH, or give a login that fails at MAIL."""

    def __init__(self, smarthost: Smarthost, where: str) -> None:
        super().__init__(smarthost)
        self.where = where

    async def authenticate_submission(
        self, username: str, secret: str, mechanism: Mechanism
    ) -> SubmissionAccount:
        """As its base, or not at all."""
        if self.where == "AUTH":
            raise RuntimeError(f"{SECRET} {secret}")
        account = await super().authenticate_submission(username, secret, mechanism)
        return replace(account, others=Failing()) if self.where == "MAIL" else account


class FailingOutbound(PassThrough):
    """Protection that fails at RCPT or at the dot."""

    def __init__(self, where: str) -> None:
        self.where = where

    async def check_recipient(self, sender: str, rcpt_to: str) -> None:
        """Fails at RCPT."""
        if self.where == "RCPT":
            raise LookupError(SECRET)

    async def protect(self, envelope: Envelope, message: bytes, *, sender: str) -> Sequence[PlainCopy]:
        """Fails at the dot."""
        raise ValueError(SECRET)


DIALOGUE = (
    (b"EHLO client.example", b"250"),
    (b"STARTTLS", b"502 "),
    (b"AUTH PLAIN " + TOKEN, b"235 "),
    (b"MAIL FROM:<alice@example.org>", b"250 "),
    (b"RCPT TO:<bob@example.org>", b"250 "),
    (b"DATA", b"354 "),
    (MESSAGE + b".", b"250 "),
)


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("EHLO", b"451 4.3.0 "),
        ("STARTTLS", b"451 4.3.0 "),
        ("AUTH", b"454 4.3.0 "),
        ("MAIL", b"451 4.3.0 "),
        ("RCPT", b"451 4.3.0 "),
        ("", b"451 4.3.0 "),
    ],
)
async def test_no_exception_text_at_any_command(
    where: str,
    code: bytes,
    sink: Sink,
    smarthost: Callable[..., Smarthost],
    client: Clients,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SMTP-18: whatever fails, a temporary reply with a reference; the log has the place and no text."""
    caplog.set_level(logging.DEBUG)
    host = smarthost(sink.port)
    server = SubmissionServer(
        SubmissionSettings(port=0, tls=Failing() if where == "STARTTLS" else lambda: None),
        FailingDoor(host, where),
        FailingOutbound(where),
        smarthosts=Failing() if where == "EHLO" else lambda: (host,),
    )
    _, port = await server.start()
    user = await client(port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    replies = []
    for line, expected in DIALOGUE:
        if where == "STARTTLS" and line.startswith(b"EHLO"):
            line, expected = b"NOOP", b"250"
        replies.append(await user.ask(line))
        if not replies[-1].startswith(expected):
            break
    assert re.fullmatch(code + rb"internal error \(ref [0-9a-f]{8}\)\r\n", replies[-1])
    assert (await user.ask(b"NOOP")).startswith(b"250 ")
    await server.stop(grace=0)
    reference = replies[-1][-11:-3].decode()
    log = "\n".join(map(KeyValueFormatter(shows_everything=True).format, caplog.records))
    assert f"reference={reference}" in log
    for text in (SECRET, PASSWORD, "the plan"):
        assert text not in log
        assert text.encode() not in b"".join(replies)
    assert not sink.accepted
