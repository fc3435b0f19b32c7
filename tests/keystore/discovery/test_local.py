"""The sources that ask nobody."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from keystore import openpgp
from keystore.discovery.dane import DaneSettings
from keystore.discovery.keyfile import offers_in
from keystore.discovery.ldap import LdapServer
from keystore.discovery.local import Folder, GnupgRing
from keystore.discovery.model import SourceFailed, SourceKind
from keystore.discovery.net import NetSettings
from keystore.discovery.sources import DiscoverySettings, sources_of
from keystore.gnupg import Gnupg
from keystore.model import Scheme
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.keystores import NOW
from tests.fixtures.x509 import root

BOB, EVE = "bob@example.org", "eve@example.org"
KEY = openpgp.generate(BOB, now=NOW - timedelta(days=30))
OTHER = openpgp.generate(EVE, now=NOW - timedelta(days=30))
PERSON = root("Folder Root", number=720).person(BOB, number=721)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "bob.asc").write_bytes(openpgp.armor(KEY.certificate_octets, "PUBLIC KEY BLOCK"))
    return folder


async def test_a_folder_offers_what_its_files_hold(folder: Path) -> None:
    (folder / "bob.crt").write_bytes(PERSON.der)
    (folder / "eve.key").write_bytes(OTHER.to_octets())
    (folder / "readme.txt").write_text("these are keys")
    (folder / ".hidden").write_bytes(OTHER.certificate_octets)
    (folder / "below").mkdir()
    source = Folder(folder)
    found = await source.find("Bob@example.org")
    assert [(one.octets, one.where, one.scheme) for one in found] == [
        (KEY.certificate_octets, "bob.asc", Scheme.OPENPGP),
        (PERSON.der, "bob.crt", Scheme.SMIME),
    ]
    # Of a secret key, the public half alone.
    assert [one.octets for one in await source.find(EVE)] == [OTHER.certificate_octets]
    assert await source.find("nobody@example.org") == []


async def test_a_file_that_changes_is_read_again(folder: Path) -> None:
    source = Folder(folder)
    assert await source.find(BOB)
    file = folder / "bob.asc"
    file.write_bytes(OTHER.certificate_octets)
    os.utime(file, ns=(1, 1))
    assert (await source.find(BOB), len(await source.find(EVE))) == ([], 1)
    file.unlink()
    assert await source.find(EVE) == []


async def test_a_folder_that_has_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="cannot be read: No such file"):
        await Folder(tmp_path / "nowhere").find(BOB)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"text",
        b"\x30\x82\xff\xff",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"\x99\x00",
    ],
)
def test_a_file_of_something_else_offers_nothing(octets: bytes) -> None:
    assert offers_in(octets, "file") == {}


async def test_the_ring_of_gnupg_is_asked_for_whole_addresses(gnupg_home: Callable[[], GnuPG]) -> None:
    """With a gpg that would search elsewhere if it were let."""
    gnupg = gnupg_home()
    gnupg.take(KEY.certificate_octets)
    other_script = openpgp.generate("bob@b\u00fccher.example", now=NOW)
    gnupg.take(other_script.certificate_octets)
    (gnupg.home / "gpg.conf").write_text("auto-key-locate wkd,keyserver\nauto-key-retrieve\n")
    source = GnupgRing(Gnupg(gnupg.home))
    (offer,) = await source.find("bob@EXAMPLE.org")
    assert openpgp.certificate(offer.octets).fingerprint == KEY.fingerprint
    (offer,) = await source.find("bob@xn--bcher-kva.example")
    assert openpgp.certificate(offer.octets).fingerprint == other_script.fingerprint
    for other in ("ob@example.org", "bob@example.or", "bob", "-bob@example.org", EVE):
        assert await source.find(other) == []


async def test_gnupg_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceFailed, match="GnuPG"):
        await GnupgRing(Gnupg(tmp_path / "nowhere")).find(BOB)


def gpg_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "gpg"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


async def test_a_gnupg_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nobody could stop the program, which waits for its threads."""
    gpg_that("exec sleep 600", tmp_path, monkeypatch)
    with pytest.raises(SourceFailed, match="did not answer"):
        await GnupgRing(Gnupg(seconds=0.1)).find(BOB)


async def test_a_gnupg_that_hangs_holds_up_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait for it, there are threads for mail."""
    released = tmp_path / "released"
    gpg_that(f"while ! test -e {released}; do sleep 0.02; done; exit 2", tmp_path, monkeypatch)
    source = GnupgRing(Gnupg(seconds=60))
    searches = [asyncio.create_task(source.find(f"p{number}@example.org")) for number in range(40)]
    await asyncio.sleep(0)
    assert await asyncio.to_thread(lambda: 7) == 7
    assert not any(one.done() for one in searches)
    released.touch()
    failures = await asyncio.gather(*searches, return_exceptions=True)
    assert all(isinstance(one, SourceFailed) for one in failures)


@pytest.mark.parametrize("kind", [SourceKind.LDAP, SourceKind.DANE])
async def test_what_goes_through_no_proxy_asks_nobody(kind: SourceKind) -> None:
    """With a proxy, no connection and no question to the DNS beside it."""
    server = LdapServer("ldap.example.org", 636, implicit=True, base="dc=example")
    settings = DiscoverySettings(
        net=NetSettings(proxy="socks5h://127.0.0.1:1"),
        dane=DaneSettings() if kind is SourceKind.DANE else None,
        ldap=(server,) if kind is SourceKind.LDAP else (),
    )
    (source,) = sources_of(settings)
    assert source.kind is kind
    with pytest.raises(SourceFailed, match="proxy") as failed:
        await source.find(BOB)
    assert not failed.value.temporary


def test_the_order_is_the_owners_and_what_is_off_is_not_there(folder: Path) -> None:
    on = DiscoverySettings(gnupg=True, folder=folder)
    assert [one.kind for one in sources_of(on)] == [SourceKind.GNUPG, SourceKind.FOLDER]
    turned = DiscoverySettings(order=(SourceKind.FOLDER,), gnupg=True, folder=folder)
    assert [one.kind for one in sources_of(turned)] == [SourceKind.FOLDER, SourceKind.GNUPG]
    assert (sources_of(DiscoverySettings()), DiscoverySettings().asks, on.asks) == ([], False, True)
