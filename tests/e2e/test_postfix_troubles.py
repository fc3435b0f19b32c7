"""A real Postfix that stops, has no room, or refuses what it took before, seen by a client that stays."""

from __future__ import annotations

import random
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import leaked, letter, proxy_user
from tests.fixtures.postfix import REFUSAL, REFUSED, Stopped, stopped_postfix
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import Upstream, proxy_factory

ROOM = 100_000
"""Octets that a Postfix with little room takes for a message."""


@dataclass
class Client:
    """Logged in once, while all was well, and still there."""

    smtp: smtplib.SMTP
    sender: str
    bob: Mailbox
    postfix: Stopped
    accepted: int = 0

    def send(self, text: str = "hello", to: str = "") -> tuple[int, str]:
        """The reply that decides: to the message, or the first refusal."""
        to = to or self.bob.address
        message = letter(self.sender, to, text=text)
        for answer in (lambda: self.smtp.mail(self.sender), lambda: self.smtp.rcpt(to)):
            code, said = answer()
            if code != 250:
                self.smtp.rset()
                return code, said.decode()
        try:
            code, said = self.smtp.data(message)
        except smtplib.SMTPDataError as error:
            code, said = error.smtp_code, error.smtp_error  # type: ignore[assignment]  # octets
        self.accepted += code == 250
        return code, said.decode()

    def arrived(self) -> None:
        """What was accepted is there, and nothing else.

        Off the queue too: a Postfix that is stopped before it has noted a delivery makes it once more.
        """
        log = self.postfix.server.log
        wait_until(lambda: log().count(": removed\n") >= self.accepted, log)
        found = self.bob.stored()
        assert len(found) == self.accepted
        assert not any(leaked(one) for one in found)


@pytest.fixture(scope="module")
def client(ca: TestCA, dovecot: Dovecot) -> Iterator[Client]:
    """Of a proxy before a Postfix that has stopped after the first message."""
    with stopped_postfix(ca, dovecot) as postfix:
        servers = Upstream(ca.ca_file, dovecot.imaps_port, postfix.server.submission_port)
        with proxy_factory(servers) as factory:
            alice, bob = proxy_user(factory, dovecot.mailbox("alice")), dovecot.mailbox("bob")
            with alice.home.keystore() as keystore:
                for one in (bob.address, REFUSED):
                    keystore.generate(one)
            with postfix.running():
                smtp = smtplib.SMTP("127.0.0.1", alice.proxy.submission_port)
                smtp.login(alice.address, alice.mailbox.password)
                one = Client(smtp, alice.address, bob, postfix)
                assert one.send()[0] == 250
                one.arrived()
            with smtp:
                yield one
            assert "Traceback" not in alice.proxy.log()


def test_smtp_01_while_it_is_stopped_and_after(client: Client) -> None:
    """A temporary failure while it is away; the same session sends again once it is back, each once."""
    for _ in range(2):
        code, text = client.send()
        assert (code, text[:6]) == (451, "4.4.1 ")
    with client.postfix.running():
        assert client.send()[0] == 250
        assert client.send(to=REFUSED)[0] == 550
        assert client.send()[0] == 250
        client.arrived()


def test_its_refusals_are_temporary_where_it_says_so(client: Client) -> None:
    """soft_bounce: 450 in place of 550, word for word."""
    with client.postfix.running("soft_bounce = yes"):
        code, text = client.send(to=REFUSED)
        assert code == 450
        assert REFUSAL in text
        assert client.send()[0] == 250
        client.arrived()


def test_it_has_no_room_in_its_queue(client: Client) -> None:
    """452 is passed on, and the session lives."""
    with client.postfix.running("queue_minfree = 4000000000000000"):
        code, text = client.send()
        assert (code, text[:6]) == (452, "4.3.1 ")
        assert client.smtp.noop()[0] == 250


def test_smtp_13_a_message_fits_until_it_is_encrypted(client: Client) -> None:
    """The limit has become smaller since the client was told of it: refused for good, and nothing left."""
    text = random.Random(4).randbytes(ROOM // 2 - 5_000).hex()
    message = "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76))
    assert len(letter(client.sender, client.bob.address, text=message)) < ROOM
    with client.postfix.running(f"message_size_limit = {ROOM}"):
        code, said = client.send(message)
        assert (code, said[:6]) == (552, "5.3.4 ")
        assert client.send()[0] == 250
        client.arrived()
