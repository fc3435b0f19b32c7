"""`secmailproxy passphrase`: nothing is lost by a change, whenever it is cut short."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest

from keystore.errors import StoreLocked
from keystore.secrets import SecretsSettings, open_secrets
from secmailproxy.cli import program
from tests.fixtures.killing import killer
from tests.fixtures.processes import service_folder
from tests.fixtures.proxy import SECRETS_PASSPHRASE, ProxyHome, empty_home

NEW = "another passphrase, ümlaut and all"
VALUES = {"password:alice@example.org": "Sw0rdfish", "keystore-key": "x" * 44}


@pytest.fixture
def home() -> Iterator[ProxyHome]:
    """A home with two secrets, and a file `new` with the new passphrase."""
    with service_folder("passphrase") as folder:
        home = empty_home(folder)
        for name, value in VALUES.items():
            home.set_secret(name, value)
        (folder / "new").write_text(NEW + "\n")
        (folder / "new").chmod(0o600)
        yield home


def kept(home: ProxyHome, passphrase: str) -> dict[str, str | None]:
    """The secrets that this passphrase opens."""
    secrets = open_secrets(SecretsSettings("file", home.folders.secrets_file, lambda: passphrase))
    return {name: secrets.get(name) for name in VALUES}


def called(monkeypatch: pytest.MonkeyPatch, home: ProxyHome, *words: str | Path) -> click.testing.Result:
    monkeypatch.setenv("SECMAILPROXY_HOME", str(home.folder))
    result = click.testing.CliRunner().invoke(program, ["passphrase", *map(str, words)])
    assert NEW not in result.output
    assert SECRETS_PASSPHRASE not in result.output
    return result


def test_a_file_that_others_can_read_is_closed_by_the_remark(
    home: ProxyHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the place of the old one it would be refused."""
    new = home.folder / "new"
    new.chmod(0o644)
    done = called(monkeypatch, home, "--new-passphrase-file", new)
    assert f"now run: chmod 600 {new} && mv {new} {home.folder / 'passphrase'}" in done.output


def test_a_change(home: ProxyHome, monkeypatch: pytest.MonkeyPatch) -> None:
    running = open_secrets(SecretsSettings("file", home.folders.secrets_file, lambda: SECRETS_PASSPHRASE))
    unattended = home._secrets()
    assert running.get("keystore-key") == open_secrets(unattended).get("keystore-key")

    done = called(monkeypatch, home, "--new-passphrase-file", home.folder / "new")

    assert done.exit_code == 0, done.output
    assert f"now run: mv {home.folder / 'new'} {home.folder / 'passphrase'}" in done.output
    assert kept(home, NEW) == VALUES
    with pytest.raises(StoreLocked, match="does not open the secrets file"):
        kept(home, SECRETS_PASSPHRASE)
    with pytest.raises(StoreLocked, match="if the passphrase was changed while this ran, start it again"):
        running.get("keystore-key")

    opened = open_secrets(unattended)
    with pytest.raises(StoreLocked):
        opened.get("keystore-key")
    (home.folder / "new").rename(home.folder / "passphrase")
    assert opened.get("keystore-key") == VALUES["keystore-key"], "who reads the file goes on by itself"


def test_the_new_passphrase_is_for_good_parameters(home: ProxyHome, monkeypatch: pytest.MonkeyPatch) -> None:
    called(monkeypatch, home, "--new-passphrase-file", home.folder / "new")
    assert '"memory_kib": 65536' in home.folders.secrets_file.read_text()


def test_killed_at_every_step(home: ProxyHome) -> None:
    old = home.folders.secrets_file.read_bytes()
    seen = []
    with killer(home) as helper:
        step, status = 0, -9
        while status < 0:
            step += 1
            home.folders.secrets_file.write_bytes(old)
            status = helper.run("passphrase", "--new-passphrase-file", str(home.folder / "new"), step=step)
            changed = home.folders.secrets_file.read_bytes() != old
            if not changed or True not in seen:
                assert kept(home, NEW if changed else SECRETS_PASSPHRASE) == VALUES
            seen.append(changed)
    assert status == 0
    assert seen[0] is False
    assert seen.count(False) >= 3
    assert seen[-1] is True


@pytest.mark.parametrize(
    ("configured", "words", "said"),
    [
        ('backend = "keyring"', ("--new-passphrase-file", "{home}/new"), "There is no passphrase to change"),
        ('backend = "file"\npassphrase_file = "passphrase"', (), "write the new one to another file"),
        (
            'backend = "file"\npassphrase_file = "passphrase"',
            ("--new-passphrase-file", "{home}/passphrase"),
            "is the file with the old passphrase",
        ),
        (
            'backend = "file"\npassphrase_file = "passphrase"',
            ("--new-passphrase-file", "{home}/config.toml.none"),
            "Cannot read",
        ),
        (
            'backend = "file"',
            ("--passphrase-file", "{home}/new", "--new-passphrase-file", "{home}/passphrase"),
            "does not open the secrets file",
        ),
    ],
)
def test_refused(
    home: ProxyHome, monkeypatch: pytest.MonkeyPatch, configured: str, words: tuple[str, ...], said: str
) -> None:
    before = home.folders.secrets_file.read_bytes()
    home.folders.config_file.write_text(f"[secrets]\n{configured}\n")
    done = called(monkeypatch, home, *(word.format(home=home.folder) for word in words))
    assert done.exit_code != 0
    assert said in done.output
    assert home.folders.secrets_file.read_bytes() == before
