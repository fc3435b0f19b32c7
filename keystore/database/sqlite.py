"""Tables in a file of SQLite: what needs no server.

WAL: what a call has stored survives a crash, and with `synchronous=FULL` a power cut; another process may
read and write meanwhile.

Security: the file has mode 0600 in a folder of 0700; what is deleted is overwritten (`secure_delete`).
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keystore.database import Tables
from keystore.errors import KeystoreError, StoreDamaged, StoreLocked

_BUSY_SECONDS = 10.0
_READ_THROUGH_OCTETS = 8 * 1024 * 1024
"""Up to this size a file is read through when it is opened, which takes some milliseconds; larger ones would
keep everybody waiting, and their damage is found by `check`, or where it is met."""


class SqliteDatabase:
    """A `Database` in one file."""

    is_shared = False

    def __init__(self, path: Path, tables: Tables) -> None:
        """Open or create `path`; KeystoreError says what is wrong with it and what to do."""
        self.path = path
        self.where = str(path)
        self.lock = threading.RLock()
        self.secrets_used: tuple[str, ...] = ()
        self._tables = tables
        self._writes = 0
        _prepare_file(path, tables.what)
        with self._explained():
            self._connection = sqlite3.connect(
                path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
        try:
            with self._explained():
                self._set_up()
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        """Close the file."""
        with self.lock:
            self._connection.close()

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Return what a query finds."""
        with self.lock:
            try:
                return self._connection.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._explanation(error) from error

    def write(self, statement: str, *values: Any) -> None:
        """Change something."""
        with self.lock:
            self._writes += 1
            try:
                self._connection.execute(statement, values)
            except sqlite3.Error as error:
                raise self._explanation(error) from error

    def version(self) -> tuple[int, int]:
        """The number of our changes, and SQLite's number for those of others."""
        with self.lock:
            try:
                # Asked before every answer of the keystore, so without detours.
                return self._writes, self._connection.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error as error:
                raise self._explanation(error) from error

    @contextmanager
    def transaction(self, *, patient: bool = True) -> Iterator[None]:
        """All or nothing; readers of other processes see what was there before."""
        with self.lock, self._explained():
            if self._connection.in_transaction:
                yield
                return
            self._begin(_BUSY_SECONDS if patient else 0.0)
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def beside(self, path: Path, tables: Tables) -> SqliteDatabase:
        """Open other tables in the file `path`."""
        return SqliteDatabase(path, tables)

    def check(self) -> None:
        """Read through the file. Raises StoreDamaged."""
        with self.lock, self._explained():
            problems = [row[0] for row in self._connection.execute("PRAGMA quick_check(1)")]
        if problems != ["ok"]:
            raise StoreDamaged(f"{self.path} is damaged: restore it from a backup")

    def _begin(self, patience: float) -> None:
        self._connection.execute(f"PRAGMA busy_timeout = {patience * 1000:.0f}")
        try:
            self._connection.execute("BEGIN IMMEDIATE")
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000:.0f}")

    def _roll_back(self) -> None:
        self._writes += 1
        # SQLite itself may have rolled back, when the disk was full.
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def _set_up(self) -> None:
        # One state of the file: another process may be making it meanwhile.
        self._connection.execute("BEGIN")
        application = self._pragma("application_id")
        version = self._pragma("user_version")
        empty = not self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
        self._connection.execute("COMMIT")
        if application != self._tables.application_id and not (empty and application == 0 and version == 0):
            raise StoreDamaged(
                f"{self.path} is not a {self._tables.what}; move it away or restore it from a backup"
            )
        refuse_newer(version, self._tables, self.where)
        for statement in (
            "journal_mode = WAL",
            f"synchronous = {'FULL' if self._tables.power_safe else 'NORMAL'}",
            "foreign_keys = ON",
            f"secure_delete = {'ON' if self._tables.wiped else 'OFF'}",
        ):
            self._connection.execute(f"PRAGMA {statement}")
        if self._pragma("page_count") * self._pragma("page_size") <= _READ_THROUGH_OCTETS:
            self.check()
        self._migrate()

    def _migrate(self) -> None:
        if self._pragma("user_version") == len(self._tables.migrations):
            return
        with self.transaction():
            # Another process may have done it while this one waited.
            version = self._pragma("user_version")
            for number, script in enumerate(self._tables.migrations[version:], start=version + 1):
                for statement in filter(str.strip, script.split(";")):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number}")
            self._connection.execute(f"PRAGMA application_id = {self._tables.application_id}")

    def _pragma(self, name: str) -> int:
        return int(self._connection.execute(f"PRAGMA {name}").fetchone()[0])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._explanation(error) from error

    def _explanation(self, error: sqlite3.Error) -> KeystoreError:
        what = self._tables.what
        match error:
            case sqlite3.OperationalError():
                return self._operational(error)
            case sqlite3.ProgrammingError():
                return StoreLocked(f"the {what} {self.path} is closed")
            case _:
                return StoreDamaged(
                    f"{self.path} is damaged or not a {what} ({error}): restore it from a backup"
                )

    def _operational(self, error: sqlite3.OperationalError) -> KeystoreError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return StoreLocked(f"another process keeps {self.path} busy; try again")
        if code == sqlite3.SQLITE_FULL:
            return KeystoreError(f"no space left to write {self.path}")
        remedy = "; is the disk full, or the folder read-only?" if code == sqlite3.SQLITE_IOERR else ""
        return KeystoreError(f"the {self._tables.what} {self.path} cannot be used: {error}{remedy}")


def refuse_newer(version: int, tables: Tables, where: str) -> None:
    """Raise KeystoreError where the tables are of a newer program."""
    if version > len(tables.migrations):
        raise KeystoreError(
            f"{where} was written by a newer version of secmailproxy (schema {version}, this one "
            f"knows {len(tables.migrations)}): upgrade secmailproxy"
        )


def _prepare_file(path: Path, what: str) -> None:
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
        raise KeystoreError(f"the {what} {path} cannot be opened: {error.strerror}") from error
