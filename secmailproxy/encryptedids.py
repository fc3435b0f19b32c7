"""The Message-IDs of messages that are secret on their way: what came encrypted, and what left so (SMTP-20).

Of each only a keyed hash is kept, so the file tells nobody with whom its owner corresponds. Nothing is ever
forgotten: answers come late, and a hash takes 16 octets. All accounts of an installation, which belong to one
person, share the memory: what came to one may be answered from another.

Security: the key (HMAC-SHA-256, RFC 2104) is sealed by the keystore.
"""

from __future__ import annotations

import hmac
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from secmailproxy.errors import SecMailProxyError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS encrypted_id (mark BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS encrypted_id_key (
    id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL, complete INTEGER NOT NULL DEFAULT 0);
"""
_CONTEXT = b"encrypted-ids\0key"
_MARK_OCTETS = 16


class Sealer(Protocol):
    """What is needed of the keystore."""

    def seal(self, octets: bytes, context: bytes) -> bytes:
        """Encrypt, bound to `context`."""

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt; raises `keystore.errors.KeystoreError` when the octets are not what was sealed."""


class EncryptedIds:
    """In the database of `views`, under its lock. Thread-safe; a call takes microseconds for each id.

    Methods raise `keystore.errors.KeystoreError` when the store is locked or damaged, SecMailProxyError when
    the database cannot be read or written.
    """

    def __init__(self, database: sqlite3.Connection, sealer: Sealer, lock: threading.RLock) -> None:
        self._db = database
        self._sealer = sealer
        self._lock = lock
        self._known_key: bytes | None = None
        self._path = database.execute("PRAGMA database_list").fetchone()[2]
        database.executescript(_SCHEMA)

    def remember(self, ids: Iterable[bytes]) -> None:
        """Remember these, as `secmailproxy.replyguard` reads them; in a transaction if one is open."""
        with self._lock, self._explained():
            marks = [(self._mark(one),) for one in ids]
            self._db.executemany("INSERT OR IGNORE INTO encrypted_id (mark) VALUES (?)", marks)

    def any_known(self, ids: Iterable[bytes]) -> bool:
        """Whether one of these was remembered."""
        find = "SELECT 1 FROM encrypted_id WHERE mark = ?"
        with self._lock, self._explained():
            return any(self._db.execute(find, (self._mark(one),)).fetchone() is not None for one in ids)

    @property
    def complete(self) -> bool:
        """Whether what was presented before there was this memory is in it."""
        with self._lock:
            row = self._db.execute("SELECT complete FROM encrypted_id_key").fetchone()
        return row is not None and bool(row[0])

    @complete.setter
    def complete(self, value: bool) -> None:
        with self._lock:
            self._key()
            self._db.execute("UPDATE encrypted_id_key SET complete = ?", (value,))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise SecMailProxyError(
                f"{self._path} cannot be read or written ({error}): is the disk full?"
            ) from None

    def _mark(self, message_id: bytes) -> bytes:
        return hmac.digest(self._key(), message_id, "sha256")[:_MARK_OCTETS]

    def _key(self) -> bytes:
        if self._known_key is None:
            find = "SELECT sealed FROM encrypted_id_key"
            row = self._db.execute(find).fetchone()
            if row is None:
                self._db.execute(
                    "INSERT OR IGNORE INTO encrypted_id_key (id, sealed) VALUES (1, ?)",
                    (self._sealer.seal(secrets.token_bytes(32), _CONTEXT),),
                )
                row = self._db.execute(find).fetchone()  # perhaps another process's
            self._known_key = self._sealer.unseal(row[0], _CONTEXT)
        return self._known_key
