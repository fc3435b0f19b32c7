"""A file of keys on a web server."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.discovery.keyurl import KEPT_SECONDS, KeyUrl, url_problem
from keystore.discovery.model import SourceFailed
from tests.fixtures.keystores import NOW
from tests.fixtures.web import Web, reply

BOB, EVE = "bob@example.org", "eve@example.org"
URL = "https://keys.example.org/all.asc"
KEYS = [openpgp.generate(one, now=NOW - timedelta(days=1)) for one in (BOB, EVE)]
FILE = b"".join(openpgp.armor(key.certificate_octets, "PUBLIC KEY BLOCK") for key in KEYS)


async def test_the_server_does_not_learn_who_is_looked_for(web: Web) -> None:
    web.serve(URL, reply(FILE))
    seconds = [0.0]
    source = KeyUrl(web.net(), f"{URL}?token=x", lambda: seconds[0])
    for address, key in zip(("Bob@example.org", EVE), KEYS, strict=True):
        (offer,) = await source.find(address)
        assert (offer.octets, offer.where) == (key.certificate_octets, URL)
    assert await source.find("nobody@example.org") == ()
    assert len(web.asked) == 1
    seconds[0] += KEPT_SECONDS
    await source.find(BOB)
    assert web.urls == [f"{URL}?token=x"] * 2


async def test_a_file_that_is_missing_is_told_and_asked_for_again(web: Web) -> None:
    web.serve(URL, reply(status=404))
    source = KeyUrl(web.net(), f"{URL}?token=x")
    with pytest.raises(SourceFailed, match=r"there is no file at https://keys\.example\.org/all\.asc$"):
        await source.find(BOB)
    web.serve(URL, reply(FILE))
    assert await source.find(BOB)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (URL, ""),
        ("http://keys.example.org/", "without TLS"),
        ("file:///etc/passwd", "without TLS"),
        ("https:///x", "without TLS"),
        ("https://a:b@keys.example.org/", "user name or password"),
        ("https://[x/", "no URL"),
    ],
)
def test_what_can_be_fetched(url: str, problem: str) -> None:
    assert (problem in url_problem(url)) if problem else url_problem(url) == ""
