"""A PostgreSQL server: how it is reached, what happens when it goes, and two installations on it."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from keystore import openpgp
from keystore.database import Server
from keystore.database.postgresql import PASSWORD, PostgresqlDatabase, parameters, table_words
from keystore.errors import KeystoreError, StoreLocked
from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Trust
from keystore.peers import PeerSeen
from keystore.schema import MIGRATIONS, TABLES
from keystore.secrets import HandedOver
from keystore.vault import KEY_NAME
from keystore.wrap import new_key
from secmailproxy.folders import Folders
from secmailproxy.searchable import Key, fold
from secmailproxy.searchindex import SearchIndex
from secmailproxy.view import Kind, View
from secmailproxy.views import Views
from secmailproxy.viewtables import TABLES as VIEWS
from tests.fixtures import postgresql as fixture
from tests.fixtures.postgresql import Postgresql
from tests.fixtures.processes import wait_until
from tests.fixtures.x509 import own, root

NOW = datetime.now(UTC).replace(microsecond=0)
REMOTE = "postgresql://proxy@db.example.org/mail"


@pytest.fixture
def server(postgresql: Postgresql) -> Iterator[Server]:
    yield postgresql.server
    postgresql.forget(TABLES.name, VIEWS.name)


class Kept:
    """A place for secrets."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        return self._values.get(name)

    def set(self, name: str, value: str) -> None:
        self._values[name] = value

    def delete(self, name: str) -> None:
        del self._values[name]


def nobody() -> str | None:
    raise AssertionError("nobody wants a password")


@pytest.mark.parametrize(
    ("url", "ca_file", "expected"),
    [
        (REMOTE, None, {"sslmode": "verify-full", "sslrootcert": "system"}),
        (REMOTE, Path("/ca.pem"), {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}),
        (REMOTE + "?sslmode=verify-full", None, {"sslmode": "verify-full"}),
        ("postgresql:///mail?service=ours", None, {"sslmode": "verify-full"}),
        # PGHOST may name any machine.
        ("postgresql:///mail", None, {"sslmode": "verify-full"}),
        ("postgresql://a,localhost/mail", None, {"sslmode": "verify-full"}),
        ("postgresql://localhost/mail?hostaddr=192.0.2.1", None, {"sslmode": "verify-full"}),
        ("postgresql://localhost/mail", None, {}),
        ("postgresql://127.0.0.1,[::1]/mail", None, {}),
        ("postgresql:///mail?host=/run/postgresql", None, {}),
    ],
)
def test_tls_with_the_name_verified_to_every_other_machine(url, ca_file, expected):
    found, _ = parameters(Server(url, ca_file))
    assert {name: found.get(name) for name in expected} == expected
    assert expected or "sslmode" not in found


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca"])
def test_less_is_refused(mode):
    with pytest.raises(KeystoreError, match=f"sslmode={mode}"):
        parameters(Server(f"{REMOTE}?sslmode={mode}"))


def test_a_password_has_no_place_in_a_url():
    with pytest.raises(KeystoreError, match="store password") as caught:
        parameters(Server("postgresql://proxy:hunter2@db.example.org/mail"))
    assert "hunter2" not in str(caught.value)


def test_the_tables_in_its_words():
    words = " ".join(table_words(";".join(MIGRATIONS)).split())
    for gone in ("STRICT", "ROWID", "BLOB", "INTEGER", "AUTOINCREMENT"):
        assert gone not in words
    assert "octets BYTEA NOT NULL" in words


def test_the_password_is_asked_for_when_the_server_wants_one(postgresql):
    """Over TLS on loopback, with a user who must have one."""
    tables = TABLES.__class__("demanded", "test store", ("CREATE TABLE one (name TEXT)",))
    with pytest.raises(StoreLocked, match="store password"):
        PostgresqlDatabase(postgresql.by_tls(), tables, lambda: None)
    with pytest.raises(StoreLocked, match="authentication failed") as caught:
        PostgresqlDatabase(postgresql.by_tls(), tables, lambda: "wrong horse")
    assert "wrong horse" not in str(caught.value)
    with closing(PostgresqlDatabase(postgresql.by_tls(), tables, lambda: fixture.PASSWORD)) as database:
        assert database.secrets_used == (PASSWORD,)
        assert database.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == [(True,)]


