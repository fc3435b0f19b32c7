"""From a keystore to a backup and back.

Restoring adds: what the keystore has stays, what it lacks comes in, and of a certificate that both have the
versions are merged. An empty keystore becomes the one that the backup was made of, with its keystore key; one
that has a key of its own keeps that, and the own keys of the backup come under it. So it may be done before
or after `setup`, and again after it was interrupted.

Security: all or nothing; own keys are opened once more before it counts. A certificate of the backup for an
address that has another one here is held, as everywhere.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from keystore import openpgp
from keystore.backup import Contents, Table
from keystore.database.sqlite import SqliteDatabase
from keystore.errors import KeystoreError, StoreDamaged
from keystore.files import replace_file
from keystore.holding import HeldTable, Judge, rivals_of
from keystore.importing import merged_versions
from keystore.model import Certificate, Fingerprint, Holder, Scheme, Trust
from keystore.revocationfiles import FOLDER as REVOCATIONS
from keystore.schema import MIGRATIONS, TABLES
from keystore.store import Store, StoredCertificate, StoredSecret, stored_moment
from keystore.vault import KEY_NAME, Vault
from keystore.wrap import KEY_LENGTH

LEFT_OUT = frozenset({"lookups", "revocations", "changes"})
"""What is asked for again by itself: answers of sources, and lists of revoked certificates; and a counter."""
_BY_HAND = frozenset(
    {"certificates", "addresses", "keys", "secret_keys", "requests", "facts", "x509", "x509_names"}
)
"""What restoring writes with care, or what is made anew from it; of all else, rows that are not there."""
_DECIDED = frozenset({"held", "introducers"})
"""What the owner decides of certificates, by the column `certificate`."""
SLOT = "letterbox"
"""The public half of the letter box, in the keystore's folder."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What came of it."""

    certificates: int
    """In the backup."""
    added: int
    own: tuple[Fingerprint, ...]
    """Keys whose secret half is here now."""
    elsewhere: tuple[Fingerprint, ...]
    """Keys whose secret half GnuPG or a token holds, and no backup of ours."""
    held: tuple[Fingerprint, ...]
    """Certificates that wait for a decision, because the address has another one here."""
    same_key: bool
    """Whether the keystore key is that of the backup: then what it has sealed opens too."""


class Backups:
    """Of one keystore."""

    def __init__(self, store: Store, vault: Vault, judge: Judge, folder: Path) -> None:
        """`folder` is the keystore's, with files of its own."""
        self._store = store
        self._vault = vault
        self._judge = judge
        self._folder = folder

    def contents(
        self, now: datetime, secrets: Mapping[str, str] = {}, files: Mapping[str, bytes] = {}
    ) -> Contents:
        """Everything in the keystore, and these other `secrets` and `files`. Raises StoreLocked."""
        key = self._vault.hand_over()
        with self._store.transaction():
            tables = {
                name: Table(columns, tuple(tuple(row) for row in self._rows(name, columns)))
                for name, columns in layout(MIGRATIONS).items()
                if name not in LEFT_OUT
            }
        own = {path.name: path.read_bytes() for path in (self._folder / REVOCATIONS).glob("*.asc")}
        found = {f"{REVOCATIONS}/{name}": octets for name, octets in own.items()}
        slot = self._folder / SLOT
        if slot.exists():
            found[SLOT] = slot.read_bytes()
        made = now.replace(microsecond=0)
        return Contents(made, len(MIGRATIONS), tables, {**secrets, KEY_NAME: key.value}, {**files, **found})

    def restore(self, contents: Contents, now: datetime) -> Restored:
        """Bring everything in. Raises KeystoreError, and nothing has changed."""
        key = _key(contents)
        with _old_store(contents) as old:
            same = self._vault.adopt(contents.secrets[KEY_NAME])
            self._vault.fetch_key()
            with self._store.transaction():
                bringing = _Bringing(old, self._store, self._vault, self._judge, key, now)
                restored = bringing.all(same_key=same)
                # Every own key is opened with the keystore key of here: a mistake is found while it is none.
                self._vault.unlock()
        self._write_files(contents.files, with_slot=same)
        return restored

    def _rows(self, name: str, columns: tuple[str, ...]) -> list[tuple[str | int | bytes | None, ...]]:
        return self._store.rows(f"SELECT {', '.join(columns)} FROM {name} ORDER BY {', '.join(columns)}")  # noqa: S608  names of our own schema

    def _write_files(self, files: Mapping[str, bytes], *, with_slot: bool) -> None:
        try:
            for name, octets in files.items():
                folder, _, rest = name.rpartition("/")
                is_revocation = folder == REVOCATIONS and rest.removesuffix(".asc").isalnum()
                if not is_revocation and not (name == SLOT and with_slot):
                    continue
                path = self._folder / name
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                if not path.exists():
                    replace_file(path, octets)
        except OSError as error:
            raise KeystoreError(
                f"the keys are restored, but not all files beside them: {self._folder}: {error.strerror}"
            ) from error


