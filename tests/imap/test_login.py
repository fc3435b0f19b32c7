"""Before and at login: what is offered, what is refused (IMAP-04, IMAP-14, IMAP-15, IMAP-20)."""

from __future__ import annotations

import base64
import re
import socket
import ssl
from pathlib import Path

import pytest

from secmailproxy.accounts import Account, ImapLogin, ImapUpstream
from secmailproxy.errors import ConfigError, SecMailProxyError, UpstreamUnavailable
from secmailproxy.imap import upstream
from tests.fixtures.certificates import TestCA
from tests.fixtures.people import ProxyUser
from tests.fixtures.scripted import ScriptedServer
from tests.fixtures.transcript import RawImap, proxied

FORBIDDEN = re.compile(
    rb"COMPRESS|NOTIFY|CATENATE|URLAUTH|REFERRALS|JMAPACCESS|SCRAM|CRAM|GSSAPI|LOGINDISABLED|REFS|"
    rb"FUZZY|IMAP4REV2|UTF8=|CONTEXT|STATUS=|STARTTLS",
    re.IGNORECASE,
)


def plain(user: ProxyUser, password: str | None = None) -> bytes:
    secret = user.mailbox.password if password is None else password
    return base64.b64encode(f"\0{user.address}\0{secret}".encode())


@pytest.mark.parametrize(
    ("before", "literals"),
    [
        (lambda u: f'LOGIN {u.address} "{u.mailbox.password}"', ()),
        (lambda u: f"AUTHENTICATE PLAIN {plain(u).decode()}", ()),
        (lambda u: f"login {{{len(u.address)}}}", lambda u: (u.address, f' "{u.mailbox.password}"')),
        (
            lambda u: f"LOGIN {{{len(u.address)}}}",
            lambda u: (u.address, f" {{{len(u.mailbox.password)}}}", u.mailbox.password, ""),
        ),
        (lambda u: f'LOGIN {{{len(u.address)}+}}\r\n{u.address} "{u.mailbox.password}"', ()),
        (lambda u: "AUTHENTICATE PLAIN", lambda u: (plain(u).decode(), "")),
    ],
)
def test_every_way_to_log_in(reader: ProxyUser, before: object, literals: object) -> None:
    assert callable(before)
    pieces = literals(reader) if callable(literals) else ()
    with proxied(reader.proxy, reader.mailbox, login=False) as imap:
        out = imap.command(before(reader).encode(), *(piece.encode() for piece in pieces))
        assert out[-1].startswith(b"T OK [CAPABILITY "), out
        assert imap.ok(b"SELECT INBOX")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"LOGIN {address} wrong", b"T NO [AUTHENTICATIONFAILED]"),
        (b"LOGIN nobody@example.test x", b"T NO [AUTHENTICATIONFAILED]"),
        (b"LOGIN {address}", b"T BAD"),
        (b"LOGIN", b"T BAD"),
        (b"AUTHENTICATE SCRAM-SHA-256", b"T NO [CANNOT]"),
        (b"AUTHENTICATE PLAIN !!!!", b"T BAD"),
        (b"AUTHENTICATE PLAIN AA==", b"T BAD"),
        (b"SELECT INBOX", b"T BAD"),
        (b"STARTTLS", b"T BAD"),
        (b"COMPRESS DEFLATE", b"T BAD"),
        (b"NOOP", b"T OK"),
        (b'ID ("name" "test")', b"T OK"),
        (b"LOGOUT", b"T OK"),
    ],
)
def test_what_is_answered_before_login(reader: ProxyUser, line: bytes, answer: bytes) -> None:
    with proxied(reader.proxy, reader.mailbox, login=False) as imap:
        out = imap.command(line.replace(b"{address}", reader.address.encode()))
        assert out[-1].startswith(answer), out


def test_a_cancelled_authentication(reader: ProxyUser) -> None:
    with proxied(reader.proxy, reader.mailbox, login=False) as imap:
        assert imap.command(b"AUTHENTICATE PLAIN", b"*", b"")[-1].startswith(b"T BAD")
        assert imap.login(reader.mailbox)[-1].startswith(b"T OK")


