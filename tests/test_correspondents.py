"""What a submission says of its recipients' certificates, and what is noted of whom somebody wrote to."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.keystore import Keystore
from secmailproxy.correspondents import MOST_LINES, Correspondents
from tests.fixtures.keystores import NOW, KeystoreFactory, credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]

DAY = timedelta(days=1)
BOB, CAROL = "bob@example.org", "carol@example.org"


@pytest.fixture
def correspondents(keystore: Keystore) -> Correspondents:
    return Correspondents(keystore, lambda: NOW)


def bring(keystore: Keystore, *addresses: str) -> None:
    """Two certificates for each address, one after the other."""
    for _ in range(2):
        for address in addresses:
            octets = openpgp.generate(address, now=NOW - DAY).certificate_octets
            keystore.import_keys(octets, source="a test", now=NOW)


async def test_a_changed_certificate_is_told_until_it_is_settled(
    keystore: Keystore, correspondents: Correspondents, caplog: pytest.LogCaptureFixture
) -> None:
    """By the recipient's address in any spelling; the log names nobody."""
    bring(keystore, BOB)
    with caplog.at_level(logging.WARNING):
        [line] = correspondents.accepted(["Bob@Example.org", CAROL])
    assert f"<{BOB}>" in line
    assert line.endswith(f"secmailproxy key settle {BOB}")
    assert "changed" in caplog.text
    assert "bob" not in caplog.text.lower()
    keystore.settling.keep(BOB, NOW)
    assert correspondents.accepted([BOB]) == ()
    await correspondents.settled()


@pytest.mark.parametrize(
    ("address", "written"),
    [
        ("strau\u00df@example.org", "Strau\u00df@example.org"),
        ("bob@b\u00fccher.example", "bob@xn--bcher-kva.example"),
        (BOB, '"bob"@example.org'),
    ],
)
async def test_a_changed_certificate_is_told_once_however_it_is_written(
    keystore: Keystore, correspondents: Correspondents, address: str, written: str
) -> None:
    bring(keystore, address)
    assert len(correspondents.accepted([written, written])) == 1
    await correspondents.settled()


async def test_what_is_told_and_noted_is_of_nobody_with_a_similar_address(
    keystore: Keystore, correspondents: Correspondents
) -> None:
    """Sharp s is not "ss": these are two people."""
    bring(keystore, "strauss@example.org")
    assert correspondents.accepted(["strau\u00df@example.org"]) == ()
    await correspondents.settled()
    assert [one.address for one in keystore.peers.search()] == ["strau\u00df@example.org"]


async def test_a_reply_stays_short(keystore: Keystore, correspondents: Correspondents) -> None:
    many = [f"bob{number}@example.org" for number in range(MOST_LINES + 1)]
    bring(keystore, *many)
    assert len(correspondents.accepted(many)) == MOST_LINES
    await correspondents.settled()


async def test_whom_one_writes_to_is_noted(keystore: Keystore, correspondents: Correspondents) -> None:
    correspondents.accepted([BOB, CAROL])
    correspondents.accepted(["BOB@example.org"])
    await correspondents.settled()
    found = keystore.peers.get(BOB)
    assert found is not None
    assert (found.count, found.written, found.last_seen) == (2, NOW, NOW)
    assert [one.address for one in keystore.peers.search()] == [BOB, CAROL]


async def test_another_process_that_writes_is_waited_for(
    make_keystore: KeystoreFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """At the end of the program no longer; the address book is worth no delay."""
    one, other = make_keystore("home"), make_keystore("home")
    waits, ends = (Correspondents(one, lambda: NOW) for _ in range(2))
    with other._store.transaction():
        waits.accepted([BOB])
        ends.accepted([CAROL])
        await ends.close()
        assert "not noted" in caplog.text
        assert one.peers.search() == []
    await waits.settled()
    assert [found.address for found in one.peers.search()] == [BOB]


async def test_nothing_that_fails_here_reaches_the_client(
    make_keystore: KeystoreFactory, caplog: pytest.LogCaptureFixture
) -> None:
    """A message that was accepted stays accepted."""
    keystore = make_keystore()
    correspondents = Correspondents(keystore, lambda: NOW)
    keystore.close()
    assert correspondents.accepted([BOB]) == ()
    assert "not told" in caplog.text
    await correspondents.close()
