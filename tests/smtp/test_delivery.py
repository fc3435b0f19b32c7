"""Several copies of one message: all at 354 before the first octet of any; partial failures are reported."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

import pytest

from secmailproxy.errors import LimitExceeded, MalformedMessage, UpstreamLost
from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.delivery import Failure, deliver
from secmailproxy.smtp.replies import reply_for
from secmailproxy.smtp.smarthost import Smarthost
from tests.smtp.peers import (
    EHLO,
    LOGIN,
    USERNAME,
    Answer,
    Peer,
    PlainCopy,
    Scripted,
    Sink,
    cut,
    stall,
)

Scripts = Callable[..., Awaitable[Scripted]]
Hosts = Callable[..., Smarthost]

ENVELOPE = Envelope(
    USERNAME,
    ("bob@example.org", "carol@example.org", "dave@example.org"),
    ("RET=HDRS", "ENVID=a+3Db"),
    (("NOTIFY=NEVER",), (), ("ORCPT=rfc822;Dave@Example.org",)),
)
COPIES = (
    PlainCopy(("bob@example.org", "carol@example.org"), b"Subject: 1\r\n\r\nfor To and Cc\r\n"),
    PlainCopy(("dave@example.org",), b"Subject: 2\r\n\r\nfor Bcc\r\n"),
)


class Reports:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []

    async def __call__(self, envelope: Envelope, failures: Sequence[Failure]) -> None:
        """A `Report`."""
        assert envelope == ENVELOPE
        self.failures.extend(failures)


async def send(
    host: Smarthost, reports: Reports | None = None, copies: Sequence[PlainCopy] = COPIES
) -> Reply:
    """Deliver."""
    return await deliver(host, LOGIN, ENVELOPE, copies, reports or Reports())


async def test_each_copy_goes_to_its_own_recipients(sink: Sink, smarthost: Hosts) -> None:
    """In their order, at a real server."""
    copies = [PlainCopy(copy.rcpt_tos, copy.octets) for copy in COPIES]
    envelope = Envelope(USERNAME, ENVELOPE.rcpt_tos)
    reply = await deliver(smarthost(sink.port), LOGIN, envelope, copies, Reports())
    assert reply == Reply(250, "2.0.0 Ok: queued as 1")
    assert [(one.rcpt_tos, one.octets) for one in sink.accepted] == [
        (copy.rcpt_tos, copy.octets) for copy in COPIES
    ]


async def test_parameters_follow_their_recipients(scripted: Scripts, smarthost: Hosts) -> None:
    """SMTP-12: each octet of them, in each transaction."""
    peer = await scripted()
    assert (await send(smarthost(peer.port))).code == 250
    mail = b"MAIL FROM:<alice@example.org> RET=HDRS ENVID=a+3Db\r\n"
    given = {tuple(line for line in one.lines if line[:4] in (b"MAIL", b"RCPT")) for one in peer.peers}
    assert given == {
        (mail, b"RCPT TO:<bob@example.org> NOTIFY=NEVER\r\n", b"RCPT TO:<carol@example.org>\r\n"),
        (mail, b"RCPT TO:<dave@example.org> ORCPT=rfc822;Dave@Example.org\r\n"),
    }


async def test_no_octet_before_all_are_at_354(scripted: Scripts, smarthost: Hosts) -> None:
    """SMTP-10: the second transaction is refused at DATA, so the first one never gets its message."""
    answers = iter([b"354 go\r\n", b"452 4.3.1 no room\r\n"])

    async def data(peer: Peer) -> None:
        answer = next(answers)
        await peer.say(answer)
        if answer.startswith(b"354"):
            rest = await peer.reader.read()
            peer.messages.append(rest)
            raise ConnectionAbortedError

    peer = await scripted({"DATA": data})
    reports = Reports()
    assert await send(smarthost(peer.port), reports) == Reply(452, "4.3.1 no room")
    async with asyncio.timeout(5):
        while not peer.messages:
            await asyncio.sleep(0)
    assert peer.messages == [b""]
    assert reports.failures == []


REFUSALS: Mapping[str, Answer] = {
    "MAIL": b"550 5.7.1 not you\r\n",
    "RCPT": b"550 5.1.1 unknown\r\n",
    "DATA": b"554 5.5.1 no\r\n",
}


@pytest.mark.parametrize("verb", REFUSALS)
async def test_a_refusal_before_the_data_refuses_all(verb: str, scripted: Scripts, smarthost: Hosts) -> None:
    """The server's reply; nothing sent."""
    peer = await scripted({verb: REFUSALS[verb]})
    reply = await send(smarthost(peer.port))
    assert f"{reply.code} {reply.text}\r\n".encode() == REFUSALS[verb]
    assert peer.messages == []