def test_guessing_ends_the_connection_and_is_logged(reader: ProxyUser) -> None:
    with proxied(reader.proxy, reader.mailbox, login=False) as imap:
        for n in range(5):
            imap.send(b"x LOGIN nobody%d@example.test secretguess\r\n" % n)
        responses = []
        while response := imap.response():
            responses.append(response)
    assert [r[:4] for r in responses] == [b"x NO"] * 5 + [b"* BY"]
    lines = [line for line in reader.proxy.log().splitlines() if "imap authentication failed" in line]
    assert len(lines) >= 5
    assert "127.0.0.1" in lines[-1]
    assert "secretguess" not in reader.proxy.log()


def test_no_capability_that_would_lose_track_is_offered(reader: ProxyUser) -> None:
    """IMAP-15: greeting, CAPABILITY and the OK of the login."""
    with socket.create_connection(("127.0.0.1", reader.proxy.imap_port), timeout=30) as connection:
        imap = RawImap(connection)
        seen = [imap.response(), *imap.command(b"CAPABILITY"), *imap.login(reader.mailbox)]
        seen += imap.command(b"CAPABILITY")
    capabilities = [r for r in seen if r.startswith(b"* CAPABILITY") or b"[CAPABILITY" in r]
    assert len(capabilities) == 4
    for response in capabilities:
        assert b"IMAP4rev1" in response
        listed = response.split(b"CAPABILITY", 1)[1].split(b"]")[0]
        assert not FORBIDDEN.search(listed), response


@pytest.mark.parametrize(
    "line",
    [
        b"COMPRESS DEFLATE",
        b"NOTIFY NONE",
        b"STARTTLS",
        b"UNAUTHENTICATE",
        b"AUTHENTICATE PLAIN",
        b"LOGIN a b",
        b"THREAD REFS UTF-8 ALL",
        b"SORT RETURN (CONTEXT) (SCORE) UTF-8 ALL",
        b"URLFETCH x",
        b"CONVERT 1 x",
        b"FETCH 1 (BINARY[HEADER])",
        b"FETCH 1 (PREVIEW (FUZZY))",
        b"FETCH 1 (SNIPPET)",
        b"FETCH 1 (RFC822.PEEK)",
        b'APPEND INBOX CATENATE (URL "/x")',
    ],
)
def test_what_is_not_offered_is_refused(reader: ProxyUser, line: bytes) -> None:
    """IMAP-15: also when it is sent regardless."""
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        assert imap.command(line)[-1].startswith(b"T BAD"), line
        imap.ok(b"NOOP")


@pytest.mark.parametrize("asked", [b"UTF8=ACCEPT", b"IMAP4rev2"])
def test_enable_of_what_is_not_offered(reader: ProxyUser, asked: bytes) -> None:
    with proxied(reader.proxy, reader.mailbox) as imap:
        assert imap.ok(b"ENABLE " + asked)[0] == b"* ENABLED\r\n"


# The upstream leg, against servers that misbehave


def login_at(server: ScriptedServer, ca_file: Path | None, tls: str) -> ImapLogin:
    where = ImapUpstream("localhost", server.port, "implicit" if tls == "implicit" else "starttls", ca_file)
    return ImapLogin(Account("ann@example.test", where), "ann", "secret password")


GREET = b"* OK hello\r\n"
CAPS = b"* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\r\nlogin1 OK\r\n"


