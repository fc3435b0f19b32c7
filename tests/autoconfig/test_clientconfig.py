"""The autoconfig XML of a domain: what is taken from it and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.autoconfig.clientconfig import read
from secmailproxy.autoconfig.servers import Server, Servers

ADDRESS = "al%EMAILDOMAIN%@example.org"


def document(*servers: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><clientConfig version="1.1"><emailProvider id="x">'
        f"<domain>example.org</domain>{''.join(servers)}</emailProvider></clientConfig>"
    ).encode()


def incoming(
    host: str = "imap.example.org",
    port: str = "993",
    tls: str = "SSL",
    *,
    kind: str = "imap",
    username: str = "%EMAILADDRESS%",
    authentication: str = "<authentication>password-cleartext</authentication>",
) -> str:
    return (
        f'<incomingServer type="{kind}"><hostname>{host}</hostname><port>{port}</port>'
        f"<socketType>{tls}</socketType><username>{username}</username>{authentication}</incomingServer>"
    )


def imap(host: str, port: int, tls: str, username: str = "alice@example.org") -> Server:
    return Server(host, port, "starttls" if tls == "starttls" else "implicit", username, "test")


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ([incoming()], imap("imap.example.org", 993, "implicit")),
        ([incoming(tls="STARTTLS", port="143")], imap("imap.example.org", 143, "starttls")),
        ([incoming(tls="plain", port="143")], None),
        ([incoming(tls="")], None),
        ([incoming(kind="pop3")], None),
        ([incoming("a", "143", "STARTTLS"), incoming("b")], imap("b", 993, "implicit")),
        ([incoming("a"), incoming("b")], imap("a", 993, "implicit")),
        ([incoming("a", tls="plain"), incoming("b")], imap("b", 993, "implicit")),
        ([incoming("mail.%EMAILDOMAIN%")], imap("mail.example.org", 993, "implicit")),
        (
            [incoming(username="%EMAILLOCALPART%")],
            imap("imap.example.org", 993, "implicit", "alice"),
        ),
        ([incoming(username="")], imap("imap.example.org", 993, "implicit")),
        ([incoming(authentication="")], imap("imap.example.org", 993, "implicit")),
        ([incoming(authentication="<authentication>OAuth2</authentication>")], None),
        (
            [
                incoming(
                    authentication="<authentication>OAuth2</authentication>"
                    "<authentication>password-cleartext</authentication>"
                )
            ],
            imap("imap.example.org", 993, "implicit"),
        ),
        ([incoming(port="0")], None),
        ([incoming(port="65536")], None),
        ([incoming(port="1e2")], None),
        ([incoming(port="9" * 5000)], None),
        ([incoming("imap.example.org/x")], None),
        ([incoming("imap example")], None),
        ([incoming("-oProxyCommand=x")], None),
        ([incoming("x" * 300)], None),
        ([incoming(username="a&#10;b")], None),
    ],
)
def test_incoming_servers(servers: list[str], expected: Server | None) -> None:
    assert read(document(*servers), "alice@example.org", "test").imap == expected


def test_outgoing_servers() -> None:
    outgoing = incoming("smtp.example.org", "465", kind="smtp").replace("incomingServer", "outgoingServer")
    found = read(document(outgoing), "alice@example.org", "test")
    assert found == Servers(smtp=Server("smtp.example.org", 465, "implicit", "alice@example.org", "test"))


def test_an_address_brings_in_no_placeholder_of_its_own() -> None:
    found = read(document(incoming()), ADDRESS, "test").imap
    assert found is not None
    assert found.username == ADDRESS


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"<html><body>not found</body></html>",
        b"<clientConfig>",
        b"\xff\xfe\x00",
        b"<clientConfig/>",
        b'<?xml version="1.0" encoding="nonsense"?><clientConfig/>',
        b'<!DOCTYPE c [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><clientConfig>&b;</clientConfig>',
        b'<!DOCTYPE c SYSTEM "file:///etc/passwd"><clientConfig/>',
        b'<!DOCTYPE c [<!ENTITY x SYSTEM "file:///etc/passwd">]><clientConfig>&x;</clientConfig>',
    ],
)
def test_other_documents_say_nothing(octets: bytes) -> None:
    assert read(octets, "alice@example.org", "test") == Servers()


@given(st.binary(max_size=300))
def test_any_octets_are_survived(octets: bytes) -> None:
    read(octets, "alice@example.org", "test")
    read(document().replace(b"</emailProvider>", octets), "alice@example.org", "test")
