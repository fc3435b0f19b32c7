"""`secmailproxy key`, as people and scripts call it."""

from __future__ import annotations

import base64
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click.testing
import pytest
from cryptography.hazmat.primitives.serialization import pkcs12

from keystore import openpgp
from keystore.ownkeys import LIFETIME
from secmailproxy.cli import program
from secmailproxy.cli.key import fetch as keyfetch
from tests.fixtures import forge
from tests.fixtures.keycommand import KEY_PASSPHRASE, SECRETS
from tests.fixtures.processes import free_port
from tests.fixtures.x509 import PASSPHRASE

NOW = datetime.now(UTC).replace(microsecond=0)


def stranger(address: str, **options) -> openpgp.SecretKey:
    return openpgp.generate(address, now=NOW - timedelta(days=30), **options)


def armored(*keys: openpgp.SecretKey) -> bytes:
    return b"".join(openpgp.armor(key.certificate_octets, "PUBLIC KEY BLOCK") for key in keys)


BOB, CAROL = stranger("bob@example.org", name="Bob"), stranger("carol@example.org", name="Carol")


@pytest.fixture
def file(tmp_path):
    """Write a key file."""

    def write(octets: bytes, name: str = "keys.asc") -> Path:
        (tmp_path / name).write_bytes(octets)
        return tmp_path / name

    return write


class TestImport:
    def test_files_and_stdin(self, key_json, file):
        results = key_json("import", file(armored(BOB)), "-", data=armored(BOB, CAROL))["results"]
        assert [(one["source"], one["action"], one["fingerprint"]) for one in results] == [
            ("file keys.asc", "added", BOB.fingerprint),
            ("standard input", "unchanged", BOB.fingerprint),
            ("standard input", "added", CAROL.fingerprint),
        ]
        assert results[0] == {
            "source": "file keys.asc",
            "action": "added",
            "fingerprint": BOB.fingerprint,
            "addresses": ["bob@example.org"],
            "user_ids": ["Bob <bob@example.org>"],
            "secret": False,
            "reason": "",
        }

    def test_text(self, key, file):
        result = key("import", file(armored(BOB)))
        assert result.stdout == f"    added  {BOB.fingerprint}  Bob <bob@example.org>\n"

    @pytest.mark.parametrize(
        ("octets", "text"),
        [(b"", "empty"), (b"not a key", "neither an OpenPGP key"), (None, "No such file")],
    )
    def test_nothing_importable(self, key_json, key, file, tmp_path, octets, text):
        path = tmp_path / "absent" if octets is None else file(octets)
        [result] = key_json("import", path, code=65)["results"]
        assert (result["action"], result["fingerprint"]) == ("refused", None)
        assert text in result["reason"]
        assert "nothing was imported" in key("import", path, code=65).stderr

    def test_one_bad_source_does_not_stop_the_others(self, key_json, file):
        results = key_json("import", file(b"junk", "junk"), file(armored(BOB)))["results"]
        assert [one["action"] for one in results] == ["refused", "added"]

    def test_secret_keys(self, key_json, key, file, tmp_path):
        path = file(openpgp.protect(BOB, KEY_PASSPHRASE) + openpgp.protect(CAROL, "another"))
        passphrase = tmp_path / "key-passphrase"
        passphrase.write_text(KEY_PASSPHRASE + "\n")
        assert "--passphrase-file" in key("import", path, code=64).stderr
        results = key_json("import", path, "--passphrase-file", passphrase)["results"]
        assert [(one["action"], one["secret"]) for one in results] == [("added", True), ("refused", False)]
        assert results[1]["reason"] == f"wrong passphrase for key {CAROL.fingerprint}"
        [listed] = key_json("list")["keys"]
        assert (listed["holder"], listed["trust"]) == ("own", "verified")

    def test_trust(self, key_json, file):
        key_json("import", file(armored(BOB)), "--trust", "verified")
        assert key_json("list")["keys"][0]["trust"] == "verified"

    @pytest.mark.parametrize(
        ("words", "text"),
        [
            ([], "Nothing to import"),
            (["-", "-"], "only once"),
            (["--secret", "-"], "--from-gnupg"),
            (["http://example.org/key"], "Use https"),
            (["ftp://example.org/key"], "ftp URLs"),
            (["file:///etc/passwd"], "file URLs"),
            (["https://user:pass@example.org/"], "user name or password"),
            (["--trust", "much", "-"], "much"),
        ],
    )
    def test_usage(self, key, words, text):
        result = key("import", *words, code=64)
        assert text in result.stderr
        assert "pass@" not in result.stderr

    def test_unusable_for_encryption(self, key_json, file):
        expired = stranger("old@example.org", expires=timedelta(days=1))
        [result] = key_json("import", file(armored(expired)))["results"]
        assert result["action"] == "added"
        assert "not for encryption: expired" in result["reason"]
        [listed] = key_json("list")["keys"]
        assert (listed["encrypt"]["usable"], listed["encrypt"]["reason"]) == (False, "expired")
        assert (
            "cannot be encrypted to: expired"
            in click.testing.CliRunner().invoke(program, ["key", "list"]).stdout
        )


