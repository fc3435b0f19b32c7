"""Changing the configuration file: comments and order stay, and nothing wrong is ever written."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path

import pytest

from secmailproxy.config_writer import AccountEntry, ServerEntry, changed, read_text, save
from secmailproxy.errors import ConfigError
from secmailproxy.folders import Folders

IMAP = ServerEntry("imap.example.org", 993, "implicit")
SMTP = ServerEntry("smtp.example.org", 587, "starttls", "al", Path("/etc/ca.pem"))
ALICE = AccountEntry("alice@example.org", IMAP, SMTP, name="Alice")

EXISTING = """\
# top
[listen]   # here
imap = "127.0.0.1:1143" # keep

[[accounts]]
address = "alice@example.org" # me
login = "mailbox"
imap = { host = "old.example.org", port = 993, tls = "implicit", username = "gone" } # old
encrypt_sent = false

[accounts.smtp]
# a table of its own
host = "smtp.example.org"

[[rules]]
to = "*"
"""


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "c" / "config.toml", tmp_path / "s", tmp_path / "k")


def test_a_first_account(folders: Folders) -> None:
    text = changed(read_text(folders), {"listen": {"imap": "127.0.0.1:2143"}, "secrets": {}}, ALICE)
    assert text.startswith("# The configuration of secmailproxy.")
    assert tomllib.loads(text) == {
        "listen": {"imap": "127.0.0.1:2143"},
        "accounts": [
            {
                "address": "alice@example.org",
                "name": "Alice",
                "login": "mailbox",
                "imap": {"host": "imap.example.org", "port": 993, "tls": "implicit"},
                "smtp": {
                    "host": "smtp.example.org",
                    "port": 587,
                    "tls": "starttls",
                    "username": "al",
                    "ca_file": "/etc/ca.pem",
                },
            }
        ],
    }


def test_a_known_account_is_updated_and_the_rest_left_alone() -> None:
    text = changed(EXISTING, {"listen": {"imap": "127.0.0.1:1143", "submission": "[::1]:25"}}, ALICE)
    for kept in ("# top", "[listen]   # here", '"127.0.0.1:1143" # keep', "# me", "# a table of its own"):
        assert kept in text
    data = tomllib.loads(text)
    assert data["listen"]["submission"] == "[::1]:25"
    assert data["accounts"][0]["imap"] == {"host": "imap.example.org", "port": 993, "tls": "implicit"}
    assert data["accounts"][0]["smtp"]["username"] == "al"
    assert data["accounts"][0]["encrypt_sent"] is False
    assert data["rules"] == [{"to": "*"}]
    assert changed(text, {}, ALICE) == text


def test_another_account_is_added() -> None:
    bob = AccountEntry("bob@example.org", IMAP, SMTP)
    data = tomllib.loads(changed(EXISTING, {}, bob))
    assert [one["address"] for one in data["accounts"]] == ["alice@example.org", "bob@example.org"]
    inline = 'accounts = [{ address = "a@b.c", imap = { host = "i" }, smtp = { host = "s" } }]\n'
    data = tomllib.loads(changed(inline, {}, bob))
    assert [one["address"] for one in data["accounts"]] == ["a@b.c", "bob@example.org"]


def test_save_checks_before_it_writes(folders: Folders) -> None:
    good = changed("", {}, AccountEntry("alice@example.org", IMAP, IMAP))
    assert save(folders, good).accounts[0].address == "alice@example.org"
    assert folders.config_file.read_text() == good
    assert stat.S_IMODE(folders.config_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folders.config_file.parent.stat().st_mode) == 0o700
    with pytest.raises(ConfigError, match="there is no file /etc/nowhere"):
        save(folders, good.replace('"implicit"', '"implicit", ca_file = "/etc/nowhere"', 1))
    assert folders.config_file.read_text() == good
