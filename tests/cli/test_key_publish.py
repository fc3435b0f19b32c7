"""`secmailproxy key publish`, as people call it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing

from keystore import openpgp
from keystore.discovery.directory import hashed
from secmailproxy.cli import program
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.hagrid import Hagrid
from tests.fixtures.web import Web

JOE = "joe@example.org"


def run(*words: str, code: int = 0) -> str:
    result = click.testing.CliRunner().invoke(program, list(words))
    assert result.exit_code == code, (result.stdout, result.stderr)
    return result.output


def through(home: Path, web: Web, proxy: str) -> None:
    with (home / "config.toml").open("a") as config:
        config.write(f'[discovery]\nproxy = "{proxy}"\nca_file = "{web.ca_file}"\n')


def run_json(*words: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(run(*words, "--json"))
    return values


def test_the_ways_are_told_and_nothing_is_done(home: Path, tmp_path: Path, web: Web) -> None:
    """The Autocrypt field is that of the messages, ready to be copied."""
    assert "key generate" in run("key", "publish", JOE, code=69)
    run("key", "generate", JOE)
    before = set(tmp_path.rglob("*"))
    told = run("key", "publish", JOE)
    for word in ("--wkd", "--vks", "key export", "attach_key"):
        assert word in told
    field = run_json("key", "publish", JOE)["autocrypt"]
    assert field.rstrip("\n") in told
    assert re.match(r"Autocrypt: addr=joe@example\.org; keydata=\n [A-Za-z0-9+/]", field)
    assert {one for one in set(tmp_path.rglob("*")) - before if "state" not in one.parts} == set()
    assert not web.asked


def test_a_web_key_directory(home: Path, tmp_path: Path) -> None:
    """Other addresses of the key are not told to who asks for this one."""
    run("key", "generate", JOE)
    run("key", "identity", "add", JOE, "other@example.net")
    told = run("key", "publish", JOE, "--wkd", str(tmp_path / "www"))
    assert "https://openpgpkey.example.org/" in told
    (file,) = (tmp_path / "www").glob(f"example.org/.well-known/openpgpkey/hu/{hashed('joe')}")
    assert openpgp.certificate(file.read_bytes()).addresses == (JOE,)
    values = run_json("key", "publish", JOE, "--wkd", str(tmp_path / "www"))
    assert len(values["wkd"]) == 4
    assert run("key", "publish", JOE, "--wkd", f"{home}/config.toml/www", code=64)


def test_a_domain_that_is_not_ascii(home: Path, tmp_path: Path) -> None:
    """RFC 5891: a web server has its ASCII form."""
    run("key", "generate", "joe@bücher.example")
    told = run("key", "publish", "joe@bücher.example", "--wkd", str(tmp_path / "www"))
    assert "https://openpgpkey.xn--bcher-kva.example/" in told
    assert [one.name for one in (tmp_path / "www").iterdir()] == ["xn--bcher-kva.example"]


def test_a_revoked_key_goes_along(home: Path, tmp_path: Path, gnupg_home: Callable[..., GnuPG]) -> None:
    """Who has the old one learns of it; gpg takes both from the one file."""
    run("key", "generate", JOE)
    (old,) = run_json("key", "publish", JOE)["fingerprints"]
    run("key", "revoke", old, "--yes")
    assert run_json("key", "publish", JOE)["fingerprints"] == [old]
    run("key", "generate", JOE)
    values = run_json("key", "publish", JOE, "--wkd", str(tmp_path / "www"))
    new, last = values["fingerprints"]
    assert last == old != new
    file = tmp_path / "www" / values["wkd"][0]
    kept = [openpgp.certificate(one.certificate_octets) for one in openpgp.parse_keys(file.read_bytes())]
    assert [one.fingerprint for one in kept] == [new, old]
    gnupg = gnupg_home()
    gnupg.take(file.read_bytes())
    listed = gnupg.run("--with-colons", "--list-keys").stdout.decode().splitlines()
    validity = {line.split(":")[4]: line.split(":")[1] for line in listed if line.startswith("pub")}
    assert validity[old[-16:]] == "r"
    assert validity[new[-16:]] != "r"


def test_an_upload(home: Path, web: Web) -> None:
    """Through the proxy, with the mail that confirms the address."""
    hagrid = Hagrid("keys.example.net")
    hagrid.open_on(web)
    run("key", "generate", JOE)
    through(home, web, web.socks)
    words = ["key", "publish", JOE, "--vks", "--server", "keys.example.net"]
    assert "open the link" in run(*words)
    assert hagrid.mails == [JOE]
    assert set(web.connected) == {"keys.example.net:443"}
    hagrid.status[JOE] = "published"
    with (home / "config.toml").open("a") as config:
        config.write('vks = "keys.example.net"\n')
    assert run_json("key", "publish", JOE, "--vks")["vks"] == {
        "server": "https://keys.example.net",
        "status": "published",
        "mail_requested": False,
    }


def test_what_fails_is_said(home: Path, web: Web) -> None:
    run("key", "generate", JOE)
    through(home, web, web.proxy)
    words = ["key", "publish", JOE]
    assert "goes with --vks" in run(*words, "--server", "keys.example.net", code=64)
    failed = run(*words, "--vks", "--server", "keys.example.net", code=75)
    assert "Not uploaded: keys.example.net cannot be reached through the proxy" in failed
    assert "--server hkp://x" in run(*words, "--vks", "--server", "hkp://x", code=64)
