"""What `doctor`, `status` and `config check` say of a machine whose only use of us is system mail."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from secmailproxy.cli import program
from secmailproxy.config import Config
from secmailproxy.folders import HOME_VARIABLE, Folders
from secmailproxy.forward.queue import Queue
from secmailproxy.systemmail import NoSecrets, needs_secrets
from tests.fixtures import x509
from tests.fixtures.processes import free_port
from tests.fixtures.queued import put, sealed
from tests.fixtures.quicksecrets import quick_secrets
from tests.fixtures.x509 import Authority

ADMIN = "admin@example.org"
PIPE = """
[secrets]
backend = "systemd"
[forward]
via = "sendmail"
sendmail = "{sendmail}"
sender = "root@host.example.org"
[[forward.targets]]
address = "admin@example.org"
fingerprint = "{fingerprint}"
"""
TARGET = '[[forward.targets]]\naddress = "admin@example.org"\nfingerprint = "' + "A" * 40 + '"\n'
ACCOUNT = """
[secrets]
backend = "file"
passphrase_file = "passphrase"
[[accounts]]
address = "host@example.org"
imap = { host = "127.0.0.1", port = 1 }
smtp = { host = "127.0.0.1", port = 1 }
"""
SERVED = '[forward]\nvia = "smtp"\nrelay = "127.0.0.1:{port}"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a user without any secrets, as on a server: no keyring, no credentials."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return tmp_path


@pytest.fixture
def fingerprint(home: Path, mail_authority: Authority) -> str:
    """Of a certificate for ADMIN in the keystore."""
    with closing(opened()) as keystore:
        return x509.learn(keystore, mail_authority.person(ADMIN)).fingerprint


def opened() -> Keystore:
    folders = Folders.of_user()
    folders.prepare()
    return Keystore.open(Config.parse(b"", folders).keystore_settings(), NoSecrets(KeystoreError("none")))


def configured(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text)
    (home / "config.toml").chmod(0o600)


def run(*words: str) -> Result:
    return CliRunner().invoke(program, words)


def test_a_pipe_needs_no_secret_and_doctor_says_so(home: Path, fingerprint: str) -> None:
    configured(home, PIPE.format(sendmail="/bin/true", fingerprint=fingerprint))
    done = run("doctor")
    assert done.exit_code == 0, done.output
    assert [line[:4] for line in done.output.splitlines()] == ["ok  "] * 4
    assert f"target <{ADMIN}>, certificate {fingerprint}: can be used" in done.output
    assert f"to {ADMIN}; via sendmail (/bin/true)" in done.output
    told = run("status").output
    assert "problem" not in told
    assert "mail clients" not in told
    assert "0 in the queue" in told
    assert run("config", "check").output.endswith("0 accounts, 0 rules, system mail: 1 target, 0 rules.\n")
    assert run("forward", "report").exit_code == 0


def test_a_certificate_that_is_not_there_and_a_program_that_is_not_there(home: Path) -> None:
    configured(home, PIPE.format(sendmail="/no/sendmail", fingerprint="A" * 40))
    done = run("doctor")
    assert done.exit_code == 1
    assert "secmailproxy key import FILE" in done.output
    assert "there is no program /no/sendmail\n      -> install a mail server" in done.output
    assert f"problem   system mail: target <{ADMIN}>" in run("status").output


def test_a_timer_is_told_which_certificate(home: Path) -> None:
    """FWD-03: in the stable form of the log."""
    configured(home, PIPE.format(sendmail="/bin/true", fingerprint="A" * 40))
    argv = [sys.executable, "-m", "secmailproxy", "queue", "run"]
    told = subprocess.run(argv, capture_output=True, text=True, check=True).stderr
    assert f'event="certificate of system mail" role=target address={ADMIN}' in told


def test_what_waits_in_the_queue_is_told(home: Path, fingerprint: str) -> None:
    configured(home, PIPE.format(sendmail="/bin/true", fingerprint=fingerprint))
    spool = home / "state" / "spool"
    held, tried = put(spool, sealed(1)), put(spool, sealed(2))
    queue = Queue(spool)
    queue.hold(held)
    with queue.taken(tried) as taken:
        taken.save(replace(taken.progress, tries=2, why="451 later"))
    (spool / "damaged.mail").write_bytes(b"x")
    text = "3 in the queue, the oldest since 20"
    for words in (["doctor"], ["status"]):
        told = run(*words).output
        assert text in told
        assert "2 tried in vain; 1 held" in told
        assert "secmailproxy queue list" in told


def test_a_relay_that_does_not_answer_and_a_server_that_does_not_run(home: Path) -> None:
    port = free_port()
    configured(home, SERVED.format(port=port) + '[forward.listen]\nlmtp = "127.0.0.1:10025"\n' + TARGET)
    told = run("status").output
    assert "system mail is taken at no listener: start secmailproxy serve" in told
    assert "mail clients" not in told
    told = run("doctor").output
    assert f"127.0.0.1:{port} cannot be reached" in told
    assert "correct forward.relay" in told


def test_a_configuration_without_a_way_out(home: Path) -> None:
    """`via` is "smarthost" where nothing is said."""
    configured(home, TARGET)
    done = run("doctor")
    assert done.exit_code == 1
    assert 'no account to send through\n      -> set forward.via = "sendmail"' in done.output


def test_an_account_for_system_mail_needs_no_key(home: Path, fingerprint: str) -> None:
    """As docs/system-mail-debian.md sets it up: `secmailproxy setup --no-key`."""
    quick_secrets(home / "state" / "secrets.json", "open")
    (home / "passphrase").write_text("open")
    (home / "passphrase").chmod(0o600)
    configured(home, ACCOUNT)
    done = run("doctor")
    assert done.exit_code == 1
    assert "fail  key, host@example.org: there is no key" in done.output
    assert "problem   host@example.org: no key" in run("status").output
    configured(home, ACCOUNT + TARGET.replace("A" * 40, fingerprint))
    done = run("doctor")
    assert done.exit_code == 0, done.output
    assert "warn  key, host@example.org: there is no key" in done.output
    assert "problem   host@example.org" not in run("status").output


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        (TARGET, False),
        ("sign = true\n" + TARGET, True),
        ('heartbeat = "daily"\n' + TARGET, True),
        ('[forward.listen]\nsmtp = "127.0.0.1:10025"\n' + TARGET, True),
        (TARGET + '[[forward.digests]]\nname = "all"\n[[forward.rules]]\ndo = { collect = "all" }\n', True),
        (TARGET + '[[forward.rules]]\ndo = { forward = true, sign = true }\n', True),
        (TARGET + '[[forward.rules]]\ndo = "drop"\n', False),
        ("", True),
    ],
)  # fmt: skip
def test_when_secrets_are_needed(home: Path, more: str, needed: bool) -> None:
    text = '[forward]\nvia = "sendmail"\n' + more
    assert needs_secrets(Config.parse(text.encode(), Folders.of_user())) is needed


def test_without_a_configuration_system_mail_is_told_too(home: Path) -> None:
    """The first thing that an administrator types, often as the wrong user."""
    for command in ("doctor", "status"):
        done = run(command)
        assert "run this as the user whose pipe or service it is" in done.output
    done = CliRunner().invoke(program, ["forward", "--to", ADMIN], input=b"Subject: x\n\ny\n")
    assert done.exit_code == 75
    assert done.stderr.startswith(f"4.3.0 there is no configuration at {home / 'config.toml'}; write it, or")
    assert run("queue", "list").output == f"The queue is empty ({home / 'state' / 'spool'}).\n"