def test_a_server_that_another_authority_vouches_for_is_not_believed(postgresql, tmp_path):
    import trustme

    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with pytest.raises(StoreLocked, match="certificate verify failed"):
        PostgresqlDatabase(postgresql.by_tls(tmp_path / "other.pem"), TABLES, nobody)


def test_a_lost_connection_is_made_anew(postgresql, server):
    with closing(PostgresqlDatabase(server, TABLES, nobody)) as database:
        seen = database.version()
        postgresql.cut()
        assert database.rows("SELECT count(*) FROM certificates") == [(0,)]
        assert database.version()[1] != seen[1], "who knows what was changed meanwhile"
        postgresql.cut()
        database.write("INSERT INTO facts VALUES (?, ?)", "a", b"1")
        postgresql.cut()
        database.version()
        assert database.rows("SELECT name FROM facts") == [("a",)]


def test_a_transaction_that_is_cut_is_lost_whole_and_said_to_be(postgresql, server):
    with closing(PostgresqlDatabase(server, TABLES, nobody)) as database:

        def cut_off() -> None:
            with database.transaction():
                database.write("INSERT INTO facts VALUES (?, ?)", "a", b"1")
                postgresql.cut()
                database.write("INSERT INTO facts VALUES (?, ?)", "b", b"2")

        with pytest.raises(StoreLocked, match="connection"):
            cut_off()
        assert database.rows("SELECT name FROM facts") == []
        database.write("INSERT INTO facts VALUES (?, ?)", "c", b"3")


@pytest.fixture
def stopped() -> Iterator[Callable[[PostgresqlDatabase], None]]:
    """Stops the process at the server that serves a database: the connection lives, and nothing is said."""
    numbers: list[int] = []

    def stop(database: PostgresqlDatabase) -> None:
        numbers.append(database.rows("SELECT pg_backend_pid()")[0][0])
        os.kill(numbers[-1], signal.SIGSTOP)

    yield stop
    for one in numbers:
        os.kill(one, signal.SIGCONT)


def test_a_server_that_falls_silent_is_given_up(server, stopped, monkeypatch):
    """Or the whole proxy would hang for as long as it does."""
    monkeypatch.setattr("keystore.database.impatient.ANSWER_SECONDS", 0.15)
    with closing(PostgresqlDatabase(server, TABLES, nobody)) as database:

        def silent_in_the_middle() -> None:
            with database.transaction():
                database.write("INSERT INTO facts VALUES (?, ?)", "a", b"1")
                stopped(database)
                database.write("INSERT INTO facts VALUES (?, ?)", "b", b"2")

        with pytest.raises(StoreLocked, match="was lost"):
            silent_in_the_middle()
        # By another connection, of which a server has many.
        assert database.rows("SELECT name FROM facts") == []
        stopped(database)
        assert database.rows("SELECT name FROM facts") == []


def test_nobody_waits_twice_for_a_server_that_is_not_there(tmp_path, postgresql, server, monkeypatch):
    with closing(PostgresqlDatabase(server, TABLES, nobody)) as database:
        there = database._parameters["host"]
        postgresql.cut()
        database._parameters["host"] = str(tmp_path)
        for _ in range(2):
            with pytest.raises(StoreLocked, match="cannot be reached"):
                database.version()
            database._parameters["host"] = there
        monkeypatch.setattr("keystore.database.postgresql._AGAIN_SECONDS", 0.0)
        assert database.rows("SELECT 1") == [(1,)]


