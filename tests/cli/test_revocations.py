"""`secmailproxy key revocations` and what `doctor` says of roots, as people call them."""

from __future__ import annotations

import json
from pathlib import Path

import click.testing
import pytest

from secmailproxy.cli import program
from tests.fixtures.crls import ListServer, list_server, points_to, revocation_list
from tests.fixtures.x509 import Issued, addresses, key_usage, name, private_key, root

__all__ = ["list_server"]

ROOT = root("Command Root", number=295)


@pytest.fixture
def home(home: Path) -> Path:
    """A configuration that believes one root."""
    (home / "company.pem").write_bytes(ROOT.pem)
    with (home / "config.toml").open("a") as config:
        config.write('[smime]\nroots = ["company.pem"]\nplatform_roots = false\n')
    return home


def run(*words: str, code: int = 0) -> str:
    result = click.testing.CliRunner().invoke(program, list(words))
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.output


def person(address: str) -> Issued:
    usage = key_usage("digital_signature", "key_agreement")
    return ROOT.issue(
        name("Bob"), private_key("p256", 296), usage, addresses("bob@example.org"), points_to(address)
    )


def test_lists_are_fetched_and_shown(home: Path, list_server: ListServer) -> None:
    bob = person(list_server.address("/a.crl"))
    (home / "bob.pem").write_bytes(bob.pem)
    assert "--fetch asks the authorities" in run("key", "revocations")
    assert "no certificate here" in run("key", "revocations", "--fetch"), "it is not asked for again"
    run("key", "import", str(home / "bob.pem"))
    missing = run("key", "revocations", "--fetch", code=75)
    assert "no list; not fetched on" in missing
    assert "answered 404" in missing
    list_server.content["/a.crl"] = revocation_list(ROOT, bob)
    assert "counts until" in run("key", "revocations", "--fetch")
    (found,) = json.loads(run("key", "revocations", "--json"))["lists"]
    assert (found["address"], found["failure"]) == (list_server.address("/a.crl"), "")
    assert found["octets"] == len(list_server.content["/a.crl"])
    assert "revoked" in run("key", "show", "bob@example.org")
    assert list_server.asked == ["/a.crl", "/a.crl"], "showing asks nobody"


def test_doctor_counts_the_roots(home: Path) -> None:
    assert "S/MIME roots: 1 believed, 0 of them of this machine" in run("doctor")
    (home / "company.pem").write_bytes(b"nonsense")
    found = run("doctor", code=1)
    assert "smime.roots" in found
    assert f"{home}/company.pem" in found
    (home / "config.toml").write_text(
        (home / "config.toml").read_text().replace('roots = ["company.pem"]', "roots = []")
    )
    assert "no authority is believed" in run("doctor")
