"""Commands sent together, and transactions given up, at a real Postfix, which offers PIPELINING."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from secmailproxy.accounts import Credentials
from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.delivery import deliver
from secmailproxy.smtp.smarthost import Smarthost, SmarthostSettings
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.postfix import REFUSED, Postfix
from tests.fixtures.processes import wait_until
from tests.smtp.peers import PlainCopy

People = list[Mailbox]


def copy(to: str, number: int = 0) -> PlainCopy:
    """A message that says for whom it is, with dots where they matter."""
    return PlainCopy((to,), f"Subject: {number}\r\n\r\n.for\r\n..{to}\r\n.\r\n".encode())


@pytest.fixture
async def host(postfix: Postfix) -> AsyncIterator[Smarthost]:
    """Over STARTTLS."""
    port, ca_file = postfix.submission_port, postfix.ca.ca_file
    one = Smarthost(SmarthostSettings("localhost", port, "starttls", ca_file, timeout=20))
    yield one
    await one.close()


@pytest.fixture
def people(dovecot: Dovecot) -> People:
    """Who writes, then to whom."""
    return [dovecot.mailbox(name) for name in ("alice", "bob", "carol", "dave")]


async def send(host: Smarthost, people: People, copies: list[PlainCopy]) -> Reply:
    """From the first of the people."""
    envelope = Envelope(people[0].address, tuple(one.rcpt_tos[0] for one in copies))
    return await deliver(host, Credentials(people[0].address, people[0].password), envelope, copies)


async def bodies(person: Mailbox, postfix: Postfix, count: int) -> list[bytes]:
    """Of all messages there, once there are as many."""
    stored = await asyncio.to_thread(
        wait_until, lambda: found if len(found := person.stored()) >= count else [], postfix.log
    )
    return [message.partition(b"\r\n\r\n")[2] for message in stored]


async def test_each_copy_of_a_split_message_arrives_once(
    host: Smarthost, people: People, postfix: Postfix
) -> None:
    """SMTP-10: three transactions at once, twice on the same connections."""
    for number in (1, 2):
        copies = [copy(person.address, number) for person in people[1:]]
        assert (await send(host, people, copies)).code == 250
    assert "PIPELINING" in (host.extensions or {})
    assert sum(map(len, host._idle.values())) == 3
    for person in people[1:]:
        body = copy(person.address).octets.partition(b"\r\n\r\n")[2]
        assert await bodies(person, postfix, 2) == [body, body]


async def test_nobody_gets_a_copy_when_one_is_refused(
    host: Smarthost, people: People, postfix: Postfix
) -> None:
    """SMTP-10: those at 354 are cut; the next message is the first that arrives."""
    reply = await send(host, people, [copy(people[1].address), copy(REFUSED), copy(people[2].address)])
    assert reply.code == 550
    copies = [copy(person.address, 3) for person in people[1:3]]
    assert (await send(host, people, copies)).code == 250
    for person, one in zip(people[1:3], copies, strict=True):
        assert await bodies(person, postfix, 1) == [one.octets.partition(b"\r\n\r\n")[2]]
