"""System mail: a real procmail recipe runs `secmailproxy forward`, through Postfix to Dovecot."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from secmailproxy.accounts import password_secret
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.people import GnuPGUser, ProxyUser, gnupg_user, introduce, leaked, proxy_user
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import SOURCES, ProxyFactory

REPORT = b"""From: root@machine.example.test
To: root@machine.example.test
Subject: whereabouts of the treasure

The windmill is crooked, and the southwest door was opened.
"""


@pytest.fixture
def administrator(dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]) -> GnuPGUser:
    return gnupg_user(gnupg_home(), dovecot.mailbox("administrator"))


@pytest.fixture
def machine(proxies: ProxyFactory, dovecot: Dovecot, administrator: GnuPGUser) -> ProxyUser:
    """An account for a machine: its password is stored, the administrator's certificate pinned."""
    person = proxy_user(proxies, dovecot.mailbox("machine"))
    introduce(person, administrator)
    person.home.set_secret(password_secret(person.address), person.mailbox.password)
    person.home.add_config(
        f'[forward]\naccount = "{person.address}"\n\n[[forward.targets]]\n'
        f'address = "{administrator.address}"\nfingerprint = "{administrator.fingerprint}"\n'
    )
    return person


def recipe(machine: ProxyUser, command: list[str], folder: Path) -> Path:
    """examples/procmailrc with `command` in place of its own, for this machine."""
    example = (SOURCES / "examples" / "procmailrc").read_text()
    line = "| /opt/secmailproxy/bin/secmailproxy forward --to admin@example.org\n"
    assert line in example
    rules = example.replace(line, f"| {' '.join(command)}\n")
    path = folder / "procmailrc"
    path.write_text(
        f"SECMAILPROXY_HOME={machine.home.folder}\nPYTHONPATH={SOURCES}\nLOGFILE={folder}/procmail.log\n"
        f"DEFAULT={folder}/undelivered\nSHELL=/bin/sh\n\n{rules}"
    )
    path.chmod(0o600)
    return path


def deliver(rc: Path) -> subprocess.CompletedProcess[bytes]:
    """Hand the report to procmail, as an MTA does."""
    return subprocess.run(["procmail", "-m", rc], input=REPORT, capture_output=True, check=False, timeout=60)


def test_procmail_forward_postfix_dovecot(
    machine: ProxyUser, administrator: GnuPGUser, tmp_path: Path
) -> None:
    command = machine.home.command("forward", "--to", administrator.address)
    done = deliver(recipe(machine, command, tmp_path))
    log = (tmp_path / "procmail.log").read_text()
    assert done.returncode == 0, log
    assert not (tmp_path / "undelivered").exists(), log
    (stored,) = wait_until(administrator.mailbox.stored, "delivery")

    assert not leaked(stored)
    assert not leaked(done.stdout + done.stderr + log.encode())
    plaintext, _ = opened_by(administrator.gnupg, stored)
    assert REPORT.partition(b"\n\n")[2].strip() in plaintext
    assert b"Subject: whereabouts of the treasure" in plaintext


def test_what_cannot_be_protected_stays_with_the_mail_server(
    machine: ProxyUser, administrator: GnuPGUser, tmp_path: Path
) -> None:
    """No certificate for the address: 75 all the way up, nothing is sent, nothing is delivered in clear."""
    command = machine.home.command("forward", "--to", "nobody@example.test")
    rc = recipe(machine, command, tmp_path)
    assert deliver(rc).returncode == 75
    log = (tmp_path / "procmail.log").read_bytes()
    assert not (tmp_path / "undelivered").exists()
    assert not leaked(log)
    direct = machine.home.run("forward", "--to", "nobody@example.test", data=REPORT, check=False)
    assert direct.returncode == 75
    assert not leaked(direct.stdout + direct.stderr)
    assert administrator.mailbox.stored() == []
