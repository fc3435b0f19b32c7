"""The test servers themselves do what the other tests rely on."""

from __future__ import annotations

import imaplib

import pytest

from tests.fixtures.dovecot import Dovecot

MESSAGE = b"From: a@example.net\r\nSubject: hello\r\n\r\nbody\r\n"


def test_dovecot_keeps_octets_and_separates_mailboxes(dovecot: Dovecot) -> None:
    alice, bob = dovecot.mailbox("alice"), dovecot.mailbox("bob")
    alice.append(MESSAGE)
    assert alice.stored() == [MESSAGE]
    assert bob.stored() == []


def test_dovecot_delivers_by_lmtp(dovecot: Dovecot) -> None:
    alice = dovecot.mailbox("alice")
    alice.deliver(MESSAGE)
    (stored,) = alice.stored()
    assert stored.endswith(MESSAGE)
    assert any(MESSAGE.split(b"\r\n\r\n")[1].strip() in octets for octets in alice.files())


def test_dovecot_speaks_starttls_and_refuses_a_wrong_password(dovecot: Dovecot) -> None:
    alice = dovecot.mailbox("alice")
    with imaplib.IMAP4("127.0.0.1", dovecot.imap_port) as client:
        client.starttls(dovecot.ca.client_context())
        with pytest.raises(imaplib.IMAP4.error, match="AUTHENTICATIONFAILED"):
            client.login(alice.address, "wrong")
        client.login(alice.address, alice.password)
        assert b"UIDPLUS" in client.capability()[1][0]
