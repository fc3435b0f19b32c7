"""The table [discovery]."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from keystore.discovery.dane import DaneSettings
from keystore.discovery.ldap import LdapServer
from keystore.discovery.model import SourceKind
from keystore.discovery.sources import ORDER, DiscoverySettings, sources_of
from secmailproxy.config import Config
from secmailproxy.errors import ConfigError
from secmailproxy.folders import Folders


def parsed(text: str, folder: Path) -> DiscoverySettings:
    folders = Folders(folder / "config.toml", folder / "state", folder / "cache")
    return Config.parse(f"[discovery]\n{text}".encode(), folders).discovery_settings()


def test_by_default_nobody_is_asked(tmp_path: Path) -> None:
    """Those who have a configuration already see no new traffic."""
    settings = parsed("", tmp_path)
    assert not settings.asks
    assert settings.order == ORDER
    assert settings.ladder == DiscoverySettings().ladder


def test_every_value_arrives(tmp_path: Path) -> None:
    text = """
        order = ["folder"]
        gnupg = true
        folder = "."
        wait_seconds = 1.5
        source_seconds = 4
        found_hours = 2
        nothing_hours = 3
        failed_minutes = 5
        allow_domains = ["Mail.Test."]
        url = "https://keys.example.org/all.asc"
        wkd = true
        vks = "keys.openpgp.org"
        hkps = "hkps://pgp.example.org:444"
        dane = true
        trust_anchor = "root.key"
        proxy = "socks5h://127.0.0.1:9050"
        [[discovery.ldap]]
        url = "ldaps://ldap.example.org/dc=example,dc=org"
        domains = ["Example.ORG"]
        bind_dn = "cn=reader"
        password_file = "password"
    """
    (tmp_path / "root.key").write_text(f". IN DS 1 8 2 {'00' * 32}\n")
    (tmp_path / "password").write_text("secret\n")
    settings = parsed(text, tmp_path)
    assert (settings.order, settings.gnupg, settings.wait) == ((SourceKind.FOLDER,), True, 1.5)
    assert settings.folder is not None
    assert settings.dane == DaneSettings(tmp_path / "root.key")
    assert settings.net.proxy == "socks5h://127.0.0.1:9050"
    assert settings.ldap == (
        LdapServer(
            "ldap.example.org",
            636,
            True,
            "dc=example,dc=org",
            ("example.org",),
            "cn=reader",
            tmp_path / "password",
        ),
    )
    ladder = settings.ladder
    hours = timedelta(hours=1)
    assert (ladder.seconds, ladder.found, ladder.nothing) == (4.0, 2 * hours, 3 * hours)
    assert (ladder.failed, ladder.allowed) == (timedelta(minutes=5), frozenset({"mail.test"}))
    assert (ladder.tor, settings.net.timeout) == (True, 4.0)
    assert (settings.url, settings.wkd) == ("https://keys.example.org/all.asc", True)
    assert (settings.vks, settings.hkps) == ("https://keys.openpgp.org", "https://pgp.example.org:444")
    found = [one.kind.value for one in sources_of(settings)]
    assert found == ["folder", "gnupg", "url", "ldap", "wkd", "dane", "vks", "hkps"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('order = ["oracle"]', "discovery.order"),
        ('order = ["gnupg", "gnupg"]', "stands in it twice"),
        ('folder = "nowhere"', "there is no folder"),
        ("wait_seconds = 31", "discovery.wait_seconds"),
        ('url = "http://keys.example.org/"', "without TLS"),
        ('url = "https://me:secret@keys.example.org/"', "user name or password"),
        ('vks = "http://keys.openpgp.org"', "are not asked"),
        ('hkps = "a/b"', "write a host"),
        ('allow_domains = ["a@b"]', "is not a domain"),
        ("gnupg = 1", "discovery.gnupg"),
        ('trust_anchor = "config.toml"', "trust_anchor"),
        ('proxy = "socks5://127.0.0.1:9050"', "socks5h"),
        ('[[discovery.ldap]]\nurl = "ldap://host"', "base of the search"),
        ('[[discovery.ldap]]\nurl = "ldap://host/dc=x"\nbind_dn = "cn=x"', "go together"),
        ("keyserver = true", "discovery.keyserver"),
    ],
)
def test_what_is_wrong_is_told(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=told):
        parsed(text, tmp_path)
