"""Tables on a PostgreSQL server that several installations share, each set in a schema of its own.

One connection, for one thread at a time. Who writes holds an advisory lock of the schema until the commit, so
that what was read before writing is still so, as in a file of SQLite; and tells the others by NOTIFY. Thus
`version` needs no round trip, and one every few seconds in case that the network has died in silence. A lost
connection is made anew at the next question; a transaction that was open is lost, whole.

Security: TLS with the server's name verified, unless it is reached through a Unix socket or on loopback. The
password is asked of `password` only when the server wants one, and is in no error. What PGHOST and its like
would change is fixed, or verified as much.
"""

from __future__ import annotations

import ipaddress
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from keystore.database import PASSWORD, Server, Tables
from keystore.database.impatient import ImpatientConnection
from keystore.database.sqlite import refuse_newer
from keystore.errors import KeystoreError, StoreDamaged, StoreLocked

_BUSY_SECONDS = 10
_CONNECT_SECONDS = 3
_AGAIN_SECONDS = 5.0
"""After a server was not to be had, nobody waits for it again so soon."""
_SILENT_SECONDS = 5.0
"""So old may be what is in memory while the server says nothing: then it is asked."""
_DEAD = {"keepalives_idle": 20, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 15_000}
_HAS_VERSION = """
    SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ? AND c.relname = 'schema_version'
"""
_FIRST_LOCK = 0x534D5031
_TYPES = {"BLOB": "BYTEA", "INTEGER": "BIGINT", "TEXT": 'TEXT COLLATE "C"', "AUTOINCREMENT": ""}
_TYPE = re.compile(rf"\b({'|'.join(_TYPES)})\b")
_ONLY_SQLITE = re.compile(r"\)\s*(?:STRICT|WITHOUT ROWID)(?:,\s*(?:STRICT|WITHOUT ROWID))?\s*(?=;|$)")


