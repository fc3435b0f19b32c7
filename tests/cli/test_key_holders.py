"""`secmailproxy key holders`, and `key import --token`: a real agent, and SoftHSM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.gnupg import GnuPG, gnupg_home
from tests.fixtures.keycommand import home, key, key_json
from tests.fixtures.token import LABEL, MODULE, PIN, SoftToken, soft_token
from tests.fixtures.x509 import root

__all__ = ["gnupg_home", "home", "key", "key_json"]

ALICE, BOB = "alice@example.org", "bob@example.org"


@pytest.fixture(scope="module")
def token() -> Iterator[SoftToken]:
    with soft_token(root("Token Root").authority("Token Mail").person(ALICE, "p256", 71)) as made:
        yield made


@pytest.fixture
def gnupg(gnupg_home) -> GnuPG:
    made: GnuPG = gnupg_home()
    made.generate(BOB)
    return made


@pytest.fixture
def configured(home: Path, token: SoftToken, gnupg: GnuPG) -> Path:
    """A home that names both."""
    with (home / "config.toml").open("a") as config:
        config.write(f'[pkcs11]\nmodule = "{MODULE}"\ntoken = "{LABEL}"\n')
        config.write(f'[keystore]\ngnupg_home = "{gnupg.home}"\n')
    return home


def test_each_holder_and_its_keys(
    configured: Path, key, key_json, tmp_path: Path, gnupg: GnuPG, token: SoftToken
) -> None:
    assert [one["keys"] for one in key_json("holders")["holders"]] == [[], [], []]
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o600)
    assert "PIN" in key("import", "--token", code=75).stderr
    [taken] = key_json("import", "--token", "--pin-file", pin)["results"]
    assert (taken["action"], taken["secret"], taken["addresses"]) == ("added", True, [ALICE])
    key("import", "--from-gnupg", BOB, "--secret")
    key("generate", "carol@example.org")
    found = {one["holder"]: one for one in key_json("holders")["holders"]}
    assert {name: one["answers"] for name, one in found.items()} == dict.fromkeys(
        ("own", "gnupg", "pkcs11"), True
    )
    assert [one["addresses"] for one in found["pkcs11"]["keys"]] == [[ALICE]]
    assert [one["addresses"] for one in found["gnupg"]["keys"]] == [[BOB]]
    assert "held by a token" in key("show", ALICE).stdout
    assert PIN not in key("holders").output
    gnupg.end()
    for stored in (gnupg.home / "private-keys-v1.d").iterdir():
        stored.unlink()
    with token.taken_out():
        said = key("holders", code=75).stdout
    assert "GnuPG's agent: does not answer: it has not the key" in said
    assert "the token: does not answer: the token 'mail' is not there" in said
    assert "this keystore: answers" in said


def test_nothing_is_configured(key) -> None:
    assert "[pkcs11]" in key("import", "--token", code=65).stderr
    assert "Nothing to import" in key("import", code=64).stderr
