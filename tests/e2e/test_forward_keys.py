"""FWD-03 with certificates of gpg that are expired, revoked or absent: what becomes of mail for their owner.

In place of sendmail a script keeps what it is handed. A message that is held leaves when it is released.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from secmailproxy.forward.alerts import BARE_TEXT
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyHome, empty_home

ADMIN, TRUSTEE = "admin@example.org", "trustee@example.net"
REPORT = b"From: root@host.example\nTo: root\nSubject: the treasure\n\nThe windmill is crooked.\n"
SECRETS = (b"treasure", b"windmill", b"crooked")


@dataclass(frozen=True)
class Machine:
    """A home whose sendmail writes each message to a file of its own."""

    home: ProxyHome
    out: Path

    def sent(self) -> dict[str, bytes]:
        """What was handed over, by recipient."""
        handed = [(path.read_text(), path.with_suffix(".mail")) for path in self.out.glob("*.words")]
        return {words.split()[-1]: message.read_bytes() for words, message in handed}

    def forward(self) -> int:
        """The exit status of the pipe; nothing that it says or writes quotes the message."""
        done = self.home.run("forward", "--to", ADMIN, data=REPORT, check=False)
        assert done.stdout == b""
        assert not [word for word in SECRETS if word in done.stderr]
        assert not [path for path in self.home.folder.rglob("*") if path.is_file() and holds_secret(path)]
        return done.returncode

    def queue(self) -> list[dict[str, object]]:
        """What waits."""
        found: list[dict[str, object]] = json.loads(self.home.run("queue", "list", "--json").stdout)
        return found


def holds_secret(path: Path) -> bool:
    """Whether a word of the report is in the file."""
    octets = path.read_bytes()
    return any(word in octets for word in SECRETS)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Its configuration lacks the targets."""
    home, out = empty_home(tmp_path / "home"), tmp_path / "out"
    out.mkdir()
    script = tmp_path / "handover"
    script.write_text(f'#!/bin/sh\ncd {out}\necho "$@" > $$.new; cat > $$.mail; mv $$.new $$.words\n')
    script.chmod(0o755)
    home.add_config(
        f'[forward]\nvia = "sendmail"\nsendmail = "{script}"\nsender = "bounces@host.example"\n'
        f'alert = ["{ADMIN}"]\n'
    )
    return Machine(home, out)


def expired(gnupg: GnuPG) -> tuple[str, bytes]:
    """A certificate that ended long ago."""
    gnupg.run(
        "--faked-system-time=20200101T000000", "--quick-generate-key", ADMIN, "rsa2048", "default", "1d"
    )
    return of(gnupg), gnupg.export(ADMIN)


def revoked(gnupg: GnuPG) -> tuple[str, bytes]:
    """A certificate that its owner has revoked."""
    fingerprint = gnupg.generate(ADMIN)
    revocation = (gnupg.home / "openpgp-revocs.d" / f"{fingerprint}.rev").read_bytes()
    gnupg.take(revocation.replace(b":-----BEGIN", b"-----BEGIN"))
    return fingerprint, gnupg.export(ADMIN)


def absent(gnupg: GnuPG) -> tuple[str, bytes]:
    """A certificate that nobody has imported."""
    return gnupg.generate(ADMIN), b""


def of(gnupg: GnuPG) -> str:
    """The fingerprint of the only key."""
    listing = gnupg.run("--with-colons", "--list-keys").stdout.decode()
    return next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))


def target(machine: Machine, fingerprint: str, certificate: bytes) -> None:
    """Pin a certificate, and import it if there is one."""
    machine.home.add_config(f'[[forward.targets]]\naddress = "{ADMIN}"\nfingerprint = "{fingerprint}"\n')
    if certificate:
        with machine.home.keystore() as keystore:
            keystore.import_keys(certificate, source="a test")


@pytest.mark.parametrize("make", [expired, revoked, absent])
def test_fwd_03_mail_for_a_certificate_that_cannot_be_used_is_deferred(
    machine: Machine, gnupg_home: Callable[..., GnuPG], make: Callable[[GnuPG], tuple[str, bytes]]
) -> None:
    """With an alert, in clear since nothing else is possible, that says nothing."""
    target(machine, *make(gnupg_home()))
    assert machine.forward() == 75
    (alert,) = machine.sent().values()
    assert alert.replace(b"\n", b"\r\n").endswith(BARE_TEXT.encode())
    assert not list(machine.home.folders.spool.glob("*.mail"))


def test_fwd_03_with_an_escrow_it_is_held_and_leaves_when_it_is_released(
    machine: Machine, gnupg_home: Callable[..., GnuPG]
) -> None:
    fingerprint, certificate = expired(gnupg_home())
    target(machine, fingerprint, certificate)
    trustee = gnupg_home()
    key = trustee.generate(TRUSTEE)
    with machine.home.keystore() as keystore:
        keystore.import_keys(trustee.export(TRUSTEE), source="a test")
    machine.home.add_config(f'[forward.escrow]\naddress = "{TRUSTEE}"\nfingerprint = "{key}"\n')
    assert machine.forward() == 0
    (waiting,) = machine.queue()
    assert (waiting["state"], waiting["to"]) == ("held", [TRUSTEE])
    assert fingerprint in str(waiting["reason"])
    assert list(machine.sent()) == [ADMIN], "the alert alone"

    machine.home.run("queue", "release", str(waiting["id"]))
    released = wait_until(lambda: machine.sent().get(TRUSTEE), "the released message")
    plaintext, _ = opened_by(trustee, released)
    assert plaintext.endswith(REPORT.replace(b"\n", b"\r\n"))
    assert not [word for word in SECRETS if word in released]
    wait_until(lambda: machine.queue() == [], "an empty queue")
