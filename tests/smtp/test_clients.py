"""Real clients submit through the listener, real keys protect, a real server takes what comes."""

from __future__ import annotations

import asyncio
import smtplib
import subprocess
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import aiosmtplib
import pytest

from keystore.keystore import Keystore
from keystore.model import Certificate
from secmailproxy.mime.assemble import Made, made, openpgp_ciphertext
from secmailproxy.mime.entity import parse
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.policy import Protect, Rule
from tests.fixtures.keystores import NOW, credentials, keystore, make_keystore
from tests.smtp.peers import PASSWORD, USERNAME, Client, Proxy, Sink, submit

__all__ = ["credentials", "keystore", "make_keystore"]

Proxies = Callable[..., Awaitable[Proxy]]
ALICE, BOB, CAROL, DAVE = (f"{name}@example.org" for name in ("alice", "bob", "carol", "dave"))
MESSAGE = (
    b"From: Alice <alice@example.org>\r\n"
    b"To: Bob <bob@example.org>\r\n"
    b"Bcc: Dave <dave@example.org>\r\n"
    b"Subject: the windmill\r\n"
    b"Message-ID: <original@example.org>\r\n"
    b"Date: Mon, 02 Mar 2026 10:00:00 +0100\r\n"
    b"\r\n"
    b".treasure\r\n..\r\n.\r\nunder the mill\r\n"
)
WORDS = (b"windmill", b"treasure", b"the mill", b"dave@")
"""Such as do not occur in base64 by chance."""


@pytest.fixture
def certificates(keystore: Keystore) -> dict[str, Certificate]:
    """Keys of alice, whose keystore this is, and of those she writes to; carol has none."""
    return {address: keystore.generate(address) for address in (ALICE, BOB, DAVE)}


@pytest.fixture
def outbound(keystore: Keystore, certificates: dict[str, Certificate]) -> Callable[..., Outbound]:
    """Make an Outbound with some rules."""
    return lambda *rules: Outbound(keystore, OutboundSettings(rules))


def by_smtplib(port: int, message: bytes) -> None:
    """Python's own."""
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.login(USERNAME, PASSWORD)
        assert client.sendmail(ALICE, [BOB], message) == {}


def by_aiosmtplib(port: int, message: bytes) -> None:
    """Another Python client, with ESMTP parameters."""

    async def send() -> None:
        async with aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) as client:
            await client.login(USERNAME, PASSWORD)
            refused, _ = await client.sendmail(ALICE, [BOB], message, mail_options=["BODY=8BITMIME"])
            assert refused == {}

    asyncio.run(send())


