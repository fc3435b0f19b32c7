"""EHLO, parameters, pipelining, sizes and smuggling, over real connections."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable

import pytest

from secmailproxy.smtp.server import SubmissionServer, SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost
from tests.smtp.peers import (
    DOT,
    EHLO,
    GREETING,
    MESSAGE,
    PASSWORD,
    USERNAME,
    Client,
    Door,
    PassThrough,
    Peer,
    Proxy,
    Scripted,
    Sink,
    submit,
)

Scripts = Callable[..., Awaitable[Scripted]]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]

# EHLO and parameters.


@pytest.mark.parametrize(
    ("ehlo", "present", "absent"),
    [
        (EHLO, [b"DSN", b"SMTPUTF8", b"SIZE 1000000"], []),
        (b"250-x\r\n250-AUTH PLAIN\r\n250 SIZE 1465536\r\n", [b"SIZE 1000000"], [b"DSN", b"SMTPUTF8"]),
        (b"250-x\r\n250-AUTH PLAIN\r\n250 SIZE 765536\r\n", [b"SIZE 500000"], [b"DSN"]),
    ],
)
async def test_what_depends_on_the_smarthost_is_offered_only_if_it_offers_it(
    ehlo: bytes,
    present: list[bytes],
    absent: list[bytes],
    scripted: Scripts,
    proxy: Proxies,
    client: Clients,
) -> None:
    """SMTP-12, SMTP-13: before the login and after it."""
    peer = await scripted({"EHLO": ehlo})
    user = await client((await proxy(peer.port, size_limit=1_000_000)).port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    before = await user.ask(b"EHLO client.example")
    token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode())
    assert (await user.ask(b"AUTH PLAIN " + token)).startswith(b"235 ")
    assert await user.ask(b"EHLO client.example") == before
    keywords = {line[4:] for line in before.splitlines()}
    assert {b"PIPELINING", b"8BITMIME", b"ENHANCEDSTATUSCODES", b"AUTH LOGIN PLAIN", *present} <= keywords
    assert not keywords & set(absent)
    assert not keywords & {b"CHUNKING", b"BINARYMIME", b"STARTTLS", b"BURL", b"ETRN", b"HELP"}
    if b"DSN" not in keywords:
        assert (await user.ask(b"MAIL FROM:<a@example.org> RET=HDRS")).startswith(b"555 5.5.4 ")


async def test_smarthosts_are_asked_all_at_once(
    scripted: Scripts, smarthost: Callable[..., Smarthost], client: Clients
) -> None:
    """Several that are slow, or out of reach, do not add up before the first reply to a client."""
    greeted = asyncio.Barrier(3)

    async def greet(peer: Peer) -> None:
        await greeted.wait()
        await peer.say(GREETING)

    hosts = [smarthost((await scripted({"CONNECT": greet})).port) for _ in range(3)]
    settings = SubmissionSettings(port=0, probe_patience=2)
    server = SubmissionServer(settings, Door(hosts[0]), PassThrough(), smarthosts=lambda: hosts)
    user = await client((await server.start())[1], login=False)
    await user.reply()
    assert b"-DSN\r\n" in await user.ask(b"EHLO client.example")
    await server.stop(grace=0)


async def test_parameters_reach_the_smarthost_octet_for_octet(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """SMTP-12; SIZE= and AUTH= do not."""
    peer = await scripted()
    user = await client((await proxy(peer.port)).port)
    mail = b"MAIL FROM:<alice@example.org> SIZE=500 BODY=8BITMIME RET=hdrs AUTH=<> ENVID=QQ3+2Babc"
    assert (await user.ask(mail)).startswith(b"250 ")
    rcpt = b'RCPT TO:<"odd one"@example.org> NOTIFY=SUCCESS,Failure ORCPT=rfc822;Bob+2B@Example.org'
    assert (await user.ask(rcpt)).startswith(b"250 ")
    assert peer.lines[-2:] == [
        b"MAIL FROM:<alice@example.org> BODY=8BITMIME RET=hdrs ENVID=QQ3+2Babc\r\n",
        rcpt + b"\r\n",
    ]


async def test_the_null_sender_and_addresses_outside_ascii(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """RFC 5321 section 4.5.5, RFC 6531."""
    peer = await scripted()
    user = await client((await proxy(peer.port)).port)
    assert (await user.ask(b"MAIL FROM:<>")).startswith(b"250 ")
    assert (await user.ask(b"RSET")).startswith(b"250 ")
    assert (await user.ask("MAIL FROM:<ålice@example.org>".encode())).startswith(b"553 5.6.7 ")
    assert (await user.ask("MAIL FROM:<ålice@example.org> SMTPUTF8".encode())).startswith(b"250 ")
    assert (await user.ask("RCPT TO:<bøb@example.org>".encode())).startswith(b"250 ")
    assert b"MAIL FROM:<>\r\n" in peer.lines
    assert "RCPT TO:<bøb@example.org>\r\n".encode() in peer.lines


async def test_pipelined_commands_are_answered_in_order(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """RFC 2920, with a refused recipient in the middle."""
    user = await client((await proxy(sink.port)).port)
    await user.send(
        b"MAIL FROM:<alice@example.org>\r\nRCPT TO:<nobody@example.org>\r\n"
        b"RCPT TO:<bob@example.org>\r\nDATA\r\n"
    )
    assert [(await user.reply())[:3] for _ in range(4)] == [b"250", b"550", b"250", b"354"]
    await user.send(MESSAGE + DOT + b"NOOP\r\nQUIT\r\n")
    assert [(await user.reply())[:3] for _ in range(4)] == [b"250", b"250", b"221", b""]
    assert [one.rcpt_tos for one in sink.accepted] == [("bob@example.org",)]


async def test_a_message_beyond_the_size_limit(scripted: Scripts, proxy: Proxies, client: Clients) -> None:
    """552 5.3.4 at MAIL when the client says so, after the dot when not; the session goes on."""
    peer = await scripted()
    user = await client((await proxy(peer.port, size_limit=1000)).port)
    assert (await user.ask(b"MAIL FROM:<alice@example.org> SIZE=1001")).startswith(b"552 5.3.4 ")
    await user.begin()
    assert (await submit(user, b"x" * 70_000 + b"\r\n")).startswith(b"552 5.3.4 ")
    await user.begin()
    assert (await submit(user, b"x" * 998 + b"\r\n")).startswith(b"250 ")
    assert len(peer.messages) == 1


async def test_large_messages_arrive_as_they_were(scripted: Scripts, proxy: Proxies, client: Clients) -> None:
    """Lines of every length that is allowed; dots, blanks and 8-bit octets stay."""
    peer = await scripted()
    user = await client((await proxy(peer.port)).port)
    lines = b"y" * 998 + b"\r\n.\r\n..\r\n \t\r\n\xfc\r\n" + b"." * 998 + b"\r\n"
    message = b"Subject: x\r\n\r\n" + lines * 1000
    await user.begin()
    wire = message.replace(b"\r\n.", b"\r\n..") + DOT
    assert (await user.ask(b"DATA")).startswith(b"354 ")
    await user.send(wire)
    assert (await user.reply()).startswith(b"250 ")
    assert peer.messages == [wire]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"Subject: " + b"x" * 990 + b"\r\n\r\nbody\r\n", b"a line of the header has more than 998 octets"),
        (b"Subject: x\r\n" + b"x" * 999 + b"\r\n", b"a line of the header has more than 998 octets"),
        (b"Subject: x\r\n\r\n" + b"x" * 999 + b"\r\n", b"a line of the message has more than 998 octets"),
        (b"\r\n" + b"x" * 999 + b"\r\n\r\n", b"a line of the message has more than 998 octets"),
    ],
)
async def test_lines_that_are_too_long_do_not_leave(
    message: bytes, text: bytes, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """RFC 5321 section 4.5.3.1.6: 554 5.6.0, and the session goes on. What is protected: test_clients.py."""
    peer = await scripted()
    user = await client((await proxy(peer.port)).port)
    await user.begin()
    reply = await submit(user, message)
    assert reply.startswith(b"554 5.6.0 " + text)
    assert peer.messages == []
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")


@pytest.mark.parametrize(
    ("ehlo", "mail", "reply"),
    [
        (b"8BITMIME", b"BODY=8BITMIME", b"250 "),
        (b"8BITMIME", b"BODY=7BIT", b"250 "),
        (b"X", b"BODY=8BITMIME", b"554 5.6.3 "),
        (b"X", b"", b"554 5.6.3 "),
        (b"8BITMIME\r\n250-SMTPUTF8", b"SMTPUTF8", b"250 "),
        (b"8BITMIME\r\n250-SMTPUTF8", b"BODY=8BITMIME SMTPUTF8", b"250 "),
    ],
)
async def test_octets_outside_ascii(
    ehlo: bytes, mail: bytes, reply: bytes, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """RFC 6152, RFC 6531: what the smarthost cannot take is refused; BODY= is for those that know it."""
    peer = await scripted({"EHLO": b"250-x\r\n250-AUTH PLAIN\r\n250-" + ehlo + b"\r\n250 HELP\r\n"})
    user = await client((await proxy(peer.port)).port)
    assert (await user.ask(b"MAIL FROM:<alice@example.org> " + mail)).startswith(b"250 ")
    assert (await user.ask(b"RCPT TO:<bob@example.org>")).startswith(b"250 ")
    assert (await submit(user, b"Subject: x\r\n\r\n\xc3\xa4\r\n")).startswith(reply)
    (line,) = [line for line in peer.lines if line.startswith(b"MAIL ")]
    assert line.split()[2:] == (mail.split() if ehlo != b"X" else [])


async def test_smtputf8_needs_8bitmime(scripted: Scripts, proxy: Proxies, client: Clients) -> None:
    """RFC 6531 section 3.1: header fields in UTF-8 could not follow."""
    peer = await scripted({"EHLO": b"250-x\r\n250-AUTH PLAIN\r\n250 SMTPUTF8\r\n"})
    user = await client((await proxy(peer.port)).port)
    assert b"SMTPUTF8" not in await user.ask(b"EHLO client.example")
    assert (await user.ask(b"MAIL FROM:<a@example.org> SMTPUTF8")).startswith(b"555 5.5.4 ")
    assert (await user.ask(b"MAIL FROM:<a@example.org> BODY=BINARYMIME")).startswith(b"501 5.5.4 ")


# Smuggling.

SMUGGLED = b"MAIL FROM:<admin@example.org>\r\nRCPT TO:<victim@example.org>\r\nDATA\r\nevil\r\n"
LINE_ENDS = (b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\n\n", b"\r\n\r", b"\r\0\n", b"\r\n\0", b"\0\r\n")
ENDINGS = [
    *(
        before + b"." + after
        for before in LINE_ENDS
        for after in LINE_ENDS
        if before != b"\r\n" or not after.startswith(b"\r\n")
    ),
    b"\0",
    b"\r\n.\0\r\n",
    b"\r\n..\n",
    b"\r\n..\r",
    b"\x0b.\r",
]


@pytest.mark.parametrize("arriving", ["at once", "octet by octet"])
async def test_nothing_is_smuggled(arriving: str, scripted: Scripts, proxy: Proxies, client: Clients) -> None:
    """SMTP-11: refused as a whole; what follows is never a command, and never a second message upstream.

    That holds for an end that is one, such as CR CRLF "." CRLF, as well: it may have been meant otherwise.
    """
    peer = await scripted()
    front = await proxy(peer.port)
    for ending in ENDINGS if arriving == "at once" else ENDINGS[::7]:
        user = await client(front.port)
        await user.begin()
        assert (await user.ask(b"DATA")).startswith(b"354 ")
        octets = b"Subject: x\r\n\r\na" + ending + SMUGGLED + DOT + SMUGGLED + DOT
        for at in range(0, len(octets), 1 if arriving == "octet by octet" else len(octets)):
            await user.send(octets[at : at + (1 if arriving == "octet by octet" else len(octets))])
            await asyncio.sleep(0)
        assert (await user.reply()).startswith(b"554 5.6.0 "), ending
        assert await user.reply() == b"", ending
        user.writer.close()
    assert peer.messages == []
    user = await client(front.port)
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")
    assert peer.messages == [MESSAGE + DOT]
    assert not any(b"admin@" in line for line in peer.lines)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"MAIL FROM:<a@example.org>\nRCPT TO:<b@example.org>\r\n", b"500 5.5.2"),
        (b"MAIL FROM:<a\rb@example.org>\r\n", b"500 5.5.2"),
        (b"MAIL FROM:<a\0b@example.org>\r\n", b"500 5.5.2"),
        (b"MAIL FROM:<a@example.org> ENVID=a\tb\r\n", b"500 5.5.2"),
        (b"MAIL FROM:<" + b"a" * 20_000 + b"@example.org>\r\n", b"500 5.5.2"),
        (b"MAIL FROM:<a\xffb@example.org>\r\n", b"501 5.5.2"),
        (b"XYZZY\r\n", b"500 5.5.2"),
        (b"\r\n", b"500 5.5.2"),
        (b"STARTTLS\r\n", b"502 5.5.1"),
        (b"VRFY bob\r\n", b"252 2.5.1"),
        (b"DATA\r\n", b"503 5.5.1"),
        (b"RCPT TO:<b@example.org>\r\n", b"503 5.5.1"),
    ],
)
async def test_bad_commands_change_nothing(
    line: bytes, code: bytes, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """SMTP-11, SMTP-18: a reply that repeats nothing, and no octet upstream."""
    peer = await scripted()
    user = await client((await proxy(peer.port)).port)
    await user.send(line)
    assert (await user.reply()).startswith(code)
    assert not {"MAIL", "RCPT", "DATA"} & set(peer.verbs())


async def test_a_web_page_cannot_log_in(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """The body of a request that a browser was made to send is not read as commands."""
    user = await client((await proxy(sink.port)).port, login=False)
    await user.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nAUTH PLAIN AGEAYg==\r\n")
    assert (await user.reply()).startswith(b"220 ")
    assert (await user.reply()).startswith(b"421 4.7.0 ")
    assert await user.reply() == b""


async def test_a_client_that_talks_nonsense_is_shown_the_door(
    sink: Sink, proxy: Proxies, client: Clients
) -> None:
    user = await client((await proxy(sink.port)).port, login=False)
    await user.send(b"POST /\r\n" + b"Host: localhost\r\n" * 20)
    replies = [await user.reply() for _ in range(13)]
    assert replies[0].startswith(b"220 ")
    assert replies[11].startswith(b"421 4.7.0 ")
    assert replies[12] == b""
