"""The database: what is stored is there again, for this process and others, or the error says why not."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore.errors import KeystoreError, StoreDamaged, StoreLocked
from keystore.model import Fingerprint, Holder, Peer, Scheme, Trust, key_id
from keystore.store import Store, StoredCertificate, StoredSecret

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
V4 = Fingerprint("0123456789ABCDEF0123456789ABCDEF01234567")
SUBKEY = Fingerprint("FEDCBA9876543210FEDCBA9876543210FEDCBA98")
V6 = Fingerprint("AB" * 32)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keys" / "store.sqlite3"


@pytest.fixture
def store(path):
    with closing(Store(path)) as opened:
        yield opened


def put(store: Store, fingerprint: Fingerprint = V4, *addresses: str, octets: bytes = b"octets", **changes):
    values = {"trust": Trust.KNOWN, "source": "a test", "holder": Holder.NONE, **changes}
    row = StoredCertificate(fingerprint, octets, **values)
    store.put(row, addresses=addresses or ("alice@example.org",), keys=[fingerprint, SUBKEY], now=NOW)
    return row


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


def test_deleted_secrets_are_wiped_from_the_file(path):
    with closing(Store(path)) as store:
        put(store, V4)
        store.put_secret(StoredSecret(V4, Holder.OWN, b"the wrapped secret key"))
    assert b"the wrapped secret key" in path.read_bytes()
    with closing(Store(path)) as store:
        store.delete(V4)
    assert b"the wrapped secret key" not in path.read_bytes()


def test_a_secret_needs_its_certificate_and_the_right_form(store):
    with pytest.raises(StoreDamaged):
        store.put_secret(StoredSecret(V4, Holder.OWN, b"wrapped"))
    put(store, V4)
    for wrong in (StoredSecret(V4, Holder.OWN, None), StoredSecret(V4, Holder.GNUPG, b"wrapped")):
        with pytest.raises(StoreDamaged):
            store.put_secret(wrong)
    store.put_secret(StoredSecret(V4, Holder.GNUPG, None))
    assert store.certificate(V4).holder is Holder.GNUPG


def test_trust_peers_and_facts(store):
    put(store, V4)
    store.set_trust(V4, Trust.REJECTED)
    assert store.certificate(V4).trust is Trust.REJECTED
    assert store.peer("bob@example.org") is None
    for peer in (
        Peer("bob@example.org", NOW),
        Peer("bob@example.org", NOW, encrypted=NOW - timedelta(days=1), signer=V6),
    ):
        store.put_peer(peer)
        assert store.peer("bob@example.org") == peer
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
    with closing(Store(path)) as store:
        row = put(store)
    with closing(Store(path)) as store:
        assert store.certificates() == [row]


def test_the_version_tells_of_every_change(store, path):
    def another() -> None:
        with closing(Store(path)) as other:
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


def test_closed_to_others(store, path):
    put(store)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert path.name + "-wal" in modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed(path):
    Store(path).close()
    path.chmod(0o644)
    Store(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_open_to_others_is_refused(path):
    path.parent.mkdir(mode=0o755)
    with pytest.raises(KeystoreError, match="run chmod 700"):
        Store(path)
    assert not path.exists()


def test_power_safe_settings(store):
    assert store._pragma("synchronous") == 2
    assert store._pragma("foreign_keys") == 1
    assert store._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("octets", [b"garbage " * 2000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_not_a_database(path, octets):
    path.parent.mkdir(mode=0o700)
    path.write_bytes(octets)
    with pytest.raises(StoreDamaged, match="backup"):
        Store(path)
    assert path.read_bytes() == octets, "what might be rescued is left alone"


def test_a_damaged_page(path):
    with closing(Store(path)) as store:
        for number in range(40):
            put(store, Fingerprint(f"{number:040X}"), octets=b"x" * 3000)
    octets = bytearray(path.read_bytes())
    octets[4096 * 5 : 4096 * 20] = b"\xee" * 4096 * 15
    path.write_bytes(octets)
    with pytest.raises(StoreDamaged, match="backup"):
        Store(path)


def test_somebody_elses_database(path):
    path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE addresses (name TEXT)")
    with pytest.raises(StoreDamaged, match="is not a keystore"):
        Store(path)


def test_a_newer_schema(path):
    Store(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(KeystoreError, match="upgrade secmailproxy"):
        Store(path)


def test_a_path_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeystoreError, match="cannot be opened"):
        Store(tmp_path / "file" / "store")


def test_a_disk_that_is_full_when_it_is_made(path):
    """The first command on a full disk names the disk; once there is room, the same command works."""
    limited = (
        "import pathlib, resource, sys\n"
        "from keystore.errors import KeystoreError\n"
        "from keystore.store import Store\n"
        "for size in range(1_000, 60_000, 6_000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        Store(pathlib.Path(sys.argv[1])).close()\n"
        "    except KeystoreError as error:\n"
        "        print(error)\n"
    )
    argv = [sys.executable, "-c", limited, path]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert len(said.splitlines()) > 3, "at several of its steps"
    assert all("is the disk full" in line for line in said.splitlines()), said
    Store(path).close()


def test_busy_for_too_long(store, path, monkeypatch):
    monkeypatch.setattr("keystore.store._BUSY_SECONDS", 0.05)
    with closing(Store(path)) as other, store.transaction():
        with pytest.raises(StoreLocked, match="another process"):
            put(other)
        assert other.certificates() == [], "reading goes on"


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
        with closing(Store(path)) as store:
            row = StoredCertificate(V4, b"octets", Trust.VERIFIED, "a test", Holder.OWN, Scheme.OPENPGP)
            assert store.certificates() == [row]
            assert store.by_address("alice@example.org") == store.by_key(key_id(V4)) == [V4]
            assert store.secrets() == [StoredSecret(V4, Holder.OWN, b"wrapped", b"octets", Scheme.OPENPGP)]
            assert store.peer("bob@example.org") == Peer("bob@example.org", NOW)
            assert store.fact("name") == b"value"


def test_the_scheme_of_a_certificate_is_kept(store):
    row = put(store, V6, scheme=Scheme.SMIME)
    store.put_secret(StoredSecret(V6, Holder.OWN, b"wrapped"))
    assert store.certificate(V6).scheme is row.scheme is Scheme.SMIME
    assert store.secrets() == [StoredSecret(V6, Holder.OWN, b"wrapped", b"octets", Scheme.SMIME)]


def test_a_keystore_that_another_process_makes_meanwhile(path):
    """What is read of the file to tell whether it is a keystore is of one moment."""
    others: list[threading.Thread] = []

    class Interrupted(Store):
        def _pragma(self, name: str) -> int:
            value = super()._pragma(name)
            if name == "application_id" and not others:
                others.append(threading.Thread(target=lambda: Store(path).close()))
                others[0].start()
                others[0].join(0.5)
            return value

    Interrupted(path).close()
    others[0].join()
    with closing(Store(path)) as store:
        assert store.certificates() == []