@pytest.mark.parametrize(("rcpt", "code"), [(b"550 5.7.1 no\r\n", 550), (cut, 451)])
async def test_after_a_failure_no_more_transactions_are_begun(
    rcpt: Answer, code: int, scripted: Scripts, smarthost: Hosts
) -> None:
    """Of many copies, those that are on their way come to rest; nobody gets anything."""
    peer = await scripted({"RCPT": rcpt})
    rcpt_tos = tuple(f"{number}@example.org" for number in range(40))
    copies = [PlainCopy((one,), b"x\r\n") for one in rcpt_tos]
    envelope = Envelope(USERNAME, rcpt_tos)
    try:
        reply = await deliver(smarthost(peer.port), LOGIN, envelope, copies, Reports())
    except UpstreamLost as error:
        reply = reply_for(error, "")
    assert reply.code == code
    assert len(peer.peers) < 10
    assert "DATA" not in peer.verbs()


def once_then(first: bytes, then: Answer) -> Answer:
    """The first connection that comes here gets `first`, all others `then`."""
    asked: list[Peer] = []

    async def answer(peer: Peer) -> None:
        asked.append(peer)
        if len(asked) == 1:
            await peer.say(first)
        elif isinstance(then, bytes):
            await peer.say(then)
        else:
            await then(peer)

    return answer


@pytest.mark.parametrize(
    ("then", "code"),
    [(b"552 5.2.2 mailbox full\r\n", 552), (b"451 4.3.0 later\r\n", 451), (cut, 451), (stall, 451)],
)
async def test_a_failure_after_the_first_acceptance_is_reported(
    then: Answer, code: int, scripted: Scripts, smarthost: Hosts
) -> None:
    """SMTP-10: 250, since the client would send everything again; the others are named to the report."""
    peer = await scripted({".": once_then(b"250 2.0.0 queued\r\n", then)})
    reports = Reports()
    reply = await send(smarthost(peer.port, final_timeout=0.3), reports)
    assert reply == Reply(250, "2.0.0 queued")
    assert [failure.rcpt_tos for failure in reports.failures] == [("dave@example.org",)]
    assert reports.failures[0].reply.code == code
    assert len(peer.messages) == 2


async def test_the_first_copy_refused_means_that_no_other_is_sent(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """Nothing was accepted, so the refusal is the truth for all."""
    peer = await scripted({".": b"554 5.7.1 spam\r\n"})
    reports = Reports()
    assert await send(smarthost(peer.port), reports) == Reply(554, "5.7.1 spam")
    assert len(peer.messages) == 1
    assert reports.failures == []


async def test_the_fate_of_the_first_copy_unknown_means_that_no_other_is_sent(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """SMTP-02: one attempt."""
    peer = await scripted({".": cut})
    with pytest.raises(UpstreamLost):
        await send(smarthost(peer.port))
    assert len(peer.messages) == 1


@pytest.mark.parametrize(
    ("ehlo", "octets", "kind"),
    [
        (EHLO.replace(b"250 SMTPUTF8", b"250 SIZE 100"), b"x" * 99 + b"\r\n", LimitExceeded),
        (b"250-peer\r\n250 AUTH PLAIN\r\n", "ü\r\n".encode(), MalformedMessage),
        (EHLO, b"a\nb\r\n", MalformedMessage),
    ],
)
async def test_a_copy_that_the_server_cannot_take_stops_all(
    ehlo: bytes, octets: bytes, kind: type[Exception], scripted: Scripts, smarthost: Hosts
) -> None:
    """Size after encryption (552 5.3.4), 8-bit without 8BITMIME, bare LF: before any command."""
    peer = await scripted({"EHLO": ehlo})
    with pytest.raises(kind):
        await send(smarthost(peer.port), copies=[COPIES[0], PlainCopy(COPIES[1].rcpt_tos, octets)])
    assert peer.messages == []
