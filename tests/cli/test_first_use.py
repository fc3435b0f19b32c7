"""Commands about keys and single messages before there is any configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[bytes]]
MESSAGE = b"From: a@example.org\nTo: b@example.org\nSubject: first\n\nhello\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """One command with an empty home, on a machine without a keyring and without a terminal."""
    environment = {**os.environ, "SECMAILPROXY_HOME": str(tmp_path / "home")}
    environment["PYTHON_KEYRING_BACKEND"] = "keyring.backends.fail.Keyring"
    (tmp_path / "passphrase").write_text("secret words\n")

    def call(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        words = tuple(word.replace("FILE", str(tmp_path / "passphrase")) for word in words)
        command = [sys.executable, "-m", "secmailproxy", *words]
        return subprocess.run(command, input=data, env=environment, capture_output=True, check=False)

    return call


def test_a_passphrase_option_chooses_the_encrypted_file(run: Run, tmp_path: Path) -> None:
    refused = run("key", "generate", "a@example.org")
    assert refused.returncode == 69
    assert b"passphrase option" in refused.stderr
    assert run("key", "generate", "a@example.org", "--passphrase-file", "FILE").returncode == 0
    # From now on the file is what serves, and it asks for its passphrase.
    seal = ("message", "seal", "--from", "a@example.org", "--to", "a@example.org")
    assert b"--passphrase-file" in run(*seal, data=MESSAGE).stderr
    sealed = run(*seal, "--passphrase-file", "FILE", data=MESSAGE)
    assert b"multipart/encrypted" in sealed.stdout
    inspected = run("message", "inspect", "--json", "--passphrase-file", "FILE", data=sealed.stdout)
    summary = json.loads(inspected.stdout)
    assert summary["protection"] == "signed+encrypted"
    assert summary["signature"]["verdict"] == "valid"
    assert summary["headers"]["subject"] == "first"
    kept = b"".join(path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file())
    assert b"secret words" not in kept


def test_what_needs_no_secret_needs_no_keyring(run: Run) -> None:
    assert run("key", "list").returncode == 0
    inspected = run("message", "inspect", "--json", data=MESSAGE)
    assert json.loads(inspected.stdout)["protection"] == "none"
