"""No listener relays: not without a login, and system mail for the addresses on the list alone.

Every sequence of commands, pipelined, at every listener of SMTP and LMTP.
"""

from __future__ import annotations

import base64
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from secmailproxy.admission import Admission, Limits
from secmailproxy.model import Envelope
from secmailproxy.smtp.intake import Intake, IntakeServer, LocalIntake
from secmailproxy.smtp.settings import IntakeSettings
from tests.smtp.peers import MESSAGE, Client, Proxy, Scripted

Scripts = Callable[..., Awaitable[Scripted]]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]

BUSY = Limits(connections_per_minute=100_000, mistakes_per_minute=100_000, messages_per_minute=100_000)
LOCAL = "root@host.example"
WRONG = b"AUTH PLAIN " + base64.b64encode(b"\0locked-out\0guess")
MAIL, RCPT, DATA = b"MAIL FROM:<root@host.example>", b"RCPT TO:<bob@example.org>", b"DATA\r\n."
WITHOUT_LOGIN = [b"EHLO x", b"HELO x", MAIL, RCPT, DATA, b"RSET", WRONG]
FOREIGN = [
    "bob@example.org",
    "@host.example:bob@example.org",
    "bob%example.org@host.example",
    "example.org!bob@host.example",
    '"bob@example.org"@host.example',
    "bob@[192.0.2.1]",
    "root@host.example.org",
    "root@sub.host.example",
    "bob",
]


async def said(client: Clients, port: int, *commands: bytes) -> list[bytes]:
    """All replies to these commands, sent at once on a connection of their own."""
    user = await client(port, login=False)
    await user.send(b"".join(command + b"\r\n" for command in (*commands, b"QUIT")))
    replies = []
    while reply := await user.reply():
        replies.append(reply)
    return replies


async def test_nothing_is_relayed_without_a_login(
    scripted: Scripts, proxy: Proxies, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    peer = await scripted()
    front = await proxy(peer.port, admission=Admission("submission", BUSY))
    with caplog.at_level(logging.WARNING, "secmailproxy"):
        for sequence in itertools.product(WITHOUT_LOGIN, repeat=3):
            replies = await said(client, front.port, b"EHLO x", *sequence)
            assert replies[-1].startswith((b"221 ", b"421 4.7.0 too many failed logins")), sequence
            assert not any(b"sender" in reply or reply.startswith(b"354") for reply in replies), sequence
    assert not {"MAIL", "RCPT", "DATA"} & set(peer.verbs())
    assert not peer.messages
    events = {record.getMessage() for record in caplog.records}
    assert "submission relay access denied" in events


async def test_a_login_is_of_no_use_to_the_next_client(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """From the same address, while the first one is still there."""
    peer = await scripted()
    front = await proxy(peer.port)
    first = await client(front.port)
    assert (await first.ask(b"RSET")).startswith(b"250 ")
    assert (await said(client, front.port, b"EHLO x", MAIL, RCPT))[2:4] == [
        b"530 5.7.0 Authentication required\r\n"
    ] * 2


class Counterpart:
    """A listener for system mail, and what it has taken."""

    def __init__(self, kind: type[Intake]) -> None:
        self.hello = b"LHLO x" if kind is LocalIntake else b"EHLO x"
        self.taken: list[Envelope] = []
        settings = IntakeSettings(
            "127.0.0.1",
            0,
            LOCAL.__eq__,
            name="system",
            admission=Admission("system", BUSY),
        )
        self.server = IntakeServer(settings, lambda octets, envelope: self.taken.append(envelope), kind)
        self.port = 0


@pytest.fixture(params=[Intake, LocalIntake], ids=["SMTP", "LMTP"])
async def intake(request: pytest.FixtureRequest) -> AsyncIterator[Counterpart]:
    """Each kind in turn."""
    made = Counterpart(request.param)
    _, made.port = await made.server.start()
    yield made
    await made.server.stop(0)


@pytest.mark.parametrize("foreign", FOREIGN)
async def test_relay_access_is_denied(
    foreign: str, intake: Counterpart, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """Also beside a recipient on the list; one line in the log, without the recipient."""
    rcpt = b"RCPT TO:<%b>" % foreign.encode()
    user = await client(intake.port, login=False)
    await user.reply()
    assert (await user.ask(intake.hello)).startswith(b"250")
    assert (await user.ask(MAIL)).startswith(b"250 ")
    assert (await user.ask(rcpt)) == b"550 5.7.1 relay access denied\r\n"
    assert (await user.ask(b"RCPT TO:<%b>" % LOCAL.encode())).startswith(b"250 ")
    assert (await user.ask(b"DATA")).startswith(b"354 ")
    assert (await user.ask(MESSAGE + b".")).startswith(b"250 ")
    assert [one.rcpt_tos for one in intake.taken] == [(LOCAL,)]
    records = [vars(one) for one in caplog.records if one.levelno == logging.WARNING]
    assert [(one["msg"] % one["args"], one["client"]) for one in records] == [
        ("system relay access denied", "127.0.0.1")
    ]


async def test_every_sequence_of_commands(intake: Counterpart, client: Clients) -> None:
    commands = [intake.hello, MAIL, RCPT, b"RCPT TO:<%b>" % LOCAL.encode(), DATA, b"RSET"]
    for sequence in itertools.product(commands, repeat=3):
        replies = await said(client, intake.port, intake.hello, MAIL, *sequence)
        assert replies[-1].startswith(b"221 "), sequence
    assert intake.taken
    assert {one.rcpt_tos for one in intake.taken} == {(LOCAL,)}


async def test_messages_beyond_the_rate_are_put_off(client: Clients) -> None:
    """A mail server keeps them and comes again."""
    settings = IntakeSettings(
        "127.0.0.1",
        0,
        LOCAL.__eq__,
        name="system",
        admission=Admission("system", Limits(messages_per_minute=2)),
    )
    server = IntakeServer(settings, lambda octets, envelope: None)
    _, port = await server.start()
    try:
        replies = await said(client, port, b"EHLO x", *[MAIL, b"RSET"] * 3)
    finally:
        await server.stop(0)
    assert [reply[:9] for reply in replies[2:-1:2]] == [b"250 2.1.0", b"250 2.1.0", b"451 4.7.0"]
