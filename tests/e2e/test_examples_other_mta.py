"""FWD-02, FWD-03: the examples for Exim and OpenSMTPD, tried with these servers.

As test_examples_mta.py does with Postfix. They are fetched, not installed, for there is one
mail server at a time in Debian; so each has a machine of its own.
"""

from __future__ import annotations

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.processes import wait_until
from tests.fixtures.systemmail import CRON, EIGHT_BIT, HOSTILE, SystemMailSite, example, system_mail_site

EXIM = """
primary_hostname = host.example.org
domainlist local_domains = host.example.org
keep_environment =
log_file_path = /var/log/exim-%slog
acl_not_smtp = accept
begin acl
accept:
  accept
begin routers
{router}
outside:
  driver = manualroute
  route_list = * 127.0.0.1
  self = send
  transport = outside
begin transports
{transport}
outside:
  driver = smtp
  protocol = lmtp
  port = {port}
begin retry
* * F,1h,1s
"""
EXIM_START = """
adduser --quiet --system --group --home /var/spool/exim4 --allow-bad-names Debian-exim
rm /usr/sbin/sendmail
cp -a /opt/packages/usr/sbin/. /usr/sbin
touch /var/log/exim-mainlog
chown Debian-exim /var/log /var/log/exim-mainlog
mkdir /etc/exim4
"""

OPENSMTPD = """
listen on socket
action "outside" relay host "lmtp://127.0.0.1:{port}"
{example}
match from local for any action "outside"
"""
OPENSMTPD_START = """
adduser --quiet --system --group --home /var/lib/opensmtpd opensmtpd
adduser --quiet --system --group --no-create-home --home /var/lib/opensmtpd opensmtpq
mkdir /var/lib/opensmtpd/empty /var/spool/smtpd
chmod 711 /var/spool/smtpd
rm /usr/sbin/sendmail
cp -a /opt/packages/usr/sbin/. /usr/sbin
chgrp opensmtpq /usr/sbin/smtpctl
chmod 2755 /usr/sbin/smtpctl
mount --bind /opt/packages/usr/libexec /usr/libexec
smtpd -n -f /etc/smtpd.conf
smtpd -d -f /etc/smtpd.conf >/var/log/smtpd 2>&1 </dev/null &
"""


class EximSite(SystemMailSite):
    """With Exim."""

    def log(self) -> str:
        return self.machine.log("exim-mainlog")


class OpenSMTPDSite(SystemMailSite):
    """With OpenSMTPD."""

    def log(self) -> str:
        return self.machine.log("smtpd")


def test_exim(dovecot: Dovecot) -> None:
    """The router and the transport."""
    with system_mail_site(EximSite, dovecot) as site:
        site.machine.unpack("exim4-base", "exim4-daemon-light", "libidn12", "libgnutls-dane0", "libunbound8")
        site.machine.sh(EXIM_START)
        parts = {name: site.fitted(example(f"exim/{name}")) for name in ("router", "transport")}
        site.machine.write("/etc/exim4/exim4.conf", EXIM.format(port=site.outgoing.port, **parts))
        site.comes_through(CRON, EIGHT_BIT, HOSTILE, waits=" defer (", again="exim4 -qff")
        assert "Completed" in site.log()
        assert "**" not in site.log()


def test_opensmtpd(dovecot: Dovecot) -> None:
    """The action and its match."""
    with system_mail_site(OpenSMTPDSite, dovecot) as site:
        site.machine.unpack("opensmtpd", "libevent-2.1-7")
        lines = site.fitted(example("opensmtpd/smtpd.conf"))
        site.machine.write("/etc/smtpd.conf", OPENSMTPD.format(port=site.outgoing.port, example=lines))
        site.machine.sh(OPENSMTPD_START)
        wait_until(
            lambda: site.machine.run("smtpctl", "show", "status", check=False).returncode == 0, site.log
        )
        site.comes_through(CRON, EIGHT_BIT, HOSTILE, waits="result=TempFail", again="smtpctl schedule all")
        assert "result=PermFail" not in site.log()
