"""Which mailboxes hold drafts and sent mail, whatever the server says of it, and when (IMAP-16)."""

from __future__ import annotations

import re

import pytest

from secmailproxy.imap.grammar import parse_verb
from secmailproxy.imap.session import Session, Settings
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.imap.steps import EncryptToSelf
from secmailproxy.imap.wire import Command
from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.fake_imap import LOGIN, Peer, fake_imap
from tests.fixtures.people import leaked, letter, proxy_user
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.transcript import proxied

PLAIN = b"Subject: a\r\n\r\nplain\r\n"


@pytest.mark.parametrize(
    "told",
    [
        b'* LIST (\\HasNoChildren \\Sent) "/" Foo\r\n',
        b'* XLIST (\\Drafts) NIL "Foo"\r\n',
        b'* lsub (\\sent) "\\\\" foo\r\n',
        b'* LIST (\\Sent) "/" {3}\r\nFoo\r\n',
        b'* LIST (\\Sent)  "/"  &AEY-oo ("CHILDINFO" ("SUBSCRIBED"))\r\n',
    ],
)
@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_what_the_client_is_told_is_heard(told: bytes, cut: int) -> None:
    """A server may tell us nothing at the login, and the client where it shall put its drafts."""
    session = Session(Settings(b"Secmail-Verdict-4711", 384))
    session.from_client(b'a LIST "" *\r\n')
    answer = told + b"a OK\r\n"
    heard = b"".join(
        session.from_upstream(answer[at : at + cut]).to_client for at in range(0, len(answer), cut)
    )
    assert heard == answer
    session.from_client(b"b APPEND Foo {%d}\r\n" % len(PLAIN))
    actions = session.from_client(PLAIN + b"\r\n")
    assert actions.to_upstream == b""
    ((_, work),) = actions.work
    assert isinstance(work, EncryptToSelf)


@pytest.mark.parametrize(
    ("command", "sent", "drafts"),
    [
        (b"a CREATE Foo (USE (\\Sent))\r\n", True, False),
        (b"a CREATE Foo\r\n", False, False),
        (b"a RENAME Drafts Foo\r\n", False, True),
        (b"a RENAME Sent/2026 Foo\r\n", True, False),
        (b"a RENAME Other Foo\r\n", False, False),
        (b"a RENAME Sent\r\n", False, False),
    ],
)
def test_what_the_client_does_is_noticed(command: bytes, sent: bool, drafts: bool) -> None:
    known = SpecialUse()
    known.notice(command, parse_verb(Command([command])))
    assert (known.is_sent(b"Foo"), known.is_drafts(b"Foo")) == (sent, drafts)


def test_a_server_that_marks_everything_gets_nothing_in_clear() -> None:
    known = SpecialUse()
    assert not known.encrypts(b"Foo", draft=False)
    for number in range(2000):
        known.learn(b'* LIST (\\Sent) "/" F%d\r\n' % number)
    assert len(known.sent) < 2000
    assert known.encrypts(b"Foo", draft=False)


def test_what_was_told_once_is_known_when_it_is_told_no_more(
    ca: TestCA, dovecot: Dovecot, proxies: ProxyFactory
) -> None:
    """The client remembers where its sent mail goes; the server has only to be silent at the next login."""
    taken: list[bytes] = []

    def take(peer: Peer, match: re.Match[bytes]) -> None:
        peer.send(b"+ go\r\n")
        before = peer.received
        octets = b""
        while len(octets) < int(match[1]):
            octets += peer.line() + b"\r\n"
        assert before == peer.received
        taken.append(octets)
        peer.send(b"TAG OK taken\r\n")

    append = {rb"APPEND .*\{(\d+)\}": take}
    listing = {
        rb"CAPABILITY": LOGIN[rb"CAPABILITY"].replace(b" IDLE", b" SPECIAL-USE"),  # type: ignore[union-attr]
        rb"LIST .*": b'* LIST (\\Sent) "/" Foo\r\nTAG OK listed\r\n',
    }
    with fake_imap(ca) as fake:
        mailbox = Mailbox("ann@example.test", "secret", dovecot)
        user = proxy_user(proxies, mailbox, upstream=Upstream(ca.ca_file, fake.port, 1))
        octets = letter(user.address, "b@example.org")
        for table in ({**append, **listing}, append):
            fake.play(table)
            with proxied(user.proxy, mailbox) as imap:
                imap.ok(b"APPEND Foo {%d}" % len(octets), octets)
    assert len(taken) == 2
    assert not any(leaked(one) for one in taken)