def _run(argv: list[str], message: bytes) -> None:
    done = subprocess.run(
        argv, input=message.replace(b"\r\n", b"\n"), capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")


def by_swaks(mechanism: str) -> Callable[[int, bytes], None]:
    """swaks with PIPELINING."""

    def send(port: int, message: bytes) -> None:
        login = ["--auth", mechanism, "--auth-user", USERNAME, "--auth-password", PASSWORD]
        server = ["--server", f"127.0.0.1:{port}", "--pipeline"]
        _run(["swaks", *server, *login, "--from", ALICE, "--to", BOB, "--data", "-"], message)

    return send


def by_msmtp(mechanism: str) -> Callable[[int, bytes], None]:
    """msmtp with DSN parameters off, for the sink offers none."""

    def send(port: int, message: bytes) -> None:
        login = [f"--auth={mechanism}", f"--user={USERNAME}", f"--passwordeval=echo '{PASSWORD}'"]
        server = ["--file=/dev/null", "--host=127.0.0.1", f"--port={port}", "--tls=off"]
        _run(["msmtp", *server, *login, f"--from={ALICE}", BOB], message)

    return send


CLIENTS = {
    "smtplib": by_smtplib,
    "aiosmtplib": by_aiosmtplib,
    "swaks PLAIN": by_swaks("PLAIN"),
    "swaks LOGIN": by_swaks("LOGIN"),
    "msmtp plain": by_msmtp("plain"),
    "msmtp login": by_msmtp("login"),
}


def recipients(keystore: Keystore, octets: bytes) -> set[str]:
    """The addresses of the keys that a message is encrypted to."""
    ciphertext = openpgp_ciphertext(parse(octets))
    assert ciphertext is not None
    opened = keystore.decrypt(ciphertext, NOW)
    return {one.addresses[0] for key_id in opened.recipients for one in keystore.certificates(key_id)}


@pytest.mark.parametrize("name", CLIENTS)
async def test_what_a_client_sends_leaves_protected(
    name: str, sink: Sink, proxy: Proxies, outbound: Callable[..., Outbound], keystore: Keystore
) -> None:
    """SMTP-05, SMTP-08, SMTP-17: one copy, readable by bob and alice alone, with Message-ID and Date kept."""
    front = await proxy(sink.port, outbound())
    await asyncio.to_thread(CLIENTS[name], front.port, MESSAGE)
    (accepted,) = sink.accepted
    assert (accepted.mail_from, accepted.rcpt_tos) == (ALICE, (BOB,))
    assert not any(word in accepted.octets.lower() for word in WORDS)
    assert recipients(keystore, accepted.octets) == {ALICE, BOB}
    assert b"\r\nMessage-ID: <original@example.org>\r\n" in accepted.octets
    assert b"\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\n" in accepted.octets
    inside = keystore.decrypt(openpgp_ciphertext(parse(accepted.octets)), NOW).octets
    assert b".treasure\r\n..\r\n.\r\nunder the mill" in inside
    assert b"\nbcc" not in inside.lower()


async def test_keys_are_those_of_rcpt_to(
    sink: Sink,
    proxy: Proxies,
    outbound: Callable[..., Outbound],
    keystore: Keystore,
    client: Callable[..., Awaitable[Client]],
) -> None:
    """SMTP-05: the header names bob, the envelope dave."""
    user = await client((await proxy(sink.port, outbound())).port)
    await user.begin(DAVE.encode())
    stuffed = MESSAGE.replace(b"\r\n.", b"\r\n..")
    assert (await submit(user, stuffed)).startswith(b"250 ")
    assert [one.rcpt_tos for one in sink.accepted] == [(DAVE,)]
    assert BOB not in recipients(keystore, sink.accepted[0].octets)


async def test_bcc_is_a_ciphertext_of_its_own(
    sink: Sink, proxy: Proxies, outbound: Callable[..., Outbound], keystore: Keystore
) -> None:
    """SMTP-09: two transactions, the one for To first, no trace of dave in it."""
    front = await proxy(sink.port, outbound())

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", front.port) as session:
            session.login(USERNAME, PASSWORD)
            assert session.sendmail(ALICE, [BOB, DAVE], MESSAGE) == {}

    await asyncio.to_thread(send)
    first, second = sink.accepted
    assert (first.rcpt_tos, second.rcpt_tos) == ((BOB,), (DAVE,))
    assert recipients(keystore, first.octets) == {ALICE, BOB}
    assert DAVE in recipients(keystore, second.octets)


async def test_a_rule_that_requires_encryption_refuses_at_rcpt(
    sink: Sink, proxy: Proxies, outbound: Callable[..., Outbound]
) -> None:
    """SMTP-06: the client shows the address and the reason; nobody gets anything."""
    front = await proxy(sink.port, outbound(Rule(protect=Protect.REQUIRE)))

    def send() -> smtplib.SMTPRecipientsRefused:
        with smtplib.SMTP("127.0.0.1", front.port) as session:
            session.login(USERNAME, PASSWORD)
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                session.sendmail(ALICE, [CAROL], MESSAGE)
            return refused.value

    code, text = (await asyncio.to_thread(send)).recipients[CAROL]
    assert code == 550
    assert text.startswith(b"5.7.5 ")
    assert CAROL.encode() in text
    assert sink.accepted == []


async def test_a_message_that_the_client_encrypted_passes_octet_for_octet(
    sink: Sink, proxy: Proxies, outbound: Callable[..., Outbound]
) -> None:
    """SMTP-15: sent once more, what the sink got arrives again as it is."""
    front = await proxy(sink.port, outbound())
    await asyncio.to_thread(by_smtplib, front.port, MESSAGE)
    await asyncio.to_thread(by_smtplib, front.port, sink.accepted[0].octets)
    assert sink.accepted[0].octets == sink.accepted[1].octets


async def test_many_clients_at_once_lose_nothing_and_double_nothing(
    sink: Sink, proxy: Proxies, outbound: Callable[..., Outbound], keystore: Keystore
) -> None:
    """SMTP-01: as many messages upstream as clients were told 250, each one once."""
    front = await proxy(sink.port, outbound())
    clients, messages = 8, 5

    def send(number: int) -> None:
        with smtplib.SMTP("127.0.0.1", front.port) as session:
            session.login(USERNAME, PASSWORD)
            for count in range(messages):
                name = f"<{number}.{count}@example.org>".encode()
                session.sendmail(ALICE, [BOB], MESSAGE.replace(b"<original@example.org>", name))

    with ThreadPoolExecutor(clients) as pool:
        loop = asyncio.get_running_loop()
        await asyncio.gather(*(loop.run_in_executor(pool, send, number) for number in range(clients)))
    names = [one.octets.partition(b"Message-ID: ")[2].partition(b"\r\n")[0] for one in sink.accepted]
    assert sorted(names) == sorted(
        f"<{number}.{count}@example.org>".encode() for number in range(clients) for count in range(messages)
    )
    assert sink.logins <= clients


async def test_smtp_08_a_wish_is_obeyed_or_answered_and_does_not_leave(
    sink: Sink,
    proxy: Callable[..., Awaitable[Proxy]],
    client: Callable[..., Awaitable[Client]],
    outbound: Callable[..., Outbound],
) -> None:
    """From the client to the smarthost; nothing is sent where the wish cannot be read or obeyed."""
    front = await proxy(sink.port, outbound())
    user = await client(front.port)
    for wish, to, answer in (
        (b"require", b"bob@example.org", b"250 "),
        (b"sign", b"bob@example.org", b"250 "),
        (b"requre", b"bob@example.org", b"554 5.7.1 "),
        (b"require", b"carol@example.org", b"554 5.7.5 no encryption key for <carol@example.org>"),
    ):
        await user.begin(to)
        head = b"From: alice@example.org\r\nx-secmailproxy-PROTECT:\r\n %b\r\nTo: %b\r\n" % (wish, to)
        assert (await submit(user, head + b"\r\nThe treasure\r\n")).startswith(answer)
    encrypted, signed = (one.octets for one in sink.accepted)
    assert (made(parse(encrypted)), made(parse(signed))) == (Made.ENCRYPTED, Made.SIGNED)
    assert b"secmailproxy" not in (encrypted + signed).lower()
