"""Where tables are kept: a file of SQLite, or a PostgreSQL server that several proxies share.

Whoever keeps tables writes SQL that both understand: `?` for values, `ON CONFLICT ... DO UPDATE` or `DO
NOTHING`, no numbers of rows but their own, moments as text, and nothing that names the database (PRAGMA). The
types are TEXT, BLOB and INTEGER; `sqlite` takes the tables as written, `postgresql` in its own words.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from keystore.errors import KeystoreError

PASSWORD = "store-password"  # noqa: S105  a name
"""The secret that a server wants, where it wants one."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Tables that belong together, and how older ones become them."""

    name: str
    """Lower case letters: the schema of PostgreSQL that holds them."""
    what: str
    """For people: "keystore"."""
    migrations: tuple[str, ...]
    """Statements that lead from version n to n + 1, separated by semicolons. It grows at its end only."""
    application_id: int = 0
    """What marks the file of SQLite as ours; 0 for nothing."""
    power_safe: bool = True
    """Whether each change is on the disk when the call returns; else the last ones may be lost, whole."""
    wiped: bool = True
    """Whether what is deleted is overwritten in the file of SQLite."""


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server that several installations share."""

    url: str
    """As libpq reads it (`postgresql://user@host/name`), without a password."""
    ca_file: Path | None = None
    """The authority (PEM) of the server's certificate, in place of the system's."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a set of tables is: on the server if there is one, else in the file."""

    file: Path
    server: Server | None = None

    def open(self, tables: Tables, password: Callable[[], str | None]) -> Database:
        """Open or make the tables. `password` is called when a server wants one, and may raise StoreLocked.

        Raises KeystoreError, which says what is wrong and what to do.
        """
        if self.server is None:
            from keystore.database.sqlite import SqliteDatabase

            return SqliteDatabase(self.file, tables)
        try:
            from keystore.database.postgresql import PostgresqlDatabase  # takes long, and few have a server
        except ImportError as error:
            raise KeystoreError(
                "[store] url names a PostgreSQL server, for which a library is missing: "
                f"pip install 'secmailproxy[postgresql]' ({error})"
            ) from None
        return PostgresqlDatabase(self.server, tables, password)


class Database(Protocol):
    """One set of tables. Safe for threads.

    Every method may raise StoreLocked (busy or out of reach: later it may work), StoreDamaged, or
    KeystoreError for what a person must mend, such as a full disk.
    """

    where: str
    """The file, or the server without its password; for people."""
    is_shared: bool
    """Whether it is on a server, which other machines may use too."""
    lock: threading.RLock
    """Held while the database is read or written; whoever caches rows holds it too."""
    secrets_used: tuple[str, ...]
    """Names of the secrets that it was opened with, for other processes of this program."""

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds, as one state of the database has it. Octets are `bytes`."""

    def write(self, statement: str, *values: Any) -> None:
        """Change something; all of it, or nothing where it raises."""

    def transaction(self, *, patient: bool = True) -> AbstractContextManager[None]:
        """All or nothing, and nobody else writes to these tables meanwhile. May be nested.

        The outermost commits. While another process writes, others of this one wait as well, for ten seconds
        at most; who is not `patient` gets StoreLocked at once.
        """

    def version(self) -> tuple[int, int]:
        """Two values: the first differs after each change by this object, the second after each of others."""

    def beside(self, path: Path, tables: Tables) -> Database:
        """Open other tables at the same place: on the same server, or in the file `path`."""

    def check(self) -> None:
        """Read through all of it, which takes long where it is large. Raises StoreDamaged."""

    def close(self) -> None:
        """Nothing else may be called after."""
