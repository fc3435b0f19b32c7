"""Where tables are kept: a file of SQLite, or a PostgreSQL server that several proxies share.

Whoever keeps tables writes SQL that both understand: `?` for values, `ON CONFLICT ... DO UPDATE` or `DO
NOTHING`, no numbers of rows but their own, moments as text, and nothing that names the database (PRAGMA). The
types are TEXT, BLOB and INTEGER; `sqlite` takes the tables as written, `postgresql` in its own words.
"""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol


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


class Database(Protocol):
    """One set of tables. Safe for threads.

    Every method may raise StoreLocked (busy or out of reach: later it may work), StoreDamaged, or
    KeystoreError for what a person must mend, such as a full disk.
    """

    where: str
    """The file, or the server without its password; for people."""
    lock: threading.RLock
    """Held while the database is read or written; whoever caches rows holds it too."""

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

    def check(self) -> None:
        """Read through all of it, which takes long where it is large. Raises StoreDamaged."""

    def close(self) -> None:
        """Nothing else may be called after."""
