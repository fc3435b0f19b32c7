"""`secmailproxy config path|check|show|autoconfig`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import click.testing
import pytest
from defusedxml.ElementTree import fromstring

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


def test_autoconfig_names_every_domain_and_the_listeners(path: Path) -> None:
    second = GOOD.replace("alice@example.org", "alice@bücher.example")
    third = GOOD.replace("alice@", "bob@")
    path.write_text(f'[listen]\nimap = "[::1]:2143"\n{GOOD}{second}{third}')
    path.chmod(0o600)
    root = fromstring(run("autoconfig").stdout)
    assert root.get("version") == "1.1"
    assert [one.text for one in root.iterfind(".//domain")] == ["example.org", "xn--bcher-kva.example"]
    for tag, kind, host, port in (
        ("incomingServer", "imap", "::1", "2143"),
        ("outgoingServer", "smtp", "127.0.0.1", "1025"),
    ):
        (server,) = root.iterfind(f"./emailProvider/{tag}")
        assert server.get("type") == kind
        assert {one.tag: one.text for one in server} == {
            "hostname": host,
            "port": port,
            "socketType": "plain",
            "username": "%EMAILADDRESS%",
            "authentication": "password-cleartext",
        }


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (f'[listen]\nsubmission = "127.0.0.1:0"\n{GOOD}', "listen.submission is 127.0.0.1:0"),
        ("", "run: secmailproxy setup"),
    ],
)
def test_autoconfig_needs_an_account_and_ports_that_stay(path: Path, config: str, problem: str) -> None:
    path.write_text(config)
    path.chmod(0o600)
    done = run("autoconfig")
    assert done.exit_code == 64
    assert problem in done.stderr
    assert done.stdout == ""
