"""The file of the keystore: closed to others, safe against power cuts, and what is wrong with it is said."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from keystore.database.sqlite import SqliteDatabase
from keystore.errors import KeystoreError, StoreDamaged, StoreLocked
from keystore.model import Fingerprint, Holder
from keystore.schema import TABLES
from keystore.store import Store, StoredSecret
from tests.fixtures.rows import V4, put


def test_deleted_secrets_are_wiped_from_the_file(path):
    with closing(Store.open(path)) as store:
        put(store, V4)
        store.put_secret(StoredSecret(V4, Holder.OWN, b"the wrapped secret key"))
    assert b"the wrapped secret key" in path.read_bytes()
    with closing(Store.open(path)) as store:
        store.delete(V4)
    assert b"the wrapped secret key" not in path.read_bytes()


def test_closed_to_others(store, path):
    put(store)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert path.name + "-wal" in modes
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_others_could_read_is_closed(path):
    Store.open(path).close()
    path.chmod(0o644)
    Store.open(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_folder_open_to_others_is_refused(path):
    path.parent.mkdir(mode=0o755)
    with pytest.raises(KeystoreError, match="run chmod 700"):
        Store.open(path)
    assert not path.exists()


def test_power_safe_settings(store):
    settings = [
        store.rows(f"PRAGMA {name}")[0][0] for name in ("synchronous", "foreign_keys", "journal_mode")
    ]
    assert settings == [2, 1, "wal"]


@pytest.mark.parametrize("octets", [b"garbage " * 2000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_not_a_database(path, octets):
    path.parent.mkdir(mode=0o700)
    path.write_bytes(octets)
    with pytest.raises(StoreDamaged, match="backup"):
        Store.open(path)
    assert path.read_bytes() == octets, "what might be rescued is left alone"


def test_a_damaged_page(path):
    with closing(Store.open(path)) as store:
        for number in range(40):
            put(store, Fingerprint(f"{number:040X}"), octets=b"x" * 3000)
    octets = bytearray(path.read_bytes())
    octets[4096 * 5 : 4096 * 20] = b"\xee" * 4096 * 15
    path.write_bytes(octets)
    with pytest.raises(StoreDamaged, match="backup"):
        Store.open(path)


def test_somebody_elses_database(path):
    path.parent.mkdir(mode=0o700)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE addresses (name TEXT)")
    with pytest.raises(StoreDamaged, match="is not a keystore"):
        Store.open(path)


def test_a_newer_schema(path):
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(KeystoreError, match="upgrade secmailproxy"):
        Store.open(path)


def test_a_path_that_cannot_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeystoreError, match="cannot be opened"):
        Store.open(tmp_path / "file" / "store")


def test_a_disk_that_is_full_when_it_is_made(path):
    """The first command on a full disk names the disk; once there is room, the same command works."""
    limited = (
        "import pathlib, resource, sys\n"
        "from keystore.errors import KeystoreError\n"
        "from keystore.store import Store\n"
        "for size in range(1_000, 60_000, 6_000):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))\n"
        "    try:\n"
        "        Store.open(pathlib.Path(sys.argv[1])).close()\n"
        "    except KeystoreError as error:\n"
        "        print(error)\n"
    )
    argv = [sys.executable, "-c", limited, path]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert len(said.splitlines()) > 3, "at several of its steps"
    assert all("is the disk full" in line for line in said.splitlines()), said
    Store.open(path).close()


def test_busy_for_too_long(store, path, monkeypatch):
    monkeypatch.setattr("keystore.database.sqlite._BUSY_SECONDS", 0.05)
    with closing(Store.open(path)) as other, store.transaction():
        with pytest.raises(StoreLocked, match="another process"):
            put(other)
        assert other.certificates() == [], "reading goes on"


def test_a_keystore_that_another_process_makes_meanwhile(path):
    """What is read of the file to tell whether it is a keystore is of one moment."""
    others: list[threading.Thread] = []

    class Interrupted(SqliteDatabase):
        def _pragma(self, name: str) -> int:
            value = super()._pragma(name)
            if name == "application_id" and not others:
                others.append(threading.Thread(target=lambda: Store.open(path).close()))
                others[0].start()
                others[0].join(0.5)
            return value

    Interrupted(path, TABLES).close()
    others[0].join()
    with closing(Store.open(path)) as store:
        assert store.certificates() == []
