"""The other sides of the SMTP tests: smarthosts real and scripted, a stand-in for Outbound, a raw client."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from keystore.model import Scheme
from secmailproxy.accounts import Credentials, Mechanism, SubmissionAccount
from secmailproxy.errors import NotAllowed
from secmailproxy.model import Envelope, Protection
from secmailproxy.smtp.server import SubmissionServer
from secmailproxy.smtp.smarthost import Smarthost

USERNAME = "alice@example.org"
PASSWORD = "correct horse"
LOGIN = Credentials(USERNAME, PASSWORD)


@dataclass(frozen=True)
class Accepted:
    """A message as the sink took it."""

    mail_from: str
    rcpt_tos: tuple[str, ...]
    octets: bytes


@dataclass
class Sink:
    """A real SMTP server (aiosmtpd) with TLS and AUTH that keeps what it accepts."""

    port: int = 0
    accepted: list[Accepted] = field(default_factory=list)
    logins: int = 0
    connections: int = 0

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:
        """Keep the message."""
        self.accepted.append(
            Accepted(envelope.mail_from, tuple(envelope.rcpt_tos), bytes(envelope.original_content))
        )
        return f"250 2.0.0 Ok: queued as {len(self.accepted)}"

    async def handle_RCPT(
        self, server: object, session: object, envelope: object, address: str, options: Sequence[str]
    ) -> str:
        """Everybody exists but nobody@."""
        if address.startswith("nobody@"):
            return f"550 5.1.1 <{address}>: Recipient address rejected: User unknown"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    def authenticate(
        self, server: object, session: object, envelope: object, mechanism: str, data: LoginPassword
    ) -> AuthResult:
        """One account."""
        self.logins += 1
        if data == (USERNAME.encode(), PASSWORD.encode()):
            return AuthResult(success=True)
        return AuthResult(
            success=False, handled=False, message="535 5.7.8 Error: authentication failed: sorry"
        )


class SinkSession(SMTP):
    def __init__(self, sink: Sink, context: ssl.SSLContext | None) -> None:
        sink.connections += 1
        super().__init__(
            sink,
            hostname="sink.example",
            tls_context=context,
            require_starttls=context is not None,
            auth_require_tls=context is not None,
            authenticator=sink.authenticate,
            loop=asyncio.get_running_loop(),
        )
        self._auth_required = True


Answer = bytes | Callable[["Peer"], Awaitable[None]]
"""What a scripted smarthost does at a command: send these octets, or something of its own."""

GREETING = b"220 peer.example ESMTP\r\n"
EHLO = b"250-peer.example\r\n250-AUTH PLAIN LOGIN\r\n250-8BITMIME\r\n250-DSN\r\n250 SMTPUTF8\r\n"
PIPELINING = EHLO.replace(b"250 SMTPUTF8", b"250-PIPELINING\r\n250 SMTPUTF8")
SCRIPT: Mapping[str, Answer] = {
    "CONNECT": GREETING,
    "EHLO": EHLO,
    "AUTH": b"235 2.7.0 welcome\r\n",
    "MAIL": b"250 2.1.0 ok\r\n",
    "RCPT": b"250 2.1.5 ok\r\n",
    "DATA": b"354 go\r\n",
    ".": b"250 2.0.0 queued\r\n",
    "RSET": b"250 2.0.0 ok\r\n",
    "NOOP": b"250 2.0.0 ok\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
}


class Peer:
    """One connection at a scripted smarthost."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.lines: list[bytes] = []
        """Command lines with their CRLF."""
        self.messages: list[bytes] = []
        """What followed 354 up to and with the final dot, as it was on the wire."""
        self.turns = 0
        """How often we had answered all there was, and had to wait for more: the round trips."""

    def verbs(self) -> list[str]:
        """The verbs that came, in order."""
        return [line[:4].decode("latin-1").strip().upper() for line in self.lines]

    async def say(self, octets: bytes) -> None:
        """Send."""
        self.writer.write(octets)
        await self.writer.drain()

    async def play(self, script: Mapping[str, Answer]) -> None:
        """Follow the script until the other side leaves or the script cuts the connection."""
        await self._do(script["CONNECT"])
        while line := await self._line():
            self.lines.append(line)
            verb = line[:4].decode("latin-1").strip().upper()
            answer = script.get(verb, b"502 5.5.1 what?\r\n")
            await self._do(answer)
            if verb == "QUIT":
                return
            if verb == "DATA" and isinstance(answer, bytes) and answer.startswith(b"354"):
                self.messages.append(await self._message())
                await self._do(script["."])

    async def _line(self) -> bytes:
        self.turns += not self.reader._buffer
        return await self.reader.readline()

    async def _message(self) -> bytes:
        self.turns += not self.reader._buffer
        lines = [b"\r\n"]
        while not (lines[-1] == b".\r\n" and lines[-2].endswith(b"\r\n")):
            lines.append(await self.reader.readuntil(b"\n"))
        return b"".join(lines[1:])

    async def _do(self, answer: Answer) -> None:
        await (self.say(answer) if isinstance(answer, bytes) else answer(self))


