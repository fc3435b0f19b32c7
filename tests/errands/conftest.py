"""A mailbox with odd mail, errands run in this process, and a relay that breaks where it is told to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

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
_NUMBERS = count(1)
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
    """One mailbox, reached directly, and the errands of its account."""

    user: ProxyUser
    imap: RawImap
    tools: Tools
    box: str = "INBOX"

    @property
    def disk(self) -> Path:
        """The folder of the mailbox at the server."""
        folder = self.user.mailbox.folder
        return folder if self.box == "INBOX" else folder / f".{self.box}"

    def select(self) -> None:
        """Open the mailbox, as another client."""
        self.imap.ok(b"SELECT %b" % self.box.encode())

    def append(self, octets: bytes, folder: str = "", flags: bytes = FLAGS) -> None:
        """Store a message with flags and a date of its own."""
        place = (folder or self.box).encode()
        self.imap.ok(b"APPEND %b %b %b {%d}" % (place, flags, DATE, len(octets)), octets)

    def folder(self, name: str, *messages: bytes) -> str:
        """A new mailbox with these messages."""
        self.imap.ok(b"CREATE %b" % name.encode())
        for octets in messages:
            self.append(octets, name)
        return name

    def stored(self, folder: str = "") -> list[Stored]:
        """What the server has, in order; changes nothing."""
        self.imap.ok(b"EXAMINE %b" % (folder or self.box).encode())
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
        plaintext = self.tools.decrypted(message.octets)
        found = plaintext.original if plaintext is not None else None
        return message.octets if found is None else found

    async def run(
        self, errand: Errand, folder: str = "", *, port: int | None = None, **options: bool
    ) -> Outcome:
        """Carry out an errand on one mailbox, perhaps by way of a relay at `port`."""
        mailbox = self.user.mailbox
        server = ImapUpstream(
            "localhost", port or mailbox.server.imaps_port, "implicit", mailbox.server.ca.ca_file
        )
        login = ImapLogin(Account(mailbox.address, server), mailbox.address, mailbox.password)
        outcomes: dict[str, Outcome] = {}
        observer = Observer(lambda name: None, lambda done, total: None, outcomes.__setitem__)
        job = Job(errand, (folder or self.box,), **options)
        await carry_out(job, login, self.tools, self.user.home.folders.state, observer)
        (outcome,) = outcomes.values()
        return outcome

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


@pytest.fixture(scope="module")
def whole_place(dovecot: Dovecot, module_proxies: ProxyFactory) -> Iterator[Place]:
    """Somebody with a key and an account of their own."""
    with place_of(proxy_user(module_proxies, dovecot.mailbox("errand"))) as place:
        yield place


@pytest.fixture
def place(whole_place: Place) -> Place:
    """A mailbox of its own, empty."""
    name = f"Box{next(_NUMBERS)}"
    whole_place.imap.ok(b"CREATE %b" % name.encode())
    return replace(whole_place, box=name)
