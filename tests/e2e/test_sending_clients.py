"""Real programs send through the proxy to Postfix and Dovecot; the reader uses GnuPG and no proxy."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.people import (
    ATTACHMENT,
    SUBJECT,
    TEXT,
    GnuPGUser,
    ProxyUser,
    gnupg_user,
    introduce,
    leaked,
    letter,
    proxy_user,
)
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.senders import SENDERS, Send


@pytest.fixture(scope="module")
def alice(module_proxies: ProxyFactory, dovecot: Dovecot) -> ProxyUser:
    return proxy_user(module_proxies, dovecot.mailbox("alice"))


@pytest.fixture
def bob(gnupg_home: Callable[..., GnuPG], dovecot: Dovecot, alice: ProxyUser) -> GnuPGUser:
    person = gnupg_user(gnupg_home(), dovecot.mailbox("bob"))
    introduce(alice, person)
    return person


@pytest.mark.parametrize("send", SENDERS)
def test_a_sent_message_arrives_encrypted_and_gpg_reads_it(
    send: Send, alice: ProxyUser, bob: GnuPGUser
) -> None:
    send(alice, [bob.address], letter(alice.address, bob.address))
    (stored,) = wait_until(bob.mailbox.stored, "delivery")

    assert not leaked(stored)
    assert not any(leaked(octets) for octets in bob.mailbox.files())
    assert b"\r\nSubject: [...]\r\n" in stored
    plaintext, status = opened_by(bob.gnupg, stored)
    assert TEXT.encode() in plaintext
    assert ATTACHMENT in plaintext
    assert f"Subject: {SUBJECT}".encode() in plaintext
    assert "GOODSIG" in status
    assert "DECRYPTION_OKAY" in status
    assert alice.fingerprint in status


@pytest.mark.parametrize("send", SENDERS)
def test_mail_to_somebody_without_a_key_leaves_signed(
    send: Send, alice: ProxyUser, dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]
) -> None:
    carol = dovecot.mailbox("carol")
    send(alice, [carol.address], letter(alice.address, carol.address))
    (stored,) = wait_until(carol.stored, "delivery")

    head, _, body = stored.partition(b"\r\n\r\n")
    assert b"multipart/signed" in head
    boundary = b"--" + head.partition(b'boundary="')[2].partition(b'"')[0]
    _, signed, rest, _ = body.split(boundary)
    gnupg = gnupg_home()
    gnupg.take(alice.certificate())
    text = gnupg.home / "text"
    text.write_bytes(signed.removeprefix(b"\r\n").removesuffix(b"\r\n"))
    signature = rest.partition(b"\r\n\r\n")[2]
    status = gnupg.run("--verify", "-", str(text), data=signature).stderr
    assert b"GOODSIG" in status
    assert TEXT.encode() in text.read_bytes()
