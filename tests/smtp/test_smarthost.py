"""The smarthost: kept connections and who may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from secmailproxy.errors import (
    ConfigError,
    LoginRefused,
    UpstreamUnavailable,
)
from secmailproxy.smtp.smarthost import Credentials, Smarthost, SmarthostSettings
from tests.fixtures.processes import free_port
from tests.smtp.peers import (
    EHLO,
    LOGIN,
    PASSWORD,
    PIPELINING,
    USERNAME,
    Answer,
    Peer,
    Scripted,
    Sink,
    cut,
    reset,
    stall,
    until,
)

Scripts = Callable[..., Awaitable[Scripted]]
Hosts = Callable[..., Smarthost]


async def send(host: Smarthost, octets: bytes = b"Subject: x\r\n\r\nhello\r\n") -> int:
    """One transaction; the code of the final reply."""
    async with host.begin(LOGIN) as transaction:
        assert (await transaction.mail(USERNAME)).positive
        assert (await transaction.rcpt("bob@example.org")).positive
        assert (await transaction.data()).code == 354
        return (await transaction.send(octets)).code


async def test_implicit_tls(sink: Sink, smarthost: Hosts) -> None:
    """A real server, several messages on one connection."""
    host = smarthost(sink.port)
    await host.verify_login(LOGIN)
    for number in range(3):
        assert await send(host, b"Subject: %d\r\n\r\n.\r\n..dots\r\n" % number) == 250
    assert [one.octets for one in sink.accepted] == [
        b"Subject: %d\r\n\r\n.\r\n..dots\r\n" % number for number in range(3)
    ]
    assert sink.accepted[0].rcpt_tos == ("bob@example.org",)
    assert (sink.logins, sink.connections) == (1, 1)


async def test_starttls(starttls_sink: Sink, smarthost: Hosts) -> None:
    """The same over STARTTLS."""
    host = smarthost(starttls_sink.port, tls="starttls")
    assert await send(host) == 250
    assert len(starttls_sink.accepted) == 1


async def test_a_real_server_refuses_a_wrong_password(sink: Sink, smarthost: Hosts) -> None:
    """Its reply comes through."""
    with pytest.raises(LoginRefused, match="Error: authentication failed: sorry") as error:
        await smarthost(sink.port).verify_login(Credentials(USERNAME, "wrong"))
    assert (error.value.smtp_code, error.value.enhanced_status) == (535, "5.7.8")
    assert sink.logins == 1


async def test_nobody_listens(smarthost: Hosts) -> None:
    """The host and the system's word for it."""
    port = free_port()
    with pytest.raises(UpstreamUnavailable, match=f"localhost:{port} cannot be reached"):
        await smarthost(port).verify_login(LOGIN)


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_bad_ca_file_is_named(content: str | None, smarthost: Hosts, tmp_path: Path) -> None:
    """The path is in the text."""
    path = tmp_path / "private-ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"private-ca\.pem"):
        await smarthost(1, ca_file=path).verify_login(LOGIN)


async def test_a_kept_connection_serves_only_its_own_credential(sink: Sink, smarthost: Hosts) -> None:
    """A wrong password is judged by the server, even while the right one has connections open."""
    host = smarthost(sink.port)
    await host.verify_login(LOGIN)
    await host.verify_login(LOGIN)
    assert sink.logins == 1
    with pytest.raises(LoginRefused):
        await host.verify_login(Credentials(USERNAME, "wrong"))
    with pytest.raises(LoginRefused):
        await host.verify_login(Credentials("bob@example.org", PASSWORD))
    assert sink.logins == 3


async def test_two_transactions_never_share_a_connection(sink: Sink, smarthost: Hosts) -> None:
    """Each has its own while both run; afterwards both are kept."""
    host = smarthost(sink.port)
    assert (
        await asyncio.gather(*(send(host, b"Subject: %d\r\n\r\n" % number) for number in range(5)))
        == [250] * 5
    )
    assert sink.connections == 5
    await asyncio.gather(*(send(host) for _ in range(5)))
    assert sink.connections == 5
    assert len(sink.accepted) == 10


