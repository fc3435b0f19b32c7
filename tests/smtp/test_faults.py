"""A smarthost that fails in every way at every command, seen from the mail client.

Each case is one submission into the fault and one after it: the reply to the first, what reached the
smarthost, and that the second one arrives once.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from secmailproxy.errors import UpstreamLost
from secmailproxy.model import Envelope
from secmailproxy.smtp.delivery import Failure, deliver
from secmailproxy.smtp.replies import reply_for
from secmailproxy.smtp.smarthost import Smarthost
from tests.fixtures.certificates import TestCA
from tests.smtp.peers import (
    DOT,
    EHLO,
    LOGIN,
    MESSAGE,
    PIPELINING,
    SCRIPT,
    USERNAME,
    Answer,
    Client,
    Peer,
    PlainCopy,
    Proxy,
    Scripted,
    cut,
    reset,
    stall,
)

Scripts = Callable[..., Awaitable[Scripted]]
Hosts = Callable[..., Smarthost]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]


async def half_then_close(peer: Peer) -> None:
    """Die while saying 250."""
    await peer.say(b"250-2.0.0 ok\r\n250 2.0.0 o")
    await cut(peer)


FAULTS: Mapping[str, Answer] = {
    "stall": stall,
    "reset": reset,
    "close": cut,
    "421": b"421 4.3.2 shutting down\r\n",
    "4yz": b"451 4.7.1 later\r\n",
    "5yz": b"554 5.7.1 no\r\n",
    "garbage": b"\xff\0hello\r\n",
    "two codes": b"354-one\r\n250-two\r\n554 5.7.1 three\r\n",
    "no end": b"250-x\r\n" * 10_000,
    "half a reply": half_then_close,
}
PATIENCE = 0.3
"""Seconds in which a smarthost that stalls must answer; all others get more."""


async def done_then_close(peer: Peer) -> None:
    """Say 250, then go."""
    await peer.say(b"250 2.0.0 ok\r\n")
    await cut(peer)


def mid_message(fault: Answer) -> Answer:
    """354, and the fault after the first line of the message."""

    async def answer(peer: Peer) -> None:
        await peer.say(b"354 go\r\n")
        await peer.reader.readline()
        await (peer.say(fault) if isinstance(fault, bytes) else fault(peer))
        await cut(peer)

    return answer


UNREACHED, LOST = b"451 4.4.1 ", b"451 4.4.2 "
CONNECTING = dict.fromkeys(FAULTS, UNREACHED)
OWN_WORDS = {name: FAULTS[name] for name in ("421", "4yz", "5yz")}
WORKING = dict.fromkeys(FAULTS, LOST) | OWN_WORDS
EXPECTED: Mapping[str, Mapping[str, bytes]] = {
    "CONNECT": CONNECTING,
    "EHLO": CONNECTING,
    "STAR": CONNECTING,
    # Of several codes the library takes the last; here that is a refusal.
    "AUTH": WORKING | {"two codes": b"554 "},
    "MAIL": WORKING,
    "RCPT": WORKING,
    "DATA": WORKING,
    "message": WORKING,
    ".": WORKING,
}
"""What the client is told, by the command at which the smarthost fails, and the fault."""
NEW_CONNECTIONS = ("CONNECT", "EHLO", "STAR", "AUTH")


@dataclass
class Bench:
    """A scripted smarthost, the proxy before it, and the means to make clients."""

    peer: Scripted
    front: Proxy
    connect: Clients
    together: bool
    """Whether the client sends MAIL, RCPT and DATA in one piece."""

    async def submit(self, user: Client) -> bytes:
        """One message to one recipient; the first reply that is a refusal, else the last."""
        commands = [b"MAIL FROM:<alice@example.org>", b"RCPT TO:<bob@example.org>", b"DATA"]
        reply = b""
        if self.together:
            await user.send(b"\r\n".join([*commands, b""]))
        for command in commands:
            reply = await (user.reply() if self.together else user.ask(command))
            if reply[:1] not in (b"2", b"3"):
                await self._give_up(user, reply, len(commands) - commands.index(command) - 1)
                return reply
        await user.send(MESSAGE + DOT)
        return await user.reply()

    async def _give_up(self, user: Client, reply: bytes, left: int) -> None:
        """Read what else was asked for, which never is 354, and forget the transaction."""
        if not reply.startswith(b"421"):
            for _ in range(left if self.together else 0):
                assert (await user.reply())[:1] != b"3"
            assert (await user.ask(b"RSET")).startswith(b"250 ")

    async def into_the_fault(self, verb: str, fault: str) -> bytes:
        """One submission while the smarthost fails; then one that must work."""
        answer = FAULTS[fault]
        user = await self.connect(self.front.port)
        if fault == "stall" or verb in NEW_CONNECTIONS:
            await self.front.smarthost.close()
            self._patience(PATIENCE if fault == "stall" else 5.0)
        if verb == "message":
            self.peer.script["DATA"] = mid_message(answer)
        else:
            self.peer.script[verb] = answer
        before = len(self.peer.messages)
        reply = await self.submit(user)
        assert len(self.peer.messages) - before == (verb == ".")
        self._patience(5.0)
        self.peer.script.update(self.good)
        if reply.startswith(b"421"):
            assert await user.reply() == b""
            user = await self.connect(self.front.port)
        before = len(self.peer.messages)
        assert await self.submit(user) == b"250 2.0.0 queued\r\n"
        assert len(self.peer.messages) - before == 1
        user.writer.close()
        return reply

    def _patience(self, seconds: float) -> None:
        for name in ("timeout", "final_timeout"):
            object.__setattr__(self.front.smarthost.settings, name, seconds)

    def __post_init__(self) -> None:
        self.good = dict(self.peer.script)


@pytest.fixture(params=[False, True], ids=["one by one", "together"])
async def bench(request: pytest.FixtureRequest, scripted: Scripts, proxy: Proxies, client: Clients) -> Bench:
    """In front of a smarthost that works so far, with PIPELINING if the client uses it."""
    peer = await scripted({"EHLO": PIPELINING if request.param else EHLO})
    return Bench(
        peer, await proxy(peer.port, upstream={"timeout": 5.0, "final_timeout": 5.0}), client, request.param
    )


@pytest.mark.parametrize(
    ("bench", "verb"),
    [(False, verb) for verb in EXPECTED if verb != "STAR"]
    + [(True, verb) for verb in EXPECTED if verb not in NEW_CONNECTIONS],
    indirect=["bench"],
)
async def test_the_client_is_told_the_truth_whatever_fails(verb: str, bench: Bench) -> None:
    """SMTP-01, SMTP-02: the reply of each fault; at most one attempt once the message was sent; a connection
    that failed serves nobody else."""
    for fault, expected in EXPECTED[verb].items():
        connections, logins = len(bench.peer.peers), bench.peer.verbs().count("AUTH")
        commands = bench.peer.verbs().count("DATA")
        reply = await bench.into_the_fault(verb, fault)
        assert reply.startswith(expected), (fault, reply)
        # Into the fault, after it, and one for a fresh login or a kept connection that has failed.
        assert len(bench.peer.peers) - connections <= 4, fault
        assert bench.peer.verbs().count("AUTH") - logins <= 4, fault
        assert bench.peer.verbs().count("DATA") - commands <= 2, fault


async def test_starttls_that_fails(scripted: Scripts, proxy: Proxies, client: Clients, ca: TestCA) -> None:
    """SMTP-14: no login and no mail without it; the next submission has TLS."""

    async def upgrade(peer: Peer) -> None:
        await peer.say(b"220 2.0.0 go\r\n")
        await peer.writer.start_tls(ca.server_context())

    offers = EHLO.replace(b"250 SMTPUTF8", b"250-STARTTLS\r\n250 SMTPUTF8")
    peer = await scripted({"EHLO": offers, "STAR": upgrade}, tls=None)
    front = await proxy(peer.port, upstream={"timeout": 5.0, "tls": "starttls"})
    bench = Bench(peer, front, client, together=False)
    for fault, expected in EXPECTED["STAR"].items():
        before = len(peer.peers)
        assert (await bench.into_the_fault("STAR", fault)).startswith(expected), fault
        failed = [one for one in peer.peers[before:] if one.writer.get_extra_info("sslcontext") is None]
        assert failed
        assert not {line[:4] for one in failed for line in one.lines} & {b"AUTH", b"MAIL"}


@pytest.mark.parametrize(
    ("dot", "expected"),
    [
        (half_then_close, LOST),
        (done_then_close, b"250 2.0.0 ok\r\n"),
        (b"250-2.0.0 o\r\n250 2.0.0 k\r\n", b"250-2.0.0 o\r\n250 2.0.0 k\r\n"),
    ],
    ids=["half a reply", "the reply and no more", "two lines"],
)
async def test_after_the_dot(dot: Answer, expected: bytes, bench: Bench) -> None:
    """SMTP-01, SMTP-02: only a whole reply counts; what is not known is not tried again."""
    user = await bench.connect(bench.front.port)
    bench.peer.script["."] = dot
    assert (await bench.submit(user)).startswith(expected)
    assert bench.peer.messages == [MESSAGE + DOT]
    bench.peer.script.update(bench.good)
    assert await bench.submit(user) == b"250 2.0.0 queued\r\n"
    assert bench.peer.messages == [MESSAGE + DOT] * 2


@pytest.mark.parametrize("fault", ["reset", "close", "421", "garbage", "two codes"])
async def test_a_kept_connection_that_is_gone_costs_one_more_attempt(fault: str, bench: Bench) -> None:
    """Nothing lost, nothing doubled: MAIL is said once more, on a new connection; then failure is told."""
    user = await bench.connect(bench.front.port)
    assert (await bench.submit(user)).startswith(b"250 ")

    async def once(peer: Peer) -> None:
        bench.peer.script["MAIL"] = SCRIPT["MAIL"]
        answer = FAULTS[fault]
        await (peer.say(answer) if isinstance(answer, bytes) else answer(peer))

    before = len(bench.peer.peers)
    bench.peer.script["MAIL"] = once
    assert await bench.submit(user) == b"250 2.0.0 queued\r\n"
    assert bench.peer.messages == [MESSAGE + DOT] * 2
    assert len(bench.peer.peers) - before == 1
    bench.peer.script["MAIL"] = FAULTS[fault]
    assert not (await bench.submit(user)).startswith(b"2")
    assert len(bench.peer.peers) - before == 2
    assert bench.peer.messages == [MESSAGE + DOT] * 2


# Several copies.

RCPT_TOS = ("bob@example.org", "carol@example.org", "dave@example.org")
ENVELOPE = Envelope(USERNAME, RCPT_TOS)
COPIES = tuple(PlainCopy((one,), b"To: %s\r\n\r\n" % one.encode()) for one in RCPT_TOS)
POINTS = ("MAIL", "RCPT", "DATA", ".")
SPLIT_FAULTS = {name: FAULTS[name] for name in ("reset", "close", "421", "4yz", "5yz", "garbage")}


def recipient(peer: Peer) -> int:
    """The number of the copy of the transaction that runs on this connection, -1 before RCPT."""
    said = [line for line in peer.lines if line.startswith(b"RCPT TO:<")]
    return RCPT_TOS.index(said[-1][9:].partition(b">")[0].decode()) if said else -1


def arrived(peer: Scripted) -> Counter[bytes]:
    """The messages that came with their dot."""
    return Counter(message for message in peer.messages if message.endswith(b"\r\n.\r\n"))


def only(number: int, verb: str, fault: Answer) -> Answer:
    """The fault for one copy, at MAIL for the one that comes at this place; else the usual answer."""
    turn = itertools.count()

    async def answer(peer: Peer) -> None:
        at = next(turn) if verb == "MAIL" else recipient(peer)
        chosen = fault if at == number else SCRIPT[verb]
        if verb == "DATA" and chosen is SCRIPT[verb]:
            await peer.say(b"354 go\r\n")
            peer.messages.append(await peer._message())
            await peer.say(b"250 2.0.0 queued\r\n")
        else:
            await (peer.say(chosen) if isinstance(chosen, bytes) else chosen(peer))

    return answer


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("ehlo", [EHLO, PIPELINING], ids=["plain", "PIPELINING"])
async def test_one_of_several_copies_fails(
    point: str, ehlo: bytes, scripted: Scripts, smarthost: Hosts
) -> None:
    """SMTP-10: before the first acceptance nobody gets anything; after it 250, and a failure is reported."""
    peer = await scripted({"EHLO": ehlo})
    host = smarthost(peer.port)
    for number, fault in itertools.product(range(len(COPIES)), SPLIT_FAULTS):
        failures: list[Failure] = []

        async def report(envelope: Envelope, failed: Sequence[Failure]) -> None:
            failures.extend(failed)  # noqa: B023  of this round

        await host.close()  # so that a kept connection hides no fault
        before = arrived(peer)
        peer.script[point] = only(number, point, SPLIT_FAULTS[fault])
        try:
            reply = await deliver(host, LOGIN, ENVELOPE, COPIES, report)
        except UpstreamLost as error:
            reply = reply_for(error, "")
        told = b"%d %s\r\n" % (reply.code, reply.text.encode())
        count = (arrived(peer) - before).total()
        wanted = WORKING[fault]
        if point == "." and number > 0:
            assert told.startswith(b"250 ")
            assert count == len(COPIES), (number, fault)
            assert [one.rcpt_tos for one in failures] == [COPIES[number].rcpt_tos]
            assert failures[0].unknown == (wanted == LOST)
            assert str(failures[0].reply.code).encode() == wanted[:3]
        else:
            assert told.startswith(wanted), (number, fault)
            assert count == (point == "."), (number, fault)
            assert not failures
        peer.script[point] = SCRIPT[point]
    before = arrived(peer)
    assert (await deliver(host, LOGIN, ENVELOPE, COPIES)).code == 250
    assert arrived(peer) - before == Counter(copy.octets + DOT for copy in COPIES)
