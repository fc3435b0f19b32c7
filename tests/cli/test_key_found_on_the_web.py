"""What one person publishes, another finds: `key publish`, a web server, and `key find`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from tests.fixtures.proxy import ProxyHome, empty_home
from tests.fixtures.web import Web, reply

JOE = "joe@example.org"
SERVER = "https://keys.example.net"
Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def call(home: ProxyHome, *words: str, code: int = 0) -> Any:
        monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
        result = click.testing.CliRunner().invoke(program, ["key", *words, "--json"])
        assert result.exit_code == code, (result.stdout, result.stderr)
        return json.loads(result.stdout) if result.stdout else None

    return call


def published(run: Run, folder: Path) -> tuple[str, bytes]:
    """The fingerprint, and the octets of the one file."""
    joe = empty_home(folder / "joe")
    with joe.keystore() as keystore:
        keystore.generate(JOE)
    told = run(joe, "publish", JOE, "--wkd", str(folder / "www"))
    return told["fingerprints"][0], (folder / "www" / told["wkd"][0]).read_bytes()


def searcher(web: Web, folder: Path, source: str) -> ProxyHome:
    home = empty_home(folder / "ann")
    lines = ["[discovery]", source, f'proxy = "{web.socks}"', f'ca_file = "{web.ca_file}"']
    home.add_config("\n".join([*lines, 'allow_domains = ["example.org"]', ""]))
    return home


@pytest.mark.parametrize(
    ("source", "trust"),
    [("wkd = true", "known"), (f'vks = "{SERVER}"', "known"), (f'hkps = "{SERVER}"', "unknown")],
)
def test_what_is_published_is_found(web: Web, run: Run, tmp_path: Path, source: str, trust: str) -> None:
    """Through Tor's kind of proxy alone; HKPS vouches for nothing."""
    fingerprint, octets = published(run, tmp_path)
    for file in (tmp_path / "www" / "example.org").rglob("hu/*"):
        path = file.relative_to(tmp_path / "www" / "example.org")
        web.serve(f"https://openpgpkey.example.org/{path}", reply(file.read_bytes()))
    web.serve(f"{SERVER}/vks/v1/by-email/joe%40example.org", reply(octets))
    web.serve(f"{SERVER}/pks/lookup", reply(octets))
    home = searcher(web, tmp_path, source)
    run(home, "find", JOE)
    with home.keystore() as keystore:
        (found,) = keystore.certificates(JOE)
    assert (found.fingerprint, found.trust.value) == (fingerprint, trust)
    assert len(web.asked) == len(web.connected) == 1


def test_a_secret_key_on_the_web_is_not_taken(web: Web, run: Run, tmp_path: Path) -> None:
    joe = empty_home(tmp_path / "joe")
    with joe.keystore() as keystore:
        secret = keystore.export(keystore.generate(JOE).fingerprint, secret=True)
    web.serve(f"{SERVER}/vks/v1/by-email/joe%40example.org", reply(secret))
    home = searcher(web, tmp_path, f'vks = "{SERVER}"')
    run(home, "find", JOE, code=69)
    with home.keystore() as keystore:
        assert not keystore.certificates()