async def cut(peer: Peer) -> None:
    """Close without a word."""
    peer.writer.close()
    raise ConnectionAbortedError


async def reset(peer: Peer) -> None:
    """Tear the connection down."""
    peer.writer.transport.abort()
    raise ConnectionAbortedError


async def stall(peer: Peer) -> None:
    """Never answer; ends when the other side gives up."""
    await peer.reader.read()
    raise ConnectionAbortedError


class Scripted:
    """A smarthost that follows a script and remembers every octet it got."""

    def __init__(self, script: Mapping[str, Answer], *, tls: ssl.SSLContext | None) -> None:
        self.script = dict(SCRIPT) | dict(script)
        self.peers: list[Peer] = []
        self.port = 0
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def lines(self) -> list[bytes]:
        """All command lines of all connections."""
        return [line for peer in self.peers for line in peer.lines]

    @property
    def messages(self) -> list[bytes]:
        """All messages of all connections."""
        return [message for peer in self.peers for message in peer.messages]

    def verbs(self) -> list[str]:
        """The verbs that came, connection by connection."""
        return [verb for peer in self.peers for verb in peer.verbs()]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Scripted]:
        """Listen on a free port."""
        listener = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**24)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for peer in self.peers:
                # Python 3.11.2 cannot abort a TLS transport that was closed twice.
                with contextlib.suppress(AttributeError):
                    peer.writer.transport.abort()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        peer = Peer(reader, writer)
        self.peers.append(peer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await peer.play(self.script)
        writer.close()


@dataclass(frozen=True)
class PlainCopy:
    """A copy as it came."""

    rcpt_tos: tuple[str, ...]
    octets: bytes
    protection: Protection = Protection.NONE
    scheme: Scheme | None = None


class PassThrough:
    """Protects nothing: for tests of transport only."""

    async def check_recipient(self, sender: str, rcpt_to: str, *, account: str, **_: object) -> None:
        """Everybody may get mail."""

    async def protect(
        self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
    ) -> Sequence[PlainCopy]:
        """One copy for all."""
        return (PlainCopy(envelope.rcpt_tos, message),)


@dataclass
class Door:
    """Two users of one smarthost; whoever logs in is tried there."""

    smarthost: Smarthost
    users: frozenset[str] = frozenset({USERNAME, "carol@example.org"})
    """May change at any time."""

    def known_as(self, username: str) -> str:
        """Each user is an account."""
        return username if username in self.users else ""

    async def authenticate_submission(
        self, username: str, secret: str, mechanism: Mechanism
    ) -> SubmissionAccount:
        """As with login = "mailbox"."""
        if username == "locked-out":
            raise NotAllowed("No account has this user name.")
        credentials = Credentials(username, secret, mechanism)
        await self.smarthost.verify_login(credentials)
        return SubmissionAccount(username, self.smarthost, credentials, lambda: self.users - {username})


@dataclass
class Proxy:
    """A listener in front of one smarthost."""

    server: SubmissionServer
    port: int
    smarthost: Smarthost


class Client:
    """A raw client: sends octets, reads replies."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        """Send as they are."""
        self.writer.write(octets)
        await self.writer.drain()

    async def reply(self) -> bytes:
        """One reply with all its lines; b"" when the connection has ended."""
        lines = b""
        while line := await self.reader.readline():
            lines += line
            if line[3:4] != b"-":
                break
        return lines

    async def ask(self, line: bytes) -> bytes:
        """One command, its reply."""
        await self.send(line + b"\r\n")
        return await self.reply()

    async def login(self) -> None:
        """Greeting, EHLO, AUTH."""
        assert (await self.reply()).startswith(b"220 ")
        assert (await self.ask(b"EHLO client.example")).startswith(b"250")
        token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode())
        assert (await self.ask(b"AUTH PLAIN " + token)).startswith(b"235 ")

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """STARTTLS and the handshake."""
        assert (await self.ask(b"STARTTLS")).startswith(b"220 ")
        await self.writer.start_tls(context, server_hostname="localhost")

    async def begin(self, *rcpt_tos: bytes) -> None:
        """MAIL and RCPT, all accepted."""
        assert (await self.ask(b"MAIL FROM:<alice@example.org>")).startswith(b"250 ")
        for rcpt_to in rcpt_tos or (b"bob@example.org",):
            assert (await self.ask(b"RCPT TO:<" + rcpt_to + b">")).startswith(b"250 ")


MESSAGE = b"Subject: confidential\r\n\r\nthe plan\r\n"
DOT = b".\r\n"


async def submit(client: Client, message: bytes = MESSAGE) -> bytes:
    """DATA and the message; the final reply."""
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    await client.send(message + DOT)
    return await client.reply()


async def until(condition: Callable[[], object]) -> None:
    """Let the others run until it holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)
