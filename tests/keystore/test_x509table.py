"""How messages name certificates: entered when one is stored, and later where somebody has not entered it."""

from __future__ import annotations

from contextlib import closing

import pytest

from keystore import smime
from keystore.model import Fingerprint, Holder, Scheme, Trust
from keystore.store import Store, StoredCertificate
from keystore.x509table import X509Table
from tests.fixtures.rows import NOW, V4, put
from tests.fixtures.x509 import root as made_root

ROOT = made_root("Table Root", number=610)
BOB = ROOT.person("bob@example.org", number=611)


@pytest.fixture
def store(tmp_path):
    with closing(Store.open(tmp_path / "keys" / "store.sqlite3")) as opened:
        yield opened


def stored(store: Store, der: bytes, trust: Trust = Trust.KNOWN) -> StoredCertificate:
    fingerprint = smime.certificate(der).fingerprint
    row = StoredCertificate(fingerprint, der, trust, "a test", Holder.NONE, Scheme.SMIME)
    store.put(row, addresses=(), keys=[fingerprint], now=NOW)
    return row


def test_what_was_stored_without_being_entered_is_found_all_the_same(store):
    bob, root = stored(store, BOB.der, Trust.VERIFIED), stored(store, ROOT.der)
    put(store, V4)
    table = X509Table(store)
    for name in smime.names_in_messages(bob.octets):
        assert table.named(name) == [bob]
    serial = smime.serial_number(smime.names_in_messages(bob.octets)[0])
    assert bob in table.of_serial(serial)
    assert table.authorities() == [root]
    assert list(table.verified()) == table.of_people() == [bob.octets]
    assert store.rows("SELECT count(*) FROM x509") == [(2,)]


def test_each_certificate_is_entered_once(store):
    stored(store, BOB.der)
    table = X509Table(store)
    table.of_people()
    before = store.version()
    assert table.of_people() == [BOB.der]
    assert store.version() == before, "a question writes only where something is new"


def test_what_is_deleted_or_rejected_is_found_no_more(store):
    bob = stored(store, BOB.der)
    table = X509Table(store)
    name = smime.names_in_messages(bob.octets)[0]
    store.set_trust(bob.fingerprint, Trust.REJECTED)
    assert table.of_people() == []
    assert [one.trust for one in table.named(name)] == [Trust.REJECTED]
    store.delete(Fingerprint(bob.fingerprint))
    assert table.named(name) == []
