"""System mail through a real Postfix: to our listeners, encrypted back to Postfix, and on to Dovecot.

The lines for main.cf and master.cf are those of docs/system-mail-server.md; only ports and addresses differ.
"""

from __future__ import annotations

import re
import signal
import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.people import GnuPGUser, gnupg_user, leaked
from tests.fixtures.postfix import Postfix, Stopped, stopped_postfix
from tests.fixtures.processes import free_port, service_folder, wait_until
from tests.fixtures.proxy import SOURCES, Proxy, ProxyHome, empty_home, serving
from tests.fixtures.tap import Tap, tap

DOCUMENT = SOURCES / "docs" / "system-mail-server.md"
ROOT = "root@example.org"
BODY = b"The windmill is crooked, and the southwest door was opened.\r\n.\r\n\xc3\xa4\xff 8bit  \r\n"


def documented(name: str) -> str:
    """The block of the document that begins with this comment."""
    found = re.search(rf"```\n# {re.escape(name)}\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert found is not None, name
    return found[1]


def report(to: str, number: int = 1) -> bytes:
    """What a program of the machine sends."""
    head = (
        f"From: Cron Daemon <{ROOT}>\r\nTo: {to}\r\nSubject: whereabouts of the treasure {number}\r\n"
        f"Date: Mon, 02 Mar 2026 10:00:0{number} +0000\r\nMessage-ID: <{number}@example.org>\r\n"
        "X-Cron-Env: <SECRET=fiftyseven>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        "Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return head.encode() + BODY


@dataclass
class Site:
    """A Postfix that has not started, whose way to Dovecot is tapped, and a home that serves system mail."""

    postfix: Stopped
    outgoing: Tap
    dovecot: Dovecot
    admin: GnuPGUser
    home: ProxyHome
    sender: Mailbox
    listen_port: int
    relay_port: int

    def configured(self, name: str, kind: str) -> str:
        """A line of the document for this site, with our listener of this kind."""
        lines = (
            documented(name).replace("10025", str(self.listen_port)).replace("root@host.example.org", ROOT)
        )
        return lines if kind == "lmtp" else re.sub(r"lmtp:inet:127\.0\.0\.1:", "smtp:[127.0.0.1]:", lines)

    @contextmanager
    def postfix_running(self, name: str, kind: str) -> Iterator[Postfix]:
        """With the lines of the document, and quick about trying again."""
        more = f"{self.configured(name, kind)}\nminimal_backoff_time = 1s\nmaximal_backoff_time = 1s\n"
        more += f"queue_run_delay = 1s\nvirtual_transport = lmtp:inet:127.0.0.1:{self.outgoing.port}\n"
        services = documented("master.cf").replace("10026", str(self.relay_port))
        with self.postfix.running(more, services, [self.relay_port]) as server:
            yield server

    def configure(self, kind: str, more: str = "") -> None:
        """For our listener of this kind, and no other."""
        config = self.home.folders.config_file
        config.write_text(
            '[secrets]\nbackend = "file"\npassphrase_file = "passphrase"\n'
            f'[forward]\nvia = "smtp"\nrelay = "127.0.0.1:{self.relay_port}"\n'
            f'sender = "{self.sender.address}"\nlocal_domains = ["example.org"]\naliases = "/nonexistent"\n'
            f'[forward.listen]\n{kind} = "127.0.0.1:{self.listen_port}"\nrecipients = ["@example.test"]\n'
            f'[[forward.targets]]\naddress = "{self.admin.address}"\n'
            f'fingerprint = "{self.admin.fingerprint}"\n{more}\n'
        )

    @contextmanager
    def serving(self, kind: str, more: str = "") -> Iterator[Proxy]:
        """Until the block ends."""
        self.configure(kind, more)
        with serving(self.home) as proxy:
            yield proxy

    def send(self, postfix: Postfix, *rcpt_tos: str, number: int = 1, options: tuple[str, ...] = ()) -> None:
        """Into Postfix's queue, as a program of the machine does."""
        with postfix.smtp(self.sender.address, self.sender.password) as client:
            client.ehlo()
            assert client.mail(self.sender.address, ["BODY=8BITMIME", *options])[0] == 250
            for one in rcpt_tos:
                assert client.rcpt(one)[0] == 250
            assert client.data(report(rcpt_tos[0], number))[0] == 250

    def opened(self, stored: bytes) -> bytes:
        """The plaintext of a message that the administrator got."""
        return opened_by(self.admin.gnupg, stored)[0]

    def received(self, count: int, mailbox: Mailbox | None = None) -> list[bytes]:
        """What is in a mailbox, the administrator's by default, once there is so much."""
        box = mailbox or self.admin.mailbox
        return wait_until(
            lambda: one if len(one := box.stored()) >= count else [],
            lambda: self.postfix.server.log()[-3000:],
        )


@pytest.fixture
def site(ca: TestCA, dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]) -> Iterator[Site]:
    admin = gnupg_user(gnupg_home(), dovecot.mailbox("admin"))
    with (
        stopped_postfix(ca, dovecot) as postfix,
        tap(dovecot.lmtp_port) as outgoing,
        service_folder("system") as folder,
    ):
        home = empty_home(folder / "home")
        made = Site(
            postfix, outgoing, dovecot, admin, home, dovecot.mailbox("host"), free_port(), free_port()
        )
        with home.keystore() as keystore:
            keystore.import_keys(admin.certificate(), source="the tests")
        yield made


def is_whole(plaintext: bytes, number: int = 1) -> bool:
    """Whether the report is inside, with every octet of its body."""
    return BODY in plaintext and b"Subject: whereabouts of the treasure %d\r\n" % number in plaintext


def test_fwd_02_root_by_transport_maps(site: Site) -> None:
    """FWD-02, FWD-03, FWD-05, FWD-08. While we are away, or have no certificate, Postfix keeps the mail; none
    of it goes out in clear; a message of ours that comes back stays in the queue."""
    with site.postfix_running("main.cf, some addresses", "lmtp") as postfix:
        site.send(postfix, ROOT)
        wait_until(lambda: "status=deferred" in postfix.log(), postfix.log)
        right, site.admin.fingerprint = site.admin.fingerprint, "0" * 40
        with site.serving("lmtp") as proxy:
            wait_until(lambda: "451 4.7.5" in postfix.log(), postfix.log)
            site.admin.fingerprint = right
            site.configure("lmtp")
            proxy.process.send_signal(signal.SIGHUP)
            (stored,) = site.received(1)
            assert is_whole(site.opened(stored))
            with postfix.smtp(site.sender.address, site.sender.password) as client:
                client.sendmail(site.sender.address, [ROOT], stored)
            wait_until(lambda: "mail loop" in postfix.log(), postfix.log)
            assert proxy.stop() == 0
        said = proxy.log() + postfix.log()
    assert len(site.admin.mailbox.stored()) == 1
    assert not leaked(bytes(site.outgoing.octets))
    assert b"multipart/encrypted" in site.outgoing.octets
    assert not leaked(stored)
    assert not leaked(said.encode())
    assert "status=bounced" not in said


PEOPLE = """
[[forward.rules]]
name = "people"
match = { rcpt_to = "^bob" }
do = "pass-on"
"""


def test_fwd_08_all_mail_by_content_filter(site: Site) -> None:
    """What no rule passes on is encrypted; what one does comes out as it went in, with its own envelope."""
    bob = site.dovecot.mailbox("bob")
    with (
        site.postfix_running("main.cf, all mail", "lmtp") as postfix,
        site.serving("lmtp", PEOPLE) as proxy,
    ):
        options = ("RET=HDRS", "ENVID=hello")
        site.send(postfix, bob.address, ROOT, site.admin.address, number=2, options=options)
        (plain,) = site.received(1, bob)
        encrypted = site.received(2)
        assert plain.endswith(report(bob.address, 2))
        assert f"Return-Path: <{site.sender.address}>".encode() in plain
        assert all(is_whole(site.opened(one), 2) and not leaked(one) for one in encrypted)
        # As any program of the machine could try.
        with smtplib.LMTP("127.0.0.1", site.listen_port, local_hostname="x") as client:
            client.ehlo()
            client.mail("root@example.org")
            assert client.rcpt("anybody@example.com") == (550, b"5.7.1 relay access denied")
        assert "status=bounced" not in postfix.log()
        assert 'event="system relay access denied"' in proxy.log()
    assert len(bob.stored()) == 1


def test_fwd_02_all_mail_by_smtp(site: Site) -> None:
    """One transaction for all recipients, and so one message for the one who reads for all of them."""
    with site.postfix_running("main.cf, all mail", "smtp") as postfix, site.serving("smtp"):
        site.send(postfix, ROOT, site.admin.address, number=3)
        site.send(postfix, ROOT, number=4)
        stored = site.received(2)
        assert sorted(
            is_whole(site.opened(one), 3) + 2 * is_whole(site.opened(one), 4) for one in stored
        ) == [1, 2]
    assert not leaked(bytes(site.outgoing.octets))
    assert len(site.admin.mailbox.stored()) == 2
