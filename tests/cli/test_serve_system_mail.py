"""`secmailproxy serve` for system mail: without accounts, at Unix sockets, reloaded, watching a mailbox."""

from __future__ import annotations

import json
import signal
import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from secmailproxy.accounts import password_secret
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.people import GnuPGUser, gnupg_user, leaked
from tests.fixtures.processes import free_port, listening, service_folder, wait_until
from tests.fixtures.proxy import ACCOUNT, ProxyHome, empty_home, serving

ROOT = "root@localhost"
REPORT = b"From: root\r\nSubject: whereabouts of the treasure\r\n\r\nthe crooked windmill\r\n"
PASSES_ON = '#!/bin/sh\ncat > "$0.$$.part" && mv "$0.$$.part" "$0.$$.sent"\n'
"""A sendmail program that keeps what it is given."""


@pytest.fixture
def admin(dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]) -> GnuPGUser:
    return gnupg_user(gnupg_home(), dovecot.mailbox("admin"))


class Machine:
    """A home without accounts, and a sendmail program."""

    def __init__(self, folder: Path, admin: GnuPGUser) -> None:
        self.home: ProxyHome = empty_home(folder / "home")
        self.folder = folder
        self.admin = admin
        self.sendmail = folder / "sendmail"
        self.sendmail.write_text(PASSES_ON)
        self.sendmail.chmod(0o755)
        with self.home.keystore() as keystore:
            keystore.import_keys(admin.certificate(), source="the tests")

    def configure(self, listen: str, more: str = "") -> None:
        self.home.folders.config_file.write_text(
            '[secrets]\nbackend = "file"\npassphrase_file = "passphrase"\n'
            f'[forward]\nvia = "sendmail"\nsendmail = "{self.sendmail}"\nsender = "host@example.test"\n'
            f'aliases = "/nonexistent"\n[forward.listen]\n{listen}\n[[forward.targets]]\n'
            f'address = "{self.admin.address}"\nfingerprint = "{self.admin.fingerprint}"\n{more}\n'
        )

    def sent(self) -> list[bytes]:
        """What the sendmail program was given."""
        return [one.read_bytes() for one in sorted(self.folder.glob("sendmail.*.sent"))]


@pytest.fixture
def machine(admin: GnuPGUser) -> Iterator[Machine]:
    with service_folder("system") as folder:
        yield Machine(folder, admin)


def lmtp(host: str, port: int = 0) -> smtplib.LMTP:
    """Connected; a path is that of a Unix socket."""
    return smtplib.LMTP(host, port, local_hostname="x")


def test_without_accounts_by_unix_socket_and_reloaded(machine: Machine) -> None:
    """Nothing listens for mail clients; SIGHUP adds and removes listeners; report and status name them."""
    path, port = machine.folder / "lmtp", free_port()
    machine.configure(f'lmtp = "{path}"\nrecipients = ["*"]')
    with serving(machine.home) as proxy:
        assert (proxy.imap_port, proxy.submission_port) == (0, 0)
        assert f"LMTP        {path}, system mail" in proxy.log()
        with lmtp(str(path)) as client:
            client.sendmail("", [ROOT], REPORT)
            assert client.rcpt("anybody@example.com")[0] == 503
            client.mail("")
            assert client.rcpt("anybody@example.com")[0] == 250
        first = machine.sent()
        machine.configure(f'smtp = "127.0.0.1:{port}"')
        proxy.process.send_signal(signal.SIGHUP)
        wait_until(lambda: not path.exists() and listening(port), proxy.log)
        with smtplib.SMTP("127.0.0.1", port, local_hostname="x") as smtp:
            smtp.sendmail("cron@localhost", ["root"], REPORT)
            with pytest.raises(smtplib.SMTPRecipientsRefused, match="relay access denied"):
                smtp.sendmail("cron@localhost", ["anybody@example.com"], REPORT)
        told = json.loads(machine.home.run("status", "--json", check=False).stdout)
        assert told["listeners"] == {"smtp": f"127.0.0.1:{port}"}
        assert proxy.stop() == 0
        assert not leaked(proxy.log().encode())
    assert len(first) == 1
    for one in machine.sent():
        assert not leaked(one)
        assert b"crooked windmill" in opened_by(machine.admin.gnupg, one)[0]
    assert len(machine.sent()) == 2


def test_fwd_03_a_watched_mailbox(machine: Machine, dovecot: Dovecot) -> None:
    """Its password is stored; what cannot be encrypted stays there; what leaves shows no word."""
    box = dovecot.mailbox("machines")
    account = ACCOUNT.format(
        address=box.address,
        ca_file=dovecot.ca.ca_file,
        imap_port=dovecot.imaps_port,
        imap_tls="implicit",
        smtp_port=1,
        smtp_tls="implicit",
    )
    watch = f'[[forward.watch]]\naccount = "{box.address}"\nafter = "delete"\n{account}'
    right, machine.admin.fingerprint = machine.admin.fingerprint, "0" * 40
    listen = '[listen]\nimap = "127.0.0.1:0"\nsubmission = "127.0.0.1:0"'
    machine.configure("", watch + listen)
    machine.home.set_secret(password_secret(box.address), box.password)
    box.deliver(REPORT, "cron@example.test")
    with serving(machine.home) as proxy:
        assert f"watching    INBOX of {box.address}" in proxy.log()
        wait_until(lambda: "a message of a watched mailbox waits" in proxy.log(), proxy.log)
        assert len(box.stored()) == 1
        machine.admin.fingerprint = right
        machine.configure("", watch + listen)
        proxy.process.send_signal(signal.SIGHUP)
        (sent,) = wait_until(machine.sent, proxy.log)
        wait_until(lambda: not box.stored(), proxy.log)
        assert not leaked(proxy.log().encode())
    assert not leaked(sent)
    assert b"crooked windmill" in opened_by(machine.admin.gnupg, sent)[0]
    assert machine.sent() == [sent]
