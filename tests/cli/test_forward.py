"""`secmailproxy forward` as mail programs run it: 0 or 75, one line, nothing of the message anywhere."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from keystore.model import Fingerprint
from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.mime.assemble import openpgp_ciphertext
from secmailproxy.mime.entity import parse
from tests.fixtures.proxy import ProxyHome, empty_home

ADMIN = "admin@example.org"
CRON = (
    b"From root@host Thu Jan  1 00:00:00 2026\nReturn-Path: <root@host>\nX-Original-To: root\n"
    b"From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@host> backup -p treasure\n\nwindmill \n"
)
SECRETS = (b"treasure", b"windmill", b"Cron")


@pytest.fixture
def home(tmp_path: Path) -> ProxyHome:
    """A home without a configuration for `forward`; its sendmail keeps what it gets."""
    made = empty_home(tmp_path / "home")
    sendmail = made.folder / "sendmail"
    sendmail.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {made.folder}/words; cat > {made.folder}/sent\n')
    sendmail.chmod(0o755)
    return made


@pytest.fixture
def fingerprint(home: ProxyHome) -> Fingerprint:
    """The administrator's certificate; its secret half is in the same keystore, to look inside."""
    with home.keystore() as keystore:
        return keystore.generate(ADMIN).fingerprint


def words(home: ProxyHome, *more: str) -> list[str]:
    """The arguments for handing over to the stand-in for sendmail."""
    return ["forward", "--via", "sendmail", "--sendmail", str(home.folder / "sendmail"), *more]


def run(home: ProxyHome, arguments: list[str], data: bytes = CRON) -> subprocess.CompletedProcess[bytes]:
    """One real process; whatever happens, it prints nothing of the message and nothing on stdout."""
    done = home.run(*arguments, data=data, check=False)
    assert done.stdout == b""
    assert not [word for word in SECRETS if word in done.stderr]
    return done


def test_fwd_01_accepted_is_0_and_the_whole_message_is_inside(
    home: ProxyHome, fingerprint: Fingerprint
) -> None:
    done = run(home, words(home, "--to", ADMIN, "--from", "bounce@host.example"))
    assert (done.returncode, done.stderr) == (0, b"")
    sent = (home.folder / "sent").read_bytes()
    assert not [word for word in SECRETS if word in sent]
    arguments = (home.folder / "words").read_text().splitlines()
    assert arguments == ["-i", "-f", "bounce@host.example", "--", ADMIN]
    assert inside(home, sent) == CRON.partition(b"\n")[2].replace(b"\n", b"\r\n")
    assert b"\nSubject: Encrypted system mail\n" in sent
    again = run(home, words(home, "--to", ADMIN), data=sent)
    assert again.returncode == 75
    assert again.stderr == b"4.3.0 the message was forwarded by this host before (mail loop)\n"


def inside(home: ProxyHome, sent: bytes) -> bytes:
    """The original message in a forwarded one."""
    from datetime import UTC, datetime

    ciphertext = openpgp_ciphertext(parse(sent))
    assert ciphertext is not None
    with home.keystore() as keystore:
        return parse(keystore.decrypt(ciphertext, datetime.now(UTC)).octets).body


def test_the_configuration_pins_and_routes(home: ProxyHome, fingerprint: Fingerprint) -> None:
    home.add_config(
        f'[forward]\nvia = "sendmail"\nsendmail = "{home.folder}/sendmail"\nsender = "bounce@host.example"\n'
        f'[[forward.targets]]\naddress = "{ADMIN}"\nfingerprint = "{fingerprint}"\n'
    )
    bounce = CRON.replace(b"<root@host>\nX-Orig", b"<>\nX-Orig")
    assert run(home, ["forward"], data=bounce).returncode == 0
    assert (home.folder / "words").read_text().splitlines()[2] == "<>"
    sent = (home.folder / "sent").read_bytes()
    assert b"From: bounce@host.example\n" in sent


