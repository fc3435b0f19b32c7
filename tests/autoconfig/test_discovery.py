"""Discovery over real HTTPS and real DNS on loopback: the order of sources, and what must not be trusted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from secmailproxy.autoconfig.discovery import PLACES, Discovery, ascii_domain
from secmailproxy.autoconfig.providers import PROVIDERS, provider_of, servers_of
from secmailproxy.autoconfig.servers import Server, Servers, is_within
from secmailproxy.errors import UsageError
from tests.autoconfig.test_clientconfig import document, incoming
from tests.fixtures.certificates import TestCA

ADDRESS = "alice@example.test"
NOBODY = ("127.0.0.1", 9)
Nameserver = Callable[[dict[str, list[str]]], tuple[str, int]]


async def test_the_domains_own_document_comes_first(
    ca: TestCA, https_place: Callable[..., str], nameserver: Nameserver
) -> None:
    discovery = Discovery(
        places=(https_place(b"", 404), https_place(document(incoming("xml.example.test")))),
        nameserver=nameserver(
            {
                "_imaps._tcp.example.test.": ["0 1 993 srv.example.test."],
                "_submission._tcp.example.test.": ["0 1 587 srv.example.test."],
            }
        ),
        ca_file=ca.ca_file,
    )
    found = await discovery.find(ADDRESS)
    assert found.imap == Server("xml.example.test", 993, "implicit", ADDRESS, "autoconfig of example.test")
    # What the document lacks, the next source gives.
    assert found.smtp == Server("srv.example.test", 587, "starttls", ADDRESS, "SRV record of example.test")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            {"_imaps._tcp.example.test.": ["0 1 993 a.example.test."]},
            ("a.example.test", 993, "implicit", True),
        ),
        (
            {"_imap._tcp.example.test.": ["0 1 143 a.example.test."]},
            ("a.example.test", 143, "starttls", True),
        ),
        (
            {
                "_imaps._tcp.example.test.": ["0 1 993 tls.example.test."],
                "_imap._tcp.example.test.": ["0 1 143 clear.example.test."],
            },
            ("tls.example.test", 993, "implicit", True),
        ),
        (
            {"_imaps._tcp.example.test.": ["20 1 993 second.example.test.", "10 1 1993 first.example.test."]},
            ("first.example.test", 1993, "implicit", True),
        ),
        ({"_imaps._tcp.example.test.": ["0 0 0 ."]}, None),
        (
            {"_imaps._tcp.example.test.": ["0 1 993 mail.elsewhere.test."]},
            ("mail.elsewhere.test", 993, "implicit", False),
        ),
        (
            {"_imaps._tcp.example.test.": ["0 1 993 badexample.test."]},
            ("badexample.test", 993, "implicit", False),
        ),
        ({}, None),
    ],
)
async def test_srv_records(
    nameserver: Nameserver, records: dict[str, list[str]], expected: tuple[str, int, str, bool] | None
) -> None:
    found = (await Discovery(places=(), nameserver=nameserver(records)).find(ADDRESS)).imap
    assert (None if found is None else (found.host, found.port, found.tls, found.is_vouched)) == expected


@pytest.mark.parametrize(
    ("body", "status", "location"),
    [
        (document(incoming()), 404, ""),
        (document(incoming()), 302, "http://localhost:1/config.xml"),
        (document(incoming()), 302, "ftp://localhost/config.xml"),
        (document(incoming()) + b" " * (300 * 1024), 200, ""),
    ],
    ids=["not found", "redirect to clear text", "redirect to nonsense", "too large"],
)
async def test_answers_that_are_not_taken(
    ca: TestCA,
    https_place: Callable[..., str],
    nameserver: Nameserver,
    body: bytes,
    status: int,
    location: str,
) -> None:
    place = https_place(body, status, location)
    found = await Discovery(places=(place,), nameserver=nameserver({}), ca_file=ca.ca_file).find(ADDRESS)
    assert found == Servers()


async def test_a_redirect_over_https_is_followed(
    ca: TestCA, https_place: Callable[..., str], nameserver: Nameserver
) -> None:
    place = https_place(b"", 302, https_place(document(incoming())))
    found = await Discovery(places=(place,), nameserver=nameserver({}), ca_file=ca.ca_file).find(ADDRESS)
    assert found.imap is not None


async def test_an_unknown_authority_is_not_trusted(
    https_place: Callable[..., str], nameserver: Nameserver
) -> None:
    place = https_place(document(incoming()))
    assert await Discovery(places=(place,), nameserver=nameserver({})).find(ADDRESS) == Servers()


async def test_silence_ends_in_time() -> None:
    # Nothing answers at either place: a socket that accepts and a nameserver that does not exist.
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"https://localhost:{silent.getsockname()[1]}/"
        began = time.monotonic()
        found = await Discovery(places=(place,), nameserver=NOBODY, timeout=0.5).find(ADDRESS)
    assert found == Servers()
    assert time.monotonic() - began < 10


async def test_the_table_is_the_last_resort() -> None:
    found = await Discovery(places=(), nameserver=NOBODY, timeout=0.3).find("Someone@GMX.de")
    assert found.complete
    assert found.imap is not None
    assert (found.imap.host, found.imap.username) == ("imap.gmx.net", "Someone@GMX.de")


def test_the_table_offers_tls_only_and_no_domain_twice() -> None:
    domains = [domain for provider in PROVIDERS for domain in provider.domains]
    assert len(domains) == len(set(domains))
    for provider in PROVIDERS:
        for (_, port, tls), ports in ((provider.imap, {993: "implicit"}), (provider.smtp, SMTP_PORTS)):
            assert ports[port] == tls
    assert provider_of("example.org") is None
    assert servers_of("a@example.org", "example.org") == Servers()


SMTP_PORTS = {465: "implicit", 587: "starttls"}


def test_places_are_https() -> None:
    assert all(place.startswith("https://") for place in PLACES)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("a@example.org", "example.org"),
        ("a@EXAMPLE.org", "example.org"),
        ("a@bücher.example", "xn--bcher-kva.example"),
        ('"a@b"@example.org', "example.org"),
    ],
)
def test_domains(address: str, expected: str) -> None:
    assert ascii_domain(address) == expected


@pytest.mark.parametrize("address", ["", "a", "@example.org", "a@", "a@.", "a@b..c", f"a@{'x' * 70}.org"])
def test_no_domains(address: str) -> None:
    with pytest.raises(UsageError, match="is not a mail address"):
        ascii_domain(address)


@pytest.mark.parametrize(
    ("host", "is_in"),
    [("example.org", True), ("Mail.Example.Org.", True), ("badexample.org", False), ("org", False)],
)
def test_is_within(host: str, is_in: Any) -> None:
    assert is_within(host, "example.org") is is_in
