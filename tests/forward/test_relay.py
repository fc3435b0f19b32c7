"""An SMTP server on this machine takes a message for all, or says so; nothing goes elsewhere without TLS."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import pytest

from secmailproxy.errors import ConfigError, UpstreamLost, UpstreamUnavailable
from secmailproxy.forward.attempts import Outcome
from secmailproxy.forward.model import Product
from secmailproxy.forward.relay import address_of, send, to_relay
from secmailproxy.model import Envelope
from tests.fixtures.processes import free_port
from tests.smtp.peers import Answer, Peer, Scripted, cut, reset

PRODUCT = Product(b"A: b\r\n\r\n.dot\r\n..two\r\nend", Envelope("", ("a@example.org", "b@example.org")))


@pytest.fixture
async def peer() -> Iterator[Scripted]:
    async with Scripted({}, tls=None).running() as made:
        yield made


def at(peer: Scripted) -> str:
    return f"127.0.0.1:{peer.port}"


async def refuse_b(peer: Peer) -> None:
    await peer.say(b"550 5.1.1 who?\r\n" if b"<b@" in peer.lines[-1] else b"250 ok\r\n")


async def hush(peer: Peer) -> None:
    """Says nothing until the client has gone."""
    await peer.reader.read()


async def test_the_envelope_and_the_octets_arrive(peer: Scripted) -> None:
    await asyncio.to_thread(to_relay, at(peer), PRODUCT)
    assert peer.messages == [b"A: b\r\n\r\n..dot\r\n...two\r\nend\r\n.\r\n"]
    assert peer.lines[1:4] == [
        b"mail FROM:<>\r\n",
        b"rcpt TO:<a@example.org>\r\n",
        b"rcpt TO:<b@example.org>\r\n",
    ]


async def test_what_is_8_bit_is_said_so_and_arrives_as_it_is(peer: Scripted) -> None:
    product = Product("Subject: ä\r\n\r\nö\r\n".encode(), Envelope("ä@example.org", ("b@example.org",)))
    await asyncio.to_thread(to_relay, at(peer), product)
    assert peer.lines[1] == "mail FROM:<ä@example.org> BODY=8BITMIME SMTPUTF8\r\n".encode()
    assert peer.messages == ["Subject: ä\r\n\r\nö\r\n.\r\n".encode()]


async def test_what_the_sender_asked_for_stays(peer: Scripted) -> None:
    """Options of the original envelope; a server without DSN is not asked what it does not know."""
    envelope = Envelope(
        "", ("a@example.org",), ("RET=HDRS", "ENVID=x", "SMTPUTF8", "BODY=8BITMIME"), (("NOTIFY=NEVER",),)
    )
    product = Product(b"A: b\r\n\r\nc\r\n", envelope)
    await asyncio.to_thread(to_relay, at(peer), product)
    peer.script["EHLO"] = b"250-peer.example\r\n250 SMTPUTF8\r\n"
    await asyncio.to_thread(to_relay, at(peer), product)
    assert [line for line in peer.lines if line[:4] in (b"mail", b"rcpt")] == [
        b"mail FROM:<> RET=HDRS ENVID=x SMTPUTF8\r\n",
        b"rcpt TO:<a@example.org> NOTIFY=NEVER\r\n",
        b"mail FROM:<> SMTPUTF8\r\n",
        b"rcpt TO:<a@example.org>\r\n",
    ]


@pytest.mark.parametrize(
    ("script", "said", "kind"),
    [
        ({"CONNECT": b"554 no\r\n"}, "refuses the connection with 554", UpstreamUnavailable),
        ({"CONNECT": cut}, "cannot be reached", UpstreamUnavailable),
        ({"MAIL": b"451 4.3.0 later\r\n"}, "451 4.3.0 later", UpstreamUnavailable),
        ({"RCPT": refuse_b}, "550 5.1.1 who", UpstreamUnavailable),
        ({"RCPT": cut}, "cannot be reached", UpstreamUnavailable),
        ({"DATA": b"452 4.3.1 full\r\n"}, "452 4.3.1 full", UpstreamUnavailable),
        ({".": b"550 5.7.1 no\r\n"}, "550 5.7.1 no", UpstreamUnavailable),
        ({".": cut}, "did not take the message", UpstreamLost),
        ({".": reset}, "did not take the message", UpstreamLost),
    ],
)
async def test_it_is_all_or_an_error(
    script: Mapping[str, Answer], said: str, kind: type[Exception], peer: Scripted
) -> None:
    peer.script |= script
    with pytest.raises(kind, match=said) as raised:
        await asyncio.to_thread(to_relay, at(peer), PRODUCT)
    assert type(raised.value) is kind
    assert bool(peer.messages) == ("." in script)


@pytest.mark.parametrize("answer", [b"421 4.3.2 going down\r\n", b"nonsense\r\n", cut, hush])
async def test_what_is_taken_stays_so_whatever_is_said_to_quit(answer: Answer, peer: Scripted) -> None:
    """An error after 250 would bring the message again, and again."""
    peer.script["QUIT"] = answer
    await asyncio.wait_for(asyncio.to_thread(to_relay, at(peer), PRODUCT), 10)
    assert len(peer.messages) == 1


async def test_each_recipient_has_a_fate(peer: Scripted) -> None:
    peer.script["RCPT"] = refuse_b
    begun: list[int] = []
    rcpt_tos = PRODUCT.envelope.rcpt_tos
    fates = await asyncio.to_thread(send, at(peer), PRODUCT, rcpt_tos, lambda: begun.append(1))
    assert [one.outcome for one in fates.values()] == [Outcome.ACCEPTED, Outcome.REFUSED]
    assert begun == [1]


def test_where_nobody_listens_that_is_said() -> None:
    with pytest.raises(UpstreamUnavailable, match="Connection refused"):
        to_relay(f"127.0.0.1:{free_port()}", PRODUCT)


@pytest.mark.parametrize(
    "relay", ["", "mail.example.org:25", "192.0.2.1:25", "127.0.0.1", "127.0.0.1:x", "[::]:25"]
)
def test_only_this_machine_is_spoken_to(relay: str) -> None:
    with pytest.raises(ConfigError, match=r"forward\.relay"):
        to_relay(relay, PRODUCT)


@pytest.mark.parametrize("relay", ["127.0.0.1:25", "[::1]:10026", "localhost:25"])
def test_addresses_of_this_machine(relay: str) -> None:
    assert address_of(relay)[0] in ("127.0.0.1", "::1", "localhost")
