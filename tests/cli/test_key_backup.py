"""`key backup` and `key restore`, to the end: a clean machine reads all old mail."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import click.testing
import pytest
from click.testing import CliRunner

from keystore.keystore import Keystore, KeystoreSettings
from keystore.secretsfile import FileSecrets
from keystore.wrap import PassphraseKdf
from secmailproxy.cli import program
from secmailproxy.mime.entity import parse
from secmailproxy.mime.setupmessage import setup_attachment
from tests.fixtures.desk import container
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.keystores import NOW
from tests.fixtures.quicksecrets import quick_secrets
from tests.fixtures.x509 import own, root

ALICE, BOB = "alice@example.org", "bob@example.org"
SECRETS = "the passphrase of the secrets"
DAY = timedelta(days=1)
HEAD = b"From: bob@example.org\r\nTo: alice@example.org\r\nSubject: %b\r\nMIME-Version: 1.0\r\n"
PART = b"Content-Type: text/plain\r\n\r\nMeet me at the windmill, %d.\r\n"
Run = Callable[..., click.testing.Result]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """tests/keystore/test_backup.py tries the parameters that people get."""
    fresh = classmethod(lambda cls: cls(b"salt" * 4, iterations=1, lanes=1, memory_kib=8))
    monkeypatch.setattr(PassphraseKdf, "fresh", fresh)


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[str], Path]:
    """The home of a machine with nothing in it but a place for secrets."""

    def make(name: str) -> Path:
        home = tmp_path / name
        home.mkdir(mode=0o700)
        (tmp_path / "passphrase").write_text(SECRETS)
        quick_secrets(home / "state" / "secrets.json", SECRETS)
        (home / "state").chmod(0o700)
        return home

    return make


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run `secmailproxy` in this process, on the machine of this home."""

    def run(home: Path, *words: str | Path, data: bytes = b"", code: int = 0) -> click.testing.Result:
        option = "--passphrase-file" if words[0] == "message" else "--secrets-passphrase-file"
        options = (option, str(tmp_path / "passphrase"))
        done = CliRunner(env={"SECMAILPROXY_HOME": str(home)}).invoke(
            program, [*map(str, words), *options], input=data
        )
        assert done.exit_code == code, (done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
        assert SECRETS not in done.output
        return done

    return run


def keystore_of(home: Path, gnupg_home: Path | None = None) -> Keystore:
    settings = KeystoreSettings(home / "state" / "keystore", gnupg_home)
    return Keystore.open(settings, FileSecrets(home / "state" / "secrets.json", lambda: SECRETS))


def old_mail(home: Path) -> list[bytes]:
    """Messages to each key that Alice ever had: before and after a rotation, expired, S/MIME."""
    ca = root("Backup Root", number=820)
    with closing(keystore_of(home)) as keystore:
        first = keystore.generate(ALICE, now=NOW - 90 * DAY)
        ciphertexts = [keystore.encrypt(PART % 1, [first.fingerprint], None, NOW - 80 * DAY)]
        keystore.own_keys.rotate(first.fingerprint, NOW - 9 * DAY)
        ciphertexts.append(keystore.encrypt(PART % 2, [first.fingerprint], None, NOW))
        other = keystore.generate("sales@example.org", now=NOW - 90 * DAY)
        ciphertexts.append(keystore.encrypt(PART % 3, [other.fingerprint], first.fingerprint, NOW))
        expired = keystore.generate(ALICE, now=NOW - 90 * DAY, expires=DAY)
        ciphertexts.append(keystore.encrypt(PART % 4, [expired.fingerprint], None, NOW - 90 * DAY + DAY / 2))
        person = own(keystore, ca.person(ALICE, number=821))
        made = keystore.smime.encrypt(PART % 5, [person.fingerprint], NOW)
    smime = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n"
    return [
        *(HEAD % b"openpgp" + container(one) for one in ciphertexts),
        HEAD % b"smime"
        + smime
        + b"Content-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(made.der).replace(b"\n", b"\r\n"),
    ]


def test_a_restore_on_a_clean_machine_reads_all_old_mail(
    machine: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    """Keys of every kind; the old machine is gone, and what is left is one file and a code."""
    old, new, file = machine("old"), machine("new"), tmp_path / "mail.backup"
    mail = old_mail(old)
    made = json.loads(run(old, "key", "backup", file, "--code", "--json").stdout)
    assert (made["own"], made["elsewhere"]) == (4, [])
    for path in old.rglob("*"):
        if path.is_file():
            path.unlink()
    (tmp_path / "code").write_text(made["code"].lower())
    assert b"windmill" not in run(new, "message", "open", "-", data=mail[0]).stdout_bytes
    done = run(new, "key", "restore", file, "--passphrase-file", tmp_path / "code")
    assert "4 own keys" in done.stdout
    for at, message in enumerate(mail, 1):
        opened = run(new, "message", "open", "-", data=message).stdout_bytes
        assert b"Meet me at the windmill, %d." % at in opened
    again = run(new, "key", "restore", file, "--passphrase-file", tmp_path / "code")
    assert ", 0 of them new here" in again.stdout


def test_the_configuration_comes_along_where_there_is_none(
    machine: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    """One that is there stays; passwords only when they were asked for."""
    old, new, file = machine("old"), machine("new"), tmp_path / "mail.backup"
    config = '[secrets]\nbackend = "file"\n# a remark\n'
    (old / "config.toml").write_text(config)
    (old / "config.toml").chmod(0o600)
    (tmp_path / "opens").write_text("crooked windmill")
    opens = ("--passphrase-file", tmp_path / "opens")
    run(old, "key", "backup", file, *opens)
    token = (old / "state" / "verdict-token").read_bytes()
    run(new, "key", "restore", file, *opens)
    assert (new / "config.toml").read_text() == config
    assert (new / "state" / "verdict-token").read_bytes() == token
    (new / "config.toml").write_text(config + "# of here\n")
    done = run(new, "key", "restore", file, *opens)
    assert "Your configuration stays" in done.stderr
    assert (new / "config.toml.from-backup").read_text() == config
    third = machine("third")
    run(third, "key", "restore", file, "--no-config", *opens)
    assert not (third / "config.toml").exists()


PASSWORDS = {f"password:{ALICE}": "mine", f"local-password:{ALICE}": "here", "token-pin": "4711"}


def test_passwords_come_along_when_they_were_asked_for(
    machine: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    """Also the PIN of a token. One that is there stays."""
    old, new, file = machine("old"), machine("new"), tmp_path / "mail.backup"
    (old / "config.toml").write_text(
        '[secrets]\nbackend = "file"\n[[accounts]]\naddress = "alice@example.org"\n'
        'imap = { host = "imap.example.org" }\nsmtp = { host = "smtp.example.org" }\n'
    )
    (old / "config.toml").chmod(0o600)
    (tmp_path / "opens").write_text("crooked windmill")
    opens = ("--passphrase-file", tmp_path / "opens")
    there, here = (FileSecrets(home / "state" / "secrets.json", lambda: SECRETS) for home in (old, new))
    for name, value in PASSWORDS.items():
        there.set(name, value)
    here.set("token-pin", "0815")
    run(old, "key", "backup", file, *opens)
    run(new, "key", "restore", file, *opens)
    assert [here.get(one) for one in PASSWORDS] == [None, None, "0815"]
    run(old, "key", "backup", file, "--passwords", *opens)
    done = run(new, "key", "restore", file, *opens)
    assert [here.get(one) for one in PASSWORDS] == ["mine", "here", "0815"]
    assert "Another token-pin is here already" in done.stderr
    assert not any(one in done.output for one in ("4711", "0815"))


def test_what_is_to_be_done_next_is_said(machine: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    """`setup` before `restore` makes a key that nobody knows, and it is the one that signs."""
    old, new, file = machine("old"), machine("new"), tmp_path / "mail.backup"
    (tmp_path / "opens").write_text("crooked windmill")
    opens = ("--passphrase-file", tmp_path / "opens")
    with closing(keystore_of(old)) as keystore:
        known = keystore.generate(ALICE, now=NOW - 9 * DAY).fingerprint
        keystore.generate(ALICE, now=NOW - 90 * DAY, expires=DAY)
    run(old, "key", "backup", file, *opens)
    done = run(machine("third"), "key", "restore", file, *opens)
    assert done.stderr == "There is no configuration yet: secmailproxy setup you@your.domain\n"
    servers = 'imap = {host = "localhost"}\nsmtp = {host = "localhost"}\n'
    (new / "config.toml").write_text(
        f'[secrets]\nbackend = "file"\n[[accounts]]\naddress = "{ALICE}"\n{servers}'
    )
    with closing(keystore_of(new)) as keystore:
        made = keystore.generate(ALICE, now=NOW - DAY).fingerprint
    signs, password = run(new, "key", "restore", file, *opens).stderr.splitlines()
    assert password == f"No password of {ALICE} is kept: secmailproxy setup {ALICE}"
    assert signs.startswith(f"{ALICE} signs with {made}, which is newer than {known} of the backup.")
    remedy = signs.partition(": secmailproxy ")[2].split()
    run(new, *remedy, "--yes")
    with closing(keystore_of(new)) as keystore:
        identity = keystore.identity(ALICE)
        assert identity is not None
        assert identity.certificate.fingerprint == known


def test_a_setup_message_takes_a_key_to_another_machine(
    machine: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    """Autocrypt Level 1 section 4: as a whole message, and as the attachment that a client has saved."""
    old, file = machine("old"), tmp_path / "setup.eml"
    with closing(keystore_of(old)) as keystore:
        key = keystore.generate(ALICE, now=NOW - DAY)
        ciphertext = keystore.encrypt(PART % 1, [key.fingerprint], None, NOW)
    made = run(old, "key", "setup-message", ALICE, "--output", file)
    code = re.sub(r"[^0-9]", "", made.stdout)
    (tmp_path / "code").write_text(code)
    whole = file.read_bytes()
    assert whole.count(b"\r\n") == whole.count(b"\n")
    assert code.encode() not in re.sub(rb"\D", b"", whole)
    (tmp_path / "saved.html").write_bytes(setup_attachment(whole))
    for name in ("setup.eml", "saved.html"):
        new = machine(name.partition(".")[0])
        words = ("key", "setup-message", "--import", tmp_path / name, "--code-file")
        run(new, *words, tmp_path / "code")
        with closing(keystore_of(new)) as keystore:
            assert keystore.decrypt(ciphertext, NOW).octets == PART % 1
    (tmp_path / "wrong").write_text(code[::-1])
    assert "does not open it" in run(new, *words, tmp_path / "wrong", code=65).stderr
    for wrong in ((BOB,), (ALICE, "--code-file", tmp_path / "code"), (file, "--import", "--output", file)):
        run(old, "key", "setup-message", *wrong, code=64)
    printed = run(old, "key", "setup-message", ALICE)
    assert parse(printed.stdout_bytes).parts[1].content_type.full == "application/autocrypt-setup"
    assert len(re.sub(r"[^0-9]", "", printed.stderr)) == 36


@pytest.mark.parametrize("kind", ["OpenPGP", "PKCS #12"])
def test_a_key_comes_back_from_what_is_typed_off_a_page(
    kind: str, machine: Callable[[str], Path], run: Run, tmp_path: Path
) -> None:
    """Neither the page nor the code alone opens it, and the file is for its owner alone."""
    old, new, page = machine("old"), machine("new"), tmp_path / "key.html"
    with closing(keystore_of(old)) as keystore:
        if kind == "OpenPGP":
            fingerprint = keystore.generate(ALICE, name="Alice", now=NOW - DAY).fingerprint
        else:
            person = own(keystore, root("Paper Root", number=822).person(ALICE, number=823))
            (fingerprint,) = (one.fingerprint for one in keystore.own(ALICE))
            assert fingerprint == person.fingerprint
    made = json.loads(run(old, "key", "paper", fingerprint, "--output", page, "--json").stdout)
    printed = page.read_text()
    assert page.stat().st_mode & 0o777 == 0o600
    assert made["code"] not in printed
    assert (kind in printed, "<alice@" in printed, "<svg" in printed) == (True, False, True)
    typed, code = tmp_path / "typed", tmp_path / "code"
    typed.write_text(printed.partition("<pre>")[2].partition("</pre>")[0].lower())
    code.write_text(made["code"].lower().replace("-", " "))
    done = run(new, "key", "paper", "--read", typed, "--passphrase-file", code)
    assert fingerprint in done.stdout
    with closing(keystore_of(new)) as keystore:
        assert fingerprint in {one.fingerprint for one in keystore.own(ALICE)}
    code.write_text("something else")
    run(machine("third"), "key", "paper", "--read", typed, "--passphrase-file", code, code=65)
    run(old, "key", "paper", fingerprint, code=64)


def test_what_is_wrong_is_said(machine: Callable[[str], Path], run: Run, tmp_path: Path) -> None:
    home, file, opens = machine("old"), tmp_path / "mail.backup", tmp_path / "opens"
    opens.write_text("crooked windmill")
    run(home, "key", "backup", file, "--code", "--passphrase-file", opens, code=64)
    run(home, "key", "backup", file, code=64)
    assert not file.exists()
    run(home, "key", "backup", tmp_path / "no" / "folder", "--passphrase-file", opens, code=74)
    run(home, "key", "backup", file, "--passphrase-file", opens)
    other = tmp_path / "other"
    other.write_text("another passphrase")
    done = run(home, "key", "restore", file, "--passphrase-file", other, code=65)
    assert "does not open this backup" in done.stderr
    file.write_text("no backup")
    done = run(home, "key", "restore", file, "--passphrase-file", opens, code=64)
    assert "no backup of secmailproxy" in done.stderr


def test_a_key_that_gnupg_holds_is_named(
    machine: Callable[[str], Path], run: Run, tmp_path: Path, gnupg_home: Callable[..., GnuPG]
) -> None:
    """Its secret half is GnuPG's to back up; that it is held there is kept."""
    home, new, file = machine("old"), machine("new"), tmp_path / "mail.backup"
    gnupg = gnupg_home()
    fingerprint = gnupg.generate(BOB)
    with closing(keystore_of(home, gnupg.home)) as keystore:
        keystore.holders.take_from_gnupg(BOB, secret=True)
    (tmp_path / "opens").write_text("crooked windmill")
    opens = ("--passphrase-file", tmp_path / "opens")
    assert fingerprint in run(home, "key", "backup", file, *opens).stderr
    assert fingerprint in run(new, "key", "restore", file, *opens).stderr
    with closing(keystore_of(new, gnupg.home)) as keystore:
        ciphertext = keystore.encrypt(PART % 1, [keystore.own(BOB)[0].fingerprint], None, NOW + DAY)
        assert keystore.decrypt(ciphertext, NOW + DAY).octets == PART % 1
