"""The presented form of each protected message, fixed at first sight and kept, encrypted at rest.

For one (account, mailbox, UIDVALIDITY, UID) a server promises that size, structure and octets never change
(RFC 9051 section 2.3.1.1), and mail clients keep what they saw for ever. So what we present is decided once,
stored, and served from the store afterwards, whatever happens to keys, clocks or this program meanwhile.

Plain messages take no row: a mailbox remembers the ranges of UIDs that have been classified (`covered`), and
every UID in them without a row is plain. Forms are shared between copies of one message by the hash of its
octets on the server.

Security: forms and verdicts are sealed by the keystore (AEAD); mailbox names and UIDs are not.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from keystore.database import Database
from keystore.errors import KeystoreError, StoreLocked
from keystore.model import Trust
from secmailproxy.encryptedids import EncryptedIds, Sealer
from secmailproxy.keywords import Marks
from secmailproxy.replyguard import own_ids
from secmailproxy.view import Kind, Mailbox, View, message_hash, pack_outline, unpack_outline

__all__ = ["Kind", "Mailbox", "View", "Views", "message_hash"]
from secmailproxy.viewtables import Opener, in_file, open_tables

RENDERER = 2
"""Version of the code that makes presented forms; kept with each, for questions only: old forms stay."""

_VERDICTS = """
    SELECT m.uid, m.verdict, f.hash, f.outline FROM message m LEFT JOIN form f ON f.id = m.form
    WHERE m.mailbox = ? AND m.uid > ? AND (m.verdict IS NOT NULL OR m.form IS NOT NULL)
    ORDER BY m.uid LIMIT ?
"""
_FIX = """
    INSERT INTO message (mailbox, uid, kind, verdict, form) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (mailbox, uid)
    DO UPDATE SET kind = excluded.kind, verdict = excluded.verdict, form = excluded.form
    WHERE message.verdict IS NULL AND message.form IS NULL
