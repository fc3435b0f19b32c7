"""Change the configuration file for its owner: comments and order stay, the result is checked, then written.

Security: written whole or not at all, 0600; what would not pass the check of `Config.load` is never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.items import AoT

from secmailproxy.accounts import Tls
from secmailproxy.config import Config
from secmailproxy.folders import Folders, write_privately

_HEADER = """\
# The configuration of secmailproxy. Every option: docs/configuration.md
# After a change: secmailproxy config check
"""


@dataclass(frozen=True, slots=True)
class ServerEntry:
    """What the file says of one server. `username` "" means the account's address."""

    host: str
    port: int
    tls: Tls
    username: str = ""
    ca_file: Path | None = None

    def values(self) -> dict[str, Any]:
        """As written in the file; what has its default value is left out, except port and TLS."""
        values: dict[str, Any] = {"host": self.host, "port": self.port, "tls": self.tls}
        if self.username:
            values["username"] = self.username
        if self.ca_file is not None:
            values["ca_file"] = str(self.ca_file)
        return values


@dataclass(frozen=True, slots=True)
class AccountEntry:
    """What the file says of one account."""

    address: str
    imap: ServerEntry
    smtp: ServerEntry
    name: str = ""
    login: str = "mailbox"


def read_text(folders: Folders) -> str:
    """The file as it is, or a fresh beginning where there is none."""
    try:
        return folders.config_file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return _HEADER


def changed(text: str, tables: Mapping[str, Mapping[str, Any]], account: AccountEntry | None = None) -> str:
    """The file's text with these values set in these tables and the account added or updated. PURE."""
    document = tomlkit.parse(text)
    for table, values in tables.items():
        if values and table not in document:
            document.append(table, _new_table(values))
        elif values:
            _update(document[table], values)
    if account is not None:
        _set_account(document, account)
    return tomlkit.dumps(document)


def save(folders: Folders, text: str) -> Config:
    """Check `text` and put it in the place of the configuration file. Raises ConfigError, file untouched."""
    octets = text.encode("utf-8")
    config = Config.parse(octets, folders)
    write_privately(folders.config_file, octets)
    return config


def _set_account(document: tomlkit.TOMLDocument, account: AccountEntry) -> None:
    entries = document.get("accounts")
    if entries is None:
        entries = tomlkit.aot()
        document.append("accounts", entries)
    known = next(
        (one for one in entries if str(one.get("address", "")).lower() == account.address.lower()), None
    )
    if known is None:
        _append(entries, account)
        return
    if account.name:
        _update(known, {"name": account.name})
    _update(known, {"login": account.login})
    for key, server in (("imap", account.imap), ("smtp", account.smtp)):
        if key not in known:
            known[key] = tomlkit.inline_table()
        _update(known[key], server.values())
        for option in ("username", "ca_file"):
            if option in known[key] and option not in server.values():
                del known[key][option]


def _append(entries: Any, account: AccountEntry) -> None:
    values: dict[str, Any] = {"address": account.address}
    if account.name:
        values["name"] = account.name
    values["login"] = account.login
    for key, server in (("imap", account.imap), ("smtp", account.smtp)):
        values[key] = tomlkit.inline_table()
        values[key].update(server.values())
    if isinstance(entries, AoT):
        entries.append(_new_table(values))
    else:
        entries.append(values)


def _new_table(values: Mapping[str, Any]) -> Any:
    """A table with an empty line after it."""
    table = tomlkit.table()
    for key, value in values.items():
        table.append(key, value)
    table.add(tomlkit.nl())
    return table


def _update(table: Any, values: Mapping[str, Any]) -> None:
    """Set only what differs, so that what a person wrote stays as written."""
    for key, value in values.items():
        if key not in table or table[key] != value:
            table[key] = value
