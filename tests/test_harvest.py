"""Certificates that come with valid signed mail, from the message as it is opened to the keystore."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from keystore import openpgp, smime
from keystore.autocrypt import Gossip, Heard
from keystore.errors import StoreLocked
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Introduction, Trust
from secmailproxy import harvest as harvesting
from secmailproxy.harvest import Harvest, HarvestSettings
from secmailproxy.imap.openings import Openings
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.steps import Present
from secmailproxy.mime.autocrypt import certificate_field
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.views import Kind, View, Views
from tests.fixtures.desk import Desk
from tests.fixtures.keystores import credentials, keystore, make_keystore
from tests.fixtures.workers import hired, until
from tests.fixtures.x509 import DAY, NOW, Issued, own, root

__all__ = ["credentials", "keystore", "make_keystore"]

ALICE, BOB = "alice@example.org", "bob@example.org"
FIELD = "Secmail-Verdict-abc"
PART = b"Content-Type: text/plain\r\n\r\nMeet me at the windmill.\r\n"
ROOT = root("Harvest Root", number=330)
MAIL_CA = ROOT.authority("Harvest Authority", number=331)


def letter(signer: Issued, author: str = ALICE, *, key: Issued | None = None) -> bytes:
    """A letter of `author`, signed by `signer`."""
    chain = [MAIL_CA.der, ROOT.der]
    made = smime.sign(PART, smime.SecretKey(signer.der, (key or signer).key), chain, NOW)
    return (
        f"From: {author}\r\nTo: {BOB}\r\nDate: {format_datetime(NOW)}\r\nSubject: hello\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: multipart/signed; boundary="sig"; micalg={made.micalg};\r\n'
        ' protocol="application/pkcs7-signature"\r\n\r\n--sig\r\n'.encode()
        + PART
        + b"\r\n--sig\r\nContent-Type: application/pkcs7-signature\r\n"
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(made.der).replace(b"\n", b"\r\n")
        + b"\r\n--sig--\r\n"
    )


@pytest.fixture
def views(keystore: Keystore, tmp_path: Path) -> Iterator[Views]:
    with closing(Views.open(tmp_path / "views.sqlite3", keystore)) as found:
        yield found


@pytest.fixture
def believing(keystore: Keystore) -> Keystore:
    """Bob's, who believes the root."""
    own(keystore, MAIL_CA.person(BOB, number=332))
    keystore.delete(MAIL_CA.fingerprint)
    keystore.set_trust(ROOT.fingerprint, Trust.VERIFIED)
    return keystore


async def present(keystore: Keystore, views: Views, openings: Openings, *messages: bytes) -> list[View]:
    """The views of messages, fixed as a FETCH fixes them."""
    box = views.mailbox(BOB, b"INBOX", 1)
    uids = range(1, len(messages) + 1)
    views.classify(box, b"1:%d" % len(messages), dict.fromkeys(uids, Kind.SIGNED))
    outbound = Outbound(keystore, OutboundSettings())
    presenter = Presenter(BOB, views, keystore, outbound, FIELD, lambda: datetime.now(UTC), openings=openings)
    await presenter.carry_out(Present(box, dict(zip(uids, messages, strict=True))))
    found = [views.view(box, uid, octets=True) for uid in uids]
    return [view for view in found if view is not None]


def learned(keystore: Keystore) -> set[str]:
    return {one.fingerprint for one in keystore.certificates() if one.source == "signed mail"}


async def test_who_signs_validly_is_known(believing: Keystore, views: Views) -> None:
    harvest = Harvest(believing, lambda: NOW)
    alice = MAIL_CA.person(ALICE, number=333)
    (view,) = await present(believing, views, Openings(harvest=harvest), letter(alice))
    await harvest.settled()
    assert view.introduction is None
    assert learned(believing) == {alice.fingerprint, MAIL_CA.fingerprint}