"""
_VERDICTS_AT_ONCE = 500
_OUTLINES_KEPT = 4096
_FORMS_AT_ONCE = 100
_SAID_ENCRYPTED = re.compile(rb"[^:]+: (?:signed\+)?encrypted;")


class Views:
    """The store. Thread-safe; calls take from microseconds to milliseconds, so bulk work runs in a thread."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._db = database
        self._sealer = sealer
        self._lock = database.lock
        self._mailboxes: dict[tuple[str, bytes], Mailbox] = {}
        self._outlines: OrderedDict[int, View] = OrderedDict()
        self.encrypted_ids = EncryptedIds(database, sealer)
        """Of the messages that were presented decrypted, and of what left encrypted."""

    @classmethod
    def open(cls, path: Path, sealer: Sealer, opener: Opener = in_file) -> Views:
        """Open or create the database file (mode 0600), or what `opener` opens in its place.

        Raises ConfigError for one that cannot be used.
        """
        return cls(open_tables(path, opener), sealer)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    def mailbox(self, account: str, name: bytes, uidvalidity: int) -> Mailbox:
        """The record of a mailbox; a new UIDVALIDITY begins a new one and forgets the old."""
        with self._lock:
            known = self._mailboxes.get((account, name))
            if known is not None and known.uidvalidity == uidvalidity:
                return known
            find = "SELECT id, uidvalidity, covered FROM mailbox WHERE account = ? AND name = ?"
            row = self._one(find, account, name)
            if row is None or row[1] != uidvalidity:
                row = self._new_mailbox(find, account, name, uidvalidity)
            box = Mailbox(row[0], account, name, uidvalidity, bytes(row[2]))
            rows = self._db.rows("SELECT uid, kind FROM message WHERE mailbox = ?", box.id)
            box.kinds = {uid: Kind(kind) for uid, kind in rows}
            self._mailboxes[account, name] = box
            return box

    def _new_mailbox(self, find: str, account: str, name: bytes, uidvalidity: int) -> tuple[Any, ...]:
        with self._db.transaction():
            row = self._one(find, account, name)
            if row is not None and row[1] == uidvalidity:
                return row  # another process's
            self._db.write("DELETE FROM mailbox WHERE account = ? AND name = ?", account, name)
            # Never a number used before: a session may still write what it learned of the old mailbox.
            number = secrets.randbits(62)
            self._db.write(
                "INSERT INTO mailbox (id, account, name, uidvalidity, covered) VALUES (?, ?, ?, ?, ?)",
                number,
                account,
                name,
                uidvalidity,
                b"",
            )
        return number, uidvalidity, b""

    def _demand(self, box: Mailbox) -> None:
        """Raise StoreLocked where another installation has begun the mailbox anew (UIDVALIDITY)."""
        if self._one("SELECT 1 FROM mailbox WHERE id = ?", box.id) is None:
            self._mailboxes.pop((box.account, box.name), None)
            raise StoreLocked("the mailbox has another UIDVALIDITY now; select it again")

    def _one(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        return next(iter(self._db.rows(query, *values)), None)

    def special_uses(self, account: str) -> tuple[set[str], set[str]]:
        """The names of the mailboxes that were known to hold drafts, and sent mail."""
        with self._lock:
            known = self._db.rows("SELECT sent, name FROM special_use WHERE account = ?", account)
        return {name for sent, name in known if not sent}, {name for sent, name in known if sent}

    def keep_special_uses(self, account: str, drafts: Collection[str], sent: Collection[str]) -> None:
        """Remember these names with those remembered before."""
        rows = [(account, name, False) for name in drafts] + [(account, name, True) for name in sent]
        keep = "INSERT INTO special_use (account, name, sent) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
        with self._db.transaction():
            for row in rows:
                self._db.write(keep, *row)

    def classify(self, box: Mailbox, covered: bytes, kinds: Mapping[int, Kind]) -> None:
        """Remember that the UIDs of `covered`, the whole new set, are classified; `kinds` has the non-plain.

        What was decided before stays.
        """
        with self._lock:
            with self._db.transaction():
                self._demand(box)
                for uid, kind in kinds.items():
                    self._db.write(
                        "INSERT INTO message (mailbox, uid, kind) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                        box.id,
                        uid,
                        int(kind),
                    )
                self._db.write("UPDATE mailbox SET covered = ? WHERE id = ?", covered, box.id)
            for uid, kind in kinds.items():
                box.kinds.setdefault(uid, kind)
            box.covered = covered

    def forms(self, account: str, hashes: Iterable[bytes]) -> set[bytes]:
        """Which of these messages (`message_hash`) have a form already."""
        with self._lock:
            find = "SELECT 1 FROM form WHERE account = ? AND hash = ?"
            return {h for h in hashes if self._one(find, account, h) is not None}

    def keep_form(self, account: str, message_hash: bytes, view: View) -> None:
        """Keep the form of a message before any mailbox holds it; an existing one stays."""
        with self._db.transaction():
            self._form(account, message_hash, view)

    def remember_old_forms(self) -> None:
        """Once: remember the messages of which a version without `encrypted_ids` kept decrypted forms.

        May take seconds. A form that cannot be unsealed is not presented either, and passed over.
        """
        if self.encrypted_ids.complete:
            return
        with self._lock:
            forms = self._db.rows("SELECT id FROM form")
        find = "SELECT account, hash, outline FROM form WHERE id = ?"
        for at in range(0, len(forms), _FORMS_AT_ONCE):
            with self._lock:
                for form in forms[at : at + _FORMS_AT_ONCE]:
                    with contextlib.suppress(KeystoreError):
                        for row in self._db.rows(find, *form):
                            self._remember_old_form(*row)
        self.encrypted_ids.complete = True

    def _remember_old_form(self, account: str, message_hash: bytes, sealed: bytes) -> None:
        context = _form_context(account, message_hash) + b"outline"
        view = unpack_outline(self._sealer.unseal(sealed, context))
        if _SAID_ENCRYPTED.match(view.verdict or b""):
            self.encrypted_ids.remember(own_ids(view.header))

    def set_aside(self, account: str, message_hash: bytes) -> None:
        """Have this message presented anew where it is not presented yet.

        What has its former form keeps it, for ever: the form stays, under another hash, to which it is sealed
        again. Raises `keystore.errors.KeystoreError` when the store is locked or damaged.
        """
        find = "SELECT id, outline, octets FROM form WHERE account = ? AND hash = ?"
        with self._db.transaction():
            row = self._one(find, account, message_hash)
            if row is None:
                return
            aside = secrets.token_bytes(len(message_hash))
            old, new = _form_context(account, message_hash), _form_context(account, aside)
            outline, octets = (
                self._sealer.seal(self._sealer.unseal(sealed, old + name), new + name)
                for sealed, name in ((row[1], b"outline"), (row[2], b"octets"))
            )
            change = "UPDATE form SET hash = ?, outline = ?, octets = ? WHERE id = ?"
            self._db.write(change, aside, outline, octets, row[0])

    def fix(self, box: Mailbox, views: Mapping[int, tuple[bytes, View | None]]) -> None:
        """Fix the views of UIDs, each with its message hash, in one transaction; None takes the form by hash.

        A UID that was fixed before keeps what it had: two connections may race, the first one wins.
        """
        with self._lock:
            with self._db.transaction():
                self._demand(box)
                for uid, (message_hash, view) in views.items():
                    self._fix_one(box, uid, message_hash, view)
            for uid in views:
                find = "SELECT kind FROM message WHERE mailbox = ? AND uid = ?"
                for (kind,) in self._db.rows(find, box.id, uid):
                    box.kinds[uid] = Kind(kind)

    def mark(
        self,
        box: Mailbox,
        trust_of: Callable[[str], Trust],
        version: Hashable = None,
        uids: Iterable[int] | None = None,
    ) -> None:
        """Bring the keywords up to date: of `uids` that have a view, or of all.

        `trust_of` tells how far a certificate is trusted, `version` changes with that. What cannot be
        unsealed gets no keyword.
        """
        fields = self._unmarked(box) if uids is None else self._fields(box, uids)
        with self._lock:
            for uid, verdict in fields.items():
                box.marks.judged(uid, verdict)
            box.marks.settle(trust_of, version)

    def _fields(self, box: Mailbox, uids: Iterable[int]) -> dict[int, bytes]:
        fields: dict[int, bytes] = {}
        for uid in uids:
            try:
                view = None if box.marks.knows(uid) else self.view(box, uid)
            except KeystoreError:
                box.marks.complete = None
                continue
            if view is not None:
                fields[uid] = view.verdict or b""
        return fields

    def _unmarked(self, box: Mailbox) -> dict[int, bytes]:
        """The verdict fields of all views, where another process may have fixed some since."""
        with self._lock:
            state: int | None = self._db.version()[1]
        fields: dict[int, bytes] = {}
        rows: list[tuple[Any, ...]] = [(0, None, b"", b"")]
        if box.marks.complete == state:
            return fields
        while rows:
            with self._lock:
                rows = self._db.rows(_VERDICTS, box.id, rows[-1][0], _VERDICTS_AT_ONCE)
            unknown = [row for row in rows if not box.marks.knows(row[0])]
            for uid, verdict, form_hash, outline in unknown:
                try:
                    if verdict is not None:
                        fields[uid] = self._sealer.unseal(verdict, _verdict_context(box, uid))
                    else:
                        context = _form_context(box.account, form_hash) + b"outline"
                        fields[uid] = unpack_outline(self._sealer.unseal(outline, context)).verdict or b""
                except KeystoreError:
                    state = None
        box.marks.complete = state
        return fields

    def marks(self, account: str, trust_of: Callable[[str], Trust]) -> Iterator[Marks]:
        """The keywords in each mailbox that an account has been seen with."""
        with self._lock:
            find = "SELECT name, uidvalidity FROM mailbox WHERE account = ?"
            boxes = [self.mailbox(account, bytes(row[0]), row[1]) for row in self._db.rows(find, account)]
        for box in boxes:
            self.mark(box, trust_of)
            yield box.marks

    def _fix_one(self, box: Mailbox, uid: int, message_hash: bytes, view: View | None) -> None:
        form: int | None = None
        verdict: bytes | None = None
        signed = box.kinds.get(uid) is Kind.SIGNED
        kind = view.kind if view is not None else Kind.SIGNED if signed else Kind.FORM
        if view is None or view.octets is not None:
            form = self._form(box.account, message_hash, view)
        elif view.verdict is not None:
            verdict = self._sealer.seal(view.verdict, _verdict_context(box, uid))
        self._db.write(_FIX, box.id, uid, int(kind), verdict, form)

    def _form(self, account: str, message_hash: bytes, view: View | None) -> int:
        find = "SELECT id FROM form WHERE account = ? AND hash = ?"
        row = self._one(find, account, message_hash)
        if row is None:
            if view is None or view.octets is None:
                raise LookupError("no form for this message")
            context = _form_context(account, message_hash)
            row = (secrets.randbits(62),)
            self._db.write(
                "INSERT INTO form (id, account, hash, renderer, outline, octets) VALUES (?, ?, ?, ?, ?, ?)",
                row[0],
                account,
                message_hash,
                RENDERER,
                self._sealer.seal(pack_outline(view), context + b"outline"),
                self._sealer.seal(view.octets, context + b"octets"),
            )
            if view.came_encrypted:
                # In the transaction that fixes the form: nobody reads what is not remembered.
                self.encrypted_ids.remember(own_ids(view.header))
        return int(row[0])

    def view(self, box: Mailbox, uid: int, *, octets: bool = False) -> View | None:
        """The fixed view of a UID, with its octets if asked; None while it is not fixed.

        Raises `keystore.errors.KeystoreError` when the store is locked or damaged.
        """
        with self._lock:
            # One statement: another process may set the form aside between two.
            row = self._one(
                "SELECT m.kind, m.verdict, m.form, f.hash, f.outline, CASE WHEN ? = 1 THEN f.octets END"
                " FROM message m LEFT JOIN form f ON f.id = m.form WHERE m.mailbox = ? AND m.uid = ?",
                int(octets),
                box.id,
                uid,
            )
            if row is None or (row[1] is None and row[2] is None):
                return None
            kind = Kind(row[0])
            _, verdict, form, message_hash, sealed_outline, sealed = row
            if form is None:
                return View(kind, self._sealer.unseal(verdict, _verdict_context(box, uid)))
            outline = replace(self._outline(box.account, form, message_hash, sealed_outline), kind=kind)
            if not octets:
                return outline
        context = _form_context(box.account, message_hash) + b"octets"
        return replace(outline, octets=self._sealer.unseal(sealed, context))

    def _outline(self, account: str, form: int, message_hash: bytes, sealed: bytes) -> View:
        known = self._outlines.get(form)
        if known is None:
            context = _form_context(account, message_hash) + b"outline"
            known = self._outlines[form] = unpack_outline(self._sealer.unseal(sealed, context))
            if len(self._outlines) > _OUTLINES_KEPT:
                self._outlines.popitem(last=False)
        return known


def _form_context(account: str, message_hash: bytes) -> bytes:
    return b"form\0" + account.encode() + b"\0" + message_hash


def _verdict_context(box: Mailbox, uid: int) -> bytes:
    return b"verdict\0%b\0%b\0%d\0%d" % (box.account.encode(), box.name, box.uidvalidity, uid)