class PostgresqlDatabase:
    """A `Database` on a server."""

    is_shared = True

    def __init__(self, server: Server, tables: Tables, password: Callable[[], str | None]) -> None:
        """Connect, and make or renew the tables; KeystoreError says what is wrong and what to do."""
        self._parameters, self.where = parameters(server)
        self.lock = threading.RLock()
        self.secrets_used: tuple[str, ...] = ()
        self._server = server
        self._tables = tables
        self._password = password
        self._lock_number = (_FIRST_LOCK << 32) | zlib.crc32(tables.name.encode())
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._closed = False
        self._failed: tuple[float, str] | None = None
        self._writes = self._others = 0
        self._heard = 0.0
        self._in_transaction = self._written = False
        with self.lock:
            self._ready()
            try:
                self._migrate()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Leave the server."""
        with self.lock:
            self._closed = True
            self._drop()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with self.lock:
            found: list[tuple[Any, ...]]
            found = self._repeated(lambda connection: self._execute(connection, query, values).fetchall())
            return found

    def write(self, statement: str, *values: Any) -> None:
        """Change something."""
        with self.transaction():
            self._writes += 1
            self._written = True
            with self._explained():
                self._execute(self._ready(), statement, values)

    def version(self) -> tuple[int, int]:
        """The number of our changes, and how often others have told of theirs."""
        with self.lock:
            if not self._in_transaction:
                self._repeated(self._listen)
            return self._writes, self._others

    @contextmanager
    def transaction(self, *, patient: bool = True) -> Iterator[None]:
        """All or nothing; others see what was there before."""
        with self.lock:
            if self._in_transaction:
                yield
                return
            self._repeated(lambda connection: self._begin(connection, patient=patient))
            self._in_transaction, self._written = True, False
            try:
                yield
                self._commit()
            except BaseException:
                self._writes += 1
                self._roll_back()
                raise
            finally:
                self._in_transaction = False

    def beside(self, path: Path, tables: Tables) -> PostgresqlDatabase:
        """Open other tables on the same server; the file `path` is not needed."""
        return PostgresqlDatabase(self._server, tables, self._password)

    def check(self) -> None:
        """See that the server answers, and whose tables it has; its files are its own to check."""
        refuse_newer(self._version(), self._tables, self.where)

    # -- the connection

    def _ready(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is not None and not self._connection.closed:
            return self._connection
        if self._closed:
            raise StoreLocked(f"the {self._tables.what} at {self.where} is closed")
        if self._in_transaction:
            raise self._gone()
        if self._failed is not None and time.monotonic() - self._failed[0] < _AGAIN_SECONDS:
            raise StoreLocked(self._failed[1])
        try:
            connection = self._connected()
            connection.add_notify_handler(self._told)
            connection.execute(f"LISTEN {self._tables.name}")
        except psycopg.Error as error:
            text = f"the {self._tables.what} at {self.where} cannot be reached: {_first_line(error)}"
            self._failed = (time.monotonic(), text)
            raise StoreLocked(text) from None
        self._connection, self._failed = connection, None
        self._others += 1  # who knows what was told meanwhile
        self._heard = time.monotonic()
        return connection

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        options = f"-c search_path={self._tables.name} -c lock_timeout={_BUSY_SECONDS}s"
        fixed: dict[str, Any] = {
            "options": f"{options} -c idle_in_transaction_session_timeout=60s",
            "application_name": "secmailproxy",
            "client_encoding": "UTF8",
            "connect_timeout": _CONNECT_SECONDS,
            **_DEAD,
        }
        known = {**fixed, **self._parameters}
        try:
            return ImpatientConnection.connect(autocommit=True, **known)
        except psycopg.OperationalError as error:
            wanted = error.pgconn is not None and error.pgconn.needs_password
            if not wanted:
                raise
        password = self._password()
        if not password:
            raise StoreLocked(
                f"the server {self.where} wants a password: store it with `secmailproxy store password`, or "
                "name a service or a password file (libpq's) that has it"
            )
        self.secrets_used = (PASSWORD,)
        return ImpatientConnection.connect(autocommit=True, **known, password=password)

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _repeated(self, action: Callable[[psycopg.Connection[tuple[Any, ...]]], Any]) -> Any:
        """The outcome of what may be done twice: once more where the connection turns out to be lost."""
        for last in (self._in_transaction, True):
            connection = self._ready()
            try:
                with self._explained():
                    return action(connection)
            except StoreLocked:
                if last or not connection.closed:
                    raise
                self._drop()
        raise AssertionError("the second time is the last")

    def _execute(
        self, connection: psycopg.Connection[tuple[Any, ...]], query: str, values: tuple[Any, ...]
    ) -> psycopg.Cursor[tuple[Any, ...]]:
        cursor = connection.execute(_in_its_words(query), [_plain(value) for value in values])
        self._heard = time.monotonic()
        return cursor

    # -- transactions

    def _begin(self, connection: psycopg.Connection[tuple[Any, ...]], *, patient: bool) -> None:
        attempt = "pg_advisory_xact_lock" if patient else "pg_try_advisory_xact_lock"
        try:
            cursor = connection.execute(f"BEGIN; SELECT {attempt}({self._lock_number})")
            cursor.nextset()
            if cursor.fetchone() == (False,):
                raise StoreLocked(f"another proxy keeps {self.where} busy; try again")
        except BaseException:
            self._roll_back()
            raise

    def _commit(self) -> None:
        connection = self._ready()
        if connection.info.transaction_status is TransactionStatus.INERROR:
            raise KeystoreError(f"a change of {self.where} has failed, and nothing of it was kept")
        with self._explained():
            connection.execute(f"NOTIFY {self._tables.name}; COMMIT" if self._written else "COMMIT")
        self._heard = time.monotonic()

    def _roll_back(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.info.transaction_status is not TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            self._drop()

    # -- what others change

    def _told(self, notify: psycopg.Notify) -> None:
        if self._connection is None or notify.pid != self._connection.info.backend_pid:
            self._others += 1

    def _listen(self, connection: psycopg.Connection[tuple[Any, ...]]) -> None:
        if time.monotonic() - self._heard > _SILENT_SECONDS:
            connection.execute("SELECT 1")
            self._heard = time.monotonic()
            return
        # Twice: the first may bring what a server says as it leaves, and only the next the end itself.
        connection.pgconn.consume_input()
        connection.pgconn.consume_input()
        while (told := connection.pgconn.notifies()) is not None:
            self._others += told.be_pid != connection.info.backend_pid

    # -- tables

    def _version(self) -> int:
        # Of the catalogue's tables: what the server itself remembers of it may be older than our lock.
        if not self.rows(_HAS_VERSION, self._tables.name):
            return 0
        return int(self.rows("SELECT version FROM schema_version")[0][0])

    def _migrate(self) -> None:
        refuse_newer(self._version(), self._tables, self.where)
        if self._version() == len(self._tables.migrations):
            return
        with self.transaction():
            # Another installation may have done it while this one waited.
            version = self._version()
            refuse_newer(version, self._tables, self.where)
            if version == 0:
                self._make_schema()
            for script in self._tables.migrations[version:]:
                with self._explained():
                    self._ready().execute(table_words(script))
            self.write("UPDATE schema_version SET version = ?", len(self._tables.migrations))

    def _make_schema(self) -> None:
        name = self._tables.name
        if not self.rows("SELECT 1 FROM pg_namespace WHERE nspname = ?", name):
            # Asked for first: without the right to make one, a schema that is there would be refused too.
            self._define(f"CREATE SCHEMA {name}")
        self._define("CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)")
        self.write("INSERT INTO schema_version SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM schema_version)")

    def _define(self, statement: str) -> None:
        with self._explained():
            self._ready().execute(statement)

    # -- errors

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._explanation(error) from error

    def _gone(self) -> StoreLocked:
        return StoreLocked(
            f"the connection with {self.where} was lost; what was being changed is not kept, or only whole"
        )

    def _explanation(self, error: psycopg.Error) -> KeystoreError:
        what, text = self._tables.what, _first_line(error)
        connection = self._connection
        match error.sqlstate or "":
            case "55P03" | "40001" | "40P01":
                return StoreLocked(f"another proxy keeps {self.where} busy; try again")
            case "53100":
                return KeystoreError(f"no space left on the server {self.where}")
            case "25006":
                return StoreLocked(f"the server {self.where} takes no changes now; is it a standby?")
            case "42501" | "3F000":
                return KeystoreError(
                    f"the user of {self.where} may not use or make its tables ({text}): grant CREATE on the "
                    f"database, or make it the owner of the schema {self._tables.name}"
                )
            case state if state[:2] in {"22"} or isinstance(error, psycopg.DataError):
                return KeystoreError(f"a value cannot be kept by {self.where} ({text})")
            case state if state[:2] in {"23", "XX"}:
                return StoreDamaged(f"{self.where} is damaged or not a {what} ({text}): restore a backup")
            case state if state[:2] in {"08", "53", "57", "58"} or connection is None or connection.closed:
                return self._gone()
            case _:
                return KeystoreError(f"the {what} at {self.where} cannot be used: {text}")


def parameters(server: Server) -> tuple[dict[str, Any], str]:
    """How to connect, and what to call the server. Raises KeystoreError for what would not be safe."""
    try:
        found: dict[str, Any] = dict(conninfo_to_dict(server.url))
    except psycopg.ProgrammingError as error:
        raise KeystoreError(f"[store] url is not one of PostgreSQL: {_first_line(error)}") from None
    if "password" in found:
        raise KeystoreError(
            "[store] url holds a password: take it out, and run `secmailproxy store password`"
        )
    where = _name(found)
    hosts = str(found.get("hostaddr") or found.get("host") or "")
    is_local = "service" not in found and all(map(_is_local, hosts.split(",")))
    if not is_local:
        if found.get("sslmode", "verify-full") != "verify-full":
            raise KeystoreError(
                f"[store] url asks for sslmode={found['sslmode']}, and {where} is another machine: leave it "
                "out, so that the server's certificate is verified"
            )
        found["sslmode"] = "verify-full"
        found.setdefault("sslrootcert", str(server.ca_file) if server.ca_file else "system")
    elif server.ca_file is not None:
        found.setdefault("sslrootcert", str(server.ca_file))
    return found, where


def _is_local(host: str) -> bool:
    """Whether nothing leaves this machine. A host that is not named may come from the environment."""
    if host.startswith(("/", "@")) or host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _name(found: Mapping[str, Any]) -> str:
    host = found.get("host") or found.get("hostaddr") or found.get("service") or "the server"
    port = f":{found['port']}" if "port" in found else ""
    return f"{host}{port}/{found.get('dbname') or found.get('user') or ''}"


@lru_cache(maxsize=512)
def _in_its_words(query: str) -> str:
    return query.replace("%", "%%").replace("?", "%s")


def table_words(script: str) -> str:
    """Definitions of tables, written for SQLite, as PostgreSQL takes them; text is ordered by its octets."""
    return _TYPE.sub(lambda word: _TYPES[word[0]], _ONLY_SQLITE.sub(")", script))


def _plain(value: Any) -> Any:
    match value:
        case bool():
            return int(value)
        case str():
            return str(value)
        case bytearray() | memoryview():
            return bytes(value)
        case _:
            return value


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
