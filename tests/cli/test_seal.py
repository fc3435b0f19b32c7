"""`secmailproxy message seal`: the same protection as on submission, from a file or a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from secmailproxy.cli import program
from secmailproxy.folders import HOME_VARIABLE
from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.entity import parse
from tests.fixtures.proxy import ProxyHome, empty_home
from tests.fixtures.x509 import Authority, OpenSSL, learn, own

ALICE, BOB, CAROL = (f"{name}@example.org" for name in ("alice", "bob", "carol"))
MESSAGE = b"From: alice@example.org\nTo: bob@example.org\nBcc: x@example.org\nSubject: windmill\n\nTreasure\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ProxyHome:
    """A home with keys for alice and bob, in use."""
    made_ = empty_home(tmp_path / "home")
    with made_.keystore() as keystore:
        for address in (ALICE, BOB):
            keystore.generate(address)
    monkeypatch.setenv(HOME_VARIABLE, str(made_.folder))
    return made_


def seal(*words: str, data: bytes = MESSAGE) -> Result:
    return CliRunner().invoke(program, ["message", "seal", *words], input=data)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--from", ALICE, "--to", BOB), Made.ENCRYPTED),
        (("--from", ALICE, "--to", BOB, "--to", ALICE, "--to", BOB, "-"), Made.ENCRYPTED),
        (("--from", ALICE, "--to", BOB, "--to", CAROL), Made.SIGNED),
        (("--from", ALICE, "--to", BOB, "--protect", "sign"), Made.SIGNED),
        (("--from", ALICE, "--to", BOB, "--rule", "never"), Made.NOTHING),
        (("--from", CAROL, "--to", BOB), Made.NOTHING),
    ],
)
def test_the_protection_is_that_of_submission(words: tuple[str, ...], found: Made, home: ProxyHome) -> None:
    result = seal(*words)
    assert result.exit_code == 0, result.stderr
    assert made(parse(result.stdout_bytes)) is found
    assert ("the message is in clear" in result.stderr) is (found is Made.NOTHING)
    assert (b"Treasure" in result.stdout_bytes) is (found is not Made.ENCRYPTED)
    assert b"\nBcc" not in result.stdout_bytes
    assert result.stdout_bytes.count(b"\n") == result.stdout_bytes.count(b"\r\n")


def test_the_rules_of_the_configuration_hold(home: ProxyHome) -> None:
    home.add_config('[[rules]]\nto = "@example.org"\nprotect = "require"\n')
    result = seal("--from", ALICE, "--to", CAROL)
    assert result.exit_code == 69
    assert result.stdout_bytes == b""
    assert "no encryption key for <carol@example.org>" in result.stderr


def test_a_sealed_message_opens_again(home: ProxyHome, tmp_path: Path) -> None:
    file = tmp_path / "message.eml"
    file.write_bytes(b"From alice Thu Jan  1\n" + MESSAGE)
    sealed = seal("--from", ALICE, "--to", BOB, str(file), data=b"")
    opened = CliRunner().invoke(program, ["message", "open"], input=sealed.stdout_bytes)
    assert opened.exit_code == 0
    assert b"Subject: windmill\r\n" in opened.stdout_bytes
    assert opened.stdout_bytes.endswith(b"\r\n\r\nTreasure\r\n")


def test_smime_where_the_sender_has_that_only(
    home: ProxyHome, mail_authority: Authority, openssl: OpenSSL
) -> None:
    with home.keystore() as keystore:
        own(keystore, mail_authority.person(CAROL))
        learn(keystore, reader := mail_authority.person("dave@example.org", "rsa2048"))
    signed = seal("--from", CAROL, "--to", BOB)
    assert (signed.exit_code, signed.stderr) == (0, "")
    assert b"Treasure" in openssl.verify(signed.stdout_bytes, mail_authority.above[0])
    sealed = seal("--from", CAROL, "--to", "dave@example.org").stdout_bytes
    assert b"Treasure" in openssl.verify(openssl.decrypt(sealed, reader), mail_authority.above[0])
    clear = seal("--from", CAROL, "--to", BOB, "--protect", "never")
    assert "a rule or wish says so" in clear.stderr


@pytest.mark.parametrize(
    ("words", "data", "status", "said"),
    [
        (("--to", BOB), MESSAGE, 64, "--from"),
        (("--from", ALICE), MESSAGE, 64, "--to"),
        (("--from", ALICE, "--to", "bob"), MESSAGE, 64, "--to needs an address"),
        (("--from", ALICE, "--to", BOB, "/none/there"), b"", 64, "Cannot read /none/there"),
        (("--from", ALICE, "--to", BOB), b"", 65, "there is no message"),
        (
            ("--from", CAROL, "--to", BOB, "--protect", "require"),
            MESSAGE,
            69,
            "no own OpenPGP key for <carol@example.org>",
        ),
        (("--from", ALICE, "--to", BOB, "--protect", "maybe"), MESSAGE, 64, "--protect"),
    ],
)
def test_bad_input_is_explained(
    words: tuple[str, ...], data: bytes, status: int, said: str, home: ProxyHome
) -> None:
    result = seal(*words, data=data)
    assert result.exit_code == status
    assert said in result.stderr
    assert result.stdout_bytes == b""