def test_a_closed_stdout_and_stderr_change_nothing(home: ProxyHome, fingerprint: Fingerprint) -> None:
    line = " ".join(home.command(*words(home, "--to", ADMIN)))
    for to, status in ((ADMIN, 0), ("nobody@example.org", 75)):
        done = subprocess.run(
            ["sh", "-c", f"{line.replace(ADMIN, to)} >&- 2>&-"], input=CRON, env=home.environment, check=False
        )
        assert done.returncode == status


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("click", "raise ImportError('half of an upgrade')"),
        ("click", "def half("),
        ("click", "raise MemoryError"),
    ],
)
def test_a_program_that_cannot_even_be_read_keeps_the_message_where_it_is(
    module: str, text: str, home: ProxyHome, tmp_path: Path
) -> None:
    """Any other status has Postfix return the message, and quote it in clear."""
    (tmp_path / f"{module}.py").write_text(text)
    done = subprocess.run(
        home.command(*words(home, "--to", ADMIN)),
        input=CRON,
        env={**home.environment, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (75, b"")
    assert done.stderr.startswith(b"4.3.0 ")
    assert done.stderr.count(b"\n") == 1


def test_a_message_beyond_the_memory_is_75(home: ProxyHome) -> None:
    door = home.folder / "state" / "forward.sock"
    door.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(door))
    line = " ".join(home.command(*words(home, "--to", ADMIN)))
    done = subprocess.run(
        ["sh", "-c", f"ulimit -v 100000; head -c 60000000 /dev/zero | {line}"],
        env=home.environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 75
    assert done.stderr.startswith(b"4.3.0 ")


FAILURES = [
    (
        ["--to", "nobody@example.org"],
        CRON,
        "4.7.5 no encryption key for <nobody@example.org> (none is known)",
    ),
    (["--to", ADMIN, "--fingerprint", "A" * 40], CRON, "4.7.5 no encryption key for <admin@example.org>"),
    (["--to", ADMIN, "--fingerprint", "1234"], CRON, "4.3.0 --fingerprint needs all digits"),
    (["--to", "-oQ/tmp"], CRON, "4.3.0 --to needs an address"),
    (["--to", "treasure\nBcc: x@y"], CRON, "4.3.0 --to needs an address"),
    (["--to", ADMIN, "--from", "a b@c"], CRON, "4.3.0 --from needs an address"),
    (["--to", ADMIN, "treasure"], CRON, "4.3.0 wrong options"),
    (["--to", ADMIN, "--treasure"], CRON, "4.3.0 wrong options"),
    (["--to"], CRON, "4.3.0 wrong options"),
    (["--to", ADMIN, "--via", "pigeon"], CRON, "4.3.0 --via is missing or wrong"),
    ([], CRON, "4.3.0 the recipient is not known: use --to"),
    (["--to", ADMIN], b"", "4.3.0 there is no message on standard input"),
    (["--to", ADMIN], b"Delivered-To: admin@example.org\n\nx", "4.3.0 the message was delivered to"),
    (["--to", ADMIN], b"Received: y\n" * 1001 + b"\nx", "4.3.0 the message has more than 50 Received fields"),
    (["--to", ADMIN, "--via", "smarthost"], CRON, "4.3.0 there is no account to send through"),
    (["--to", ADMIN, "--via", "smarthost", "--account", "x@y.z"], CRON, "4.3.0 there is no account x@y.z"),
    (["--to", ADMIN, "--sendmail", "/none"], CRON, "4.3.0 cannot run /none"),
    (["--to", ADMIN, "--sendmail", "/bin/false"], CRON, "4.3.0 /bin/false ended with status 1"),
]


@pytest.mark.parametrize(("more", "data", "said"), FAILURES)
def test_fwd_01_everything_else_is_75_and_one_line(
    more: list[str],
    data: bytes,
    said: str,
    home: ProxyHome,
    fingerprint: Fingerprint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    result = CliRunner().invoke(program, words(home, *more), input=data)
    assert result.exit_code == 75
    assert result.stdout == ""
    assert result.stderr.startswith(said)
    assert result.stderr.count("\n") == 1
    assert not [word for word in SECRETS if word.decode() in result.stderr]
    assert not (home.folder / "sent").exists()


@pytest.mark.parametrize("damage", ["config.toml", "state/keystore/keystore.sqlite3"])
def test_fwd_01_broken_files_are_75(
    damage: str, home: ProxyHome, fingerprint: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.folder / damage).write_bytes(b"broken\0")
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    result = CliRunner().invoke(program, words(home, "--to", ADMIN), input=CRON)
    assert result.exit_code == 75
    assert result.stderr.startswith("4.3.0 ")
    assert result.stderr.count("\n") == 1
    assert not (home.folder / "sent").exists()


def test_fwd_03_an_expired_certificate_defers(
    home: ProxyHome, fingerprint: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import UTC, datetime, timedelta

    with home.keystore() as keystore:
        then = datetime.now(UTC) - timedelta(days=9)
        old = keystore.generate("old@example.org", now=then, expires=timedelta(days=8))
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    for more in (["--to", "old@example.org"], ["--to", ADMIN, "--fingerprint", old.fingerprint]):
        result = CliRunner().invoke(program, words(home, *more), input=CRON)
        assert result.exit_code == 75
        assert result.stderr.startswith("4.7.5 no encryption key")
        assert "expired" in result.stderr


def test_encrypting_needs_no_secrets(
    home: ProxyHome, fingerprint: Fingerprint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon without a keyring can still encrypt to a pinned certificate."""
    (home.folder / "state" / "secrets.json").unlink()
    (home.folder / "passphrase").unlink()
    (home.folder / "config.toml").write_text("")
    monkeypatch.setenv(HOME_VARIABLE, str(home.folder))
    result = CliRunner().invoke(program, words(home, "--to", ADMIN), input=CRON)
    assert (result.exit_code, result.stderr) == (0, "")
    (home.folder / "config.toml").unlink()
    result = CliRunner().invoke(program, words(home, "--to", ADMIN), input=CRON)
    assert (result.exit_code, result.stderr) == (0, "")


def test_help_is_no_failure(home: ProxyHome) -> None:
    result = CliRunner().invoke(program, ["forward", "--help"])
    assert result.exit_code == 0
    assert "--fingerprint" in result.stdout
