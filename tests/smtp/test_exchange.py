"""Commands on their way together, their replies in order, and what breaks that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from secmailproxy.errors import MalformedMessage, UpstreamLost
from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.delivery import deliver
from secmailproxy.smtp.exchange import CHUNK, Exchange, Pace
from secmailproxy.smtp.smarthost import Smarthost
from tests.smtp.peers import (
    DOT,
    LOGIN,
    MESSAGE,
    PIPELINING,
    USERNAME,
    Client,
    PassThrough,
    Peer,
    PlainCopy,
    Proxy,
    Scripted,
    submit,
    until,
)

Scripts = Callable[..., Awaitable[Scripted]]
Hosts = Callable[..., Smarthost]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]

RCPT_TOS = ("bob@example.org", "carol@example.org", "dave@example.org")
ENVELOPE = Envelope(USERNAME, RCPT_TOS)
SILENT = b""
"""No reply yet."""


async def nothing_to_report(envelope: Envelope, failures: object) -> None:
    """A `Report` that is not wanted."""
    raise AssertionError(failures)


@pytest.mark.parametrize(("ehlo", "turns"), [(PIPELINING, 2), (PIPELINING.replace(b"PIPELINING", b"X"), 6)])
async def test_round_trips_of_one_copy(ehlo: bytes, turns: int, scripted: Scripts, smarthost: Hosts) -> None:
    """Two with PIPELINING, whatever the number of recipients: the commands, and the message."""
    peer = await scripted({"EHLO": ehlo})
    host = smarthost(peer.port)
    await host.verify_login(LOGIN)
    before = peer.peers[0].turns
    copies = [PlainCopy(RCPT_TOS, MESSAGE)]
    assert (await deliver(host, LOGIN, ENVELOPE, copies, nothing_to_report)).code == 250
    assert peer.peers[0].turns - before == turns
    assert peer.verbs()[2:] == ["MAIL", "RCPT", "RCPT", "RCPT", "DATA"]
    assert peer.messages == [MESSAGE + DOT]


async def test_the_transactions_of_a_split_message_begin_together(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """SMTP-10: none gets its 354 before all have asked for it; no octet before all have it."""
    asked: list[Peer] = []
    all_asked = asyncio.Event()

    async def data(peer: Peer) -> None:
        asked.append(peer)
        if len(asked) == len(RCPT_TOS):
            all_asked.set()
        await all_asked.wait()
        await peer.say(b"354 go\r\n")
        assert sum(map(len, (one.messages for one in asked))) == 0
        peer.messages.append(await peer._message())
        await peer.say(b"250 2.0.0 queued\r\n")

    peer = await scripted({"EHLO": PIPELINING, "DATA": data})
    copies = [PlainCopy((one,), MESSAGE) for one in RCPT_TOS]
    reply = await deliver(smarthost(peer.port), LOGIN, ENVELOPE, copies, nothing_to_report)
    assert reply.code == 250
    assert [len(one.messages) for one in peer.peers] == [1, 1, 1]


async def test_what_a_client_sends_together_goes_on_together(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """The smarthost answers nothing before the last recipient; each reply is its own, and in order."""
    said = iter([SILENT, SILENT, b"250 2.1.0 m\r\n250 2.1.5 b\r\n550 5.1.1 c\r\n251 2.1.5 d\r\n"])

    async def rcpt(peer: Peer) -> None:
        await peer.say(next(said))

    peer = await scripted({"EHLO": PIPELINING, "MAIL": SILENT, "RCPT": rcpt})
    user = await client((await proxy(peer.port)).port)
    commands = [b"MAIL FROM:<alice@example.org>", *(b"RCPT TO:<%s>" % one.encode() for one in RCPT_TOS)]
    await user.send(b"\r\n".join([*commands, b"DATA", b""]))
    assert [await user.reply() for _ in range(5)] == [
        b"250 2.1.0 m\r\n",
        b"250 2.1.5 b\r\n",
        b"550 5.1.1 c\r\n",
        b"251 2.1.5 d\r\n",
        b"354 end with <CRLF>.<CRLF>\r\n",
    ]
    await user.send(MESSAGE + DOT)
    assert await user.reply() == b"250 2.0.0 queued\r\n"
    assert peer.messages == [MESSAGE + DOT]


@pytest.mark.parametrize("ehlo", [PIPELINING, PIPELINING.replace(b"PIPELINING", b"X")])
async def test_a_sender_refused_before_the_recipients_that_came_with_it(
    ehlo: bytes, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """The smarthost's word for each; no 354, and the next transaction has the same connection."""
    peer = await scripted({"EHLO": ehlo, "MAIL": b"550 5.7.1 no\r\n", "RCPT": b"503 5.5.1 MAIL first\r\n"})
    user = await client((await proxy(peer.port)).port)
    await user.send(
        b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<bob@example.org>\r\nRCPT TO:<bob@example.org>\r\nDATA\r\n"
    )
    assert [(await user.reply())[:9] for _ in range(4)] == [
        b"550 5.7.1",
        b"503 5.5.1",
        b"503 5.5.1",
        b"503 5.5.1",
    ]
    peer.script.update({"MAIL": b"250 2.1.0 ok\r\n", "RCPT": b"250 2.1.5 ok\r\n"})
    await user.begin()
    assert await submit(user) == b"250 2.0.0 queued\r\n"
    assert [peer.verbs().count(verb) for verb in ("AUTH", "DATA")] == [1, 1]