async def test_an_open_transaction_is_reset_before_the_connection_is_used_again(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """No recipient of one message gets another."""
    peer = await scripted()
    host = smarthost(peer.port)
    async with host.begin(LOGIN) as transaction:
        await transaction.mail(USERNAME)
        await transaction.rcpt("secret@example.org")
    assert await send(host) == 250
    assert peer.verbs() == ["EHLO", "AUTH", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("answer", [cut, stall, b"500 5.5.1 what?\r\n", b"421 4.3.2 bye\r\n"])
async def test_a_connection_that_cannot_be_reset_is_not_used(
    answer: Answer, scripted: Scripts, smarthost: Hosts
) -> None:
    """Nothing of the transaction before can come into the next."""
    peer = await scripted({"RSET": answer})
    host = smarthost(peer.port, timeout=0.5)
    async with host.begin(LOGIN) as transaction:
        await transaction.mail(USERNAME)
        await transaction.rcpt("secret@example.org")
    assert await send(host) == 250
    assert len(peer.peers) == 2
    assert peer.peers[0].messages == []


async def test_a_transaction_given_up_at_354_is_cut_without_the_dot(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """The server must not take what it has got."""
    peer = await scripted()
    host = smarthost(peer.port)
    async with host.begin(LOGIN) as transaction:
        await transaction.mail(USERNAME)
        await transaction.rcpt("bob@example.org")
        await transaction.data()
    assert await send(host) == 250
    assert len(peer.peers) == 2
    assert len(peer.messages) == 1


@pytest.mark.parametrize("death", [cut, reset, b"421 4.3.2 idle too long\r\n"])
async def test_a_kept_connection_that_is_gone_is_replaced(
    death: Answer, scripted: Scripts, smarthost: Hosts
) -> None:
    """The first MAIL on it fails, so nothing was sent: a new connection takes over, once."""
    peer = await scripted()
    host = smarthost(peer.port)
    assert await send(host) == 250

    async def once(one: Peer) -> None:
        peer.script["MAIL"] = b"250 2.1.0 ok\r\n"
        await (one.say(death) if isinstance(death, bytes) else death(one))

    peer.script["MAIL"] = once
    assert await send(host) == 250
    assert len(peer.peers) == 2
    assert len(peer.messages) == 2


async def test_a_connection_that_died_while_idle_is_not_used(scripted: Scripts, smarthost: Hosts) -> None:
    """No command is wasted on it."""
    peer = await scripted()
    host = smarthost(peer.port)
    assert await send(host) == 250
    peer.peers[0].writer.transport.abort()
    while any(connection.alive for kept in host._idle.values() for connection in kept):
        await asyncio.sleep(0)
    assert await send(host) == 250
    assert peer.peers[0].lines[-1] == b"DATA\r\n"


async def test_idle_connections_are_closed(scripted: Scripts, smarthost: Hosts) -> None:
    """After idle_limit, with QUIT."""
    peer = await scripted()
    host = smarthost(peer.port, idle_limit=0.05)
    assert await send(host) == 250
    async with asyncio.timeout(5):
        while b"QUIT\r\n" not in peer.lines:
            await asyncio.sleep(0.01)
    assert not host._idle


async def test_not_more_than_keep_connections_are_kept(sink: Sink, smarthost: Hosts) -> None:
    """The oldest goes."""
    host = smarthost(sink.port, keep=2)
    await asyncio.gather(*(send(host) for _ in range(4)))
    assert [len(kept) for kept in host._idle.values()] == [2]


async def test_what_the_smarthost_offers_is_learned_without_login(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """Once; afterwards it is known."""
    peer = await scripted()
    host = smarthost(peer.port)
    assert set(await host.learn(5)) == {"AUTH", "8BITMIME", "DSN", "SMTPUTF8"}
    assert set(await host.learn(5)) == {"AUTH", "8BITMIME", "DSN", "SMTPUTF8"}
    assert peer.verbs() == ["EHLO", "QUIT"]


async def test_learning_does_not_wait_for_a_smarthost_that_stalls(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """Patience is limited; nothing is offered then."""
    peer = await scripted({"CONNECT": stall})
    assert await smarthost(peer.port, timeout=60).learn(0.05) == {}


async def test_fifty_sessions_at_once_keep_their_connections(sink: Sink, smarthost: Hosts) -> None:
    """Each message arrives once; the second round needs no new connection."""
    host = smarthost(sink.port)
    subjects = [b"Subject: %d\r\n\r\n" % number for number in range(100)]
    await asyncio.gather(*(send(host, octets) for octets in subjects[:50]))
    assert sink.connections <= 50
    before = sink.connections
    await asyncio.gather(*(send(host, octets) for octets in subjects[50:]))
    assert sink.connections == before == sink.logins
    assert sorted(one.octets for one in sink.accepted) == sorted(subjects)


async def test_a_connection_is_left_after_as_many_transactions_as_the_server_allows(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """RFC 9422 section 4.1: MAILMAX."""
    peer = await scripted({"EHLO": EHLO.replace(b"250 SMTPUTF8", b"250 LIMITS RCPTMAX=9 MAILMAX=2")})
    host = smarthost(peer.port)
    for _ in range(5):
        assert await send(host) == 250
    await until(lambda: peer.verbs().count("QUIT") == 2)
    assert [len(one.messages) for one in peer.peers] == [2, 2, 1]


async def say_421_and_close(peer: Peer) -> None:
    """As servers do with a connection that was idle for too long."""
    await peer.say(b"421 4.4.2 idle for too long\r\n")
    peer.writer.close()


async def close(peer: Peer) -> None:
    """Without a word, but in order."""
    peer.writer.close()


async def say_421(peer: Peer) -> None:
    """And stay."""
    await peer.say(b"421 4.4.2 idle for too long\r\n")


@pytest.mark.parametrize("farewell", [say_421_and_close, say_421, close])
async def test_a_server_that_ends_an_idle_connection_is_believed(
    farewell: Callable[[Peer], Awaitable[None]], scripted: Scripts, smarthost: Hosts
) -> None:
    """The next message goes over a new connection at once, and arrives once."""
    peer = await scripted()
    host = smarthost(peer.port)
    assert await send(host) == 250
    await farewell(peer.peers[0])
    await until(lambda: not any(one.alive for kept in host._idle.values() for one in kept))
    assert await send(host) == 250
    assert peer.peers[0].verbs() == ["EHLO", "AUTH", "MAIL", "RCPT", "DATA"]
    assert [len(one.messages) for one in peer.peers] == [1, 1]


async def test_a_transaction_given_up_while_a_reply_is_to_come_is_cut(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """What it says late is not waited for by another transaction."""
    peer = await scripted({"EHLO": PIPELINING, "RCPT": b""})
    host = smarthost(peer.port)
    async with host.begin(LOGIN) as transaction:
        assert (await transaction.mail(USERNAME)).positive
        transaction.rcpt("bob@example.org")
        await until(lambda: "RCPT" in peer.verbs())
    peer.script["RCPT"] = b"250 2.1.5 ok\r\n"
    assert await send(host) == 250
    assert peer.peers[0].verbs()[-1] == "RCPT"
    assert len(peer.peers) == 2


async def test_a_connection_on_which_421_was_said_is_over(scripted: Scripts, smarthost: Hosts) -> None:
    """RFC 5321 section 3.8: even if the server does not close it."""
    peer = await scripted({"RCPT": b"421 4.3.2 bye\r\n"})
    host = smarthost(peer.port)
    async with host.begin(LOGIN) as transaction:
        assert (await transaction.mail(USERNAME)).positive
        assert (await transaction.rcpt("bob@example.org")).code == 421
    peer.script["RCPT"] = b"250 2.1.5 ok\r\n"
    assert await send(host) == 250
    assert peer.peers[0].verbs()[-1] == "RCPT"
    assert len(peer.peers) == 2


async def test_a_connection_that_is_half_dead_is_replaced(scripted: Scripts, smarthost: Hosts) -> None:
    """It takes commands and answers nothing: they are said again elsewhere, octet for octet (SMTP-12)."""
    peer = await scripted()
    host = smarthost(peer.port, timeout=0.4)
    assert await send(host) == 250
    silent = peer.peers[0]

    async def mail(one: Peer) -> None:
        await (stall(one) if one is silent else one.say(b"250 2.1.0 ok\r\n"))

    peer.script["MAIL"] = mail
    async with host.begin(LOGIN) as transaction:
        assert (await transaction.mail(USERNAME, ("RET=HDRS", "ENVID=a+3Db"))).positive
        assert (await transaction.rcpt("bob@example.org", ("NOTIFY=NEVER",))).positive
        assert (await transaction.data()).code == 354
        assert (await transaction.send(b"x\r\n")).code == 250
    assert silent.lines[-1] == peer.peers[1].lines[2]
    assert peer.peers[1].lines[2:] == [
        b"MAIL FROM:<alice@example.org> RET=HDRS ENVID=a+3Db\r\n",
        b"RCPT TO:<bob@example.org> NOTIFY=NEVER\r\n",
        b"DATA\r\n",
    ]
    assert [len(one.messages) for one in peer.peers] == [1, 1]


@pytest.mark.parametrize("ehlo", [EHLO, PIPELINING], ids=["plain", "PIPELINING"])
async def test_a_connection_that_was_idle_for_long_is_tried_with_the_first_command(
    ehlo: bytes, scripted: Scripts, smarthost: Hosts
) -> None:
    """RSET goes in front of MAIL, in the same round trip if the server allows it."""
    peer = await scripted({"EHLO": ehlo})
    host = smarthost(peer.port)
    assert await send(host) == 250
    before = peer.peers[0].turns
    for kept in host._idle.values():
        kept[0].idle_since -= 3600
    assert await send(host) == 250
    assert peer.peers[0].verbs()[5:] == ["RSET", "MAIL", "RCPT", "DATA"]
    assert peer.peers[0].turns - before == (4 if ehlo == PIPELINING else 5)


def test_no_secret_in_any_representation() -> None:
    """Settings hold none; credentials hide theirs."""
    assert PASSWORD not in repr(Credentials(USERNAME, PASSWORD))
    assert SmarthostSettings("smtp.example.org", 465).name == "smtp.example.org:465"
