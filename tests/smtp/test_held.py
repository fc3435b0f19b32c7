"""A recipient's certificate has changed: what the sender's client is told, and what leaves meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.keystore import Keystore
from secmailproxy.correspondents import Correspondents
from secmailproxy.outbound import Outbound, OutboundSettings
from tests.fixtures.keystores import NOW, credentials, keystore, make_keystore
from tests.smtp.peers import Client, Proxy, Sink, submit

__all__ = ["credentials", "keystore", "make_keystore"]

ALICE, BOB = "alice@example.org", "bob@example.com"
DAY = timedelta(days=1)
MESSAGE = (
    b"From: <alice@example.org>\r\nTo: <bob@example.com>\r\nSubject: Treasure\r\n\r\nUnder the windmill.\r\n"
)


@pytest.fixture
async def user(
    sink: Sink,
    proxy: Callable[..., Awaitable[Proxy]],
    client: Callable[..., Awaitable[Client]],
    keystore: Keystore,
) -> Client:
    """Alice, who has a key, and rules that encrypt where they can."""
    keystore.generate(ALICE, now=NOW - 30 * DAY)
    correspondents = Correspondents(keystore, lambda: NOW)
    outbound = Outbound(keystore, OutboundSettings())
    listener = await proxy(sink.port, outbound, accepted=correspondents.accepted)
    return await client(listener.port)


def bob(keystore: Keystore, age: timedelta, expires: timedelta | None = None) -> openpgp.SecretKey:
    key = openpgp.generate(BOB, now=NOW - age, expires=expires)
    keystore.import_keys(key.certificate_octets, source="mail", now=NOW)
    return key


async def send(user: Client) -> bytes:
    assert (await user.ask(b"MAIL FROM:<alice@example.org>")).startswith(b"250 ")
    assert (await user.ask(b"RCPT TO:<bob@example.com>")).startswith(b"250 ")
    return await submit(user, MESSAGE)


async def test_the_reply_tells_of_it_below_the_smarthosts_own_text(
    user: Client, sink: Sink, keystore: Keystore
) -> None:
    """The certificate in use stays in use; each line of the reply is well formed."""
    first = bob(keystore, 9 * DAY)
    plain = await send(user)
    bob(keystore, DAY)
    lines = (await send(user)).split(b"\r\n")
    assert plain == b"250 2.0.0 Ok: queued as 1\r\n"
    assert lines[0] == b"250-2.0.0 Ok: queued as 2"
    assert lines[1].startswith(b"250 2.0.0 Note: another certificate")
    assert lines[1].endswith(b"secmailproxy key settle bob@example.com")
    assert lines[2:] == [b""]
    octets = sink.accepted[1].octets
    payload = octets[octets.index(b"-----BEGIN PGP MESSAGE") :]
    assert b"windmill" not in octets
    named = keystore.addressees(payload[: payload.index(b"-----END PGP MESSAGE-----") + 27])
    [reader] = keystore.select(BOB, NOW).certificates
    assert reader.fingerprint == first.fingerprint
    assert set(named) & {key[-16:] for key in openpgp.key_fingerprints(first.certificate_octets)}


async def test_where_the_one_in_use_has_ended_nothing_leaves(
    user: Client, sink: Sink, keystore: Keystore
) -> None:
    """Neither to the other certificate nor in clear, though the rules only prefer encryption."""
    bob(keystore, 20 * DAY, 10 * DAY)
    second = bob(keystore, DAY)
    refusal = await send(user)
    assert refusal.startswith(b"554 5.7.5 the certificate of <bob@example.com> has changed")
    assert b"secmailproxy key settle bob@example.com" in refusal
    assert sink.accepted == []
    keystore.settling.take(BOB, second.fingerprint, NOW)
    assert (await send(user)).startswith(b"250 ")
    assert b"windmill" not in sink.accepted[0].octets
