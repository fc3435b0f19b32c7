"""Bob's mailbox behind a real proxy, with a letter for each verdict."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import count

from keystore.keystore import Keystore
from keystore.model import Trust
from tests.fixtures import forge
from tests.fixtures.certificates import authority
from tests.fixtures.dovecot import running_dovecot
from tests.fixtures.gnupg import GnuPG, encrypted_by, signed_by
from tests.fixtures.people import ProxyUser
from tests.fixtures.processes import free_port, service_folder
from tests.fixtures.proxy import Upstream, proxy_factory
from tests.fixtures.smime_people import believe
from tests.fixtures.x509 import Issued, learn, own, root

BOB, ALICE, CAROL = "bob@example.com", "alice@example.org", "carol@example.net"
LETTERS = 5
SIGNED, BROKEN, BEST = 3, 4, 5
"""UIDs."""
CONTRACT = "Here is the contract. Please tell nobody before Monday."
TEXT = "Content-Type: text/plain; charset=us-ascii{more}\r\n\r\n{text}\r\n"


@dataclass
class Correspondents:
    """Who writes to Bob, and with what."""

    gnupg: GnuPG
    carol: Issued
    bob: Issued
    numbers: Iterator[int]

    def header(self, sender: str, subject: str) -> str:
        """The outer header (LF), without its last line end. Later letters are of later minutes."""
        number = next(self.numbers)
        date = format_datetime(datetime.now(UTC) - timedelta(minutes=50 - 7 * number))
        return (
            f"From: {sender}\nTo: Bob <{BOB}>\nSubject: {subject}\nDate: {date}\n"
            f"Message-ID: <{number}.letter@{sender.partition('@')[2].strip('>')}>"
        )

    def letters(self) -> Iterator[bytes]:
        """In the order of their UIDs."""
        alice, carol = f"Alice <{ALICE}>", f"Carol <{CAROL}>"
        yield _message(self.header("News <news@example.com>", "What is new"), _text("Nothing to hide here."))
        enveloped = forge.envelope(_text("The minutes of our last meeting are done."), self.bob)
        yield _message(self.header(carol, "Minutes"), forge.pkcs7_mime(enveloped.der, b"enveloped-data"))
        part = _text("We meet at ten, as always.")
        yield _message(
            self.header(carol, "Next meeting"), forge.multipart_signed(part, forge.sign(self.carol, part))
        )
        signed = signed_by(self.gnupg, self.header(alice, "Bank account"), _text("Please pay to account 17."))
        yield signed.replace(b"account 17", b"account 71")
        yield encrypted_by(
            self.gnupg,
            self.header(alice, "..."),
            _text(
                CONTRACT,
                '; protected-headers="v1"\r\nSubject: The contract',
            ),
            *("--sign", "-r", BOB),
        )


def _text(text: str, more: str = "") -> bytes:
    return TEXT.format(text=text, more=more).encode()


def _message(header: str, entity: bytes) -> bytes:
    return header.replace("\n", "\r\n").encode() + b"\r\nMIME-Version: 1.0\r\n" + entity


@contextmanager
def bobs_mailbox() -> Iterator[ProxyUser]:
    """Everything runs until the block ends."""
    with ExitStack() as stack:
        ca = stack.enter_context(authority())
        dovecot = stack.enter_context(running_dovecot(ca))
        factory = stack.enter_context(proxy_factory(Upstream(ca.ca_file, dovecot.imaps_port, free_port())))
        gnupg = GnuPG(stack.enter_context(service_folder("gnupg")) / "alice")
        gnupg.home.mkdir(mode=0o700)
        stack.callback(gnupg.end)
        mailbox = dovecot.account(BOB)
        home = factory.home(mailbox)
        company = root("Example Company").authority("Example Company Mail")
        believe(home, company)
        people = Correspondents(gnupg, company.person(CAROL), company.person(BOB, "rsa2048"), count(1))
        with home.keystore() as keystore:
            fingerprint = keystore.generate(BOB).fingerprint
            gnupg.take(keystore.export(fingerprint))
            _acquaint(keystore, people)
        for letter in people.letters():
            mailbox.append(letter)
        yield ProxyUser(mailbox, home, factory, fingerprint)


def _acquaint(keystore: Keystore, people: Correspondents) -> None:
    """Bob has verified Alice's certificate, and has seen Carol's."""
    own(keystore, people.bob)
    learn(keystore, people.carol)
    alices = people.gnupg.export(people.gnupg.generate(ALICE))
    (alice,) = keystore.import_keys(alices, source="the screenshots")
    assert alice.fingerprint is not None
    keystore.set_trust(alice.fingerprint, Trust.VERIFIED)
