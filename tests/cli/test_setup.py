"""`secmailproxy setup` and `doctor`, against a real Dovecot and a real Postfix."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from keystore.secrets import open_secrets
from secmailproxy.autoconfig.discovery import Discovery
from secmailproxy.cli import program
from secmailproxy.config import Config
from secmailproxy.localtls import LocalTls
from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.postfix import Postfix

PASSPHRASE = "correct battery"
Result = click.testing.Result
Run = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty SECMAILPROXY_HOME that does not exist yet, with a secrets passphrase beside it."""
    monkeypatch.setenv("SECMAILPROXY_HOME", str(tmp_path / "home"))
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    (tmp_path / "passphrase").chmod(0o600)
    return tmp_path / "home"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run secmailproxy in this process: `run("config", "path")`."""

    def call(*words: str | Path, obj: object = None, text: str = "") -> Result:
        runner = click.testing.CliRunner()
        return runner.invoke(program, [str(word) for word in words], obj=obj, input=text)

    return call


@pytest.fixture
def mailbox(dovecot: Dovecot) -> Mailbox:
    return dovecot.mailbox("setup")


def options(
    mailbox: Mailbox, postfix: Postfix, ca: TestCA, folder: Path, *, tls: str = "implicit"
) -> list[str | Path]:
    """Every answer as an option."""
    password = folder / "password"
    password.write_text(mailbox.password)
    is_implicit = tls == "implicit"
    server = mailbox.server
    return [
        *("setup", mailbox.address, "--non-interactive", "--no-discovery", "--name", "Alice Example"),
        *("--imap-host", "localhost", "--smtp-host", "localhost", "--ca-file", ca.ca_file),
        *("--imap-port", str(server.imaps_port if is_implicit else server.imap_port), "--imap-tls", tls),
        *("--smtp-port", str(postfix.submissions_port if is_implicit else postfix.submission_port)),
        *("--smtp-tls", tls, "--password-file", password),
        *("--secrets", "file", "--secrets-passphrase-file", folder / "passphrase"),
    ]


@pytest.mark.parametrize("tls", ["implicit", "starttls"])
def test_setup_writes_a_working_account(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path, tls: str
) -> None:
    done = run(*options(mailbox, postfix, ca, tmp_path, tls=tls), "--json", "--listen-imap", "[::1]:2143")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["client"]["imap"] == {
        "host": "::1",
        "port": 2143,
        "username": mailbox.address,
        "security": "none",
        "authentication": "password",
    }
    assert answer["client"]["submission"]["port"] == 1025
    assert answer["key"]["action"] == "generated"
    assert len(answer["key"]["fingerprint"]) == 40

    written = tomllib.loads((home / "config.toml").read_text())
    assert written["accounts"][0]["imap"]["tls"] == tls
    assert written["accounts"][0]["name"] == "Alice Example"
    assert written["discovery"] == {"wkd": True}
    assert mailbox.password.encode() not in b"".join(path.read_bytes() for path in files(home))
    for path in [home, *home.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path

    doctor = run("doctor", "--json")
    findings = json.loads(doctor.stdout)
    assert doctor.exit_code == 0, findings
    states = {check["name"]: check["state"] for check in findings["checks"]}
    assert states == dict.fromkeys(
        [
            "config",
            "secrets",
            "keystore",
            "S/MIME roots",
            "key",
            "round trip",
            "password",
            "IMAP server",
            "smarthost",
        ],
        "ok",
    )


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (lambda o: {**o, "--imap-port": "1"}, 75, "Cannot reach the IMAP server localhost:1"),
        (lambda o: {**o, "--smtp-port": "1"}, 75, "localhost:1 cannot be reached: Connection refused. Check"),
        (lambda o: {**o, "--imap-host": "imap://x"}, 64, "--imap-host: must be a host name"),
        (lambda o: {**o, "--listen-imap": "0.0.0.0:1143"}, 64, "--listen-imap: '0.0.0.0' is not a loopback"),
        (lambda o: {**o, "--ca-file": o["--password-file"]}, 64, "--ca-file: "),
        (lambda o: {**o, "--secrets": "keyring"}, 64, "--secrets-passphrase-file goes with --secrets file"),
        (lambda o: {**o, "--imap-host": "127.0.0.2"}, 75, "127.0.0.2"),
        (lambda o: {k: v for k, v in o.items() if k != "--ca-file"}, 75, "certificate"),
    ],
    ids=[
        "imap unreachable",
        "smtp unreachable",
        "no host name",
        "not loopback",
        "no authority",
        "passphrase for a keyring",
        "imap elsewhere",
        "unknown authority",
    ],
)
def test_nothing_is_written_when_a_server_fails(
    home: Path,
    run: Run,
    mailbox: Mailbox,
    postfix: Postfix,
    ca: TestCA,
    tmp_path: Path,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    status: int,
    words: str,
) -> None:
    given = options(mailbox, postfix, ca, tmp_path)
    pairs = change(dict(zip(given[4::2], given[5::2], strict=True)))
    done = run(*given[:4], *(word for pair in pairs.items() for word in pair))
    assert done.exit_code == status, done.output
    assert words in done.stderr
    assert not home.exists()


def test_a_wrong_password_is_refused_before_anything_is_written(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path
) -> None:
    given = options(mailbox, postfix, ca, tmp_path)
    (tmp_path / "password").write_text("wrong one")
    done = run(*given)
    assert done.exit_code == 77, done.output
    assert "refuses the login" in done.stderr
    assert "wrong one" not in done.output
    assert not home.exists()


def test_setup_again_changes_the_account_and_keeps_the_rest(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path
) -> None:
    first = json.loads(run(*options(mailbox, postfix, ca, tmp_path), "--json").stdout)
    path = home / "config.toml"
    path.write_text("# my notes\n" + path.read_text().replace("wkd = true", "wkd = false"))
    again = run("setup", mailbox.address.upper(), "--non-interactive", "--login", "local", "--json")
    assert again.exit_code == 0, again.output
    second = json.loads(again.stdout)
    assert second["key"] == {"fingerprint": first["key"]["fingerprint"], "action": "kept"}
    assert len(second["local_password"]) >= 20
    assert path.read_text().startswith("# my notes\n")
    written = tomllib.loads(path.read_text())
    assert written["discovery"] == {"wkd": False}
    accounts = written["accounts"]
    assert [(one["address"], one["login"]) for one in accounts] == [(mailbox.address, "local")]
    third = run("setup", mailbox.address, "--non-interactive")
    assert third.exit_code == 0, third.output
    assert second["local_password"] not in third.output
    assert "the local password, unchanged" in third.stdout


def test_a_passphrase_chooses_the_encrypted_file(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path
) -> None:
    given = options(mailbox, postfix, ca, tmp_path)
    place = given.index("--secrets")
    done = run(*given[:place], *given[place + 2 :])
    assert done.exit_code == 0, done.output
    assert tomllib.loads((home / "config.toml").read_text())["secrets"]["backend"] == "file"


def test_what_is_missing_is_named_with_its_option(home: Path, run: Run) -> None:
    done = run("setup", "alice@example.test", "--non-interactive", "--no-discovery")
    assert done.exit_code == 64
    assert "--imap-host" in done.stderr
    assert "--smtp-host" in done.stderr
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["setup", "nobody"], "not a mail address"),
        (["setup", "a@example.test", "--no-key", "--generate-key"], "exclude each other"),
        (["setup", "a@example.test", "--imap-port", "70000"], "--imap-port"),
        (["setup", "a@example.test", "--imap-tls", "none"], "--imap-tls"),
        (["setup"], "ADDRESS"),
    ],
)
def test_bad_options(home: Path, run: Run, words: list[str], text: str) -> None:
    done = run(*words, "--non-interactive")
    assert done.exit_code == 64, done.output
    assert text in done.stderr
    assert "Traceback" not in done.output


def test_a_key_that_is_there_can_be_adopted(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path
) -> None:
    given = options(mailbox, postfix, ca, tmp_path)
    first = json.loads(run(*given, "--json").stdout)["key"]["fingerprint"]
    adopted = json.loads(run(*given, "--json", "--adopt-key", first).stdout)["key"]
    assert adopted == {"fingerprint": first, "action": "adopted"}
    unknown = run(*given, "--adopt-key", "0" * 40)
    assert unknown.exit_code == 64
    assert "has no key" in unknown.stderr


def test_doctor_finds_what_is_wrong(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path
) -> None:
    given = options(mailbox, postfix, ca, tmp_path)
    done = run(*given, "--no-key")
    assert done.exit_code == 0
    assert f"secmailproxy key generate {mailbox.address}" in done.stdout
    path = home / "config.toml"
    path.write_text(path.read_text().replace(f"port = {mailbox.server.imaps_port}", "port = 1"))
    done = run("doctor", "--json")
    assert done.exit_code == 1, done.output
    failed = {one["name"]: one for one in json.loads(done.stdout)["checks"] if one["state"] == "fail"}
    assert set(failed) == {"key", "IMAP server"}
    assert all(one["remedy"] for one in failed.values())
    path.write_text("[listen]\nimap = 3\n")
    broken = run("doctor")
    assert broken.exit_code == 1
    assert "listen.imap" in broken.stdout


def test_discovery_feeds_setup(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path, https_place: Any
) -> None:
    document = f"""<clientConfig version="1.1"><emailProvider id="example.test">
        <incomingServer type="imap"><hostname>localhost</hostname><port>{mailbox.server.imaps_port}</port>
        <socketType>SSL</socketType><username>%EMAILADDRESS%</username></incomingServer>
        <outgoingServer type="smtp"><hostname>localhost</hostname><port>{postfix.submission_port}</port>
        <socketType>STARTTLS</socketType><username>%EMAILADDRESS%</username></outgoingServer>
        </emailProvider></clientConfig>"""
    place = https_place(document.encode())
    discovery = Discovery(places=(place,), nameserver=("127.0.0.1", 9), ca_file=ca.ca_file, timeout=1)
    (tmp_path / "password").write_text(mailbox.password)
    done = run(
        *("setup", mailbox.address, "--json", "--ca-file", ca.ca_file),
        *("--password-file", tmp_path / "password"),
        *("--secrets", "file", "--secrets-passphrase-file", tmp_path / "passphrase"),
        obj=discovery,
    )
    assert done.exit_code == 0, done.output
    servers = json.loads(done.stdout)["servers"]
    assert servers["imap"]["port"] == mailbox.server.imaps_port
    assert (servers["smtp"]["port"], servers["smtp"]["tls"]) == (postfix.submission_port, "starttls")
    assert os.environ["SECMAILPROXY_HOME"] == str(home)


def answer_at_a_terminal(words: list[str], replies: list[tuple[str, str]], home: Path) -> tuple[int, str]:
    """Run secmailproxy on a terminal of its own; each reply is typed when its prompt has appeared."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "secmailproxy", *words],
        stdin=child,
        stdout=child,
        stderr=child,
        env={
            **os.environ,
            "SECMAILPROXY_HOME": str(home),
            "TERM": "dumb",
            "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        },
        start_new_session=True,
    )
    os.close(child)
    shown, seen = "", 0
    for prompt, reply in replies:
        while prompt not in shown[seen:]:
            shown += os.read(parent, 4096).decode()
        seen = shown.index(prompt, seen) + len(prompt)
        os.write(parent, f"{reply}\n".encode())
    try:
        while piece := os.read(parent, 4096):
            shown += piece.decode()
    except OSError:
        # Linux ends a terminal without a process with EIO.
        pass
    os.close(parent)
    return process.wait(20), shown


