"""The tables of the presented forms (`views`), and how their file is opened."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from secmailproxy.errors import ConfigError

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE mailbox (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, name BLOB NOT NULL, uidvalidity INTEGER NOT NULL,
    covered BLOB NOT NULL, UNIQUE (account, name));
CREATE TABLE form (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, hash BLOB NOT NULL, renderer INTEGER NOT NULL,
    outline BLOB NOT NULL, octets BLOB NOT NULL, UNIQUE (account, hash));
CREATE TABLE message (
    mailbox INTEGER NOT NULL REFERENCES mailbox (id) ON DELETE CASCADE, uid INTEGER NOT NULL,
    kind INTEGER NOT NULL, verdict BLOB, form INTEGER REFERENCES form (id),
    PRIMARY KEY (mailbox, uid)) WITHOUT ROWID;
"""
# Of accounts, not of messages.
_LATER = """
CREATE TABLE IF NOT EXISTS special_use (
    account TEXT NOT NULL, name TEXT NOT NULL, sent INTEGER NOT NULL, PRIMARY KEY (account, name, sent)
) WITHOUT ROWID
"""


def open_tables(path: Path) -> sqlite3.Connection:
    """Open or create the database file (mode 0600). Raises ConfigError for one that cannot be used."""
    try:
        path.touch(mode=0o600)
        database = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from None
    try:
        _set_up(database)
    except sqlite3.Error as error:
        database.close()
        raise _unusable(path, error) from None
    return database


def _set_up(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("PRAGMA foreign_keys = ON")
    if database.execute("PRAGMA user_version").fetchone()[0] == 0:
        database.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT")
    database.execute(_LATER)


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"{path} cannot be used ({error}). If the disk is full, make room; else restore it from a backup. "
        "Without it mail clients see messages that they know presented anew."
    )
