"""`secmailproxy key rotate`, `extend`, `identity`, `revoke` and `revocation-certificate`."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from keystore import openpgp
from secmailproxy.cli.key.renewing import PUBLISH

ALICE, WORK = "alice@example.org", "work@example.com"
NOW = datetime.now(UTC).replace(microsecond=0)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def alice(key_json) -> str:
    """The fingerprint of an own key, beside a correspondent's of the same address."""
    stranger = openpgp.generate(ALICE, name="Another Alice", now=NOW - timedelta(days=30))
    made = key_json("generate", ALICE, "--name", "Alice", "--expires", "90d")["key"]["fingerprint"]
    key_json("import", "-", data=stranger.certificate_octets)
    return made


def test_rotate(key, key_json, alice):
    """The address finds the own key; the old subkey's end is told."""
    before = openpgp.parse_keys(key("export", alice).stdout_bytes)[0].certificate_octets
    changed = key_json("rotate", ALICE, "--overlap", "10d")["key"]
    assert (changed["fingerprint"], changed["holder"]) == (alice, "own")
    after = openpgp.parse_keys(key("export", alice).stdout_bytes)[0].certificate_octets
    assert openpgp.key_fingerprints(after)[:2] == openpgp.key_fingerprints(before)
    lives = [one.bindings[-1].key_lifetime for one in openpgp.facts(after).subkeys]
    # Counted from the key's making, a while ago.
    assert timedelta(days=10) <= lives[0] < timedelta(days=11)
    assert lives[1] is None
    assert PUBLISH in key("rotate", alice).stdout


@pytest.mark.parametrize("expires", ["2y", "never"])
def test_extend(key_json, alice, expires):
    before = datetime.now(UTC).replace(microsecond=0)
    changed = key_json("extend", ALICE, "--expires", expires)["key"]
    if expires == "never":
        assert changed["expires"] is None
    else:
        assert before <= moment(changed["expires"]) - timedelta(days=730) <= datetime.now(UTC)


def test_identities(key, key_json, alice):
    added = key_json("identity", "add", ALICE, WORK, "--name", "Alice at work")["key"]
    assert added["addresses"] == [ALICE, WORK]
    first = key_json("identity", "add", WORK, "home@example.org", "--primary")["key"]
    assert first["addresses"] == ["home@example.org", ALICE, WORK]
    assert key_json("identity", "remove", alice, ALICE)["key"]["addresses"] == ["home@example.org", WORK]
    whole = f"Alice at work <{WORK}>"
    assert key_json("identity", "remove", WORK, whole)["key"]["addresses"] == ["home@example.org"]
    assert "only user ID" in key("identity", "remove", alice, "home@example.org", code=65).stderr
    assert "no user ID" in key("identity", "remove", alice, "nobody@example.org", code=69).stderr


def test_two_user_ids_of_one_address_are_told_apart(key, key_json, alice):
    key_json("identity", "add", alice, ALICE, "--name", "A. Lice")
    told = key("identity", "remove", alice, ALICE, code=64).stderr
    assert f"Alice <{ALICE}>" in told
    assert f"A. Lice <{ALICE}>" in told
    changed = key_json("identity", "remove", alice, f"Alice <{ALICE}>")["key"]
    assert changed["user_ids"] == [f"A. Lice <{ALICE}>"]


def test_revoke_is_meant(key, key_json, alice):
    assert "cannot be undone" in key("revoke", ALICE, code=64).stderr
    assert key_json("show", alice)["keys"][0]["encrypt"]["usable"]
    revoked = key_json("revoke", ALICE, "--reason", "superseded", "--yes")["key"]
    assert (revoked["encrypt"]["reason"], revoked["holder"]) == ("revoked", "own")
    assert "superseded" in revoked["encrypt"]["detail"]
    for words in (["rotate", alice], ["extend", alice], ["identity", "add", alice, WORK]):
        assert "revoked, which is for ever" in key(*words, code=65).stderr


def test_the_revocation_certificate(key, key_json, alice, home: Path, tmp_path: Path):
    """It ends the key without its secret half: the secrets are lost here."""
    told = key_json("revocation-certificate", ALICE)
    file = Path(told["file"])
    assert told["text"] == file.read_text() == key("revocation-certificate", alice).stdout
    assert (told["fingerprint"], stat.S_IMODE(file.stat().st_mode)) == (alice, 0o600)
    (tmp_path / "elsewhere.asc").write_text(told["text"])
    (home / "state" / "secrets.json").unlink()
    told = key("revoke", alice, "--yes", "--certificate", tmp_path / "elsewhere.asc").stdout
    assert told.endswith(f"For a new key: secmailproxy key generate {ALICE}\n")
    assert key_json("show", alice)["keys"][0]["encrypt"]["reason"] == "revoked"


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["rotate", "nobody@example.org"], 69, "No key matches"),
        (["rotate", "bob@example.org"], 65, "no secret key for"),
        (["rotate", "bob@example.org", "--overlap", "soon"], 64, "--overlap soon"),
        (["extend", "bob@example.org", "--expires", "0d"], 64, "--expires 0d"),
        (["revocation-certificate", "bob@example.org"], 65, "no secret key for"),
        (["revoke", "bob@example.org", "--yes", "--certificate", "-"], 65, "not a revocation certificate"),
    ],
)
def test_refused(key, words, code, text):
    bob = openpgp.generate("bob@example.org", now=NOW - timedelta(days=30))
    key("import", "-", data=bob.certificate_octets)
    assert text in key(*words, code=code, data=b"text").stderr


class TestRequest:
    """`key request` and `key requests`."""

    def test_a_request_is_printed_until_its_certificate_comes(self, key, key_json, openssl, mail_authority):
        made = key_json("request", ALICE, WORK, "--name", "Alice", "--kind", "p256")["request"]
        assert made["addresses"] == [ALICE, WORK]
        again = key("request", WORK, ALICE)
        assert again.stdout == made["pem"]
        assert "key import FILE" in again.stderr
        assert key_json("requests")["requests"] == [made]
        assert ALICE in key("requests").stdout
        another = key_json("request", ALICE, WORK, "--another", "--kind", "p256")["request"]
        assert another["pem"] != made["pem"]
        files = {"ca.pem": mail_authority.pem, "ca.key": mail_authority.key_pem, "csr": made["pem"].encode()}
        for name, octets in files.items():
            openssl.file(name, octets)
        words = [
            "x509",
            "-req",
            "-in",
            "csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-copy_extensions",
            "copy",
        ]
        [taken] = key_json("import", "-", data=openssl(*words))["results"]
        assert (taken["action"], taken["secret"], taken["addresses"]) == ("added", True, [ALICE, WORK])
        assert key_json("requests")["requests"] == [another]

    def test_what_cannot_be_requested(self, key):
        assert "cannot be in a request" in key("request", "alice", "--kind", "p256", code=65).stderr
        assert "No request waits" in key("requests").stdout