def test_setup_asks_for_what_it_does_not_know(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path
) -> None:
    """On a machine without a keyring, and with a password that is mistyped at first."""
    words = ["setup", mailbox.address, "--no-discovery", "--ca-file", str(ca.ca_file)]
    replies = [
        ("Keep passwords in a file encrypted under a passphrase instead?", ""),
        ("Your name", "Alice"),
        ("IMAP server:", "localhost"),
        ("IMAP server, TLS", ""),
        ("IMAP server, port", str(mailbox.server.imaps_port)),
        ("IMAP server, user name", ""),
        ("Submission server (SMTP):", "localhost"),
        ("Submission server (SMTP), TLS", "starttls"),
        ("Submission server (SMTP), port", str(postfix.submission_port)),
        ("Submission server (SMTP), user name", ""),
        ("GnuPG", "n"),
        (f"Password of {mailbox.address}", "mistyped"),
        (f"Password of {mailbox.address}", mailbox.password),
        ("Passphrase for the secrets file", PASSPHRASE),
        ("Repeat for confirmation", PASSPHRASE),
    ]
    status, shown = answer_at_a_terminal(words, replies, home)
    assert status == 0, shown
    assert "Authentication failed. Check user name" in shown
    assert "is set up" in shown
    assert "Keep a copy elsewhere: secmailproxy key backup FILE --code" in shown
    assert mailbox.password not in shown
    assert PASSPHRASE not in shown
    account = tomllib.loads((home / "config.toml").read_text())["accounts"][0]
    assert (account["name"], account["imap"]["tls"], account["smtp"]["tls"]) == (
        "Alice",
        "implicit",
        "starttls",
    )
    doctor = run("doctor", "--passphrase-file", tmp_path / "passphrase")
    assert doctor.exit_code == 0, doctor.output


