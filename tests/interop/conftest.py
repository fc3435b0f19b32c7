"""Alice sends every letter with every protection: real clients, her proxy, Postfix, Dovecot."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator

import pytest

from keystore.model import Fingerprint
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.people import ProxyUser, gnupg_user, introduce, proxy_user
from tests.fixtures.processes import service_folder, wait_until
from tests.fixtures.proxy import Upstream, proxy_factory
from tests.fixtures.senders import by_msmtp, by_smtplib, by_swaks
from tests.fixtures.smime_people import believe
from tests.fixtures.x509 import Authority, learn, own
from tests.interop.ciphers import CIPHERS, Sealed
from tests.interop.letters import BLIND, LETTERS
from tests.interop.post import Delivery, People, Post, Protection, message_id


@pytest.fixture(scope="session")
def rings() -> Iterator[Callable[[], GnuPG]]:
    """Make GnuPG homes, each in a folder of its own; agents are stopped at the end."""
    with service_folder("rings") as folder, contextlib.ExitStack() as stack:
        numbers = itertools.count()

        def make() -> GnuPG:
            home = folder / str(next(numbers)) / ".gnupg"
            home.mkdir(mode=0o700, parents=True)
            gnupg = GnuPG(home)
            stack.callback(gnupg.end)
            return gnupg

        yield make


RULE = """
[[rules]]
to = "{erin}"
scheme = "smime"
protect = "sign"
"""


@pytest.fixture(scope="session")
def people(
    upstream: Upstream, dovecot: Dovecot, rings: Callable[[], GnuPG], mail_authority: Authority
) -> Iterator[People]:
    """Everybody has a mailbox, and Alice, who sends, the certificates that she needs."""
    carol, listed, dora, erin = (dovecot.mailbox(name) for name in ("carol", "listed", "dora", "erin"))
    with proxy_factory(upstream) as factory:
        alice = proxy_user(factory, dovecot.mailbox("alice"), config=RULE.format(erin=erin.address))
        bob, blind = (gnupg_user(rings(), dovecot.mailbox(name)) for name in ("bob", "blind"))
        for person in (bob, blind):
            introduce(alice, person)
        # gpgsm 2.2 decrypts with keys of RSA only.
        alices, doras, blinds = (
            mail_authority.person(person.address, "rsa2048", 50 + number)
            for number, person in enumerate((alice, dora, blind))
        )
        with alice.home.keystore() as keystore:
            own(keystore, alices)
            learn(keystore, doras)
            learn(keystore, blinds)
        fay = dovecot.mailbox("fay")
        fays = mail_authority.person(fay.address, "rsa2048", 64)
        home = factory.home(bob.mailbox, carol, listed, dora, erin, fay)
        believe(home, mail_authority)
        with home.keystore() as keystore:
            own(keystore, doras)
            own(keystore, fays)
        reader = ProxyUser(carol, home, factory, Fingerprint(bob.fingerprint))
        reader.learn(alice.certificate())
        reader.learn(bob.gnupg.export_secret(bob.fingerprint))
        yield People(alice, bob, blind, carol, reader, listed, dora, erin, alices, doras, fay, fays)


@pytest.fixture(scope="session")
def post(people: People) -> Post:
    """What arrived."""
    # smtplib is the quickest; every letter goes by another program with another protection.
    senders = itertools.cycle([by_smtplib, by_swaks, by_smtplib, by_smtplib, by_msmtp])
    written: dict[tuple[Protection, str], bytes] = {}
    for protection in Protection:
        to = people.recipient(protection)
        for kind, letter in LETTERS.items():
            hidden = people.blind.address if kind == BLIND else ""
            octets = letter.written(_name(protection, kind), people.alice.address, to.address, hidden=hidden)
            next(senders)(people.alice, [to.address, *filter(None, [hidden])], octets)
            written[protection, kind] = octets
    arrived = {}
    for protection in Protection:
        mailbox = people.recipient(protection)
        stored = wait_until(lambda: _all(mailbox.stored()), "delivery")  # noqa: B023  # used at once
        by_name = {message_id(octets): octets for octets in stored}
        for kind in LETTERS:
            octets = by_name[_name(protection, kind)]
            arrived[protection, kind] = Delivery(kind, octets, written[protection, kind])
    return Post(people, arrived)


@pytest.fixture(scope="session")
def sealed(people: People, mail_authority: Authority) -> dict[str, Sealed]:
    """One message for each row of the table of ciphers."""
    with people.alice.home.keystore() as keystore:
        return {name: cipher.sealed(keystore, people, mail_authority) for name, cipher in CIPHERS.items()}


def _name(protection: Protection, kind: str) -> str:
    return f"{kind.replace(' ', '.')}.{protection.name.lower()}@example.test"


def _all(stored: list[bytes]) -> list[bytes]:
    return stored if len(stored) == len(LETTERS) else []
