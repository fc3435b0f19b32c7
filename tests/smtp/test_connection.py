"""One connection to a smarthost: verified TLS, login, exact octets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import pytest
import trustme

from secmailproxy.errors import (
    LoginRefused,
    MalformedMessage,
    SecMailProxyError,
    UpstreamLost,
    UpstreamUnavailable,
)
from secmailproxy.smtp.exchange import CHUNK
from secmailproxy.smtp.smarthost import Smarthost
from tests.fixtures.certificates import TestCA
from tests.smtp.peers import LOGIN, PASSWORD, USERNAME, Answer, Peer, Scripted, cut, reset, stall

Scripts = Callable[..., Awaitable[Scripted]]
Hosts = Callable[..., Smarthost]


async def send(host: Smarthost, octets: bytes = b"Subject: x\r\n\r\nhello\r\n") -> int:
    """One transaction; the code of the final reply."""
    async with host.begin(LOGIN) as transaction:
        assert (await transaction.mail(USERNAME)).positive
        assert (await transaction.rcpt("bob@example.org")).positive
        assert (await transaction.data()).code == 354
        return (await transaction.send(octets)).code


Tls = Callable[[TestCA], tuple[ssl.SSLContext | None, trustme.CA | None]]
"""The server's side of TLS, and the authority to trust in place of the usual one."""


def ours(ca: TestCA) -> tuple[ssl.SSLContext | None, trustme.CA | None]:
    """As it should be."""
    return ca.server_context(), None


def clear(ca: TestCA) -> tuple[ssl.SSLContext | None, trustme.CA | None]:
    """No TLS at first."""
    return None, None


def other_name(ca: TestCA) -> tuple[ssl.SSLContext | None, trustme.CA | None]:
    """A trusted certificate for another host."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.example").configure_cert(context)
    return context, authority


def other_authority(ca: TestCA) -> tuple[ssl.SSLContext | None, trustme.CA | None]:
    """A certificate for the right host by an authority that nobody named."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    return context, None


EHLO_STARTTLS = b"250-peer.example\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"
INJECTED = b"220 go\r\n250-peer.example\r\n250 AUTH PLAIN\r\n235 welcome\r\n"
STARTTLS = {"tls": "starttls"}

CONNECTING: Mapping[str, tuple[Tls, Mapping[str, Answer], Mapping[str, object], str]] = {
    "STARTTLS stripped": (clear, {}, STARTTLS, "does not offer STARTTLS; nothing was sent"),
    "STARTTLS refused": (
        clear,
        {"EHLO": EHLO_STARTTLS, "STAR": b"454 4.7.0 not now\r\n"},
        STARTTLS,
        "refuses the connection: 454 4.7.0 not now",
    ),
    "STARTTLS and then clear text": (
        clear,
        {"EHLO": EHLO_STARTTLS, "STAR": INJECTED},
        {**STARTTLS, "timeout": 0.5},
        "",
    ),
    "clear text on the TLS port": (clear, {}, {}, "does not speak TLS as expected"),
    "another name": (other_name, {}, {}, "is not accepted: Hostname mismatch"),
    "another authority": (other_authority, {}, {}, "is not accepted: unable to get local issuer"),
    "greeting 554": (ours, {"CONNECT": b"554 5.3.2 go away\r\n"}, {}, "refuses the connection: 554 5.3.2 go"),
    "greeting 421": (ours, {"CONNECT": b"421 too many\r\n"}, {}, "refuses the connection: 421 too many"),
    "greeting nonsense": (ours, {"CONNECT": b"SSH-2.0-x\r\n"}, {}, "does not speak SMTP"),
    "no greeting": (ours, {"CONNECT": stall}, {"timeout": 0.2}, "did not answer within 0.2 s"),
    "cut at once": (ours, {"CONNECT": cut}, {}, "cannot be reached"),
    "EHLO 502": (ours, {"EHLO": b"502 no\r\n"}, {}, "refuses the connection: 502 no"),
    "EHLO reset": (ours, {"EHLO": reset}, {}, "cannot be reached"),
}


@pytest.mark.parametrize("case", CONNECTING)
async def test_no_credential_and_no_data_without_verified_tls(
    case: str, scripted: Scripts, smarthost: Hosts, ca: TestCA, tmp_path: Path
) -> None:
    """SMTP-14, and every other way in which connecting fails: one error, its text for people."""
    tls, script, settings, text = CONNECTING[case]
    context, authority = tls(ca)
    if authority is not None:
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        settings = {**settings, "ca_file": tmp_path / "ca.pem"}
    peer = await scripted(script, tls=context)
    host = smarthost(peer.port, **settings)
    with pytest.raises(UpstreamUnavailable) as error:
        await host.verify_login(LOGIN)
    assert text in error.value.text
    assert f"localhost:{peer.port}" in error.value.text
    assert not {"AUTH", "MAIL", "RCPT", "DATA"} & set(peer.verbs())
    assert host.extensions is None


async def test_what_comes_in_clear_after_starttls_is_not_believed(
    scripted: Scripts, smarthost: Hosts, ca: TestCA
) -> None:
    """SMTP-14: octets injected before the handshake are no reply to anything said over TLS."""

    async def inject_and_upgrade(peer: Peer) -> None:
        await peer.say(b"220 go\r\n250-evil.example\r\n250-SIZE 1\r\n250 AUTH LOGIN\r\n")
        await peer.writer.start_tls(ca.server_context())

    peer = await scripted({"EHLO": EHLO_STARTTLS, "STAR": inject_and_upgrade}, tls=None)
    host = smarthost(peer.port, tls="starttls")
    assert await send(host) == 250
    assert set(host.extensions) == {"AUTH", "STARTTLS"}
    assert peer.verbs() == ["EHLO", "STAR", "EHLO", "AUTH", "MAIL", "RCPT", "DATA"]