class TestUrl:
    def test_with_a_private_authority(self, key_json, https_place, ca):
        url = https_place(armored(BOB))
        [result] = key_json("import", url, "--ca-file", ca.ca_file)["results"]
        assert (result["action"], result["source"]) == ("added", url)

    def test_untrusted(self, key_json, https_place):
        [result] = key_json("import", https_place(armored(BOB)), code=65)["results"]
        assert "TLS certificate is not trusted" in result["reason"]
        assert "--ca-file" in result["reason"]

    @pytest.mark.parametrize("kind", ["http", "socks5h"])
    def test_with_a_proxy_nothing_is_asked_beside_it(self, home, key_json, https_place, ca, kind):
        """Nobody listens where the proxy was, and the place itself could be reached."""
        with (home / "config.toml").open("a") as file:
            file.write(f'\n[discovery]\nproxy = "{kind}://127.0.0.1:{free_port()}"\n')
        [result] = key_json("import", https_place(armored(BOB)), "--ca-file", ca.ca_file, code=65)["results"]
        assert "cannot be fetched" in result["reason"]

    def test_redirects(self, key_json, https_place, ca):
        there = https_place(b"", 302, https_place(armored(BOB)))
        assert key_json("import", there, "--ca-file", ca.ca_file)["results"][0]["action"] == "added"
        for away in ("http://localhost/key", "file:///etc/passwd"):
            place = https_place(b"", 302, away)
            [result] = key_json("import", place, "--ca-file", ca.ca_file, code=65)["results"]
            assert "leads away from https" in result["reason"]

    def test_endless_redirects(self, key_json, https_place, ca):
        first = https_place(b"", 302, "/again")
        [result] = key_json("import", first, "--ca-file", ca.ca_file, code=65)["results"]
        assert "too many redirects" in result["reason"]

    def test_refusals(self, key_json, https_place, ca, monkeypatch):
        monkeypatch.setattr(keyfetch, "MAX_OCTETS", 1000)
        cases = [(https_place(bytes(5000)), "larger"), (https_place(b"", 404), "404")]
        for place, text in cases:
            [result] = key_json("import", place, "--ca-file", ca.ca_file, code=65)["results"]
            assert text in result["reason"]

    def test_too_slow(self, key_json, https_place, ca, monkeypatch):
        monkeypatch.setattr(keyfetch, "_SECONDS", 0.0000003)
        [result] = key_json("import", https_place(armored(BOB)), "--ca-file", ca.ca_file, code=65)["results"]
        assert "cannot be fetched" in result["reason"]

    def test_nobody_listens_and_bad_ca_file(self, key_json, key, tmp_path):
        [result] = key_json("import", "https://127.0.0.1:1/key", code=65)["results"]
        assert "127.0.0.1:1/key cannot be fetched" in result["reason"]
        assert (
            "--ca-file" in key("import", "https://127.0.0.1:1/", "--ca-file", tmp_path / "no", code=64).stderr
        )


