"""FWD-02, FWD-03, FWD-08: the examples for mail servers, tried with these servers.

A machine with a user sysmail as docs/system-mail.md has it; mail for root comes from /usr/sbin/sendmail, as
cron sends it, and goes to the administrator at Dovecot, who reads it with GnuPG. The wire between is listened
to. The lines are those of examples/, with another address.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG
from tests.fixtures.machine import SYSMAIL, new_machine
from tests.fixtures.people import gnupg_user
from tests.fixtures.postfix import MASTER
from tests.fixtures.processes import service_folder, wait_until
from tests.fixtures.systemmail import CRON, EIGHT_BIT, MESSAGES, SystemMailSite, example
from tests.fixtures.tap import tap

MAIN = """
compatibility_level = 3.6
maillog_file = /var/log/postfix.log
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = host.example.org
mydestination = host.example.org
mynetworks =
default_transport = lmtp:inet:127.0.0.1:{port}
lmtp_host_lookup = native
smtp_dns_support_level = disabled
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
in_flow_delay = 0
"""
LOCAL = "local unix - n n - - local\n"
CRON_SENDMAIL = ("/usr/sbin/sendmail", "-i", "-FCronDaemon", "-B8BITMIME", "-oem", "root")


class PostfixSite(SystemMailSite):
    """With Postfix."""

    def configure(self, main: str = "", master: str = "") -> None:
        """Start Postfix, or have it read these lines."""
        services = MASTER[MASTER.index("pickup") :] + LOCAL + master
        self.machine.write("/etc/postfix/main.cf", MAIN.format(port=self.outgoing.port) + main)
        self.machine.write("/etc/postfix/master.cf", services)
        self.machine.sh("newaliases; postfix status 2>&1 && postfix reload || postfix start")

    def log(self) -> str:
        return self.machine.log("postfix.log")

    def send(self, message: bytes) -> None:
        """As cron does."""
        self.machine.run(*CRON_SENDMAIL, data=message)

    def comes_through(self, *messages: bytes) -> None:
        """Asserts that mail for root waits while it cannot be encrypted, and then arrives whole."""
        self.without_key()
        before = len(self.log())
        self.send(messages[0])
        wait_until(lambda: "status=deferred" in self.log()[before:], self.log)
        assert "root@host.example.org" in self.machine.sh("mailq")
        assert len(self.admin.mailbox.stored()) == self.read
        self.with_key()
        self.machine.sh("postqueue -f")
        for message in messages[1:]:
            self.send(message)
        self.arrived(*messages, said=self.log())
        wait_until(lambda: "queue is empty" in self.machine.sh("mailq"), self.log)
        assert "status=bounced" not in self.log()


@pytest.fixture(scope="module")
def site(dovecot: Dovecot) -> Iterator[PostfixSite]:
    with service_folder("gnupg") as folder, tap(dovecot.lmtp_port) as outgoing, new_machine() as machine:
        (folder / "home").mkdir(mode=0o700)
        gnupg = GnuPG(folder / "home")
        made = PostfixSite(machine, gnupg_user(gnupg, dovecot.mailbox("admin")), outgoing, dovecot)
        made.install()
        machine.write("/etc/aliases", "")
        made.configure()
        yield made
        machine.sh("postfix stop")
        gnupg.end()


@pytest.fixture(autouse=True)
def clean(site: PostfixSite) -> None:
    site.machine.sh("rm -rf /var/lib/sysmail/.forward /var/lib/sysmail/.procmailrc /var/lib/sysmail/Maildir")


def test_forward_and_aliases(site: PostfixSite) -> None:
    """Root's line in /etc/aliases, and ~sysmail/.forward, run by local(8)."""
    site.machine.write("/etc/aliases", example("aliases"))
    site.machine.write("/var/lib/sysmail/.forward", site.fitted(example("forward")), owner=SYSMAIL)
    site.configure(example("postfix/main.cf", "aliases and ~sysmail/.forward"))
    site.comes_through(*MESSAGES)


def test_one_line_in_aliases(site: PostfixSite) -> None:
    lines = example("aliases").replace("root: sysmail\n", "").replace('#root: "|', 'root: "|')
    site.machine.write("/etc/aliases", site.fitted(lines))
    site.configure(example("postfix/main.cf", "a pipe in /etc/aliases"))
    site.comes_through(CRON)


def test_procmail(site: PostfixSite) -> None:
    """procmail, as local(8) calls it; with the kept copy."""
    site.machine.write("/etc/aliases", example("aliases"))
    lines = site.fitted(example("procmailrc"))
    kept = lines.replace("#:0 c", ":0 c").replace("#Maildir/", "Maildir/")
    site.machine.write("/var/lib/sysmail/.procmailrc", lines, "600", SYSMAIL)
    site.configure(example("postfix/main.cf", "procmail"))
    site.comes_through(*MESSAGES)
    assert site.machine.sh("cat /var/mail/*") == ""
    site.machine.write("/var/lib/sysmail/.procmailrc", kept, "600", SYSMAIL)
    site.send(CRON)
    site.arrived(CRON, said=site.log())
    copy = site.machine.sh("cat Maildir/new/*; stat -c %U:%a Maildir/new/*", SYSMAIL)
    assert CRON.partition(b"\n\n")[2].decode() in copy
    assert copy.endswith("sysmail:600\n")


def test_pipe(site: PostfixSite) -> None:
    """pipe(8), chosen by transport_maps."""
    site.machine.write("/etc/aliases", "")
    site.configure(
        example("postfix/main.cf", "pipe(8)"), site.fitted(example("postfix/master.cf", "pipe(8)"))
    )
    site.comes_through(CRON, EIGHT_BIT)