async def test_nobody_else_is(believing: Keystore, views: Views) -> None:
    """Another address than From shows, a root that is not believed, a signature that is wrong, no harvest."""
    harvest = Harvest(believing, lambda: NOW)
    alice, mallory = MAIL_CA.person(ALICE, number=334), MAIL_CA.person("mallory@example.net", number=335)
    stranger = root("Stranger", number=336).person(ALICE, number=337)
    wrong = letter(alice).replace(b"windmill", b"old mill")
    messages = (letter(mallory), letter(stranger), wrong, letter(alice, f"{ALICE}, {BOB}"))
    await present(believing, views, Openings(harvest=harvest), *messages)
    await harvest.settled()
    assert learned(believing) == set()
    await present(believing, views, Openings(), letter(alice))
    assert learned(believing) == set()


async def test_other_processes_only_report(believing: Keystore, views: Views) -> None:
    """They judge by the same roots, and write nothing."""
    people = [MAIL_CA.person(f"p{number}@example.org", number=340 + number) for number in range(13)]
    letters = [letter(one, f"p{number}@example.org") for number, one in enumerate(people)]
    harvest = Harvest(believing, lambda: NOW)
    async with hired(Desk(believing, {})) as workers:
        workers.call()
        await until(workers, 2)
        await present(believing, views, Openings(workers, harvest=harvest), *letters)
        await harvest.settled()
    assert learned(believing) == {MAIL_CA.fingerprint, *(one.fingerprint for one in people)}