class TestGnupg:
    @pytest.fixture
    def gnupg(self, gnupg_home, home):
        gnupg = gnupg_home()
        with (home / "config.toml").open("a") as config:
            config.write(f'[keystore]\ngnupg_home = "{gnupg.home}"\n')
        return gnupg

    def test_import(self, key_json, key, gnupg):
        fingerprint = gnupg.generate("Alice <alice@example.org>")
        gnupg.take(armored(BOB))
        assert (
            "no own key that matches 'bob'"
            in key("import", "--secret", "--from-gnupg", "bob", code=69).stderr
        )
        [result] = key_json("import", "--from-gnupg", "alice@example.org")["results"]
        assert (result["source"], result["action"], result["secret"]) == ("GnuPG", "added", False)
        [result] = key_json("import", "--secret", "--from-gnupg")["results"]
        assert (result["fingerprint"], result["action"], result["secret"]) == (fingerprint, "updated", True)
        results = key_json("import", "--from-gnupg")["results"]
        assert sorted(one["action"] for one in results) == ["added", "unchanged"]
        assert [one["holder"] for one in key_json("list", "alice")["keys"]] == ["gnupg"]
        assert "held by GnuPG" in key("show", "alice").stdout
        assert (
            "gpg --export-secret-keys"
            in key("export", "alice", "--secret", "--no-passphrase", code=65).stderr
        )
        key("delete", "alice")
        assert gnupg.run("--list-secret-keys", fingerprint).returncode == 0

    def test_no_gpg(self, key, monkeypatch, tmp_path):
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "not installed" in key("import", "--from-gnupg", code=75).stderr


class TestLook:
    def test_empty(self, key, key_json):
        assert "`secmailproxy key import`" in key("list").stdout
        assert key_json("list") == {"keys": []}

    def test_not_found(self, key):
        for words in (
            ["list", "x@y"],
            ["show", "x"],
            ["export", "x"],
            ["delete", "x"],
            ["trust", "x", "known"],
        ):
            assert "No key matches" in key(*words, code=69).stderr

    def test_schema(self, key_json, file):
        key_json("import", file(armored(BOB)))
        [described] = key_json("show", "bob@example.org")["keys"]
        subkey = openpgp.key_fingerprints(BOB.certificate_octets)[1]
        assert described == {
            "fingerprint": BOB.fingerprint,
            "scheme": "openpgp",
            "user_ids": ["Bob <bob@example.org>"],
            "addresses": ["bob@example.org"],
            "created": (NOW - timedelta(days=30)).isoformat().replace("+00:00", "Z"),
            "expires": None,
            "algorithm": "Ed25519",
            "holder": "none",
            "trust": "known",
            "source": "file keys.asc",
            "held_for": [],
            "encrypt": {"usable": True, "reason": None, "detail": "", "keys": [subkey]},
            "verify": {"usable": True, "reason": None, "detail": "", "keys": [BOB.fingerprint]},
        }

    def test_queries(self, key_json, file):
        key_json("import", file(armored(BOB, CAROL)))
        spaced = [BOB.fingerprint[at : at + 4] for at in range(0, 40, 4)]
        for words in (["BOB@example.org"], ["bob"], [BOB.fingerprint], spaced, ["example.org", "Bob"]):
            assert [one["fingerprint"] for one in key_json("list", *words)["keys"]] == [BOB.fingerprint]
        assert len(key_json("list", "example.org")["keys"]) == 2

    def test_terminals_are_not_steered(self, key, gnupg_home, file):
        gnupg = gnupg_home()
        gnupg.generate("Eve \x1b[31mred\u202e <eve@example.org>")
        key("import", file(gnupg.export("eve")))
        for command in (["list"], ["show", "eve"], ["import", file(gnupg.export("eve"))]):
            stdout = key(*command).stdout
            assert "eve@example.org" in stdout
            assert all(char.isprintable() or char == "\n" for char in stdout)


