"""Certificates, addresses, secret keys and peers on disk: one SQLite database, with the tables of `schema`.

Nothing here understands OpenPGP or X.509. WAL and `synchronous=FULL`: what a call has stored survives a
power cut, and another process may read and write meanwhile. `version` tells when what was read may have
changed.

Security: the file has mode 0600 in a folder of 0700; secret keys come wrapped and leave wrapped.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from keystore.errors import KeystoreError, StoreDamaged, StoreLocked
from keystore.model import Fingerprint, Holder, Peer, Scheme, Trust, key_id
from keystore.schema import APPLICATION_ID, MIGRATIONS

_BUSY_SECONDS = 10.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A row of `certificates` with its holder."""

    fingerprint: Fingerprint
    octets: bytes
    trust: Trust
    source: str
    holder: Holder
    scheme: Scheme = Scheme.OPENPGP


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A row of `secret_keys`. `wrapped` is None for a key that GnuPG holds."""

    fingerprint: Fingerprint
    holder: Holder
    wrapped: bytes | None
    certificate: bytes = b""
    """The octets of the certificate, when this was read."""
    scheme: Scheme = Scheme.OPENPGP
    """Of the certificate, when this was read."""


_CERTIFICATE = """
    SELECT c.fingerprint, c.octets, c.trust, c.source, coalesce(s.holder, 'none'), c.scheme
    FROM certificates c LEFT JOIN secret_keys s ON s.certificate = c.fingerprint
"""
_LAST_STATED = """
    SELECT p.octets FROM capabilities p JOIN certificates c ON c.fingerprint = p.certificate
    WHERE c.trust <> 'rejected' AND (p.certificate = ? OR p.certificate IN (
        SELECT other.certificate FROM addresses mine JOIN addresses other ON other.address = mine.address
        WHERE mine.certificate = ?
    )) ORDER BY p.stated DESC LIMIT 1
