"""`secmailproxy key explain` and `find`: the ladder of an address, in words and in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from keystore import openpgp
from keystore.autocrypt import Heard
from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from tests.fixtures.keystores import NOW
from tests.fixtures.proxy import ProxyHome, empty_home

ALICE, BOB, EVE, DAN = "alice@example.org", "bob@example.com", "eve@example.com", "dan@example.com"
CONFIG = """
    [discovery]
    folder = "keys"

    [[rules]]
    to = "dan@example.com"
    protect = "require"

    [[accounts]]
    address = "alice@example.org"
    imap = { host = "localhost", port = 1, tls = "starttls" }
    smtp = { host = "localhost", port = 2, tls = "starttls" }
"""
BOBS = openpgp.generate(BOB, now=NOW - timedelta(days=30))
OTHER = openpgp.generate(BOB, now=NOW - timedelta(days=20))


@pytest.fixture
def home(tmp_path: Path) -> ProxyHome:
    made = empty_home(tmp_path / "home")
    (made.folder / "keys").mkdir()
    (made.folder / "keys/bob.asc").write_bytes(BOBS.certificate_octets)
    made.add_config(CONFIG)
    with made.keystore() as keystore:
        keystore.generate(ALICE)
    return made


Run = Callable[..., Result]


@pytest.fixture
def key(home: ProxyHome, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    return lambda *words: CliRunner().invoke(program, ["key", *words])


def shown(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_it_is_explained_what_would_be_asked_and_nobody_is(key: Run, home: ProxyHome) -> None:
    found = shown(key("explain", BOB, "--cached", "--json"))
    assert [(one["source"], one["step"]) for one in found["sources"]] == [("folder", "not asked")]
    assert (found["from"], found["decision"], found["local"]) == (ALICE, "signed", [])
    assert "gnupg" in found["off"]
    with home.keystore() as keystore:
        assert not keystore.certificates(BOB)


def test_what_mail_has_said_is_shown_with_what_autocrypt_recommends(key: Run, home: ProxyHome) -> None:
    assert shown(key("explain", BOB, "--cached", "--json"))["autocrypt"] is None
    with home.keystore() as keystore:
        now = datetime.now(UTC)
        keystore.autocrypt.hear(Heard(BOB, now, BOBS.certificate_octets, mutual=True), now)
    assert shown(key("explain", BOB, "--cached", "--json"))["autocrypt"] == {
        "certificate": BOBS.fingerprint,
        "gossip": None,
        "prefer_encrypt": "mutual",
        "recommendation": "available",
    }
    said = key("explain", BOB, "--cached").stdout
    assert f"tells of {BOBS.fingerprint} by Autocrypt, asks for encryption; recommended: available" in said


def test_what_is_found_is_kept_and_said(key: Run) -> None:
    found = shown(key("explain", BOB, "--json"))
    (source,) = found["sources"]
    (offer,) = source["offers"]
    assert (source["step"], source["now"], offer["action"], offer["where"]) == (
        "taken",
        True,
        "added",
        "bob.asc",
    )
    assert offer["fingerprint"] == found["local"][0]["fingerprint"] == BOBS.fingerprint
    assert (found["decision"], found["scheme"]) == ("signed+encrypted", "openpgp")
    assert BOBS.fingerprint in found["certificates"]
    again = key("explain", BOB)
    assert "To have it encrypted" not in again.stdout
    assert f"local    {BOBS.fingerprint}, known, from folder, bob.asc\n" in again.stdout
    assert f"folder   taken: {BOBS.fingerprint} from bob.asc (asked on " in again.stdout
    assert f"A message from {ALICE} leaves signed and encrypted now" in again.stdout
    cached = key("explain", BOB, "--cached").stdout
    assert f"folder   taken: {BOBS.fingerprint} from bob.asc (asked on " in cached


def test_a_refusal_is_said_with_its_reason(key: Run) -> None:
    said = key("explain", DAN)
    assert said.exit_code == 0
    assert 'rule 1: to = "dan@example.com", protect = "require"' in said.stdout
    assert "is refused now: no encryption key for <dan@example.com>" in said.stdout
    assert "To have it encrypted, import the certificate (secmailproxy key import FILE)" in said.stdout
    found = shown(key("explain", DAN, "--json"))
    assert (found["decision"], found["rule"]["number"], found["certificates"]) == ("refused", 1, [])


def test_a_change_is_held_and_said(key: Run, home: ProxyHome) -> None:
    assert key("find", BOB).exit_code == 0
    (home.folder / "keys/bob.asc").write_bytes(OTHER.certificate_octets)
    said = key("find", BOB)
    assert OTHER.fingerprint in said.stdout
    assert "key settle" in said.stdout
    explained = key("explain", BOB, "--cached").stdout
    assert f"{OTHER.fingerprint}, unknown, from folder, bob.asc; not used, held since" in explained, explained
    assert f": secmailproxy key settle {BOB}\n" in explained


def test_find_asks_again_and_says_when_nothing_serves(key: Run, home: ProxyHome) -> None:
    missing = key("find", EVE)
    assert missing.exit_code == 69
    assert f"No certificate for {EVE}" in missing.stderr
    (home.folder / "keys/eve.asc").write_bytes(
        openpgp.generate(EVE, now=NOW - timedelta(days=1)).certificate_octets
    )
    found = shown(key("find", EVE, "--all", "--json"))
    assert [one["step"] for one in found["sources"]] == ["taken"]


def test_without_sources_it_is_said_where_to_switch_them_on(key: Run, home: ProxyHome) -> None:
    text = home.folders.config_file.read_text().replace('folder = "keys"', "")
    home.folders.config_file.write_text(text)
    result = key("find", BOB)
    assert result.exit_code == 64
    assert "[discovery]" in result.stderr
    assert "off      gnupg, folder, url, ldap, wkd, dane, vks, hkps (" in key("explain", BOB).stdout


def test_before_there_is_an_account_a_key_is_the_sender_and_without_both_setup_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = empty_home(tmp_path / "new")
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    asked = ["key", "explain", BOB]
    said = CliRunner().invoke(program, asked).output
    assert "secmailproxy setup" in said
    assert "<>" not in said
    with home.keystore() as keystore:
        keystore.generate(ALICE)
    assert f"A message from {ALICE} leaves signed" in CliRunner().invoke(program, asked).output
    assert shown(CliRunner().invoke(program, [*asked, "--json"]))["from"] == ALICE