class TestExport:
    def test_certificate(self, key, key_json, file):
        key("import", file(armored(BOB)))
        text = key("export", "bob").stdout
        assert openpgp.parse_keys(text.encode())[0].certificate_octets == BOB.certificate_octets
        document = key_json("export", "bob")
        assert (document["fingerprint"], document["secret"]) == (BOB.fingerprint, False)
        assert document["armored"].replace("\r\n", "\n") == text

    def test_secret(self, key, key_json, file, tmp_path):
        key("import", file(BOB.to_octets()))
        assert "--passphrase-file" in key("export", "bob", "--secret", code=64).stderr
        clear = key("export", "bob", "--secret", "--no-passphrase").stdout
        assert openpgp.unlock(openpgp.parse_keys(clear.encode())[0].secret_octets, None).to_octets() == (
            BOB.to_octets()
        )
        passphrase = tmp_path / "key-passphrase"
        passphrase.write_text(KEY_PASSPHRASE)
        locked = key_json("export", "bob", "--secret", "--passphrase-file", passphrase)["armored"]
        [parsed] = openpgp.parse_keys(locked.encode())
        assert parsed.protected
        assert openpgp.unlock(parsed.secret_octets, KEY_PASSPHRASE).to_octets() == BOB.to_octets()

    def test_no_secret_to_export(self, key, file):
        key("import", file(armored(BOB)))
        assert "no secret key" in key("export", "bob", "--secret", "--no-passphrase", code=65).stderr
        assert "--secret" in key("export", "bob", "--no-passphrase", code=64).stderr


class TestGenerate:
    @pytest.mark.parametrize(("kind", "algorithm"), [("ed25519", "Ed25519"), ("rsa3072", "RSA 3072")])
    def test_generate(self, key_json, kind, algorithm):
        words = ["generate", "Alice@example.org", "--name", "Alice A.", "--kind", kind, "--expires", "2y"]
        made = key_json(*words)["key"]
        assert made["user_ids"] == ["Alice A. <Alice@example.org>"]
        assert (made["algorithm"], made["holder"], made["trust"]) == (algorithm, "own", "verified")
        lifetime = datetime.fromisoformat(made["expires"]) - datetime.fromisoformat(made["created"])
        assert lifetime == timedelta(days=730)
        assert key_json("list")["keys"] == [made]

    def test_a_second_key_is_meant(self, key, key_json):
        first = key_json("generate", "alice@example.org")["key"]
        lifetime = datetime.fromisoformat(first["expires"]) - datetime.fromisoformat(first["created"])
        assert lifetime == LIFETIME
        assert first["fingerprint"] in key("generate", "Alice@example.org", code=64).stderr
        key("generate", "alice@example.org", "--another")
        assert len(key_json("list")["keys"]) == 2

    @pytest.mark.parametrize(
        ("words", "code", "text"),
        [
            (["alice"], 65, "alice"),
            (["a b@example.org"], 65, "a b@example.org"),
            (["alice@example.org", "--name", "Eve <eve@example.org>, Alice"], 65, "user ID"),
            (["alice@example.org", "--expires", "soon"], 64, "--expires soon"),
            (["alice@example.org", "--expires", "0d"], 64, "--expires 0d"),
            (["alice@example.org", "--expires", "999y"], 64, "--expires 999y"),
            (["alice@example.org", "--kind", "dsa"], 64, "dsa"),
        ],
    )
    def test_refused(self, key, key_json, words, code, text):
        assert text in key("generate", *words, code=code).stderr
        assert key_json("list") == {"keys": []}


class TestChange:
    def test_several_matches_are_listed(self, key, key_json, file):
        key("import", file(armored(BOB, CAROL)))
        for words in (
            ["delete", "example.org"],
            ["trust", "example.org", "verified"],
            ["export", "example.org"],
        ):
            stderr = key(*words, code=64).stderr
            assert BOB.fingerprint in stderr
            assert CAROL.fingerprint in stderr
        assert len(key_json("list")["keys"]) == 2

    @pytest.mark.parametrize("query", ["", " "])
    def test_an_empty_query_names_no_key(self, key, key_json, file, query):
        key("import", file(armored(BOB)))
        for words in (["delete", query, "--yes"], ["trust", query, "verified"], ["export", query]):
            assert "query is empty" in key(*words, code=64).stderr
        assert key_json("list")["keys"][0]["trust"] == "known"

    def test_delete(self, key, key_json, file):
        key("import", file(armored(BOB)), file(CAROL.to_octets(), "carol"))
        assert key_json("delete", "bob") == {"deleted": BOB.fingerprint, "secret": False}
        assert "--yes" in key("delete", "carol", code=64).stderr
        assert len(key_json("list")["keys"]) == 1
        assert key("delete", CAROL.fingerprint, "--yes").stdout == f"deleted {CAROL.fingerprint}\n"
        assert key_json("list") == {"keys": []}

    @pytest.mark.parametrize("level", ["unknown", "known", "verified", "rejected"])
    def test_trust(self, key_json, file, level):
        key_json("import", file(armored(BOB)))
        assert key_json("trust", "bob", level) == {"fingerprint": BOB.fingerprint, "trust": level}
        [listed] = key_json("list")["keys"]
        assert listed["trust"] == level
        assert listed["encrypt"]["usable"] is (level != "rejected")

    @pytest.mark.parametrize(
        ("words", "said"), [(["bob"], "'bob' is not one of"), (["verified"], "The query is empty")]
    )
    def test_trust_needs_a_key_and_a_level(self, key, words, said):
        assert said in key("trust", *words, code=64).stderr

    def test_who_rejects_the_only_certificate_is_told_what_becomes_of_mail(self, key, file):
        key("import", file(armored(BOB)))
        said = key("trust", "bob", "rejected").stderr
        assert "No certificate is left for bob@example.org: mail there leaves signed and in clear" in said
        assert key("trust", "bob", "known").stderr == ""

    def test_trust_takes_a_spaced_fingerprint(self, key_json, file):
        key_json("import", file(armored(BOB)))
        spaced = [BOB.fingerprint[at : at + 4] for at in range(0, 40, 4)]
        assert key_json("trust", *spaced, "verified")["trust"] == "verified"


