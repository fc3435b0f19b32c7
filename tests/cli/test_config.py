"""`secmailproxy config path|check|show`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click.testing
import pytest

from secmailproxy.cli import program

GOOD = """
[[accounts]]
address = "alice@example.org"
imap = { host = "imap.example.org" }
smtp = { host = "smtp.example.org" }
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECMAILPROXY_HOME", str(tmp_path))
    return tmp_path / "config.toml"


def run(*words: str) -> click.testing.Result:
    return click.testing.CliRunner().invoke(program, ["config", *words])


def test_path(path: Path) -> None:
    assert run("path").stdout == f"{path}\n"
    assert json.loads(run("path", "--json").stdout) == {
        "version": 1,
        "config": str(path),
        "exists": False,
        "state": str(path.parent / "state"),
        "cache": str(path.parent / "cache"),
    }
    assert not path.exists()


def test_check_of_a_right_file(path: Path) -> None:
    path.write_text(GOOD)
    path.chmod(0o600)
    assert run("check").stdout == f"{path} is right: 1 account, 0 rules.\n"
    assert json.loads(run("check", "--json").stdout) == {"version": 1, "ok": True, "problems": []}


def test_check_of_a_wrong_file(path: Path) -> None:
    path.write_text(f"{GOOD}nmae = 'x'\n[listen]\nimap = 1\n")
    path.chmod(0o600)
    done = run("check")
    assert done.exit_code == 78
    assert done.stdout == ""
    assert f"{path}:6: accounts[0] (alice@example.org).nmae: there is no such option" in done.stderr
    as_json = run("check", "--json")
    assert as_json.exit_code == 78
    answer = json.loads(as_json.stdout)
    assert not answer["ok"]
    assert [(one["key"], one["line"]) for one in answer["problems"]] == [
        ("accounts[0] (alice@example.org).nmae", 6),
        ("listen.imap", 8),
    ]


def test_check_without_a_file(path: Path) -> None:
    assert "run: secmailproxy setup" in run("check").stderr
    answer = json.loads(run("check", "--json").stdout)
    assert answer["problems"][0]["key"] is None


def test_show_prints_what_can_be_read_again(path: Path) -> None:
    path.write_text(GOOD)
    path.chmod(0o600)
    shown = tomllib.loads(run("show").stdout)
    assert shown["accounts"][0]["imap"]["port"] == 993
    as_json = json.loads(run("show", "--json").stdout)
    assert as_json["accounts"][0]["imap"]["ca_file"] is None
    path.write_text(run("show").stdout)
    assert json.loads(run("show", "--json").stdout) == as_json
