"""The test servers themselves do what the other tests rely on."""

from __future__ import annotations

import imaplib
import smtplib

import pytest

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.postfix import REFUSAL, REFUSED, Postfix
from tests.fixtures.processes import wait_until

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


def test_postfix_delivers_a_submission_to_dovecot(postfix: Postfix, dovecot: Dovecot) -> None:
    alice, bob = dovecot.mailbox("alice"), dovecot.mailbox("bob")
    with postfix.smtp(alice.address, alice.password) as client:
        refused = client.sendmail(alice.address, [bob.address], MESSAGE)
    assert not refused
    (stored,) = wait_until(bob.stored, postfix.log)
    assert stored.endswith(MESSAGE.split(b"\r\n\r\n")[1])


def test_postfix_demands_a_login_and_refuses_an_unknown_person(postfix: Postfix, dovecot: Dovecot) -> None:
    alice = dovecot.mailbox("alice")
    with smtplib.SMTP("127.0.0.1", postfix.submission_port) as client:
        assert client.docmd("EHLO localhost")[0] == 250
        assert client.docmd(f"MAIL FROM:<{alice.address}>")[0] == 530
    with (
        postfix.smtp(alice.address, alice.password) as client,
        pytest.raises(smtplib.SMTPRecipientsRefused) as refusal,
    ):
        client.sendmail(alice.address, [REFUSED], MESSAGE)
    assert REFUSAL in str(refusal.value)