LOGINS: Mapping[str, tuple[Mapping[str, Answer], type[SecMailProxyError], int, str]] = {
    "refused": (
        {"AUTH": b"535-5.7.8 Error: bad\r\n535 5.7.8 credentials\r\n"},
        LoginRefused,
        535,
        "Error: bad credentials",
    ),
    "refused without enhanced code": ({"AUTH": b"535 no\r\n"}, LoginRefused, 535, "no"),
    "refused for now": ({"AUTH": b"454 4.7.0 later\r\n"}, LoginRefused, 454, "later"),
    "no AUTH": ({"EHLO": b"250 peer.example\r\n"}, UpstreamUnavailable, 451, "offers no login by password"),
    "token only": (
        {"EHLO": b"250-x\r\n250 AUTH XOAUTH2\r\n"},
        UpstreamUnavailable,
        451,
        "offers no login by password",
    ),
    "nonsense": ({"AUTH": b"334 \r\n"}, UpstreamLost, 451, "no proper reply to the login"),
    "not SMTP": ({"AUTH": b"what\r\n"}, UpstreamLost, 451, "broke the protocol"),
    "stalls": ({"AUTH": stall}, UpstreamLost, 451, "did not answer in time"),
    "cut": ({"AUTH": cut}, UpstreamLost, 451, "closed the connection"),
}


@pytest.mark.parametrize("case", LOGINS)
async def test_a_login_that_fails(case: str, scripted: Scripts, smarthost: Hosts) -> None:
    """The server's own text; a wrong password is tried once, not once for each mechanism."""
    script, kind, code, text = LOGINS[case]
    peer = await scripted(script)
    host = smarthost(peer.port, timeout=1.0)
    with pytest.raises(kind) as error:
        await host.verify_login(LOGIN)
    assert text in error.value.text
    assert error.value.smtp_code == code
    assert PASSWORD not in error.value.text
    assert peer.verbs().count("AUTH") == (0 if "AUTH" not in script else 1)


SIZES = [0, 1, CHUNK - 8, CHUNK, CHUNK + 1, 5 * CHUNK]


@pytest.mark.parametrize("size", SIZES)
async def test_the_octets_arrive_exactly(size: int, scripted: Scripts, smarthost: Hosts) -> None:
    """Small and large, in one piece and in several; 8-bit octets, dots, blanks at line ends."""
    line = b".trailing \t\xe4\r\n..\r\n \r\n"
    octets = (b"Subject: x\r\n\r\n" + line * (size // len(line) + 1))[:size]
    octets = octets[: octets.rfind(b"\r\n") + 2] if b"\r\n" in octets else b""
    peer = await scripted()
    assert await send(smarthost(peer.port), octets) == 250
    wire = peer.messages[0]
    assert wire.endswith(b".\r\n")
    assert (b"\r\n" + wire[:-3]).replace(b"\r\n.", b"\r\n")[2:] == octets


@pytest.mark.parametrize("octets", [b"a\nb\r\n", b"a\rb\r\n", b"a\0b\r\n"])
async def test_no_ambiguous_octet_leaves(octets: bytes, scripted: Scripts, smarthost: Hosts) -> None:
    """SMTP-11, at the last moment: refused before the first octet, and the connection is cut."""
    peer = await scripted()
    with pytest.raises(MalformedMessage):
        await send(smarthost(peer.port), octets)
    assert peer.messages == []


async def refuse_early(peer: Peer) -> None:
    """Read a little of the message, refuse it, go."""
    await peer.say(b"354 go\r\n")
    await peer.reader.readline()
    await peer.say(b"552 5.3.4 too large\r\n")
    peer.writer.close()
    raise ConnectionAbortedError


async def accept_early(peer: Peer) -> None:
    """Claim to have the message before its end."""
    await peer.say(b"354 go\r\n")
    await peer.reader.readline()
    await peer.say(b"250 2.0.0 thanks\r\n")
    await stall(peer)


async def stop_reading(peer: Peer) -> None:
    """Take nothing more."""
    await peer.say(b"354 go\r\n")
    peer.writer.transport.pause_reading()
    await asyncio.Event().wait()


LARGE = b"x" * 70 + b"\r\n"


async def test_a_refusal_before_the_end_of_the_message_is_the_reply(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """The server's own words rather than a lost connection."""
    peer = await scripted({"DATA": refuse_early})
    assert await send(smarthost(peer.port), LARGE * 200_000) == 552


async def test_an_acceptance_before_the_end_of_the_message_is_none(
    scripted: Scripts, smarthost: Hosts
) -> None:
    """SMTP-01."""
    peer = await scripted({"DATA": accept_early})
    with pytest.raises(UpstreamLost, match="before the end of the message"):
        await send(smarthost(peer.port), LARGE * 200_000)


async def test_a_server_that_stops_reading_is_given_up(scripted: Scripts, smarthost: Hosts) -> None:
    """The timer is for each piece, not for the whole message."""
    peer = await scripted({"DATA": stop_reading})
    with pytest.raises(UpstreamLost, match="did not answer in time"):
        await send(smarthost(peer.port, timeout=0.3), LARGE * 200_000)