def test_an_error_that_somebody_swallows_loses_nothing_in_silence(server):
    with closing(PostgresqlDatabase(server, TABLES, nobody)) as database:

        def swallowing() -> None:
            with database.transaction():
                with pytest.raises(KeystoreError):
                    database.write("INSERT INTO facts VALUES (?, ?)", "nul\0", b"")
                with pytest.raises(KeystoreError):
                    database.rows("SELECT nothing")

        with pytest.raises(KeystoreError, match="nothing of it was kept"):
            swallowing()


def test_two_installations_share_certificates_keys_and_trust(server, tmp_path):
    """SMIME and OpenPGP alike: what one imports or rejects, the other knows; a strange key opens nothing."""
    secrets = HandedOver(KEY_NAME, base64.b64encode(new_key()).decode())
    bob = openpgp.generate("bob@example.org", now=NOW)
    places = [KeystoreSettings(tmp_path / name, server=server) for name in ("one", "two")]
    with (
        closing(Keystore.open(places[0], secrets)) as one,
        closing(Keystore.open(places[1], secrets)) as two,
    ):
        assert one.database.is_shared
        one.unlock()
        alice = one.generate("alice@example.org", now=NOW)
        one.import_keys(bob.certificate_octets, source="a test", now=NOW)
        wait_until(lambda: two.select("bob@example.org", NOW).usable, "the other one knows of it")
        sealed = one.encrypt(b"hello", [alice.fingerprint], None, NOW)
        assert two.decrypt(sealed, NOW).octets == b"hello"
        two.set_trust(bob.fingerprint, Trust.REJECTED)
        wait_until(lambda: not one.select("bob@example.org", NOW).usable, "and of what is rejected")
        known, told = one.version, one._store.database.version()
        two.peers.seen(PeerSeen("bob@example.org", NOW, written=True))
        wait_until(lambda: one._store.database.version() != told, "it is told of a note")
        assert one.version == known
        handed = two.hand_over()
        with closing(Keystore.open(places[1], handed)) as worker:
            assert worker.decrypt(sealed, NOW).octets == b"hello"
        strange = HandedOver(KEY_NAME, base64.b64encode(new_key()).decode())
        with (
            closing(Keystore.open(places[1], strange)) as third,
            pytest.raises(StoreLocked, match="not the one that this keystore was made with"),
        ):
            third.unlock()


def test_a_backup_comes_back_to_another_kind_of_store(server, tmp_path):
    """From files to a server and from there to files: what was sealed opens, and own keys read."""
    places = [(tmp_path / "a", None), (tmp_path / "b", server), (tmp_path / "c", None)]
    secrets = [Kept() for _ in places]
    with ExitStack() as stack:
        stores = [
            stack.enter_context(closing(Keystore.open(KeystoreSettings(folder, server=one), kept)))
            for (folder, one), kept in zip(places, secrets, strict=True)
        ]
        alice = stores[0].generate("alice@example.org", now=NOW)
        for _ in range(2):
            made = openpgp.generate("bob@example.org", now=NOW)
            stores[0].import_keys(made.certificate_octets, source="a test", now=NOW)
        person = own(stores[0], root("Moving Root", number=830).person("alice@example.org", number=831))
        stores[0].requests.make(["sales@example.org"], "", "p256", NOW)
        ciphertext = stores[0].encrypt(b"hello", [alice.fingerprint], None, NOW)
        sealed = stores[0].seal(b"hello", b"context")
        for before, after in pairwise(stores):
            restored = after.backups.restore(before.backups.contents(NOW), NOW)
            assert (restored.same_key, restored.held) == (True, ())
            assert after.decrypt(ciphertext, NOW).octets == after.unseal(sealed, b"context") == b"hello"
            assert after._store.certificates() == before._store.certificates()
            assert after.requests.all() == before.requests.all() != []
            assert after.settling.waiting() == before.settling.waiting() != []
            assert after._vault.smime_key(person.fingerprint).certificate_octets == person.der


