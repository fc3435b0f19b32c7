"""`secmailproxy store`: what is asked of the files, and of a server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest

from keystore.database import PASSWORD
from secmailproxy.cli import program
from tests.fixtures import postgresql as fixture
from tests.fixtures.postgresql import Postgresql
from tests.fixtures.processes import service_folder
from tests.fixtures.proxy import ProxyHome, empty_home


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyHome]:
    with service_folder("store") as folder:
        monkeypatch.setenv("SECMAILPROXY_HOME", str(folder))
        yield empty_home(folder)


def called(*words: str | Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(program, ["store", *map(str, words)])


def with_server(home: ProxyHome, url: str, ca_file: Path | None) -> None:
    named = f'\nca_file = "{ca_file}"' if ca_file else ""
    with home.folders.config_file.open("a") as config:
        config.write(f'\n[store]\nurl = "{url}"{named}\n')


def test_files_are_read_through(home):
    path = home.folders.keystore / "keystore.sqlite3"
    assert json.loads(called("check", "--json").stdout) == {"version": 1, "where": str(path), "shared": False}
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xee" * (len(octets) - 4096)
    path.write_bytes(octets)
    result = called("check")
    assert (result.exit_code, str(path) in result.stderr) == (70, True)


def test_a_password_needs_a_server(home):
    result = called("password")
    assert (result.exit_code, "no [store] url" in result.stderr) == (64, True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://db.example.org/mail", "postgresql://"),
        ("postgresql://proxy:hunter2@db.example.org/mail", "store password"),
        ("postgresql://db.example.org/mail?password=hunter2", "store password"),
        ("postgresql://db.example.org/mail?sslmode=require", "sslmode=require"),
    ],
)
def test_a_url_that_is_refused(home, url, said):
    with_server(home, url, None)
    result = called("check")
    assert result.exit_code != 0
    assert said in result.stderr
    assert "hunter2" not in result.output


def test_the_password_of_a_server_is_tried_and_kept(home, postgresql: Postgresql):
    server = postgresql.by_tls()
    with_server(home, server.url, server.ca_file)
    (home.folder / "password").write_text("wrong\n")
    result = called("check")
    assert (result.exit_code, "store password" in result.stderr) == (75, True)
    assert called("password", "--password-file", home.folder / "password").exit_code == 75
    assert home._secrets().path is not None
    (home.folder / "password").write_text(fixture.PASSWORD + "\n")
    result = called("password", "--password-file", home.folder / "password")
    assert (result.exit_code, fixture.PASSWORD in result.output) == (0, False), result.output
    result = called("check", "--json")
    assert json.loads(result.stdout)["shared"] is True
    assert not (home.folders.keystore / "keystore.sqlite3").exists()
    postgresql.forget("secmailproxy_keystore")
    assert PASSWORD == "store-password", "as docs/cli.md names it"
