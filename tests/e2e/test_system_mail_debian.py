"""FWD-03, FWD-04: docs/system-mail-debian.md is followed as written, on a machine without a mail server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.fixtures.certificates import TestCA
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.instructions import steps
from tests.fixtures.machine import SYSMAIL
from tests.fixtures.people import leaked
from tests.fixtures.postfix import Postfix
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import SOURCES
from tests.fixtures.recorder import recording
from tests.fixtures.systemmail import CONFIG, MESSAGES, NO_SUCH_KEY, SystemMailSite, system_mail_site

DOCUMENT = "system-mail-debian.md"
UNITS = SOURCES / "examples" / "systemd"
SOCKET = "/run/secmailproxy/sendmail"


class NoServerSite(SystemMailSite):
    """Without a mail server; `serve` runs as the unit says."""

    pid = ""

    def log(self) -> str:
        return self.machine.log("serve")

    def start(self) -> None:
        """As systemd does it: the folder of the socket, then the command, as the user."""
        unit = (UNITS / "secmailproxy.service").read_text()
        (command,) = re.findall(r"(?m)^ExecStart=(.+)$", unit)
        assert "RuntimeDirectory=secmailproxy\nRuntimeDirectoryMode=0755\n" in unit
        before = len(self.log())
        become = f"setpriv --reuid={SYSMAIL} --regid={SYSMAIL} --init-groups env HOME=/var/lib/sysmail"
        self.pid = self.machine.sh(
            f"install -d -o {SYSMAIL} -m 755 /run/secmailproxy; rm -f {SOCKET}\n"
            f"{become} {command} >>/var/log/serve 2>&1 </dev/null & echo $!"
        ).strip()
        wait_until(lambda: f"{SOCKET}, system mail" in self.log()[before:], self.log)

    def stop(self) -> None:
        """And wait until it has ended."""
        before = len(self.log())
        self.machine.run("kill", self.pid)
        # Each look at the process is one itself.
        wait_until(lambda: "event=stopped" in self.log()[before:], self.log)
        wait_until(lambda: self.machine.run("kill", "-0", self.pid, check=False).returncode != 0, self.log)


def test_no_mail_server(dovecot: Dovecot, postfix: Postfix, ca: TestCA) -> None:
    """Step by step; what programs write comes to the administrator, or stays with them unencrypted."""
    user, account, config, service, sendmail, test, queue = steps(DOCUMENT, "Step by step")
    host = dovecot.mailbox("host")
    with (
        recording(ca, postfix.submissions_port) as outgoing,
        system_mail_site(NoServerSite, dovecot, installed=False) as site,
    ):
        machine = site.machine
        machine.write("/root/admin.asc", site.admin.certificate())
        machine.write("/etc/ssl/ca.pem", ca.ca_file.read_bytes())
        machine.sh(user.text)
        machine.write("/var/lib/sysmail/password", f"{host.password}\n", "600", SYSMAIL)
        answers = (
            f"setup {host.address} --non-interactive --password-file password --ca-file /etc/ssl/ca.pem "
            f"--imap-host localhost --imap-port {dovecot.imaps_port} --imap-tls implicit "
            f"--smtp-host localhost --smtp-port {outgoing.port} --smtp-tls implicit "
            "--listen-imap 127.0.0.1:0 --listen-submission 127.0.0.1:0 "
        )
        machine.sh(account.text.replace("setup host@example.org ", answers), account.user)
        written = machine.sh(f"cat {CONFIG}")
        for unit in UNITS.iterdir():
            machine.write(f"/etc/systemd/system/{unit.name}", unit.read_bytes())
        # Nothing here is booted by systemd.
        machine.sh(service.text.replace(" --now", "") + sendmail.text)

        wrong = site.fitted(config.text).replace(site.admin.fingerprint, NO_SUCH_KEY)
        machine.write(CONFIG, written + wrong, "600", SYSMAIL)
        site.start()
        refused = machine.run("/usr/sbin/sendmail", "-i", "root", data=MESSAGES[0], check=False)
        assert refused.returncode == 75
        assert not leaked(refused.stdout + refused.stderr)
        assert machine.sh(queue.text, queue.user).count("@") == 0
        site.stop()

        machine.write(CONFIG, written + site.fitted(config.text), "600", SYSMAIL)
        site.root = "root"
        site.start()
        machine.sh(test.text)
        site.arrived(b"Subject: test\n\nIt works.\n")
        for message in MESSAGES[1:]:
            site.send(message)
        site.arrived(*MESSAGES[1:])
        wait_until(lambda: "@" not in machine.sh(queue.text, queue.user), site.log)
        assert not leaked(outgoing.octets)
        assert b"multipart/encrypted" in outgoing.sent
        assert not leaked(site.log().encode())
        site.stop()


def test_units_are_right(tmp_path: Path) -> None:
    """systemd reads them without a complaint; the program exists in the tests at another place."""
    for unit in UNITS.iterdir():
        text = unit.read_text().replace("/opt/secmailproxy/bin/secmailproxy", "/bin/true")
        (tmp_path / unit.name).write_text(text.replace("sysmail", "root"))
    names = [tmp_path / unit.name for unit in UNITS.iterdir()]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False
    )
    complaints = [
        line for line in done.stderr.splitlines() if str(tmp_path) in line or "secmailproxy" in line
    ]
    assert not complaints


@pytest.mark.parametrize("name", ["secmailproxy.service", "secmailproxy-queue.service"])
def test_exposure_is_as_the_document_says(name: str) -> None:
    document = (SOURCES / "docs" / DOCUMENT).read_text()
    said = re.search(rf"\| `{re.escape(name)}` \| ([\d.]+) \|", document)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", UNITS / name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for \S+ ([\d.]+)", done.stdout)
    assert said is not None
    assert found is not None
    assert float(found[1]) <= float(said[1]) < 2
