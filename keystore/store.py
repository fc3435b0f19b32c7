"""Certificates, addresses, secret keys and peers, in the tables of `schema`.

Nothing here understands OpenPGP or X.509, nor which database holds the tables (`keystore.database`). What a
call has stored survives a power cut, and another process may read and write meanwhile. `version` tells when
what was read may have changed: of certificates, keys and trust, but not of notes, or else each message that
is read would make this and every other process forget what it knows.

Security: secret keys come wrapped and leave wrapped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from keystore.database import Database, Place, Server
from keystore.model import Fingerprint, Holder, Scheme, Trust, key_id
from keystore.schema import TABLES


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


CERTIFICATE = """
    SELECT c.fingerprint, c.octets, c.trust, c.source, coalesce(s.holder, 'none'), c.scheme
    FROM certificates c LEFT JOIN secret_keys s ON s.certificate = c.fingerprint
"""
"""What `certificate_of` reads; a WHERE may follow."""
_LAST_STATED = """
    SELECT p.octets FROM capabilities p JOIN certificates c ON c.fingerprint = p.certificate
    WHERE c.trust <> 'rejected' AND (p.certificate = ? OR p.certificate IN (
        SELECT other.certificate FROM addresses mine JOIN addresses other ON other.address = mine.address
        WHERE mine.certificate = ? AND NOT EXISTS (
            SELECT 1 FROM held h WHERE h.certificate = other.certificate AND h.address = other.address
        )
    )) ORDER BY p.stated DESC LIMIT 1
"""


class Store:
    """The tables of the keystore. Safe for threads; errors as in `Database`."""

    def __init__(self, database: Database) -> None:
        """`database` holds `schema.TABLES`, and is this store's to close."""
        self.database = database
        self.lock = database.lock
        """Held while the database is read or written; whoever caches rows holds it too."""
        self.rows = database.rows
        """Also for those that keep a table of their own, as `write` and `note` are."""
        self._held = threading.local()
        self._changes = 0
        """Our own changes, and those that were undone."""
        self._number = 0
        self._read_at: tuple[int, int] | None = None
        """The state of the database in which `_number` was read from it."""
        self._in_transaction = self._counted = False

    @classmethod
    def open(
        cls, path: Path, server: Server | None = None, password: Callable[[], str | None] = lambda: None
    ) -> Store:
        """Open or create the file `path`, or where there is a server, the tables there.

        `password` is called when the server wants one. KeystoreError says what is wrong and what to do.
        """
        return cls(Place(path, server).open(TABLES, password))

    def close(self) -> None:
        """Close the database; nothing else may be called after."""
        self.database.close()

    def version(self) -> tuple[int, int]:
        """A value that differs after each `write`, by this object or by another process."""
        held: tuple[int, int] | None = getattr(self._held, "version", None)
        if held is not None:
            return held
        with self.lock:
            # In this order: a number too new for its state is read once more, one too old would be believed.
            state = self.database.version()
            if state != self._read_at:
                ((self._number,),) = self.rows("SELECT number FROM changes")
                self._read_at = state
            return self._changes, self._number

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
        """All or nothing, and nobody else writes meanwhile, as in `Database`. May be nested."""
        with self.lock:
            if self._in_transaction:
                yield
                return
            try:
                with self.database.transaction(patient=patient):
                    self._in_transaction, self._counted = True, False
                    # What others did while this one waited, a server tells only when it is over.
                    self._read_at = None
                    yield
            except BaseException:
                # Who has read within it knows what never was, and its number will be given to something else.
                self._changes += self._in_transaction
                raise
            finally:
                self._in_transaction = False

    def write(self, statement: str, *values: Any) -> None:
        """Change something that is known of certificates, keys or trust; all who remember it are told."""
        with self.transaction():
            self._changes += 1
            if not self._counted:
                self.database.write("UPDATE changes SET number = number + 1")
                self._counted = True
            self.database.write(statement, *values)

    def note(self, statement: str, *values: Any) -> None:
        """Change what nobody remembers: who was seen or heard, and what was asked. Nobody is told."""
        with self.transaction():
            self.database.write(statement, *values)

    # -- certificates

    def certificate(self, fingerprint: str) -> StoredCertificate | None:
        """Return the row of a primary key's fingerprint."""
        rows = self.rows(f"{CERTIFICATE} WHERE c.fingerprint = ?", fingerprint)
        return certificate_of(rows[0]) if rows else None

    def certificates(self) -> list[StoredCertificate]:
        """Return every row, oldest first."""
        return [certificate_of(row) for row in self.rows(f"{CERTIFICATE} ORDER BY c.added, c.fingerprint")]

    def count(self) -> int:
        """Return how many rows there are."""
        ((number,),) = self.rows("SELECT count(*) FROM certificates")
        return int(number)

    def owned(self) -> list[StoredCertificate]:
        """Return those whose secret half some holder has, oldest first."""
        mine = "c.fingerprint IN (SELECT certificate FROM secret_keys)"
        query = f"{CERTIFICATE} WHERE {mine} ORDER BY c.added, c.fingerprint"
        return [certificate_of(row) for row in self.rows(query)]

    def own(self, scheme: Scheme) -> list[StoredCertificate]:
        """Return those whose secret half is ours, oldest first."""
        query = f"{CERTIFICATE} WHERE s.holder = 'own' AND c.scheme = ? ORDER BY c.added, c.fingerprint"
        return [certificate_of(row) for row in self.rows(query, scheme.value)]

    def by_address(self, address: str) -> list[Fingerprint]:
        """Return the certificates with a user ID of this address, given in lower case."""
        rows = self.rows("SELECT certificate FROM addresses WHERE address = ? ORDER BY certificate", address)
        return [Fingerprint(row[0]) for row in rows]

    def addresses(self, fingerprint: str) -> tuple[str, ...]:
        """Return the addresses, in lower case, by which a certificate is found."""
        rows = self.rows("SELECT address FROM addresses WHERE certificate = ? ORDER BY address", fingerprint)
        return tuple(row[0] for row in rows)

    def beginning(self, text: str, most: int) -> list[Fingerprint]:
        """Return certificates with an address, or named by a fingerprint, that begins so; `most` of each."""
        found: list[Fingerprint] = []
        for query, first in (
            (
                "SELECT certificate FROM addresses WHERE address >= ? AND address < ? ORDER BY address",
                text.lower(),
            ),
            ("SELECT fingerprint FROM certificates WHERE fingerprint >= ? AND fingerprint < ?", text.upper()),
        ):
            rows = self.rows(f"{query} LIMIT ?", first, first + "\U0010ffff", most)
            found += [Fingerprint(row[0]) for row in rows]
        return list(dict.fromkeys(found))

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
            "INSERT INTO capabilities VALUES (?, ?, ?) ON CONFLICT (certificate)"
            " DO UPDATE SET octets = excluded.octets, stated = excluded.stated",
            fingerprint,
            octets,
            stored_time(stated),
        )

    # -- facts

    def fact(self, name: str) -> bytes | None:
        """Return a single value."""
        rows = self.rows("SELECT value FROM facts WHERE name = ?", name)
        return bytes(rows[0][0]) if rows else None

    def put_fact(self, name: str, value: bytes) -> None:
        """Add or replace a single value."""
        self.write(
            "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            name,
            value,
        )


def certificate_of(row: tuple[str, bytes, str, str, str, str]) -> StoredCertificate:
    """A row that `CERTIFICATE` has found."""
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