class _Bringing:
    """From the store of a backup to one in use, inside one transaction of that."""

    def __init__(
        self, old: Store, store: Store, vault: Vault, judge: Judge, key: bytes, now: datetime
    ) -> None:
        self._old = old
        self._store = store
        self._vault = vault
        self._judge = judge
        self._key = key
        self._now = now
        self._held: list[Fingerprint] = []
        self._added: set[Fingerprint] = set()

    def all(self, *, same_key: bool) -> Restored:
        rows = self._old.certificates()
        here = {row.fingerprint for row in rows if self._store.certificate(row.fingerprint)}
        self._added = {row.fingerprint for row in rows} - here
        for row in rows:
            self._certificate(row)
        secrets = self._old.secrets()
        there = {one.fingerprint: one for one in self._store.secrets()}
        for secret in secrets:
            self._secret(secret, there.get(secret.fingerprint))
        self._requests()
        for name, columns in layout(MIGRATIONS).items():
            if name not in _BY_HAND | LEFT_OUT:
                self._bring(name, columns)
        return Restored(
            len(rows),
            len(self._added),
            tuple(one.fingerprint for one in secrets if one.wrapped is not None),
            tuple(one.fingerprint for one in secrets if one.wrapped is None),
            tuple(self._held),
            same_key,
        )

    def _certificate(self, row: StoredCertificate) -> None:
        known = self._store.certificate(row.fingerprint)
        if known is None:
            self._put(row)
            if row.trust is not Trust.REJECTED and row.holder is Holder.NONE:
                addresses = self._column(
                    "SELECT address FROM addresses WHERE certificate = ?", row.fingerprint
                )
                self._hold(row, addresses)
            return
        if row.scheme is Scheme.OPENPGP:
            self._merge(row, known)
        if (
            row.holder is not Holder.NONE
            and known.holder is Holder.NONE
            and known.trust is not Trust.REJECTED
        ):
            self._store.set_trust(row.fingerprint, row.trust)

    def _merge(self, row: StoredCertificate, known: StoredCertificate) -> None:
        octets = merged_versions(known.octets, row.octets)
        if octets == known.octets:
            return
        merged, before = openpgp.certificate(octets), openpgp.certificate(known.octets).addresses
        more = [one for one in merged.addresses if one not in before]
        is_lowered = more and known.trust is Trust.VERIFIED and row.trust is not Trust.VERIFIED
        known = replace(known, octets=octets, trust=Trust.KNOWN if is_lowered else known.trust)
        # As when it is imported, it still stands for an address that it names no longer.
        former = self._store.addresses(known.fingerprint) if known.holder is Holder.NONE else ()
        self._store.put(
            known,
            addresses=[*merged.addresses, *former],
            keys=openpgp.key_fingerprints(octets),
            now=self._now,
        )
        if known.trust is not Trust.REJECTED and known.holder is Holder.NONE:
            self._hold(known, more)

    def _put(self, row: StoredCertificate) -> None:
        """As it was: what policy says of it today is asked when it is used."""
        added = self._column("SELECT added FROM certificates WHERE fingerprint = ?", row.fingerprint)
        self._store.put(
            row,
            addresses=self._column("SELECT address FROM addresses WHERE certificate = ?", row.fingerprint),
            keys=self._column("SELECT fingerprint FROM keys WHERE certificate = ?", row.fingerprint),
            now=stored_moment(added[0]),
        )

    def _hold(self, row: StoredCertificate, addresses: Sequence[str]) -> None:
        offered = _certificate(row, tuple(addresses))
        rivals = rivals_of(
            offered,
            addresses,
            self._store,
            self._judge,
            level=row.trust,
            now=self._now,
            together=self._added,
            imported=True,
        )
        if rivals:
            HeldTable(self._store).hold(row.fingerprint, rivals, f"{row.source}, from a backup", self._now)
            self._held.append(row.fingerprint)

    def _secret(self, secret: StoredSecret, there: StoredSecret | None) -> None:
        if secret.wrapped is None:
            if there is None:
                self._store.put_secret(secret)
        elif there is None or there.wrapped is None:
            self._store.put_secret(self._vault.taken_over(secret, self._key))
        elif secret.scheme is Scheme.OPENPGP:
            stored = self._store.certificate(secret.fingerprint)
            octets = stored.octets if stored is not None else secret.certificate
            self._store.put_secret(self._vault.united(replace(secret, certificate=octets), self._key))

    def _requests(self) -> None:
        if self._old.rows("SELECT 1 FROM requests LIMIT 1"):
            from keystore.requests import Requests  # as below, of S/MIME

            Requests(self._store, self._vault).bring(self._old, self._key)

    def _rows(self, name: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        return self._old.rows(f"SELECT {', '.join(columns)} FROM {name}")  # noqa: S608  names of our own schema

    def _bring(self, name: str, columns: Sequence[str]) -> None:
        rows = self._rows(name, columns)
        if name in _DECIDED:
            # Who was held there may be the one in use here, and an introducer there one no more.
            at = columns.index("certificate")
            rows = [one for one in rows if one[at] in self._added]
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        statement = f"INSERT INTO {name} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"  # noqa: S608  as above
        for row in rows:
            self._store.write(statement, *row)

    def _column(self, query: str, value: str) -> list[str]:
        return [str(row[0]) for row in self._old.rows(query, value)]


def layout(migrations: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The tables that these statements lead to, in the order of their making, with their columns."""
    with closing(sqlite3.connect(":memory:")) as empty:
        for script in migrations:
            empty.executescript(script)
        names = [
            row[0]
            for row in empty.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
        ]
        return {
            name: tuple(row[0] for row in empty.execute("SELECT name FROM pragma_table_info(?)", (name,)))
            for name in names
        }


@contextmanager
def _old_store(contents: Contents) -> Iterator[Store]:
    """The tables of a backup as a store of today's schema, in a folder that is gone afterwards.

    Own keys in it are under the keystore key of the backup, which is not written anywhere.
    """
    if not 0 < contents.schema <= len(MIGRATIONS):
        raise KeystoreError(
            f"this backup was made by a newer version of secmailproxy (schema {contents.schema}, this one "
            f"knows {len(MIGRATIONS)}): upgrade secmailproxy"
        )
    then = MIGRATIONS[: contents.schema]
    known = layout(then)
    with tempfile.TemporaryDirectory(prefix="secmailproxy-restore-") as folder:
        path = Path(folder) / "keystore.sqlite3"
        database = SqliteDatabase(path, replace(TABLES, migrations=then))
        with closing(database), database.transaction():
            for name, table in contents.tables.items():
                if not set(table.columns) <= set(known.get(name, ())):
                    raise StoreDamaged(f"the table {name!r} of this backup is not known")
                statement = (
                    f"INSERT INTO {name} ({', '.join(table.columns)})"  # noqa: S608  compared just now
                    f" VALUES ({', '.join('?' * len(table.columns))})"
                )
                for row in table.rows:
                    database.write(statement, *row)
        with closing(Store.open(path)) as store:
            yield store


def _key(contents: Contents) -> bytes:
    try:
        key = base64.b64decode(contents.secrets[KEY_NAME], validate=True)
    except (KeyError, binascii.Error):
        key = b""
    if len(key) != KEY_LENGTH:
        raise StoreDamaged("there is no keystore key in this backup")
    return key


def _certificate(row: StoredCertificate, addresses: tuple[str, ...]) -> Certificate:
    if row.scheme is Scheme.OPENPGP:
        return openpgp.certificate(row.octets, trust=row.trust)
    from keystore import smime  # its libraries take long to import, and many have no use for them

    return replace(smime.certificate(row.octets, trust=row.trust), addresses=addresses)
