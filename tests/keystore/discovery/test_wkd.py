"""The Web Key Directory, on a web server with TLS, with what gpg-wks-client puts there and with worse."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pytest

from keystore import openpgp
from keystore.discovery.directory import places
from keystore.discovery.fetching import HostMissing
from keystore.discovery.model import SourceFailed, SourceKind
from keystore.discovery.net import NetSettings, open_net
from keystore.discovery.wkd import Wkd, may_lead
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.web import Web, reply

ADDRESS = "Joe.Doe@example.org"
ADVANCED, DIRECT = (place.url.partition("?")[0] for place in places(ADDRESS))
NOW = datetime.now(UTC)


JOE = "joe.doe@example.org"


@cache
def key(address: str) -> openpgp.SecretKey:
    return openpgp.generate(address, name="", kind="ed25519", now=NOW, expires=None)


def certificate(address: str = JOE) -> bytes:
    return key(address).certificate_octets


def elsewhere(location: str) -> bytes:
    return reply(status=302, headers=f"Location: {location}\r\n")


async def test_a_tree_of_gnupg(web: Web, gnupg_home: Callable[..., GnuPG], tmp_path: Path) -> None:
    """Draft section 3.1, advanced method; the answer is the certificate, cut down by gpg to the address."""
    gnupg = gnupg_home()
    gnupg.run("--quick-generate-key", "Joe <joe.doe@example.org>", "ed25519", "sign", "never")
    gnupg.run("--quick-add-uid", "joe.doe", "Joe <joe@example.net>")
    listing = gnupg.run("--with-colons", "--list-keys").stdout.decode()
    fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    subprocess.run(
        ["/usr/lib/gnupg/gpg-wks-client", "-C", tmp_path, "--install-key", fingerprint, ADDRESS],
        env={"GNUPGHOME": str(gnupg.home), "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )
    for file in tmp_path.rglob("*"):
        if file.is_file():
            url = f"https://openpgpkey.example.org/.well-known/openpgpkey/{file.relative_to(tmp_path)}"
            web.serve(url, reply(file.read_bytes(), headers="Content-Type: application/octet-stream\r\n"))
    (offer,) = await Wkd(web.net()).find(ADDRESS)
    found = openpgp.certificate(offer.octets)
    assert (found.fingerprint, found.addresses) == (fingerprint, ("joe.doe@example.org",))
    assert offer.where == places(ADDRESS)[0].url
    assert web.urls == [places(ADDRESS)[0].url]


async def test_the_direct_method_where_the_name_does_not_exist(web: Web) -> None:
    web.serve(DIRECT, reply(certificate()))
    assert [one.octets for one in await Wkd(web.net()).find(ADDRESS)] == [certificate()]
    assert web.urls == [places(ADDRESS)[1].url]


@pytest.mark.parametrize("answer", [reply(status=404), reply(b"<html>"), reply(status=500)])
async def test_never_the_direct_method_where_it_does(web: Web, answer: bytes) -> None:
    web.serve(DIRECT, reply(certificate()))
    web.serve(ADVANCED, answer)
    try:
        assert await Wkd(web.net()).find(ADDRESS) == ()
    except SourceFailed as failed:
        assert failed.text.startswith("openpgpkey.example.org ")  # noqa: PT017  both are right
    assert web.urls == [places(ADDRESS)[0].url]


async def test_nor_where_nobody_knows_whether_it_does(web: Web) -> None:
    web.serve(DIRECT, reply(certificate()))
    web.unresolved.add("openpgpkey.example.org")
    with pytest.raises(SourceFailed, match=r"^openpgpkey\.example\.org cannot be reached") as failed:
        await Wkd(web.net()).find(ADDRESS)
    assert failed.value.temporary
    assert not web.asked


async def test_a_domain_without_a_web(web: Web) -> None:
    assert await Wkd(web.net()).find(ADDRESS) == ()


@pytest.mark.parametrize("kind", ["proxy", "socks"])
async def test_through_a_proxy(web: Web, kind: str) -> None:
    """What the proxy cannot reach may not exist: the direct method is tried, and its failure passes."""
    wkd = Wkd(open_net(NetSettings(ca_file=web.ca_file, proxy=getattr(web, kind))))
    with pytest.raises(HostMissing) as failed:
        await wkd.find(ADDRESS)
    assert failed.value.temporary
    web.serve(DIRECT, reply(certificate()))
    assert len(await wkd.find(ADDRESS)) == 1
    assert web.connected == ["openpgpkey.example.org:443", "example.org:443"] * 2


async def test_several_certificates(web: Web) -> None:
    """A revoked one may come along with the new one; those of others are left out."""
    web.serve(ADVANCED, reply(certificate("mallory@example.org") + certificate() + certificate("joe@a.org")))
    assert [one.octets for one in await Wkd(web.net()).find(ADDRESS)] == [certificate()]


async def test_armored_all_the_same(web: Web) -> None:
    web.serve(ADVANCED, reply(openpgp.armor(certificate(), "PUBLIC KEY BLOCK")))
    assert [one.octets for one in await Wkd(web.net()).find(ADDRESS)] == [certificate()]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>welcome</html>", "what is no OpenPGP certificate"),
        (b"", "what is no OpenPGP certificate"),
        (b"\x99", "what is no OpenPGP certificate"),
        (certificate()[:-9], "what is no OpenPGP certificate"),
        (certificate("mallory@example.org"), "of another address"),
        (key(JOE).to_octets(), "a secret key"),
    ],
)
async def test_what_is_no_answer(web: Web, body: bytes, said: str) -> None:
    web.serve(ADVANCED, reply(body))
    with pytest.raises(SourceFailed, match=said) as failed:
        await Wkd(web.net()).find(ADDRESS)
    assert not failed.value.temporary


async def test_redirections(web: Web) -> None:
    """Within the domain anywhere; elsewhere only to a place that must be a directory's."""
    web.serve(ADVANCED, elsewhere("https://www.example.org/keys"))
    web.serve("https://www.example.org/keys", elsewhere(DIRECT.replace("example.org", "wkd.example.net", 1)))
    web.serve(DIRECT.replace("example.org", "wkd.example.net", 1), reply(certificate()))
    with pytest.raises(SourceFailed, match="leads elsewhere"):
        await Wkd(web.net()).find(ADDRESS)
    web.serve("https://www.example.org/keys", elsewhere(ADVANCED.replace("openpgpkey", "wkd", 1)))
    web.serve(ADVANCED.replace("openpgpkey", "wkd", 1), reply(certificate()))
    assert len(await Wkd(web.net()).find(ADDRESS)) == 1


@pytest.mark.parametrize(
    ("target", "may"),
    [
        ("https://example.org/any/thing", True),
        ("https://www.example.org/?a=b", True),
        (ADVANCED.replace("openpgpkey.example.org", "wkd.example.net", 1), True),
        (ADVANCED.replace("openpgpkey.example.org", "wkd.example.net:8443", 1), False),
        (ADVANCED.replace("openpgpkey.example.org", "wkd.example.net", 1) + "?reboot=1", False),
        ("https://badexample.org/any/thing", False),
        ("https://router.example.net/reboot", False),
        ("https://example.org:22/", False),
        ("https:///nothing", False),
    ],
)
def test_where_a_redirection_may_lead(target: str, may: bool) -> None:
    place = places(ADDRESS)[0]
    assert may_lead(place, place.url, target) is may


def test_its_kind(web: Web) -> None:
    assert Wkd(web.net()).kind is SourceKind.WKD
