"""The database: what is stored is there again, for this process and others, or the error says why not."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from keystore.discovery.answers import Answer, Answers
from keystore.discovery.model import SourceKind
from keystore.errors import StoreDamaged, StoreLocked
from keystore.model import Fingerprint, Holder, Scheme, Trust, key_id
from keystore.peers import Peers, PeerSeen
from keystore.store import Store, StoredCertificate, StoredSecret
from tests.fixtures.rows import NOW, SUBKEY, V4, V6, put


def test_put_and_find(store):
    row = put(store, V4, "alice@example.org", "a.smith@example.org", "alice@example.org")
    assert store.certificate(V4) == row
    assert store.certificates() == [row]
    assert store.by_address("alice@example.org") == store.by_address("a.smith@example.org") == [V4]
    assert store.by_address("Alice@example.org") == []
    assert store.by_address("lice@example.org") == []
    for issuer in (V4, SUBKEY, key_id(V4), key_id(SUBKEY)):
        assert store.by_key(issuer) == [V4]
    assert store.by_key(V6) == store.by_key(key_id(V6)) == store.by_key("0" * 16) == []


def test_what_begins_so_is_found_without_reading_all(store):
    put(store, V4, "alice@example.org", "a.smith@example.org")
    put(store, V6, "bob@example.org")
    assert store.beginning("ALI", 9) == [V4]
    assert store.beginning("b", 9) == [V6]
    assert store.beginning(V6[:5].lower(), 9) == [V6]
    assert store.beginning("alicf", 9) == []
    assert store.beginning("", 9) == [V4, V6]
    assert store.beginning("a", 1) == [V4, V6]


def test_two_certificates_may_share_a_subkey_and_an_address(store):
    put(store, V4)
    put(store, V6)
    assert store.by_key(SUBKEY) == store.by_address("alice@example.org") == [V4, V6]


def test_put_again_replaces_addresses_and_keeps_the_secret(store):
    put(store, V4, "old@example.org")
    store.put_secret(StoredSecret(V4, Holder.OWN, b"wrapped"))
    put(store, V4, "new@example.org", octets=b"newer", trust=Trust.VERIFIED)
    assert store.by_address("old@example.org") == []
    assert store.by_address("new@example.org") == [V4]
    assert store.certificate(V4) == StoredCertificate(V4, b"newer", Trust.VERIFIED, "a test", Holder.OWN)
    assert store.secrets() == [StoredSecret(V4, Holder.OWN, b"wrapped", b"newer")]


def test_delete_takes_everything_along(store, path):
    put(store, V4, "alice@example.org")
    store.put_secret(StoredSecret(V4, Holder.OWN, b"the wrapped secret key"))
    store.delete(V4)
    assert store.certificate(V4) is None
    assert store.secrets() == store.by_address("alice@example.org") == store.by_key(SUBKEY) == []


def test_a_secret_needs_its_certificate_and_the_right_form(store):
    with pytest.raises(StoreDamaged):
        store.put_secret(StoredSecret(V4, Holder.OWN, b"wrapped"))
    put(store, V4)
    for wrong in (StoredSecret(V4, Holder.OWN, None), StoredSecret(V4, Holder.GNUPG, b"wrapped")):
        with pytest.raises(StoreDamaged):
            store.put_secret(wrong)
    store.put_secret(StoredSecret(V4, Holder.GNUPG, None))
    assert store.certificate(V4).holder is Holder.GNUPG


def test_trust_and_facts(store):
    put(store, V4)
    store.set_trust(V4, Trust.REJECTED)
    assert store.certificate(V4).trust is Trust.REJECTED
    assert store.fact("name") is None
    store.put_fact("name", b"1")
    store.put_fact("name", b"2")
    assert store.fact("name") == b"2"


def test_a_transaction_is_all_or_nothing(store):
    def fails_after_two() -> None:
        with store.transaction():
            put(store, V4)
            with store.transaction():
                put(store, V6)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_after_two()
    assert store.certificates() == []


def test_everything_is_there_after_opening_again(path):
    with closing(Store.open(path)) as store:
        row = put(store)
    with closing(Store.open(path)) as store:
        assert store.certificates() == [row]


def test_the_version_tells_of_every_change(store, path):
    def another() -> None:
        with closing(Store.open(path)) as other:
            put(other, V6)

    def fails() -> None:
        with pytest.raises(ZeroDivisionError), store.transaction():
            raise ZeroDivisionError

    seen = store.version()
    for change in (
        lambda: put(store, V4),
        another,
        lambda: store.set_trust(V4, Trust.VERIFIED),
        fails,
        lambda: store.delete(V4),
    ):
        assert store.version() == seen
        change()
        assert store.version() != seen
        seen = store.version()


def test_notes_make_nobody_forget_what_it_knows(store, path):
    """Each message that is read or sent leaves some: the certificates in memory stay there."""
    answer = Answer(SourceKind.WKD, NOW, NOW, failure="no answer")
    with closing(Store.open(path)) as other:
        for one in (store, other):
            seen, of_database = store.version(), store.database.version()
            Peers(one).seen(PeerSeen("bob@example.org", NOW, written=True))
            Answers(one).keep("bob@example.org", answer)
            assert store.version() == seen
            assert store.database.version() != of_database
        put(other, V4)
        Peers(other).seen(PeerSeen("bob@example.org", NOW))
        assert store.version() != seen


def test_a_try_to_write_while_another_does_makes_nobody_forget(store, path):
    seen = store.version()
    with closing(Store.open(path)) as other, other.transaction(), pytest.raises(StoreLocked):
        Peers(store).seen(PeerSeen("bob@example.org", NOW))
    assert store.version() == seen


def test_threads(store):
    def work(first: int) -> None:
        for number in range(first, first + 20):
            put(store, Fingerprint(f"{number:040X}"), "all@example.org", octets=bytes(100))
            store.certificates()

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.by_address("all@example.org")) == 80


def test_a_keystore_of_the_first_schema_opens_with_all_that_it_held(path):
    path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(path)) as database:
        database.executescript((Path(__file__).parent / "version1.sql").read_text())
    for _ in range(2):
        with closing(Store.open(path)) as store:
            row = StoredCertificate(V4, b"octets", Trust.VERIFIED, "a test", Holder.OWN, Scheme.OPENPGP)
            assert store.certificates() == [row]
            assert store.by_address("alice@example.org") == store.by_key(key_id(V4)) == [V4]
            assert store.secrets() == [StoredSecret(V4, Holder.OWN, b"wrapped", b"octets", Scheme.OPENPGP)]
            assert store.fact("name") == b"value"


def test_the_scheme_of_a_certificate_is_kept(store):
    row = put(store, V6, scheme=Scheme.SMIME)
    store.put_secret(StoredSecret(V6, Holder.OWN, b"wrapped"))
    assert store.certificate(V6).scheme is row.scheme is Scheme.SMIME
    assert store.secrets() == [StoredSecret(V6, Holder.OWN, b"wrapped", b"octets", Scheme.SMIME)]
