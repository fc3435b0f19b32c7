"""A mailbox with odd mail, errands run in this process, and a relay that breaks where it is told to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
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
