"""FWD-02, FWD-03, FWD-04, FWD-08: the examples for mail servers, tried with these servers.

A machine with a user sysmail as docs/system-mail.md has it; mail for root comes from /usr/sbin/sendmail, as
cron sends it, and goes to the administrator at Dovecot, who reads it with GnuPG. The wire between is listened
to. The lines are those of examples/, with another address.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.machine import SYSMAIL
from tests.fixtures.systemmail import CRON, EIGHT_BIT, MESSAGES, PostfixSite, example, system_mail_site


@pytest.fixture(scope="module")
def site(dovecot: Dovecot) -> Iterator[PostfixSite]:
    with system_mail_site(PostfixSite, dovecot) as made:
        made.configure()
        yield made


@pytest.fixture(autouse=True)
def clean(site: PostfixSite) -> None:
    site.machine.sh("rm -rf /var/lib/sysmail/.forward /var/lib/sysmail/.procmailrc /var/lib/sysmail/Maildir")


def test_forward_and_aliases(site: PostfixSite) -> None:
    """Root's line in /etc/aliases, and ~sysmail/.forward, run by local(8)."""
    site.machine.write("/etc/aliases", example("aliases"))
    site.machine.write("/var/lib/sysmail/.forward", site.fitted(example("forward")), owner=SYSMAIL)
    site.configure(example("postfix/main.cf", "aliases and ~sysmail/.forward"))
    site.tried(*MESSAGES)


def test_one_line_in_aliases(site: PostfixSite) -> None:
    lines = example("aliases").replace("root: sysmail\n", "").replace('#root: "|', 'root: "|')
    site.machine.write("/etc/aliases", site.fitted(lines))
    site.configure(example("postfix/main.cf", "a pipe in /etc/aliases"))
    site.tried(CRON)


def test_procmail(site: PostfixSite) -> None:
    """procmail, as local(8) calls it; with the kept copy."""
    site.machine.write("/etc/aliases", example("aliases"))
    lines = site.fitted(example("procmailrc"))
    kept = lines.replace("#:0 c", ":0 c").replace("#Maildir/", "Maildir/")
    site.machine.write("/var/lib/sysmail/.procmailrc", lines, "600", SYSMAIL)
    site.configure(example("postfix/main.cf", "procmail"))
    site.tried(*MESSAGES)
    assert site.machine.sh("cat /var/mail/*") == ""
    site.machine.write("/var/lib/sysmail/.procmailrc", kept, "600", SYSMAIL)
    site.send(CRON)
    site.arrived(CRON)
    copy = site.machine.sh("cat Maildir/new/*; stat -c %U:%a Maildir/new/*", SYSMAIL)
    assert CRON.partition(b"\n\n")[2].decode() in copy
    assert copy.endswith("sysmail:600\n")


def test_pipe(site: PostfixSite) -> None:
    """pipe(8), chosen by transport_maps."""
    site.machine.write("/etc/aliases", "")
    site.configure(
        example("postfix/main.cf", "pipe(8)"), site.fitted(example("postfix/master.cf", "pipe(8)"))
    )
    site.tried(CRON, EIGHT_BIT)