def test_two_installations_show_the_same_messages(server, tmp_path):
    """IMAP-03: what one has presented first is what the other presents, whatever it would have made."""
    secrets = HandedOver(KEY_NAME, base64.b64encode(new_key()).decode())
    keystores = [
        Keystore.open(KeystoreSettings(tmp_path / name, server=server), secrets) for name in ("one", "two")
    ]
    path = tmp_path / "views.sqlite3"
    shown, other = (
        View(Kind.FORM, b"V: x\r\n", len(text), b"V: x\r\n\r\n", b"()", b"()", b"()", octets=text)
        for text in (b"V: x\r\n\r\nhello", b"V: x\r\n\r\nanother")
    )
    with closing(keystores[0]), closing(keystores[1]):
        both = [Views.open(path, one, one.database.beside) for one in keystores]
        with closing(both[0]) as one, closing(both[1]) as two:
            boxes = [views.mailbox("a@example.org", b"INBOX", 7) for views in (one, two)]
            for views, box in zip((one, two), boxes, strict=True):
                views.classify(box, b"1", {1: Kind.SEALED})
            one.fix(boxes[0], {1: (b"hash", shown)})
            two.fix(boxes[1], {1: (b"hash", other)})
            assert two.view(boxes[1], 1, octets=True) == one.view(boxes[0], 1, octets=True)
            assert two.view(boxes[1], 1, octets=True).octets == shown.octets
            one.encrypted_ids.remember([b"1@example.org"])
            assert two.encrypted_ids.any_known([b"2@example.org", b"1@example.org"])
            with closing(SearchIndex(path, two, keystores[1], keystores[1].database.beside)) as index:
                found = index.search(boxes[1], frozenset({Kind.FORM}), [Key("TEXT", fold("hello"))])
            assert found.uids == [[1]]
            anew = two.mailbox("a@example.org", b"INBOX", 8)
            assert anew.kinds == {}
            with pytest.raises(StoreLocked, match="UIDVALIDITY"):
                one.fix(boxes[0], {2: (b"hash", None)})
            assert one.mailbox("a@example.org", b"INBOX", 8).id == anew.id
    assert not path.exists()


def test_installations_agree_on_the_name_of_the_verdict_field(server, tmp_path):
    """What one presents has the name that the other removes from what senders write."""
    secrets = HandedOver(KEY_NAME, base64.b64encode(new_key()).decode())
    folders = [Folders(tmp_path / name / "config.toml", tmp_path / name, tmp_path / name) for name in "ab"]
    for one in folders:
        with closing(Keystore.open(KeystoreSettings(one.keystore, server=server), secrets)) as keystore:
            one.agree_on_verdict_token(keystore.agreed)
    assert folders[0].verdict_token() == folders[1].verdict_token()


def test_who_waited_for_another_proxy_goes_on_from_what_that_one_left(postgresql, server, tmp_path):
    """Both rotate one key at once: each new subkey stays, with its secret half."""
    secrets = HandedOver(KEY_NAME, base64.b64encode(new_key()).decode())
    waits = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    places = [KeystoreSettings(tmp_path / name, server=server) for name in ("one", "two")]
    with (
        closing(Keystore.open(places[0], secrets)) as one,
        closing(Keystore.open(places[1], secrets)) as two,
        ThreadPoolExecutor(1) as thread,
    ):
        key = one.generate("alice@example.org", now=NOW - timedelta(days=9)).fingerprint
        wait_until(lambda: two.certificate(key) is not None, "the other one knows of it")
        two.unlock()
        with one._store.transaction():
            one.own_keys.rotate(key, NOW)
            waiting = thread.submit(two.own_keys.rotate, key, NOW)
            wait_until(lambda: one._store.rows(waits) or waiting.done(), "the other one waits")
        waiting.result()
        made = set(openpgp.key_fingerprints(two.certificate(key).octets))
        assert len(made) == 4
        assert set(two._vault.key(key).secret_fingerprints) == made
        wait_until(lambda: set(one._vault.key(key).secret_fingerprints) == made, "the first one knows of it")
