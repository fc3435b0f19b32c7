"""`message open` and `message inspect`: as programs, and in this process, which takes a fifth of the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Fingerprint
from keystore.secrets import SystemdSecrets
from secmailproxy.cli import program
from secmailproxy.mime import entity, header
from secmailproxy.verdict import VERDICT_LENGTH
from tests.fixtures import forge
from tests.fixtures.desk import ALICE, BOB, KEYS_MADE, MADE, NOW, OUTER, TEXT, Desk, message, protected
from tests.fixtures.keystores import credentials
from tests.fixtures.x509 import Authority

__all__ = ["credentials"]

Run = Callable[..., subprocess.CompletedProcess[bytes]]
CONFIG = '[secrets]\nbackend = "systemd"\n'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    (folder / "config.toml").write_text(CONFIG)
    return folder


@pytest.fixture
def desk(home: Path, credentials: Path) -> Iterator[Desk]:
    """Bob's keystore, in the place where the program looks for it."""
    settings = KeystoreSettings(home / "state" / "keystore")
    (home / "state").mkdir(mode=0o700)
    with closing(Keystore.open(settings, SystemdSecrets(credentials))) as keystore:
        keys: dict[str, Fingerprint] = {
            address: keystore.generate(address, now=KEYS_MADE).fingerprint for address in (ALICE, BOB)
        }
        yield Desk(keystore, keys)


