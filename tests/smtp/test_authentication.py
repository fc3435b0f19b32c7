"""AUTH: every form of it, failures, and what is logged."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable

import pytest

from secmailproxy.accounts import Credentials
from secmailproxy.logs import KeyValueFormatter
from secmailproxy.smtp import sasl
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
    host, _ = user.writer.get_extra_info("sockname")
    lines = [KeyValueFormatter().format(record) for record in caplog.records]
    failed = [line.partition(" event=")[2] for line in lines if "authentication failed" in line]
    assert (
        failed == [f'"submission authentication failed" client={host} mechanism=PLAIN account={USERNAME}'] * 3
    )
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


# OAuth access tokens.

TOKEN = "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg=="
RESPONSES = {
    "XOAUTH2": f"user={USERNAME}\1auth=Bearer {TOKEN}\1\1",
    "OAUTHBEARER": f"n,a={USERNAME},\1host=localhost\1port=1025\1auth=Bearer {TOKEN}\1\1",
}
OFFERS = b"250-peer.example\r\n250 AUTH PLAIN XOAUTH2 OAUTHBEARER\r\n"
REASON = base64.b64encode(b'{"status":"400","scope":"' + b"s" * 600 + b'"}')
MECHANISMS = pytest.mark.parametrize("mechanism", RESPONSES)


def coded(text: str) -> bytes:
    """As on the wire."""
    return base64.b64encode(text.encode())


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (b"PLAIN XOAUTH2 OAUTHBEARER", b"AUTH LOGIN PLAIN XOAUTH2 OAUTHBEARER"),
        (b"LOGIN OAUTHBEARER", b"AUTH LOGIN PLAIN OAUTHBEARER"),
        (b"PLAIN LOGIN", b"AUTH LOGIN PLAIN"),
    ],
)
async def test_tokens_are_taken_where_the_smarthost_takes_them(
    offered: bytes, expected: bytes, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """Before the login already; what is not offered is refused, and nothing of it goes on."""
    peer = await scripted({"EHLO": b"250-peer.example\r\n250 AUTH " + offered + b"\r\n"})
    user = await client((await proxy(peer.port)).port, login=False)
    await user.reply()
    keywords = [line[4:] for line in (await user.ask(b"EHLO client.example")).splitlines()]
    assert expected in keywords
    for mechanism, response in RESPONSES.items():
        if mechanism.encode() not in expected:
            line = b"AUTH " + mechanism.encode() + b" " + coded(response)
            assert (await user.ask(line)).startswith(b"504 5.5.4 ")
    assert "AUTH" not in peer.verbs()


@MECHANISMS
@pytest.mark.parametrize("form", ["initial response", "challenge", "lower case"])
async def test_every_form_of_a_token(
    form: str, mechanism: str, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """The token goes to the smarthost as it is; mail can follow."""
    peer = await scripted({"EHLO": OFFERS})
    user = await greeted(client, (await proxy(peer.port)).port)
    name, response = mechanism.encode(), coded(RESPONSES[mechanism])
    if form == "challenge":
        assert await user.ask(b"AUTH " + name) == b"334 \r\n"
        answer = await user.ask(response)
    else:
        answer = await user.ask(b"AUTH " + (name if form[0] == "i" else name.lower()) + b" " + response)
    assert answer.startswith(b"235 2.7.0 ")
    (line,) = [line for line in peer.lines if line.startswith(b"AUTH ")]
    sent = base64.b64decode(line.split()[2]).decode()
    assert line.startswith(b"AUTH " + name + b" ")
    assert f"auth=Bearer {TOKEN}\1\1" in sent
    assert USERNAME in sent
    await user.begin()
    assert (await submit(user)).startswith(b"250 ")


@MECHANISMS
@pytest.mark.parametrize("answer", [b"", b"AQ==", b"*", b"x" * 20_000])
async def test_a_token_that_the_smarthost_refuses(
    answer: bytes,
    mechanism: str,
    scripted: Scripts,
    proxy: Proxies,
    client: Clients,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The reason in JSON whole, a line of the client that means nothing, the smarthost's own refusal."""
    caplog.set_level(logging.DEBUG)
    peer = await scripted({"EHLO": OFFERS, "AUTH": b"334 " + REASON + b"\r\n"})
    peer.script |= {"": b"535 5.7.8 token expired\r\n", "AQ==": b"535 5.7.8 token expired\r\n"}
    user = await greeted(client, (await proxy(peer.port)).port)
    response = coded(RESPONSES[mechanism])
    assert await user.ask(b"AUTH " + mechanism.encode() + b" " + response) == b"334 " + REASON + b"\r\n"
    assert await user.ask(answer) == b"535 5.7.8 token expired\r\n"
    assert (await user.ask(b"MAIL FROM:<alice@example.org>")).startswith(b"530 ")
    text = "\n".join(map(KeyValueFormatter(shows_everything=True).format, caplog.records))
    assert "authentication failed" in text
    for secret in (TOKEN, response.decode(), REASON.decode()):
        assert secret not in text


