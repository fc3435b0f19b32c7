"""S/MIME through the whole proxy: a client, our listener, a smarthost with TLS; openssl is the reader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from keystore.keystore import Keystore
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.rules import Protect, Rule
from tests.fixtures.keystores import KeystoreFactory, credentials, keystore, make_keystore
from tests.fixtures.x509 import Authority, Issued, OpenSSL, learn, own
from tests.smtp.peers import Client, Proxy, Sink, submit

__all__ = ["credentials", "keystore", "make_keystore"]

ALICE, BOB, CAROL = "alice@example.org", "bob@example.com", "carol@example.net"
MESSAGE = (
    b"From: <alice@example.org>\r\nTo: <bob@example.com>\r\nBcc: <carol@example.net>\r\n"
    b"Subject: The treasure\r\n\r\nUnder the windmill.\r\n"
)
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]


@pytest.fixture
def alice(mail_authority: Authority) -> Issued:
    """The sender."""
    return mail_authority.person(ALICE, "rsa2048")


async def send(user: Client, *rcpt_tos: str) -> bytes:
    assert (await user.ask(b"MAIL FROM:<alice@example.org>")).startswith(b"250 ")
    for one in rcpt_tos:
        answer = await user.ask(b"RCPT TO:<%b>" % one.encode())
        if not answer.startswith(b"250 "):
            return answer
    return await submit(user, MESSAGE)


async def test_a_submission_arrives_signed_and_enveloped(
    sink: Sink,
    proxy: Proxies,
    client: Clients,
    keystore: Keystore,
    alice: Issued,
    mail_authority: Authority,
    openssl: OpenSSL,
) -> None:
    """SMTP-01, SMTP-05, SMTP-09: each recipient reads their own copy, and the signature verifies."""
    own(keystore, alice)
    readers = {one: learn(keystore, mail_authority.person(one, "p256", 80)) for one in (BOB, CAROL)}
    rules = (Rule(protect=Protect.REQUIRE),)
    listener = await proxy(sink.port, Outbound(keystore, OutboundSettings(rules)))
    answer = await send(await client(listener.port), BOB, CAROL)
    assert answer.startswith(b"250 "), answer
    assert [one.rcpt_tos for one in sink.accepted] == [(BOB,), (CAROL,)]
    for accepted in sink.accepted:
        assert b"windmill" not in accepted.octets
        assert b"carol" not in accepted.octets
        inside = openssl.decrypt(accepted.octets, readers[accepted.rcpt_tos[0]])
        assert b"Under the windmill." in openssl.verify(inside, mail_authority.above[0])


async def test_a_locked_keystore_is_answered_451(
    sink: Sink,
    proxy: Proxies,
    client: Clients,
    make_keystore: KeystoreFactory,
    credentials: Path,
    alice: Issued,
) -> None:
    """SMTP-07: nothing leaves, signed or in clear."""
    own(make_keystore("home"), alice)
    for file in credentials.iterdir():
        file.unlink()
    listener = await proxy(sink.port, Outbound(make_keystore("home"), OutboundSettings()))
    answer = await send(await client(listener.port), BOB)
    assert answer.startswith(b"451 4.7.5 "), answer
    assert sink.accepted == []
