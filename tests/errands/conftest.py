"""A mailbox with odd mail, errands run in this process, and a relay that breaks where it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from secmailproxy.accounts import Account, ImapLogin, ImapUpstream
from secmailproxy.errands.forms import Tools
from secmailproxy.errands.plan import Errand
from secmailproxy.errands.replacing import Outcome
from secmailproxy.errands.work import Job, Observer, carry_out
from secmailproxy.imap import grammar
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.views import Views
from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import RawImap, direct

DATE = b'"17-Jul-2021 02:44:25 +0700"'
FLAGS = rb"(\Seen $Forwarded Later)"


@dataclass(frozen=True)
class Stored:
    """A message as the server has it."""

    uid: int
    flags: frozenset[bytes]
    date: bytes
    octets: bytes


@dataclass
class Place:
    """One account, reached directly, and its errands."""

    user: ProxyUser
    imap: RawImap
    tools: Tools

    def append(self, octets: bytes, folder: bytes = b"INBOX", flags: bytes = FLAGS) -> None:
        """Store a message with flags and a date of its own."""
        self.imap.ok(b"APPEND %b %b %b {%d}" % (folder, flags, DATE, len(octets)), octets)

    def folder(self, name: str, *messages: bytes) -> str:
        """A new mailbox with these messages."""
        self.imap.ok(b"CREATE %b" % name.encode())
        for octets in messages:
            self.append(octets, name.encode())
        return name

    def stored(self, folder: str = "INBOX") -> list[Stored]:
        """What the server has, in order; changes nothing."""
        self.imap.ok(b"EXAMINE %b" % folder.encode())
        found = self.imap.command(b"UID FETCH 1:* (FLAGS INTERNALDATE BODY.PEEK[])")
        self.imap.ok(b"UNSELECT")
        out = []
        for told in map(grammar.parse_fetch_response, filter(grammar.is_fetch, found)):
            flags = frozenset(told.attributes["FLAGS"].strip(b"()").split()) - {rb"\Recent"}
            octets = grammar.string_value(told.attributes["BODY[]"]) or b""
            out.append(Stored(told.uid or 0, flags, told.attributes["INTERNALDATE"], octets))
        return out

    def opened(self, message: Stored) -> bytes:
        """The original of an encrypted message, or the message itself."""
        from secmailproxy.mime.kept import original

        plaintext = self.tools.decrypted(message.octets)
        found = original(plaintext) if plaintext is not None else None
        return message.octets if found is None else found

    async def run(
        self, errand: Errand, *mailboxes: str, port: int | None = None, **options: bool
    ) -> dict[str, Outcome]:
        """Carry out an errand, perhaps by way of a relay at `port`."""
        mailbox = self.user.mailbox
        server = ImapUpstream(
            "localhost", port or mailbox.server.imaps_port, "implicit", mailbox.server.ca.ca_file
        )
        login = ImapLogin(Account(mailbox.address, server), mailbox.address, mailbox.password)
        outcomes: dict[str, Outcome] = {}
        observer = Observer(lambda name: None, lambda done, total: None, outcomes.__setitem__)
        job = Job(errand, mailboxes, **options)
        await carry_out(job, login, self.tools, self.user.home.folders.state, observer)
        return outcomes

    def journals(self) -> list[bytes]:
        """What journals there are and say."""
        return [path.read_bytes() for path in (self.user.home.folders.state / "errands").glob("*")]


@contextlib.contextmanager
def place_of(user: ProxyUser) -> Iterator[Place]:
    with ExitStack() as stack:
        keystore = stack.enter_context(user.home.keystore())
        views = stack.enter_context(closing(Views.open(user.home.folders.views, keystore)))
        imap = stack.enter_context(direct(user.mailbox))
        outbound = Outbound(keystore, OutboundSettings())
        field_name = user.verdict_field
        yield Place(
            user,
            imap,
            Tools(user.address, keystore, outbound, views, field_name, lambda: datetime.now(UTC)),
        )


@pytest.fixture
def place(dovecot: Dovecot, proxies: ProxyFactory) -> Iterator[Place]:
    """Somebody with a key and an empty mailbox."""
    with place_of(proxy_user(proxies, dovecot.mailbox("errand"))) as place:
        yield place


@dataclass
class Relay:
    """Passes octets on, counted from the first SELECT, until it breaks the connection.

    `cut` counts what comes from the client or the server (`side`) in the order in which it is read: that
    piece does not arrive any more. With `stall` the connection stays, in silence.
    """

    ca: TestCA
    target: int
    port: int = 0
    side: str = "client"
    cut: int = 0
    stall: bool = False
    counted: int = 0
    before: bytes = b""
    """A word of a command that does not arrive any more."""
    broken: asyncio.Event = field(default_factory=asyncio.Event)
    meanwhile: dict[bytes, Callable[[], object]] = field(default_factory=dict)
    """What somebody else does, once, before a command with this word arrives."""
    _counting: bool = False

    def arm(self, side: str, cut: int = -1, *, before: bytes = b"", stall: bool = False) -> None:
        """Break the next connection there."""
        self.side, self.cut, self.before, self.stall = side, cut, before, stall
        self.counted, self._counting = 0, False
        self.broken.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(
            "localhost", self.target, ssl=self.ca.client_context()
        )
        ends = (writer, far_writer)
        pumps = [
            asyncio.create_task(self._pump("client", reader, far_writer)),
            asyncio.create_task(self._pump("server", far_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in ends:
            end.transport.abort()

    async def _pump(self, side: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while octets := await reader.read(65536):
                for word in [word for word in self.meanwhile if side == "client" and word in octets]:
                    self.meanwhile.pop(word)()
                self._counting |= side == "client" and b" SELECT " in octets
                if self._counting and side == self.side:
                    if self.counted == self.cut or (self.before and self.before in octets):
                        self.broken.set()
                        if self.stall:
                            await asyncio.sleep(3600)
                        return
                    self.counted += 1
                writer.write(octets)
                await writer.drain()


@pytest.fixture
async def relay(ca: TestCA, dovecot: Dovecot) -> AsyncIterator[Relay]:
    """A relay before Dovecot's implicit-TLS port; disarmed it breaks nothing."""
    relay = Relay(ca, dovecot.imaps_port, cut=-1)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0, ssl=ca.server_context())
    relay.port = server.sockets[0].getsockname()[1]
    yield relay
    server.close()