async def test_a_second_sender_waits_for_the_word_about_the_first(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """It is no nested MAIL if the first was refused."""
    said = iter([b"550 5.1.8 no\r\n", b"250 2.1.0 ok\r\n"])

    async def mail(peer: Peer) -> None:
        await peer.say(next(said))

    peer = await scripted({"EHLO": PIPELINING, "MAIL": mail})
    user = await client((await proxy(peer.port)).port)
    await user.send(b"MAIL FROM:<a@example.org>\r\nMAIL FROM:<alice@example.org>\r\nNOOP\r\n")
    assert [(await user.reply())[:9] for _ in range(3)] == [b"550 5.1.8", b"250 2.1.0", b"250 2.0.0"]


async def test_our_refusal_keeps_its_place_among_the_replies(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """It is known at once, but the ones before it come first."""

    class Choosy(PassThrough):
        async def check_recipient(self, sender: str, rcpt_to: str, *, account: str, **_: object) -> None:
            if rcpt_to.startswith("carol"):
                raise MalformedMessage("not carol")

    peer = await scripted({"EHLO": PIPELINING})
    user = await client((await proxy(peer.port, Choosy())).port)
    commands = [b"MAIL FROM:<alice@example.org>", *(b"RCPT TO:<%s>" % one.encode() for one in RCPT_TOS)]
    await user.send(b"\r\n".join([*commands, b"BOO", b"RSET", b""]))
    assert [(await user.reply())[:9] for _ in range(6)] == [
        b"250 2.1.0",
        b"250 2.1.5",
        b"554 5.6.0",
        b"250 2.1.5",
        b"500 5.5.2",
        b"250 2.0.0",
    ]
    assert b"RCPT TO:<carol@example.org>\r\n" not in peer.lines


async def test_the_smarthost_gets_ready_while_the_message_is_protected(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """DATA is there before the copy is; the client waits for one round trip less."""
    peer = await scripted()

    class Patient(PassThrough):
        async def protect(
            self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
        ) -> Sequence[PlainCopy]:
            await until(lambda: "DATA" in peer.verbs())
            return await super().protect(envelope, message, sender=sender, account=account)

    user = await client((await proxy(peer.port, Patient())).port)
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")
    assert len(peer.peers) == 2  # the first one told what the smarthost offers


async def test_a_message_that_cannot_be_protected_leaves_no_octet_at_354(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """SMTP-06: the connection is cut without the dot, and another one serves the next message."""
    peer = await scripted()

    class Never(PassThrough):
        broken = True

        async def protect(
            self, envelope: Envelope, message: bytes, *, sender: str, account: str, **_: object
        ) -> Sequence[PlainCopy]:
            if not self.broken:
                return await super().protect(envelope, message, sender=sender, account=account)
            self.broken = False
            await until(lambda: "DATA" in peer.verbs())
            raise MalformedMessage("cannot be protected")

    user = await client((await proxy(peer.port, Never())).port)
    await user.begin()
    assert (await submit(user)).startswith(b"554 5.6.0 ")
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")
    assert peer.messages == [MESSAGE + DOT]
    assert len(peer.peers) == 3


async def test_a_large_group_of_commands_does_not_block(scripted: Scripts, smarthost: Hosts) -> None:
    """RFC 2920 section 3.1: replies are read while commands are still being written."""
    peer = await scripted({"EHLO": PIPELINING})
    rcpt_tos = tuple(f"{number:0200}@example.org" for number in range(5000))
    copies = [PlainCopy(rcpt_tos, MESSAGE)]
    reply = await deliver(
        smarthost(peer.port), LOGIN, Envelope(USERNAME, rcpt_tos), copies, nothing_to_report
    )
    assert reply == Reply(250, "2.0.0 queued")
    assert peer.verbs().count("RCPT") == 5000


@pytest.mark.parametrize("address", ["bob@example.org>\r\nRCPT TO:<eve@example.org", "a\0@b", "a\x7f@b"])
async def test_no_command_holds_another(address: str, scripted: Scripts, smarthost: Hosts) -> None:
    """Refused before anything of its group is sent."""
    peer = await scripted({"EHLO": PIPELINING})
    host = smarthost(peer.port)
    async with host.begin(LOGIN) as transaction:
        with pytest.raises(MalformedMessage, match="control character"):
            await transaction.open(USERNAME, (), [("bob@example.org", ()), (address, ())])
    assert "MAIL" not in peer.verbs()


async def test_a_reply_that_nobody_asked_for_ends_the_connection(scripted: Scripts, smarthost: Hosts) -> None:
    """Else it would be taken for that of the next command."""
    peer = await scripted({".": b"250 2.0.0 queued\r\n250 2.1.0 and more\r\n"})
    host = smarthost(peer.port)
    for _ in range(2):
        copies = [PlainCopy(RCPT_TOS[:1], MESSAGE)]
        envelope = Envelope(USERNAME, RCPT_TOS[:1])
        assert (await deliver(host, LOGIN, envelope, copies, nothing_to_report)).code == 250
    assert len(peer.peers) == 2
    assert peer.messages == [MESSAGE + DOT] * 2


async def test_a_reply_to_the_dot_that_came_too_early_is_none(scripted: Scripts, smarthost: Hosts) -> None:
    """SMTP-01: 250 on the heels of 354 accepts nothing."""
    peer = await scripted({"DATA": b"354 go\r\n250 2.0.0 queued\r\n"})
    copies = [PlainCopy(RCPT_TOS[:1], MESSAGE)]
    with pytest.raises(UpstreamLost):
        await deliver(smarthost(peer.port), LOGIN, ENVELOPE, copies, nothing_to_report)
    assert peer.messages == []


class Full(asyncio.Transport):
    """Leads to a server that reads no more."""

    ended = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        if data:
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return 1

    def abort(self) -> None:
        self.ended = True


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("reply", [b"552 5.3.4 too large for us\r\n", b"250 2.0.0 queued\r\n"])
async def test_a_server_that_has_heard_enough(reply: bytes, chunks: int) -> None:
    """It answers in the middle of a message and reads no more: its refusal is told at once, 250 is none."""
    transport = Full()
    exchange = Exchange(transport, Pace("x", pipelining=True, timeout=60.0, final_timeout=60.0))
    sending = asyncio.create_task(exchange.message(b"x" * CHUNK * chunks))
    await asyncio.sleep(0)
    exchange.data_received(reply)
    async with asyncio.timeout(5):
        if reply.startswith(b"552"):
            assert await sending == Reply(552, "5.3.4 too large for us")
        else:
            with pytest.raises(UpstreamLost, match="before the end of the message"):
                await sending
    assert transport.ended
