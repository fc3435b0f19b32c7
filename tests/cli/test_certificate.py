"""`secmailproxy certificate create|renew|show|export`."""

from __future__ import annotations

import json
import ssl
from pathlib import Path

import click.testing
import pytest

from secmailproxy.cli import program
from tests.fixtures.quicksecrets import quick_secrets


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With an encrypted secrets file."""
    monkeypatch.setenv("SECMAILPROXY_HOME", str(tmp_path))
    (tmp_path / "passphrase").write_text("open\n")
    (tmp_path / "passphrase").chmod(0o600)
    config = tmp_path / "config.toml"
    config.write_text('[secrets]\nbackend = "file"\npassphrase_file = "passphrase"\n')
    config.chmod(0o600)
    quick_secrets(tmp_path / "state" / "secrets.json", "open")
    return tmp_path


def run(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(program, ["certificate", *words])


def test_from_none_to_a_new_one(home: Path) -> None:
    """Made once, replaced only by its own command; what is shown is what is exported."""
    for words in (["show"], ["export"]):
        missing = run(*words)
        assert missing.exit_code == 78
        assert "run: secmailproxy certificate create" in missing.stderr
    made = run("create")
    assert made.exit_code == 0, made.output
    first = json.loads(run("show", "--json").stdout)
    assert first["names"] == ["localhost", "127.0.0.1", "::1"]
    assert first["fingerprint"] in made.stdout
    again = run("create")
    assert again.exit_code == 64
    assert "secmailproxy certificate renew" in again.stderr
    renewed = json.loads(run("renew", "--json").stdout)
    assert renewed["fingerprint"] != first["fingerprint"]
    assert json.loads(run("show", "--json").stdout) == renewed
    assert renewed["fingerprint"] in run("show").stdout


def test_export_has_no_key(home: Path) -> None:
    run("create")
    pem = run("export").stdout
    assert pem.startswith("-----BEGIN CERTIFICATE-----\n")
    assert "PRIVATE" not in pem
    der = run("export", "--format", "der").stdout_bytes
    assert ssl.PEM_cert_to_DER_cert(pem) == der
    file = home / "exported.pem"
    assert run("export", "--output", str(file)).exit_code == 0
    assert file.read_text() == pem