class TestSecrets:
    def test_listing_needs_no_passphrase(self, key, home, file):
        key("import", file(BOB.to_octets()))
        (home / "passphrase").write_text("wrong\n")
        assert BOB.fingerprint in key("list").stdout
        assert (
            "does not open the secrets file"
            in key("export", "bob", "--secret", "--no-passphrase", code=75).stderr
        )

    def test_passphrase_of_the_secrets_by_option(self, key, home, tmp_path):
        (home / "config.toml").write_text('[secrets]\nbackend = "file"\n')
        passphrase = tmp_path / "secrets-passphrase"
        passphrase.write_text(SECRETS)
        assert "passphrase" in key("generate", "alice@example.org", code=64).stderr
        key("generate", "alice@example.org", "--passphrase-file", passphrase)
        key("export", "alice", "--secret", "--no-passphrase", "--secrets-passphrase-file", passphrase)


class OnTerminal:
    """A command at a terminal, typed to when it asks."""

    def __init__(self, *words: str | Path) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "secmailproxy", "key", *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = b""

    def answer(self, prompt: bytes, text: str) -> None:
        """Wait until `prompt` was written, then type."""
        already = len(self.seen)
        while prompt not in self.seen[already:]:
            self.seen += os.read(self.master, 4096)
        os.write(self.master, text.encode() + b"\n")

    def end(self) -> tuple[int, bytes]:
        """The exit status, and everything that was on the terminal."""
        while True:
            try:
                piece = os.read(self.master, 4096)
            except OSError:
                break
            if not piece:
                break
            self.seen += piece
        os.close(self.master)
        return self.process.wait(), self.seen


class TestTerminal:
    def test_passphrase_asked_once_and_not_echoed(self, key_json, file):
        words = openpgp.protect(BOB, KEY_PASSPHRASE) + openpgp.protect(CAROL, KEY_PASSPHRASE)
        terminal = OnTerminal("import", file(words))
        terminal.answer(b"Passphrase of the key: ", KEY_PASSPHRASE)
        code, seen = terminal.end()
        assert code == 0
        assert seen.count(b"Passphrase") == 1
        assert KEY_PASSPHRASE.encode() not in seen
        assert [one["holder"] for one in key_json("list")["keys"]] == ["own", "own"]

    @pytest.mark.parametrize(("answer", "code", "left"), [("n", 130, 1), ("y", 0, 0)])
    def test_delete_asks(self, key, key_json, file, answer, code, left):
        key("import", file(BOB.to_octets()))
        terminal = OnTerminal("delete", "bob")
        terminal.answer(b"Delete the secret key?", answer)
        assert terminal.end()[0] == code
        assert len(key_json("list")["keys"]) == left

    def test_nobody_is_asked_to_protect_what_is_not_here(self, key, file):
        key("import", file(armored(BOB)))
        code, seen = OnTerminal("export", "bob", "--secret").end()
        assert code == 65
        assert b"assphrase" not in seen

    @pytest.mark.parametrize(("second", "code"), [(KEY_PASSPHRASE, 0), ("a slip", 64)])
    def test_export_asks_twice(self, key, file, second, code):
        key("import", file(BOB.to_octets()))
        terminal = OnTerminal("export", "bob", "--secret")
        terminal.answer(b"Passphrase for the exported key: ", KEY_PASSPHRASE)
        terminal.answer(b"Again: ", second)
        status, seen = terminal.end()
        assert status == code
        assert (b"BEGIN PGP PRIVATE KEY" in seen) is (code == 0)


