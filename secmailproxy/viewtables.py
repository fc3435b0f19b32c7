"""The tables of the presented forms (`views`), and how they are opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from keystore.database import Database, Place, Tables
from keystore.errors import KeystoreError
from secmailproxy.errors import ConfigError

Opener = Callable[[Path, Tables], Database]
"""Opens tables in a file or, as `Database.beside` does, on the server that has the keystore."""

TABLES = Tables(
    "secmailproxy_views",
    "file of presented messages",
    (
        """
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
        """,
        # Files of former versions have some of these already.
        """
        CREATE TABLE IF NOT EXISTS special_use (
            account TEXT NOT NULL, name TEXT NOT NULL, sent INTEGER NOT NULL,
            PRIMARY KEY (account, name, sent)) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS encrypted_id (mark BLOB PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS encrypted_id_key (
            id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL, complete INTEGER NOT NULL DEFAULT 0);
        CREATE TABLE IF NOT EXISTS searchable (
            id INTEGER PRIMARY KEY, form INTEGER NOT NULL UNIQUE REFERENCES form (id) ON DELETE CASCADE,
            version INTEGER NOT NULL, text BLOB NOT NULL);
        """,
    ),
    power_safe=False,
    wiped=False,
)


def in_file(path: Path, tables: Tables) -> Database:
    """An `Opener` for files."""
    return Place(path).open(tables, lambda: None)


def open_tables(path: Path, opener: Opener = in_file) -> Database:
    """Open or create the tables. Raises ConfigError for what cannot be used."""
    try:
        return opener(path, TABLES)
    except KeystoreError as error:
        raise ConfigError(
            f"{error}. If the disk is full, make room. Without this file mail clients see messages that they "
            "know presented anew."
        ) from None
