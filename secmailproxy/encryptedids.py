"""The Message-IDs of messages that are secret on their way: what came encrypted, and what left so (SMTP-20).

Of each only a keyed hash is kept, so the file tells nobody with whom its owner corresponds. Nothing is ever
forgotten: answers come late, and a hash takes 16 octets. All accounts of an installation, which belong to one
person, share the memory: what came to one may be answered from another.

Security: the key (HMAC-SHA-256, RFC 2104) is sealed by the keystore.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from typing import Protocol

from keystore.database import Database

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

    Methods raise `keystore.errors.KeystoreError` when the store is locked or damaged, or the database cannot
    be read or written.
    """

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._db = database
        self._sealer = sealer
        self._lock = database.lock
        self._known_key: bytes | None = None

    def remember(self, ids: Iterable[bytes]) -> None:
        """Remember these, as `secmailproxy.replyguard` reads them; in a transaction if one is open."""
        marks = [self._mark(one) for one in ids]
        if marks:
            with self._db.transaction():
                for mark in marks:
                    self._db.write("INSERT INTO encrypted_id (mark) VALUES (?) ON CONFLICT DO NOTHING", mark)

    def any_known(self, ids: Iterable[bytes]) -> bool:
        """Whether one of these was remembered."""
        find = "SELECT 1 FROM encrypted_id WHERE mark = ?"
        with self._lock:
            return any(self._db.rows(find, self._mark(one)) for one in ids)

    @property
    def complete(self) -> bool:
        """Whether what was presented before there was this memory is in it."""
        return any(row[0] for row in self._db.rows("SELECT complete FROM encrypted_id_key"))

    @complete.setter
    def complete(self, value: bool) -> None:
        with self._lock:
            self._key()
            self._db.write("UPDATE encrypted_id_key SET complete = ?", int(value))

    def _mark(self, message_id: bytes) -> bytes:
        return hmac.digest(self._key(), message_id, "sha256")[:_MARK_OCTETS]

    def _key(self) -> bytes:
        with self._lock:
            if self._known_key is None:
                find = "SELECT sealed FROM encrypted_id_key"
                if not self._db.rows(find):
                    self._db.write(
                        "INSERT INTO encrypted_id_key (id, sealed) VALUES (1, ?) ON CONFLICT DO NOTHING",
                        self._sealer.seal(secrets.token_bytes(32), _CONTEXT),
                    )
                # Read back: it is perhaps another process's.
                self._known_key = self._sealer.unseal(self._db.rows(find)[0][0], _CONTEXT)
            return self._known_key