class TestSmime:
    """S/MIME keys and certificates go by the same commands."""

    @pytest.fixture
    def alice(self, mail_authority):
        return mail_authority.person("alice@example.org", "rsa2048")

    def test_a_p12_file(self, key, key_json, file, alice):
        """The life of a key: imported, listed, shown, trusted, exported, deleted."""
        passphrase = file(PASSPHRASE.encode(), "pass")
        results = key_json("import", file(alice.pkcs12(), "alice.p12"), "--passphrase-file", passphrase)[
            "results"
        ]
        assert [(one["action"], one["secret"]) for one in results] == [
            ("added", True),
            *[("added", False)] * 2,
        ]
        [shown] = key_json("list", "alice@example.org")["keys"]
        assert (shown["scheme"], shown["holder"], shown["algorithm"]) == ("smime", "own", "RSA 2048")
        assert shown["encrypt"] == {"usable": True, "reason": None, "detail": "", "keys": [alice.fingerprint]}
        assert "S/MIME own key, trust: verified" in key("list", "alice@example.org").stdout
        assert "S/MIME" in key("show", alice.fingerprint).stdout
        assert "a certificate authority's" in key("list", "authority").stdout
        key("trust", "alice@example.org", "known")
        exported = key(
            "export", "--secret", "alice@example.org", "--passphrase-file", passphrase
        ).stdout_bytes
        found = pkcs12.load_key_and_certificates(exported, PASSPHRASE.encode())
        assert found[1] == alice.certificate
        assert key("export", "alice@example.org").stdout_bytes.startswith(alice.pem)
        document = key_json("export", "--secret", "--no-passphrase", "alice@example.org")
        assert document["armored"] is None
        assert (
            pkcs12.load_key_and_certificates(base64.b64decode(document["pkcs12"]), None)[1]
            == alice.certificate
        )
        key("delete", alice.fingerprint, "--yes")
        key("list", "alice@example.org", code=69)

    def test_a_wrong_passphrase(self, key_json, file, alice):
        words = ["import", file(alice.pkcs12(), "alice.p12"), "--passphrase-file", file(b"wrong", "pass")]
        [result] = key_json(*words, code=65)["results"]
        assert (result["action"], result["fingerprint"]) == ("refused", None)
        assert "passphrase does not open this PKCS #12 file" in result["reason"]

    def test_a_passphrase_that_cannot_be_had_is_not_called_wrong(self, key, file, alice):
        """Nobody is there to ask, or the file that is named is not."""
        found = key("import", file(alice.pkcs12(), "alice.p12"), code=64)
        assert "--passphrase-file" in found.stderr
        found = key("import", file(alice.pkcs12(), "alice.p12"), "--passphrase-file", "no/such", code=64)
        assert "Cannot read no/such" in found.stderr

    def test_the_signature_of_a_message_brings_its_certificates(self, key_json, file, alice):
        """As docs/keys.md says of smime.p7s."""
        results = key_json("import", file(forge.sign(alice, b"hello"), "smime.p7s"))["results"]
        assert results[0]["action"] == "added"
        [shown] = key_json("list", "alice@example.org")["keys"]
        assert (shown["fingerprint"], shown["trust"]) == (alice.fingerprint, "known")

    def test_of_keys_of_both_schemes_one_is_asked_for_by_name(self, key, file, alice):
        passphrase = file(PASSPHRASE.encode(), "pass")
        key("import", file(alice.pkcs12(), "alice.p12"), "--passphrase-file", passphrase)
        key("generate", "alice@example.org")
        told = key("export", "alice@example.org", code=64).stderr
        assert re.search(rf"{alice.fingerprint} S/MIME .*alice@example.org", told)
        assert re.search(r"[0-9A-F]{40} OpenPGP .*alice@example.org", told)