@pytest.mark.parametrize(
    ("tls", "script", "text"),
    [
        ("starttls", [b"* PREAUTH hello\r\n"], "PREAUTH"),
        ("starttls", [b"* BYE busy\r\n"], "BYE"),
        ("starttls", [b"nonsense\r\n"], "greet"),
        ("starttls", [GREET, b"* CAPABILITY IMAP4rev1\r\nlogin1 OK\r\n"], "STARTTLS"),
        ("starttls", [GREET, CAPS, b"login2 NO\r\n"], "refused STARTTLS"),
        ("starttls", [GREET, CAPS, b"login2 OK\r\n* OK injected\r\n"], "before TLS"),
        ("starttls", [GREET, CAPS, None], "closed"),
        ("starttls", [GREET + b"x" * 5_000_000], "WireError"),
        ("implicit", [GREET], "TLS"),
    ],
)
async def test_no_credential_leaves_without_verified_tls(
    scripted: ScriptedServer, ca: TestCA, tls: str, script: list[bytes | None], text: str
) -> None:
    scripted.play(script)
    with pytest.raises(UpstreamUnavailable) as caught:
        await upstream.log_in(login_at(scripted, ca.ca_file, tls), b"")
    assert text.lower() in caught.value.text.lower() or text == "closed"
    assert b"secret" not in scripted.received
    assert base64.b64encode(b"\0ann\0secret password") not in scripted.received


async def test_a_certificate_that_is_not_trusted(scripted_tls: ScriptedServer) -> None:
    scripted_tls.play([GREET])
    with pytest.raises(UpstreamUnavailable, match="not trusted"):
        await upstream.log_in(login_at(scripted_tls, None, "implicit"), b"")
    assert scripted_tls.received == b""


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        (
            b"IMAP4rev1 AUTH=PLAIN SASL-IR",
            b"AUTHENTICATE PLAIN " + base64.b64encode(b"\0ann\0secret password"),
        ),
        (b"IMAP4rev1", b'LOGIN "ann" "secret password"'),
    ],
)
async def test_login_by_what_the_server_offers(
    scripted_tls: ScriptedServer, ca: TestCA, capabilities: bytes, expected: bytes
) -> None:
    caps = b"* CAPABILITY " + capabilities + b"\r\nlogin%d OK\r\n"
    scripted_tls.play([GREET, caps % 1, b"login2 OK fine\r\n", caps % 3])
    connection = await upstream.log_in(login_at(scripted_tls, ca.ca_file, "implicit"), b"")
    assert connection.completion == b"OK fine\r\n"
    assert expected in scripted_tls.received
    connection.abort()


async def test_a_refused_login_keeps_the_servers_words(scripted_tls: ScriptedServer, ca: TestCA) -> None:
    scripted_tls.play([GREET, CAPS, b"login2 NO [ALERT] pay first\r\n"])
    with pytest.raises(upstream.LoginRefusedByServer) as caught:
        await upstream.log_in(login_at(scripted_tls, ca.ca_file, "implicit"), b"")
    assert caught.value.completion == b"NO [ALERT] pay first\r\n"


@pytest.mark.parametrize("script", [[b""], [b"* OK hel"], [GREET], [GREET, b"* CAPABILITY IMAP4rev1\r\n"]])
async def test_a_server_that_stalls_before_the_login(
    scripted_tls: ScriptedServer, ca: TestCA, script: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "CONNECT_SECONDS", 0.3)
    scripted_tls.play(script)
    with pytest.raises(UpstreamUnavailable, match="did not answer in time"):
        await upstream.log_in(login_at(scripted_tls, ca.ca_file, "implicit"), b"")


async def test_only_loopback_is_served(reader: ProxyUser) -> None:
    """IMAP-20."""
    from secmailproxy.imap.server import ImapServer, ImapSettings

    server = ImapServer(ImapSettings("0.0.0.0", 0, "X"), None, None, None, None)  # type: ignore[arg-type]  # unused
    with pytest.raises(ConfigError, match="loopback"):
        await server.start()


def test_the_errors_are_ours() -> None:
    assert issubclass(upstream.LoginRefusedByServer, SecMailProxyError)
    assert ssl.create_default_context().check_hostname


async def test_a_server_that_is_gone_without_a_word_is_noticed(reader: ProxyUser, ca: TestCA) -> None:
    """By the system: a client that hears that we are at work gives up on nobody."""
    mailbox = reader.mailbox
    place = ImapUpstream("localhost", mailbox.server.imaps_port, "implicit", ca.ca_file)
    login = ImapLogin(Account(mailbox.address, place), mailbox.address, mailbox.password)
    server = await upstream.log_in(login, b"")
    connection = server.writer.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 180
    server.abort()
