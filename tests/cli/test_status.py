"""`secmailproxy status`, while a proxy runs and while none does."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click.testing
import pytest

from secmailproxy.cli import program
from secmailproxy.policy import Protect
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, letter, protect_all, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import proxied
from tests.fixtures.x509 import Authority, own


def status(home: Path, *words: str) -> tuple[int, str]:
    """The exit status and what is said; nothing on stderr."""
    environment = {"SECMAILPROXY_HOME": str(home)}
    done = click.testing.CliRunner(env=environment).invoke(program, ["status", *words])
    assert not done.stderr
    return done.exit_code, done.stdout


@pytest.fixture
def user(dovecot: Dovecot, proxies: ProxyFactory) -> ProxyUser:
    return proxy_user(proxies, dovecot.mailbox("status"))


def test_a_key_of_either_scheme_that_expires_is_a_problem(user: ProxyUser, mail_authority: Authority) -> None:
    soon = datetime.now(UTC) + timedelta(days=20)
    with user.home.keystore() as keystore:
        own(keystore, mail_authority.person(user.address, until=soon))
    _, text = status(user.home.folder)
    assert f"usable, never expires; S/MIME usable until {soon:%Y-%m-%d}" in text
    assert f"problem   {user.address}: the S/MIME key expires {soon:%Y-%m-%d}" in text


def test_a_damaged_file_is_a_problem(user: ProxyUser) -> None:
    path = user.home.folders.views
    path.write_bytes(b"no database" * 100)
    code, text = status(user.home.folder)
    assert code == 3
    assert f"problem   {path} is damaged or not a file of presented messages" in text
    assert user.address in text


def test_it_tells_of_accounts_verdicts_and_what_waits(user: ProxyUser) -> None:
    home = user.home.folder
    code, text = status(home)
    assert code == 3
    assert "does not run" in text
    clear = letter(user.address, user.address)
    for octets in protect_all(user, [(clear, Protect.REQUIRE), (clear, Protect.SIGN)]):
        user.mailbox.append(octets)
    user.mailbox.append(octets.replace(b"treasure", b"measures"))
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.ok(b"UID FETCH 1:* (BODY.PEEK[])")
        code, text = status(home, "--json")
        told = json.loads(text)
        assert code == 0
        assert told["process"]
        since = datetime.now(UTC) - datetime.fromisoformat(told["since"])
        assert 0 <= since.total_seconds() < 300
        assert told["keystore"] == "open"
        assert told["problems"] == []
        (account,) = told["accounts"]
        assert account["address"] == user.address
        assert account["opened"] == 3
        verdicts = {"Signed": 2, "Verified": 2, "Encrypted": 1, "Bad": 1}
        assert account["verdicts"] == {f"$Secmail{name}": count for name, count in verdicts.items()}
        code, text = status(home)
        assert code == 0
        assert "3 protected message(s) opened: 2 signed, 2 verified, 1 encrypted, 1 bad" in text
        assert "problem" not in text
        name = re.search(r"^verdicts  (\S+)$", text, re.M)
        (presented, *_) = user.proxy.messages(user.mailbox)
        assert name is not None
        assert presented.startswith(name[1].encode() + b": ")
    user.proxy.stop()

    folder = user.home.folders.state / "errands"
    folder.mkdir(exist_ok=True)
    (folder / "begun.journal").write_text("{}\n")
    (folder / "ended.journal").write_text("")
    code, text = status(home, "--json")
    told = json.loads(text)
    assert (code, told["process"], told["errands"]) == (3, None, 1)
    assert told["accounts"][0]["opened"] == 3, "also while nobody serves"
    assert len(told["problems"]) == 2

    (home / "passphrase").write_text("another one")
    code, text = status(home)
    assert code == 3
    assert re.search(
        r"^problem   the keystore is locked: \S+/passphrase does not hold its passphrase", text, re.M
    )
    assert "keyring" not in text
    assert "protected message" not in text

    config = user.home.folders.config_file
    config.write_text(config.read_text().replace('passphrase_file = "passphrase"', ""))
    code, text = status(home)
    assert "keystore  locked" in text
    assert "problem   the keystore" not in text, "it asks for no passphrase, so that is nothing wrong"

    config.write_text(config.read_text().replace('backend = "file"', 'backend = "systemd"'))
    code, text = status(home)
    assert "keystore  cannot be used" in text or "keystore  locked" in text
    assert "problem   the keystore" in text