"""


class Store:
    """The database. Safe for threads; every method may raise StoreLocked (busy) or StoreDamaged."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`; KeystoreError says what is wrong with it and what to do."""
        self._path = path
        self.lock = threading.RLock()
        """Held while the database is read or written; whoever caches rows holds it too."""
        self._held = threading.local()
        self._writes = 0
        _prepare_file(path)
        with self._explained():
            self._database = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._set_up()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the database; nothing else may be called after."""
        with self.lock:
            self._database.close()

    def version(self) -> tuple[int, int]:
        """A value that differs after each change, by this object or by another process."""
        held: tuple[int, int] | None = getattr(self._held, "version", None)
        if held is not None:
            return held
        with self.lock:
            try:
                # Asked before every answer of the keystore, so without the detours of the other queries.
                row = self._database.execute("PRAGMA data_version").fetchone()
            except sqlite3.Error:
                return self._writes, self._guarded(lambda: self._pragma("data_version"))
            return self._writes, row[0]

    @contextmanager
    def steady(self) -> Iterator[None]:
        """Within the block, this thread is told of no change; it makes none itself. May be nested."""
        if hasattr(self._held, "version"):
            yield
            return
        self._held.version = self.version()
        try:
            yield
        finally:
            del self._held.version

    @contextmanager
    def transaction(self, *, patient: bool = True) -> Iterator[None]:
        """All or nothing, and no other process writes meanwhile. May be nested; the outermost commits.

        While another process writes, others of this one wait as well; who is not `patient` gets StoreLocked.
        """
        with self.lock, self._explained():
            if self._database.in_transaction:
                yield
                return
            self._begin(_BUSY_SECONDS if patient else 0.0)
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _begin(self, patience: float) -> None:
        self._database.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
        try:
            self._database.execute("BEGIN IMMEDIATE")
        finally:
            self._database.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000:.0f}")

    def _roll_back(self) -> None:
        self._writes += 1
        # SQLite itself may have rolled back, when the disk was full.
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")

    # -- certificates

    def certificate(self, fingerprint: str) -> StoredCertificate | None:
        """Return the row of a primary key's fingerprint."""
        rows = self.rows(f"{_CERTIFICATE} WHERE c.fingerprint = ?", fingerprint)
        return _certificate(rows[0]) if rows else None

    def certificates(self) -> list[StoredCertificate]:
        """Return every row, oldest first."""
        return [_certificate(row) for row in self.rows(f"{_CERTIFICATE} ORDER BY c.added, c.fingerprint")]

    def by_address(self, address: str) -> list[Fingerprint]:
        """Return the certificates with a user ID of this address, given in lower case."""
        rows = self.rows("SELECT certificate FROM addresses WHERE address = ? ORDER BY certificate", address)
        return [Fingerprint(row[0]) for row in rows]

    def by_key(self, issuer: str) -> list[Fingerprint]:
        """Return the certificates with this key or subkey: a fingerprint, or a key ID of 16 digits."""
        column = "key_id" if len(issuer) == 16 else "fingerprint"
        # The key ID leads the index, so it is always given.
        rows = self.rows(
            f"SELECT DISTINCT certificate FROM keys WHERE key_id = ? AND {column} = ?",  # noqa: S608  of two constants
            issuer if len(issuer) == 16 else key_id(issuer),
            issuer,
        )
        return [Fingerprint(row[0]) for row in rows]

    def put(
        self,
        certificate: StoredCertificate,
        *,
        addresses: Iterable[str],
        keys: Iterable[str],
        now: datetime,
    ) -> None:
        """Add or replace a certificate with its addresses and key fingerprints; not its holder."""
        fingerprint = certificate.fingerprint
        with self.transaction():
            self.write(
                "INSERT INTO certificates (fingerprint, octets, trust, source, added, scheme)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (fingerprint)"
                " DO UPDATE SET octets = excluded.octets, trust = excluded.trust, source = excluded.source",
                fingerprint,
                certificate.octets,
                certificate.trust.value,
                certificate.source,
                stored_time(now),
                certificate.scheme.value,
            )
            self.write("DELETE FROM addresses WHERE certificate = ?", fingerprint)
            self.write("DELETE FROM keys WHERE certificate = ?", fingerprint)
            for address in dict.fromkeys(addresses):
                self.write("INSERT INTO addresses VALUES (?, ?)", address, fingerprint)
            for key in dict.fromkeys(keys):
                self.write("INSERT INTO keys VALUES (?, ?, ?)", key_id(key), key, fingerprint)

    def set_trust(self, fingerprint: str, trust: Trust) -> None:
        """Change the trust of a certificate; nothing happens when it is not there."""
        self.write("UPDATE certificates SET trust = ? WHERE fingerprint = ?", trust.value, fingerprint)

    def delete(self, fingerprint: str) -> None:
        """Remove a certificate with its secret key and addresses."""
        self.write("DELETE FROM certificates WHERE fingerprint = ?", fingerprint)

    # -- secret keys

    def secrets(self) -> list[StoredSecret]:
        """Return every secret key of every holder."""
        rows = self.rows(
            "SELECT s.certificate, s.holder, s.wrapped, c.octets, c.scheme FROM secret_keys s"
            " JOIN certificates c ON c.fingerprint = s.certificate ORDER BY s.certificate"
        )
        return [
            StoredSecret(Fingerprint(fingerprint), Holder(holder), wrapped, octets, Scheme(scheme))
            for fingerprint, holder, wrapped, octets, scheme in rows
        ]

    def put_secret(self, secret: StoredSecret) -> None:
        """Add or replace the secret half of a certificate that is stored already."""
        self.write(
            "INSERT INTO secret_keys VALUES (?, ?, ?) ON CONFLICT (certificate)"
            " DO UPDATE SET holder = excluded.holder, wrapped = excluded.wrapped",
            secret.fingerprint,
            secret.holder.value,
            secret.wrapped,
        )

    # -- capabilities

    def stated(self, fingerprint: str) -> tuple[bytes, datetime] | None:
        """Return what was last stated under a certificate, and when."""
        rows = self.rows("SELECT octets, stated FROM capabilities WHERE certificate = ?", fingerprint)
        return (bytes(rows[0][0]), stored_moment(rows[0][1])) if rows else None

    def last_stated(self, fingerprint: str) -> bytes | None:
        """Return what was last stated under a certificate, or another one of the same addresses."""
        rows = self.rows(_LAST_STATED, fingerprint, fingerprint)
        return bytes(rows[0][0]) if rows else None

    def put_stated(self, fingerprint: str, octets: bytes, stated: datetime) -> None:
        """Add or replace what was last stated under a certificate, which is stored already."""
        self.write(
            "INSERT OR REPLACE INTO capabilities VALUES (?, ?, ?)", fingerprint, octets, stored_time(stated)
        )

    # -- peers and facts

    def peer(self, address: str) -> Peer | None:
        """Return what was last seen of an address, given in lower case."""
        rows = self.rows("SELECT address, seen, encrypted, signer FROM peers WHERE address = ?", address)
        if not rows:
            return None
        found, seen, encrypted, signer = rows[0]
        return Peer(found, stored_moment(seen), stored_moment(encrypted) if encrypted else None, signer)

    def put_peer(self, peer: Peer) -> None:
        """Add or replace what was last seen of an address."""
        self.write(
            "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)",
            peer.address,
            stored_time(peer.seen),
            stored_time(peer.encrypted) if peer.encrypted else None,
            peer.signer,
        )

    def fact(self, name: str) -> bytes | None:
        """Return a single value."""
        rows = self.rows("SELECT value FROM facts WHERE name = ?", name)
        return bytes(rows[0][0]) if rows else None

    def put_fact(self, name: str, value: bytes) -> None:
        """Add or replace a single value."""
        self.write("INSERT OR REPLACE INTO facts VALUES (?, ?)", name, value)

    # -- the database itself

    def _set_up(self) -> None:
        # One state of the file: another process may be making it meanwhile.
        self._database.execute("BEGIN")
        application = self._pragma("application_id")
        version = self._pragma("user_version")
        empty = not self._database.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        self._database.execute("COMMIT")
        if application != APPLICATION_ID and not (empty and application == 0 and version == 0):
            raise StoreDamaged(f"{self._path} is not a keystore; move it away or restore it from a backup")
        if version > len(MIGRATIONS):
            raise KeystoreError(
                f"{self._path} was written by a newer version of secmailproxy (schema {version}, this one "
                f"knows {len(MIGRATIONS)}): upgrade secmailproxy"
            )
        for statement in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "secure_delete = ON",
        ):
            self._database.execute(f"PRAGMA {statement}")
        problems = [row[0] for row in self._database.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise StoreDamaged(f"{self._path} is damaged: restore it from a backup")
        self._migrate()

    def _migrate(self) -> None:
        if self._pragma("user_version") == len(MIGRATIONS):
            return
        with self.transaction():
            # Another process may have done it while this one waited.
            version = self._pragma("user_version")
            for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in filter(str.strip, script.split(";")):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA user_version = {number}")
            self._database.execute(f"PRAGMA application_id = {APPLICATION_ID}")

    def _pragma(self, name: str) -> int:
        return int(self._database.execute(f"PRAGMA {name}").fetchone()[0])

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return what a query finds; for this file, and those that keep a table of their own."""
        return self._guarded(lambda: self._database.execute(query, values).fetchall())

    def write(self, statement: str, *values: Any) -> None:
        """Change something; for this file, and those that keep a table of their own."""
        with self.lock:
            self._writes += 1
            self._guarded(lambda: self._database.execute(statement, values))

    def _guarded(self, action: Callable[[], Result]) -> Result:
        with self.lock, self._explained():
            return action()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise _operational(self._path, error) from error
        except sqlite3.ProgrammingError as error:
            raise StoreLocked(f"the keystore {self._path} is closed") from error
        except sqlite3.DatabaseError as error:
            raise StoreDamaged(
                f"{self._path} is damaged or not a keystore ({error}): restore it from a backup"
            ) from error


def _operational(path: Path, error: sqlite3.OperationalError) -> KeystoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreLocked(f"another process keeps {path} busy; try again")
    if code == sqlite3.SQLITE_FULL:
        return KeystoreError(f"no space left to write {path}")
    remedy = "; is the disk full, or the folder read-only?" if code == sqlite3.SQLITE_IOERR else ""
    return KeystoreError(f"the keystore {path} cannot be used: {error}{remedy}")


def _prepare_file(path: Path) -> None:
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode & 0o777
        if mode & 0o077:
            raise KeystoreError(
                f"the folder {folder} is open to others (mode {mode:o}): run chmod 700 {folder}"
            )
        # SQLite gives its -wal and -shm files the mode of the database.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o777 != 0o600:  # or each opening would look like a change of the file
            path.chmod(0o600)
    except OSError as error:
        raise KeystoreError(f"the keystore {path} cannot be opened: {error.strerror}") from error


def _certificate(row: tuple[str, bytes, str, str, str, str]) -> StoredCertificate:
    fingerprint, octets, trust, source, holder, scheme = row
    return StoredCertificate(
        Fingerprint(fingerprint), octets, Trust(trust), source, Holder(holder), Scheme(scheme)
    )


def stored_time(moment: datetime) -> str:
    """A moment as the tables have it, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds")


def stored_moment(text: str) -> datetime:
    """And back."""
    return datetime.fromisoformat(text)