@MECHANISMS
@pytest.mark.parametrize(
    ("upstream", "reply"),
    [
        (b"535 5.7.8 no\r\n", b"535 5.7.8 no\r\n"),
        (b"454 4.7.0 later\r\n", b"454 4.7.0 later\r\n"),
        (b"334 not base64\r\n", b"535 5.7.8 token expired\r\n"),
    ],
)
async def test_a_refusal_without_a_reason(
    upstream: bytes, reply: bytes, mechanism: str, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """Passed on as it is; a password that follows is judged for itself."""
    peer = await scripted({"EHLO": OFFERS, "AUTH": upstream})
    peer.script |= {"": b"535 5.7.8 token expired\r\n", "AQ==": b"535 5.7.8 token expired\r\n"}
    user = await greeted(client, (await proxy(peer.port)).port)
    line = b"AUTH " + mechanism.encode() + b" " + coded(RESPONSES[mechanism])
    assert await user.ask(line) == reply
    peer.script["AUTH"] = b"235 2.7.0 welcome\r\n"
    assert (await user.ask(plain(USERNAME, PASSWORD))).startswith(b"235 ")


@pytest.mark.parametrize(
    ("mechanism", "response"),
    [
        ("XOAUTH2", b""),
        ("XOAUTH2", b"not base64 at all"),
        ("XOAUTH2", coded(f"user=\1auth=Bearer {TOKEN}\1\1")),
        ("XOAUTH2", coded(f"user={USERNAME}\1auth=Bearer \1\1")),
        ("XOAUTH2", coded(f"user={USERNAME}\1auth=Bearer {TOKEN} and more\1\1")),
        ("XOAUTH2", coded(f"user={USERNAME}\1auth=Basic {TOKEN}\1\1")),
        ("XOAUTH2", coded(f"user={USERNAME}\1auth=Bearer {TOKEN}\1")),
        ("XOAUTH2", coded(f"user={USERNAME}\nx\1auth=Bearer {TOKEN}\1\1")),
        ("XOAUTH2", coded(RESPONSES["OAUTHBEARER"])),
        ("OAUTHBEARER", coded(RESPONSES["XOAUTH2"])),
        ("OAUTHBEARER", coded(f"n,,\1auth=Bearer {TOKEN}\1\1")),
        ("OAUTHBEARER", coded(f"n,a={USERNAME},\1host=x\1\1")),
        ("OAUTHBEARER", base64.b64encode(b"n,a=\xff,\1auth=Bearer x\1\1")),
    ],
)
async def test_what_is_no_token_response(
    mechanism: str, response: bytes, scripted: Scripts, proxy: Proxies, client: Clients
) -> None:
    """501, repeating nothing, and no octet of it at the smarthost."""
    peer = await scripted({"EHLO": OFFERS})
    user = await greeted(client, (await proxy(peer.port)).port)
    assert (await user.ask(b"AUTH " + mechanism.encode())).startswith(b"334 ")
    answer = await user.ask(response)
    assert answer.startswith(b"501 5.5.2 ")
    assert TOKEN.encode() not in answer
    assert "AUTH" not in peer.verbs()


def test_a_user_name_with_commas_in_oauthbearer() -> None:
    """RFC 5801 section 4: "=2C" and "=3D"; key-value pairs of any kind may stand around the token."""
    response = f"y,a=a=3Db=2Cc@example.org,\1host=h\1AUTH=bearer {TOKEN}\1port=1\1\1".encode()
    assert sasl.credentials("OAUTHBEARER", response) == Credentials("a=b,c@example.org", TOKEN, "OAUTHBEARER")
