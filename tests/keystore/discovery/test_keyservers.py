"""Key servers: one that answers as Hagrid does, and one of HKP."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from keystore import openpgp
from keystore.discovery.keyservers import VKS_SERVER, Hkps, Vks, server_url
from keystore.discovery.model import SourceFailed
from tests.fixtures.web import Web, reply
from tests.keystore.discovery.test_wkd import JOE, certificate, key

ADDRESS = "Joe.Doe@example.org"
HKPS = "https://pool.example.net/pks/lookup"
VKS = "https://keys.example.net/vks/v1"


def armored(*octets: bytes) -> bytes:
    return b"".join(openpgp.armor(one, "PUBLIC KEY BLOCK") for one in octets)


async def test_vks_by_address(web: Web) -> None:
    """The API writes the address into the path, escaped."""
    web.serve(f"{VKS}/by-email/Joe.Doe%40example.org", reply(armored(certificate())))
    (offer,) = await Vks(web.net(), "keys.example.net").find(ADDRESS)
    assert offer.octets == certificate()
    assert offer.where == f"{VKS}/by-email/Joe.Doe%40example.org"


async def test_hkps_by_address(web: Web) -> None:
    """What a server finds by words in names too is left out."""
    web.serve(HKPS, reply(armored(certificate("mallory@example.org"), certificate())))
    (offer,) = await Hkps(web.net(), "hkps://pool.example.net").find(ADDRESS)
    assert offer.octets == certificate()
    (asked,) = web.asked
    assert parse_qs(urlsplit(asked.url).query) == {
        "op": ["get"],
        "options": ["mr"],
        "exact": ["on"],
        "search": [ADDRESS],
    }


@pytest.mark.parametrize("status", [404, 410])
async def test_nothing_there(web: Web, status: int) -> None:
    web.hosts |= {"keys.example.net", "pool.example.net"}
    web.serve(HKPS, reply(b"<html>no keys found</html>", status))
    assert await Vks(web.net(), "keys.example.net").find(ADDRESS) == ()
    assert await Hkps(web.net(), "pool.example.net").find(ADDRESS) == ()


async def test_only_others_there(web: Web) -> None:
    web.serve(HKPS, reply(armored(certificate("mallory@example.org"))))
    assert await Hkps(web.net(), "pool.example.net").find(ADDRESS) == []


async def test_a_flood_of_certificates(web: Web) -> None:
    """Anybody can upload any number for an address; some are looked at."""
    web.serve(HKPS, reply(armored(*[certificate()] * 100)))
    assert len(await Hkps(web.net(), "pool.example.net").find(ADDRESS)) == 16


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"<html>", "no OpenPGP certificate"), (key(JOE).to_octets(), "a secret key")],
)
async def test_what_is_no_answer(web: Web, body: bytes, said: str) -> None:
    web.serve(HKPS, reply(body))
    with pytest.raises(SourceFailed, match=f"pool.example.net sends.*{said}"):
        await Hkps(web.net(), "pool.example.net").find(ADDRESS)


async def test_a_server_that_leads_elsewhere(web: Web) -> None:
    web.serve(HKPS, reply(status=301, headers="Location: https://keys.example.net/pks/lookup\r\n"))
    with pytest.raises(SourceFailed, match="leads elsewhere"):
        await Hkps(web.net(), "pool.example.net").find(ADDRESS)


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("keys.openpgp.org", VKS_SERVER),
        ("hkps://Keys.OpenPGP.org/", VKS_SERVER),
        ("https://keys.openpgp.org:443", VKS_SERVER),
        ("hkps://keys.example.net:8443", "https://keys.example.net:8443"),
        ("https://[::1]:8443", "https://[::1]:8443"),
    ],
)
def test_how_a_server_is_written(written: str, url: str) -> None:
    assert server_url(written) == url


@pytest.mark.parametrize(
    "written",
    [
        "",
        "http://keys.example.net",
        "hkp://keys.example.net",
        "ldap://keys.example.net",
        "me:sesame@keys.example.net",
        "keys.example.net:port",
        "keys/path",
        "a?b",
    ],
)
def test_what_is_no_server(written: str, web: Web) -> None:
    with pytest.raises(ValueError, match=r"host|https|supported|port|Port") as refused:
        Vks(web.net(), written)
    assert "sesame" not in str(refused.value)