@pytest.fixture
def environment(home: Path, credentials: Path) -> dict[str, str]:
    return {"SECMAILPROXY_HOME": str(home), "CREDENTIALS_DIRECTORY": str(credentials)}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run `secmailproxy message ...` in this process."""

    def run(*words: str, data: bytes = b"", status: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = CliRunner(env=environment).invoke(program, ["message", *words], input=data)
        return checked(done.exit_code, done.stdout_bytes, done.stderr_bytes, status)

    return run


@pytest.fixture
def run_program(environment: dict[str, str]) -> Run:
    """Run it in a process of its own."""

    def run(*words: str, data: bytes = b"", status: int = 0) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run(
            [sys.executable, "-m", "secmailproxy", "message", *words],
            input=data,
            capture_output=True,
            env={**os.environ, **environment},
            check=False,
        )
        return checked(done.returncode, done.stdout, done.stderr, status)

    return run


def checked(code: int, stdout: bytes, stderr: bytes, status: int) -> subprocess.CompletedProcess[bytes]:
    assert code == status, stderr.decode()
    assert b"Traceback" not in stderr
    return subprocess.CompletedProcess([], code, stdout, stderr)


def test_inspect_prints_exactly_the_promised_object(desk: Desk, run_program: Run):
    octets = message(desk.encrypt(protected(), ALICE), b"[...]")
    found = json.loads(
        run_program("inspect", "-", "--json", "--now", f"{NOW:%Y-%m-%dT%H:%M:%SZ}", data=octets).stdout
    )
    created = datetime.fromisoformat(found["signatures"][0].pop("created"))
    assert MADE - timedelta(minutes=1) < created < NOW
    assert found == {
        "version": 1,
        "scheme": "openpgp",
        "protection": "signed+encrypted",
        "decryption": {"state": "ok", "authenticated": True, "reason": None},
        "signature": {
            "verdict": "valid",
            "signer": ALICE,
            "fingerprint": desk.keys[ALICE],
            "trust": "verified",
            "reason": None,
        },
        "signatures": [
            {
                "verdict": "valid",
                "signer": ALICE,
                "fingerprint": desk.keys[ALICE],
                "trust": "verified",
                "reason": None,
                "counted": True,
                "revocation": None,
            }
        ],
        "headers": {"subject": "inside", "protected": ["From", "To", "Subject", "Date", "Message-ID"]},
        "errant_layers": 0,
    }


def test_the_object_of_a_plain_message(desk: Desk, run: Run, tmp_path: Path):
    path = tmp_path / "plain.eml"
    path.write_bytes(
        b"From sender Fri Nov 20 2026\n" + message(TEXT, b"=?utf-8?b?w7w=?=").replace(b"\r\n", b"\n")
    )
    assert json.loads(run("inspect", str(path), "--json").stdout) == {
        "version": 1,
        "scheme": None,
        "protection": "none",
        "decryption": {"state": "not-needed", "authenticated": None, "reason": None},
        "signature": {
            "verdict": "none",
            "signer": None,
            "fingerprint": None,
            "trust": "unknown",
            "reason": None,
        },
        "signatures": [],
        "headers": {"subject": "ü", "protected": []},
        "errant_layers": 0,
    }


def test_inspect_for_people(desk: Desk, run: Run):
    octets = message(desk.sign(TEXT), b"a\x1b[31mred")
    text = run("inspect", data=octets).stdout.decode()
    assert f"valid signature of {ALICE}" in text
    assert desk.keys[ALICE] in text
    assert "\x1b" not in text
    broken = run("inspect", data=octets.replace(b"windmill", b"treadmill")).stdout.decode()
    assert "not valid" in broken
    assert ALICE not in broken
    assert "To do:" not in text + broken, "nothing helps, or need help"


def test_inspect_says_what_to_do_where_a_key_or_an_authority_is_missing(
    desk: Desk, run: Run, mail_authority: Authority
):
    signed = message(forge.multipart_signed(TEXT, forge.sign(mail_authority.person(ALICE), TEXT)))
    assert (
        "To do:      to believe the authority: [smime] roots" in run("inspect", data=signed).stdout.decode()
    )
    stranger = message(desk.sign(TEXT))
    secret = message(desk.encrypt(TEXT))
    desk.keystore.delete(desk.keys[ALICE])
    desk.keystore.delete(desk.keys[BOB])
    assert "To do:      get the certificate from its owner" in run("inspect", data=stranger).stdout.decode()
    assert "elsewhere: secmailproxy key import FILE" in run("inspect", data=secret).stdout.decode()


def test_open_writes_what_a_client_sees(desk: Desk, run_program: Run):
    octets = message(desk.encrypt(TEXT, ALICE))
    opened = run_program("open", data=octets).stdout
    field = entity.parse(opened).fields[0]
    assert field.name.startswith("Secmail-Verdict-")
    assert b"signature=valid" in field.raw(opened)
    assert opened[VERDICT_LENGTH:] == OUTER % b"outside" + TEXT
    again = run_program("open", data=opened).stdout
    assert len(header.find_all(entity.parse(again), field.name)) == 1


def test_inline_openpgp_is_opened_when_it_is_asked_for(desk: Desk, run: Run):
    block = desk.keystore.encrypt(b"Meet me.\r\n", [desk.keys[BOB]], desk.keys[ALICE], MADE)
    octets = message(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + block)
    assert run("open", data=octets).stdout[VERDICT_LENGTH:] == octets
    assert run("open", "--inline", data=octets).stdout.endswith(b"\r\n\r\nMeet me.\r\n")
    for words, protection in (([], "none"), (["--inline"], "signed+encrypted")):
        said = json.loads(run("inspect", "--json", *words, data=octets).stdout)
        assert said["protection"] == protection


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_open_keeps_what_it_cannot_or_need_not_open(desk: Desk, run: Run, line_end: bytes):
    damaged = desk.encrypt(TEXT).replace(b"BEGIN PGP", b"BEGIN PGQ")
    for body in (TEXT, desk.sign(TEXT), damaged):
        octets = message(body).replace(b"\r\n", line_end)
        opened = run("open", data=octets).stdout
        assert opened.endswith(octets)
        assert opened.count(b"\r\n") == (0 if line_end == b"\n" else opened.count(b"\n"))


def test_now_is_the_time_of_judgement(desk: Desk, run: Run):
    octets = message(desk.sign(TEXT))
    later = NOW + timedelta(days=2)
    before = MADE - timedelta(days=365)
    for time, valid in (
        (f"{later:%Y-%m-%d}", True),
        (f"{later:%Y-%m-%dT%H:%M}+02:00", True),
        (f"{later:%Y%m%dT%H%M%S}Z", True),
        (f"{before:%Y-%m-%d}", False),
    ):
        found = json.loads(run("inspect", "--json", "--now", time, data=octets).stdout)
        assert (found["signature"]["verdict"] == "valid") is valid


@pytest.mark.parametrize(
    ("words", "data", "status", "says"),
    [
        (["inspect", "no-such-file"], b"", 64, b"no-such-file"),
        (["inspect", "/"], b"", 64, b"Is a directory"),
        (["inspect", "--json"], b"", 65, b"empty"),
        (["open"], b"\r\n", 65, b"empty"),
        (["inspect", "--now", "yesterday"], b"x", 64, b"--now"),
        (["inspect", "--frobnicate"], b"x", 64, b"--frobnicate"),
        (["inspect", "a", "b"], b"x", 64, b"b"),
        (["look"], b"x", 64, b"look"),
    ],
)
def test_bad_calls_are_told_what_is_wrong(run: Run, words: list[str], data: bytes, status: int, says: bytes):
    done = run(*words, data=data, status=status)
    assert says in done.stderr
    assert done.stdout == b""


@pytest.mark.parametrize(
    "data", [b"\x00\xff\x00", b":", b"--\r\n--", b"Content-Type: multipart/encrypted; boundary="]
)
def test_any_octets_are_inspected(desk: Desk, run: Run, data: bytes):
    assert json.loads(run("inspect", "--json", data=data).stdout)["signature"]["verdict"] == "none"


def test_a_locked_keystore_is_a_temporary_error(desk: Desk, run_program: Run, credentials: Path):
    octets = message(desk.encrypt(TEXT, ALICE))
    for secret in credentials.iterdir():
        secret.unlink()
    assert run_program("open", data=octets, status=75).stdout == b""