def test_a_key_stays_in_gnupg(
    home: Path,
    run: Run,
    mailbox: Mailbox,
    postfix: Postfix,
    ca: TestCA,
    tmp_path: Path,
    gnupg_home: Callable[..., GnuPG],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gnupg = gnupg_home()
    monkeypatch.setenv("GNUPGHOME", str(gnupg.home))
    refused = run(*options(mailbox, postfix, ca, tmp_path), "--key-from-gnupg")
    assert refused.exit_code == 65, refused.output
    assert "GnuPG has no secret key" in refused.stderr
    assert not (home / "config.toml").exists()
    fingerprint = gnupg.generate(f"Alice <{mailbox.address}>")
    done = run(*options(mailbox, postfix, ca, tmp_path), "--key-from-gnupg", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["key"] == {"fingerprint": fingerprint, "action": "adopted"}
    doctor = run("doctor", "--json")
    trip = next(one for one in json.loads(doctor.stdout)["checks"] if one["name"] == "round trip")
    assert trip["state"] == "ok", trip


def test_local_tls_makes_a_certificate_once(
    home: Path, run: Run, mailbox: Mailbox, postfix: Postfix, ca: TestCA, tmp_path: Path
) -> None:
    words = (*options(mailbox, postfix, ca, tmp_path), "--local-tls")
    first = json.loads(run(*words, "--json", "--listen-imaps", "[::1]:2993").stdout)
    assert first["client"]["imap"] | {"username": ""} == {
        "host": "::1",
        "port": 2993,
        "username": "",
        "security": "tls",
        "authentication": "password",
    }
    assert first["client"]["submission"]["port"] == 1465
    shown = json.loads(run("certificate", "show", "--json").stdout)
    assert first["certificate"] == shown["fingerprint"]
    config = Config.load()
    secrets = open_secrets(config.secrets_settings(None))
    tls = LocalTls(config.folders.certificate, secrets)
    tls.load()
    assert tls.context() is not None

    again = run(*words)
    assert again.exit_code == 0, again.output
    assert shown["fingerprint"] in again.stdout
    assert "2993" in again.stdout
