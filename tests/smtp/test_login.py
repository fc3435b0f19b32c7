"""AUTH: every form of it, failures, and what is logged."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable

import pytest

from secmailproxy.logs import KeyValueFormatter
from tests.smtp.peers import (
    PASSWORD,
    USERNAME,
    Client,
    Proxy,
    Scripted,
    Sink,
    cut,
    submit,
    until,
)

Scripts = Callable[..., Awaitable[Scripted]]
Proxies = Callable[..., Awaitable[Proxy]]
Clients = Callable[..., Awaitable[Client]]

# Login.


def plain(username: str, password: str) -> bytes:
    """AUTH PLAIN with initial response."""
    return b"AUTH PLAIN " + base64.b64encode(f"\0{username}\0{password}".encode())


async def greeted(client: Clients, port: int) -> Client:
    """After EHLO."""
    user = await client(port, login=False)
    assert (await user.reply()).startswith(b"220 ")
    assert (await user.ask(b"EHLO client.example")).startswith(b"250")
    return user


@pytest.mark.parametrize("command", [b"MAIL FROM:<a@example.org>", b"RCPT TO:<b@example.org>", b"DATA"])
async def test_login_comes_first(command: bytes, sink: Sink, proxy: Proxies, client: Clients) -> None:
    """RFC 4954 section 6."""
    user = await greeted(client, (await proxy(sink.port)).port)
    assert await user.ask(command) == b"530 5.7.0 Authentication required\r\n"


async def test_every_form_of_login(sink: Sink, proxy: Proxies, client: Clients) -> None:
    """PLAIN and LOGIN with and without initial response, in any case of letters."""
    front = await proxy(sink.port)
    name, word = (base64.b64encode(text.encode()) for text in (USERNAME, PASSWORD))
    token = base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode())
    dialogues = [
        [(b"AUTH PLAIN " + token, b"235 2.7.0 ")],
        [(b"auth plain", b"334 "), (token, b"235 2.7.0 ")],
        [(b"AUTH LOGIN", b"334 VXNlcm5hbWU6"), (name, b"334 UGFzc3dvcmQ6"), (word, b"235 2.7.0 ")],
        [(b"Auth Login " + name, b"334 UGFzc3dvcmQ6"), (word, b"235 2.7.0 ")],
    ]
    for dialogue in dialogues:
        user = await greeted(client, front.port)
        for line, reply in dialogue:
            assert (await user.ask(line)).startswith(reply)
        assert (await user.ask(b"AUTH PLAIN " + token)).startswith(b"503 5.5.1 ")
    assert sink.logins == 1


@pytest.mark.parametrize(
    ("dialogue", "logins"),
    [
        ([(b"AUTH", b"501 5.5.4")], 0),
        ([(b"AUTH CRAM-MD5", b"504 5.5.4")], 0),
        ([(b"AUTH PLAIN !!!", b"501 5.5.2")], 0),
        ([(b"AUTH PLAIN", b"334 "), (b"*", b"501 5.7.0")], 0),
        ([(b"AUTH PLAIN", b"334 "), (b"!!", b"501 5.5.2")], 0),
        ([(b"AUTH PLAIN " + base64.b64encode(b"no zeros"), b"501 5.5.2")], 0),
        ([(b"AUTH PLAIN " + base64.b64encode(b"\0\0"), b"535 5.7.8")], 0),
        ([(b"AUTH PLAIN " + base64.b64encode(b"\0\xff\0\xff"), b"535 5.7.8")], 0),
        ([(b"AUTH LOGIN", b"334 "), (b"*", b"501 5.7.0")], 0),
        ([(plain("locked-out", "x"), b"535 5.7.8 No account has this user name.")], 0),
        ([(plain(USERNAME, "wrong"), b"535 5.7.8 Error: authentication failed: sorry")], 1),
    ],
)
async def test_failed_logins(
    dialogue: list[tuple[bytes, bytes]], logins: int, sink: Sink, proxy: Proxies, client: Clients
) -> None:
    """The smarthost's own text where it was asked; afterwards the session can go on."""
    user = await greeted(client, (await proxy(sink.port)).port)
    for line, reply in dialogue:
        assert (await user.ask(line)).startswith(reply)
    assert sink.logins == logins
    assert (await user.ask(plain(USERNAME, PASSWORD))).startswith(b"235 ")


async def test_logins_that_cannot_be_judged_are_temporary(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """454 (RFC 4954 section 6), so that the client does not forget the password."""
    peer = await scripted({"AUTH": cut})
    user = await greeted(client, (await proxy(peer.port)).port)
    for _ in range(5):
        assert (await user.ask(plain(USERNAME, PASSWORD))).startswith(b"454 4.4.2 ")


async def test_a_login_refused_for_now_counts_for_nothing(
    scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """The smarthost's own 4yz, and no limit of attempts."""
    peer = await scripted({"AUTH": b"454 4.7.0 database away\r\n"})
    user = await greeted(client, (await proxy(peer.port, login_attempts=1)).port)
    for _ in range(3):
        assert await user.ask(plain(USERNAME, PASSWORD)) == b"454 4.7.0 database away\r\n"


async def test_a_client_that_leaves_in_the_middle_of_a_login(
    sink: Sink, proxy: Proxies, client: Clients
) -> None:
    """Nothing is asked of the smarthost."""
    front = await proxy(sink.port)
    user = await greeted(client, front.port)
    assert (await user.ask(b"AUTH LOGIN")).startswith(b"334 ")
    user.writer.close()
    await until(lambda: not front.server._sessions)
    assert sink.logins == 0


async def test_failed_logins_are_few_late_and_logged(
    sink: Sink, proxy: Proxies, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """One record each, of a form that does not change, without what was typed; then the end."""
    caplog.set_level(logging.DEBUG)
    front = await proxy(sink.port, login_delay=0.02, login_attempts=3)
    user = await greeted(client, front.port)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(3):
        assert (await user.ask(plain(USERNAME, "hunter2"))).startswith(b"535 5.7.8 ")
    assert loop.time() - started >= 0.02 + 0.04 + 0.08
    assert await user.reply() == b"421 4.7.0 too many failed logins\r\n"
    assert await user.reply() == b""
    host, port = user.writer.get_extra_info("sockname")
    lines = [KeyValueFormatter().format(record) for record in caplog.records]
    failed = [line.partition(" event=")[2] for line in lines if "authentication failed" in line]
    assert failed == [
        f'"submission authentication failed" client={host}:{port} mechanism=PLAIN attempt={n}'
        for n in (1, 2, 3)
    ]
    assert not any("hunter2" in line for line in lines)


async def test_no_secret_and_no_message_text_in_any_log_record(
    sink: Sink, proxy: Proxies, client: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """SMTP-18, at the level DEBUG, for every logger."""
    caplog.set_level(logging.DEBUG)
    user = await client((await proxy(sink.port)).port)
    await user.begin(b"bob@example.org")
    sent = [record for record in caplog.records if record.name != "mail.log"]
    await submit(user)
    await user.ask(b"the plan")
    assert any(record.name.startswith("secmailproxy") for record in sent)
    everything = KeyValueFormatter(shows_everything=True)
    text = "\n".join(map(everything.format, caplog.records))
    for word in (PASSWORD, base64.b64encode(f"\0{USERNAME}\0{PASSWORD}".encode()).decode()):
        assert word not in text
    for word in ("confidential", "the plan", "bob@example.org"):
        assert word not in text