async def test_a_store_that_another_process_writes_to_keeps_nobody_waiting(
    believing: Keystore, views: Views
) -> None:
    """Messages are presented meanwhile, and the certificate comes in when the store is free."""
    harvest = Harvest(believing, lambda: NOW)
    alice = MAIL_CA.person(ALICE, number=338)
    with closing(sqlite3.connect(believing._store.database.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked):
            believing.smime.learn(Introduction(ALICE, alice.der), NOW)
        (view,) = await present(believing, views, Openings(harvest=harvest), letter(alice))
        assert b"valid" in (view.verdict or b"")
        assert learned(believing) == set()
        other.rollback()
    await harvest.settled()
    assert alice.fingerprint in learned(believing)


async def test_who_stops_does_not_wait_for_others(
    believing: Keystore, views: Views, caplog: pytest.LogCaptureFixture
) -> None:
    harvest = Harvest(believing, lambda: NOW)
    with closing(sqlite3.connect(believing._store.database.path)) as other:
        other.execute("BEGIN IMMEDIATE")
        alice = MAIL_CA.person(ALICE, number=339)
        await present(believing, views, Openings(harvest=harvest), letter(alice))
        await harvest.close()
        other.rollback()
    assert learned(believing) == set()
    assert "certificates that came with mail were not kept" in caplog.text


async def test_who_stops_leaves_what_takes_long(
    believing: Keystore, caplog: pytest.LogCaptureFixture
) -> None:
    """Thousands may wait, and each goes to the disk by itself."""
    harvest = Harvest(believing, lambda: NOW)
    people = [MAIL_CA.person(f"p{number}@example.org", number=354) for number in range(3)]
    for number, one in enumerate(people):
        harvest.take([Introduction(f"p{number}@example.org", one.der)])
    await harvest.close(seconds=-1)
    assert learned(believing) == set()
    assert "certificates that came with mail were not kept" in caplog.text
    assert vars(caplog.records[-1])["count"] == 3


def by_autocrypt(keystore: Keystore) -> set[str]:
    return {one.fingerprint for one in keystore.certificates() if one.source.startswith("Autocrypt")}


def letter_in_clear(key: openpgp.SecretKey, days: int = 1, author: str = ALICE) -> bytes:
    """Its header section."""
    field = certificate_field("Autocrypt", author, key.certificate_octets)
    assert field is not None
    return b"From: %b\r\nDate: %b\r\n%b\r\n" % (
        author.encode(),
        format_datetime(NOW - days * DAY).encode(),
        field,
    )


async def test_mail_in_clear_tells_its_author_s_certificate_as_it_passes(keystore: Keystore) -> None:
    """The last word of each author counts, in whatever order a mailbox is read."""
    key, older = (openpgp.generate(ALICE, name="", kind="ed25519", now=NOW - 9 * DAY) for _ in range(2))
    harvest = Harvest(keystore, lambda: NOW)
    openings = Openings(harvest=harvest)
    openings.overheard([letter_in_clear(older, 2), letter_in_clear(key), b"\0\r\n\r\n", b"nothing"])
    await harvest.settled()
    assert by_autocrypt(keystore) == {key.fingerprint}
    Openings().overheard([letter_in_clear(older)])


async def test_a_full_disk_stops_nothing_for_good(keystore: Keystore) -> None:
    """What was at hand then is lost until it is read again; what comes later is kept."""
    key = openpgp.generate(ALICE, name="", kind="ed25519", now=NOW - 9 * DAY)
    disk = keystore._store.database._connection
    (pages,) = disk.execute("PRAGMA page_count").fetchone()
    harvest = Harvest(keystore, lambda: NOW)
    disk.execute(f"PRAGMA max_page_count = {pages}")
    for days in range(20):
        strange = [Heard(f"p{days}-{number}@example.org", NOW, protected=True) for number in range(200)]
        harvest.take(strange)
        await harvest.settled()
        assert harvest._task is not None
        assert harvest._task.exception() is None
    assert keystore.peers.get("p19-199@example.org") is None
    disk.execute("PRAGMA max_page_count = 1000000")
    harvest.take([letter_in_clear(key)])
    await harvest.settled()
    assert by_autocrypt(keystore) == {key.fingerprint}


async def test_the_same_header_is_read_once(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no more of them wait than there is room for."""
    key = openpgp.generate(ALICE, name="", kind="ed25519", now=NOW - 9 * DAY)
    section = letter_in_clear(key)
    harvest = Harvest(keystore, lambda: NOW)
    harvest.take([section])
    await harvest.settled()
    keystore.delete(key.fingerprint)
    harvest.take([section])
    await harvest.settled()
    monkeypatch.setattr(harvesting, "MOST_OCTETS_WAITING", len(section) - 1)
    harvest.take([letter_in_clear(key, 0)])
    await harvest.settled()
    assert by_autocrypt(keystore) == set()


async def test_authors_of_protected_mail_stand_in_the_address_book(believing: Keystore, views: Views) -> None:
    """Once for each message, however often it is read; nothing of plain mail, nor of what is one's own."""
    harvest = Harvest(believing, lambda: datetime.now(UTC))
    alice, me = MAIL_CA.person(ALICE, number=355), MAIL_CA.person(BOB, number=356)
    messages = (letter(alice), letter(me, BOB))
    for _ in range(2):
        await present(believing, views, Openings(harvest=harvest), *messages)
        await harvest.settled()
    key = openpgp.generate("carol@example.org", name="", kind="ed25519", now=NOW - 9 * DAY)
    harvest.take([letter_in_clear(key, author="carol@example.org")])
    await harvest.settled()
    (peer,) = believing.peers.search()
    assert (peer.address, peer.count, peer.encrypted) == (ALICE, 1, None)
    assert (peer.signer, peer.last_seen) == (alice.fingerprint, NOW.replace(microsecond=0))


async def test_what_is_not_wanted_is_not_kept(keystore: Keystore) -> None:
    key, other = (
        openpgp.generate(address, name="", kind="ed25519", now=NOW - 9 * DAY) for address in (ALICE, BOB)
    )
    heard = Heard(ALICE, NOW, key.certificate_octets, gossip=(Gossip(BOB, other.certificate_octets),))
    for settings in (HarvestSettings(autocrypt=False), HarvestSettings(gossip=False)):
        harvest = Harvest(keystore, lambda: NOW, settings)
        harvest.take([heard])
        await harvest.settled()
        assert by_autocrypt(keystore) == ({key.fingerprint} if settings.autocrypt else set())


async def test_what_a_signer_reads_is_known_for_the_answer(believing: Keystore, views: Views) -> None:
    """RFC 8551 section 2.7: Alice's program states AES-GCM, so that is what she gets."""
    harvest = Harvest(believing, lambda: NOW)
    alice = MAIL_CA.person(ALICE, number=353)
    await present(believing, views, Openings(harvest=harvest), letter(alice))
    await harvest.settled()
    made = believing.smime.encrypt(PART, [Fingerprint(alice.fingerprint)], NOW)
    assert made.cipher is smime.ContentCipher.AES256_GCM
