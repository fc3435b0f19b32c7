"""docs/system-mail.md is followed as it is written, on a machine of its own with Postfix."""

from __future__ import annotations

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.instructions import steps
from tests.fixtures.machine import SYSMAIL
from tests.fixtures.systemmail import CONFIG, CRON, PostfixSite, system_mail_site

DOCUMENT = "system-mail.md"


def test_five_minutes(dovecot: Dovecot) -> None:
    """Every block in its order, with the administrator's address and fingerprint."""
    user, key, config, check, test = steps(DOCUMENT, "Five minutes")
    (aliases,) = steps(DOCUMENT, "I have an MTA")
    (recipe,) = steps(DOCUMENT, "I have procmail")
    with system_mail_site(PostfixSite, dovecot, installed=False) as site:
        machine = site.machine
        machine.write("/root/admin.asc", site.admin.certificate())
        machine.sh(user.text)
        site.configure()
        assert site.admin.fingerprint in machine.sh(key.text, key.user).replace(" ", "")
        machine.write(CONFIG, site.fitted(config.text), "600", SYSMAIL)
        assert site.admin.address in machine.sh(check.text, check.user)
        site.arrived(b"Subject: test\n\nIt works.\n")
        machine.sh(aliases.text)
        machine.sh(test.text)
        site.arrived(b"Subject: test\n\nIt works.\n")

        machine.sh("rm /var/lib/sysmail/.forward")
        machine.write("/var/lib/sysmail/.procmailrc", recipe.text, "600", SYSMAIL)
        site.configure('mailbox_command = /usr/bin/procmail -a "$EXTENSION"\n')
        site.send(CRON)
        site.arrived(CRON)
