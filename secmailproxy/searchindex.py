"""The searchable text of presented forms, kept sealed, and the search in it.

One row for each form of `views`, made when a search first needs it; it goes when the form goes. Plain mail is
never here. A search reads the texts one by one: folded octets are searched at memory speed, and a cache
holds those of the last searches.

Security: texts are sealed by the keystore (AEAD), bound to the message; nothing of them is in clear on disk.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from keystore.database import Database
from secmailproxy.encryptedids import Sealer
from secmailproxy.searchable import Found, Key, Searchable, pack, searchable, unpack
from secmailproxy.views import Kind, Mailbox, Views
from secmailproxy.viewtables import Opener, in_file, open_tables

VERSION = 1
"""Of what `searchable` makes; texts of another version are made again."""
CACHE_OCTETS = 96 * 1024 * 1024
_AT_ONCE = 500

_PUT = """
INSERT INTO searchable (id, form, version, text) SELECT ?, form.id, ?, ? FROM form WHERE form.id = ?
ON CONFLICT (form) DO UPDATE SET id = excluded.id, version = excluded.version, text = excluded.text
"""
_FORMS = """
SELECT m.uid, m.kind, m.form, f.hash, s.id, s.version
FROM message m JOIN form f ON f.id = m.form LEFT JOIN searchable s ON s.form = f.id WHERE m.mailbox = ?
"""


_Row = tuple[int, int, int, bytes, int | None, int | None]
"""As _FORMS selects them."""


class SearchIndex:
    """Search in one database of views. Thread-safe; slow work, so call it in a thread."""

    def __init__(self, path: Path, views: Views, sealer: Sealer, opener: Opener = in_file) -> None:
        """`path` and `opener` are those of `views`; they are opened when there is something to search."""
        self._open = partial(open_tables, path, opener)
        self._database: Database | None = None
        self._views = views
        self._sealer = sealer
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Searchable] = OrderedDict()
        self._kept_octets = 0

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None

    @property
    def _db(self) -> Database:
        # Its own, so that a search and what shows messages do not wait for each other.
        self._database = self._database or self._open()
        return self._database

    def search(self, box: Mailbox, kinds: frozenset[Kind], keys: Sequence[Key]) -> Found:
        """For each of `keys` the UIDs of the messages of these kinds that it matches, and what is missing.

        Raises `keystore.errors.KeystoreError` when the store is locked or damaged.
        """
        found: list[list[int]] = [[] for _ in keys]
        missing = {uid for uid, kind in list(box.kinds.items()) if kind in kinds}
        with self._lock:
            for uid, text in self._texts(box, kinds):
                missing.discard(uid)
                for uids, key in zip(found, keys, strict=True):
                    if key.matches(text):
                        uids.append(uid)
        return Found(found, sorted(missing))

    def _texts(self, box: Mailbox, kinds: frozenset[Kind]) -> Iterator[tuple[int, Searchable]]:
        rows = self._forms(box, kinds)
        old = [row for row in rows if row[5] != VERSION]
        for at in range(0, len(old), _AT_ONCE):
            self._make(old[at : at + _AT_ONCE], box)
        for uid, _, _, message_hash, number, _ in self._forms(box, kinds) if old else rows:
            if number is not None:
                yield uid, self._text(box.account, message_hash, number)
        if Kind.OPAQUE in kinds:
            for uid in [uid for uid, kind in box.kinds.items() if kind is Kind.OPAQUE]:
                view = self._views.view(box, uid)
                if view is not None and view.verdict is not None:
                    # The rest of it is the server's to search.
                    yield uid, searchable(view.verdict + b"\r\n")

    def _forms(self, box: Mailbox, kinds: frozenset[Kind]) -> list[_Row]:
        return [row for row in self._db.rows(_FORMS, box.id) if row[1] in kinds]

    def _make(self, rows: Iterable[_Row], box: Mailbox) -> None:
        made = []
        for uid, _, form, message_hash, _, _ in rows:
            view = self._views.view(box, uid, octets=True)
            if view is not None and view.octets is not None:
                packed = pack(searchable(view.octets))
                made.append((VERSION, self._sealer.seal(packed, _context(box.account, message_hash)), form))
        if made:
            with self._db.transaction():
                for one in made:
                    # The cache goes by numbers, which are never used again.
                    self._db.write(_PUT, secrets.randbits(62), *one)

    def _text(self, account: str, message_hash: bytes, number: int) -> Searchable:
        known = self._kept.get(number)
        if known is not None:
            self._kept.move_to_end(number)
            return known
        row = self._db.rows("SELECT text FROM searchable WHERE id = ?", number)[0]
        found = unpack(self._sealer.unseal(row[0], _context(account, message_hash)))
        self._kept[number] = found
        self._kept_octets += found.octets
        while self._kept_octets > CACHE_OCTETS:
            self._kept_octets -= self._kept.popitem(last=False)[1].octets
        return found


def _context(account: str, message_hash: bytes) -> bytes:
    return b"searchable\0" + account.encode() + b"\0" + message_hash
