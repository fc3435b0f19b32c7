"""SMTP-10: one copy fails after another was accepted; the sender learns of it, though the proxy is killed."""

from __future__ import annotations

import asyncio
import smtplib

from secmailproxy.errands.spool import waiting
from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import SUBJECT, TEXT, ProxyUser, letter, proxy_user
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory, Upstream, serving
from tests.fixtures.relay import Relay
from tests.smtp.peers import Peer, Scripted

BOB, DAVE, ERIN = "bob@example.org", "dave@example.org", "erin@example.org"


def submit(sender: ProxyUser, port: int) -> None:
    """To Bob, and blind to two others; the client must be told that it is accepted."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.login(sender.address, sender.mailbox.password)
        assert client.sendmail(sender.address, [BOB, DAVE, ERIN], letter(sender.address, BOB)) == {}


async def test_the_notification_outlasts_a_kill(
    ca: TestCA, dovecot: Dovecot, relay: Relay, module_proxies: ProxyFactory
) -> None:
    """It is on the disk when the client is told 250, in the INBOX after the next login, and there once."""
    answers = iter([b"250 2.0.0 first\r\n", b"554 5.7.1 not him\r\n", b"250 2.0.0 third\r\n"])

    async def dot(peer: Peer) -> None:
        await peer.say(next(answers))

    async with Scripted({".": dot}, tls=ca.server_context()).running() as smarthost:
        servers = Upstream(ca.ca_file, relay.port, smarthost.port, smtp_tls="implicit")
        alice = proxy_user(module_proxies, dovecot.mailbox("alice"), upstream=servers)
        with alice.home.keystore() as keystore:
            for address in (BOB, DAVE, ERIN):
                keystore.generate(address)
        relay.arm("client", before=b"APPEND")
        with serving(alice.home) as proxy:
            await asyncio.to_thread(submit, alice, proxy.submission_port)
            proxy.process.kill()
        assert len(smarthost.messages) == 3
        (kept,) = waiting(alice.home.folders.notifications)
        assert kept.account == alice.address
        assert alice.mailbox.stored() == []

        relay.arm("client")
        with serving(alice.home) as proxy:
            await asyncio.to_thread(proxy.messages, alice.mailbox)
            (stored,) = await asyncio.to_thread(wait_until, alice.mailbox.stored, "notification")
            (shown,) = await asyncio.to_thread(proxy.messages, alice.mailbox)
            await asyncio.to_thread(
                wait_until, lambda: not waiting(alice.home.folders.notifications), "empty spool"
            )
    assert b"multipart/encrypted" in stored
    assert b"Final-Recipient: rfc822; dave@example.org" in shown
    assert b"554 5.7.1 not him" in shown
    assert b"erin@" not in shown
    assert SUBJECT.encode() in shown
    assert TEXT.encode() not in shown
    assert "dave" not in proxy.log()
