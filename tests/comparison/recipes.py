"""The classic recipe and ours, run by procmail with a program that keeps what leaves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.gnupg import GnuPG
from tests.fixtures.proxy import SOURCES, empty_home

ADDRESS = "admin@example.org"

CLASSIC = f"""
FROM=`formail -xFrom:`
SUBJECT=`formail -xSubject:`

:0 c
* ^To:.*root.*
| formail -I "" | gpg --trust-model always -ear {ADDRESS} | mail -r "$FROM" -s "$SUBJECT" {ADDRESS}
"""

_EXAMPLE = (SOURCES / "examples" / "procmailrc").read_text()
_COMMAND = re.compile(r"^\| \S*secmailproxy .*$", re.MULTILINE)
OURS = ":0 c\n$DEFAULT\n\n" + _COMMAND.sub(
    f"| {sys.executable} -m secmailproxy forward --to {ADDRESS}", _EXAMPLE
)

_TAKES = """#!/bin/sh
umask 077
name=$(mktemp "${0%/*}/left/XXXXXX")
printf '%s\\0' "$@" >"$name.arguments"
cat >"$name.message"
"""


@dataclass(frozen=True)
class Departure:
    """One call of the sendmail program."""

    arguments: tuple[str, ...]
    octets: bytes


@dataclass(frozen=True)
class Machine:
    """One machine with one recipe, and the administrator who reads what leaves it."""

    folder: Path
    recipe: str
    reader: GnuPG

    def deliver(self, message: bytes) -> tuple[int, list[Departure]]:
        """The status of procmail, and what left for this message."""
        left = self.folder / "left"
        left.mkdir(exist_ok=True)
        # procmail does not wait for a pipe without "w"; whoever is still at work holds this descriptor.
        ended, held = os.pipe()
        with open(ended, "rb") as everybody:
            done = subprocess.run(
                ["procmail", "-m", self.folder / "procmailrc"],
                input=message,
                env={
                    "PATH": f"{os.environ['PATH']}:/usr/sbin",
                    "HOME": str(self.folder),
                    "LC_ALL": "C.UTF-8",
                },
                pass_fds=(held,),
                capture_output=True,
                check=False,
                timeout=60,
            )
            os.close(held)
            everybody.read()
        departures = []
        for path in sorted(left.glob("*.message")):
            arguments = path.with_suffix(".arguments")
            words = arguments.read_bytes().decode(errors="replace").split("\0")[:-1]
            departures.append(Departure(tuple(words), path.read_bytes()))
            path.unlink()
            arguments.unlink()
            path.with_suffix("").unlink()
        return done.returncode, departures

    @property
    def kept(self) -> bytes:
        """The plain copies on the machine."""
        path = self.folder / "kept"
        return path.read_bytes() if path.exists() else b""


@contextmanager
def machine(folder: Path, recipe: str, *, expired: bool = False) -> Iterator[Machine]:
    """A machine that knows the administrator's certificate, be it that it has expired."""
    gnupg, reader = GnuPG(folder / "gnupg"), GnuPG(folder / "reader")
    for home in (gnupg, reader):
        home.home.mkdir(mode=0o700, parents=True)
    try:
        fingerprint = _certificate(reader, expired=expired)
        certificate = reader.export(fingerprint)
        gnupg.take(certificate)
        takes = folder / "sendmail"
        takes.write_text(_TAKES)
        takes.chmod(0o700)
        (folder / "mailrc").write_text(f"set sendmail={takes}\n")
        home = empty_home(folder / "secmailproxy")
        home.add_config(
            f'[forward]\nvia = "sendmail"\nsendmail = "{takes}"\nsender = "bounces@machine.example"\n\n'
            f'[[forward.targets]]\naddress = "{ADDRESS}"\nfingerprint = "{fingerprint}"\n'
        )
        with home.keystore() as keystore:
            keystore.import_keys(certificate, source="a test")
        rc = folder / "procmailrc"
        rc.write_text(
            f"SHELL=/bin/sh\nLOGFILE={folder}/log\nDEFAULT={folder}/kept\nMAILRC={folder}/mailrc\n"
            f"GNUPGHOME={gnupg.home}\nSECMAILPROXY_HOME={home.folder}\nPYTHONPATH={SOURCES}\n{recipe}"
        )
        rc.chmod(0o600)
        yield Machine(folder, recipe, reader)
    finally:
        gnupg.end()
        reader.end()


def _certificate(reader: GnuPG, *, expired: bool) -> str:
    if not expired:
        return reader.generate(f"Admin <{ADDRESS}>")
    then = "--faked-system-time=20240101T000000!"
    reader.run(then, "--quick-generate-key", f"Admin <{ADDRESS}>", "ed25519", "sign,cert", "30d")
    listing = reader.run("--with-colons", "--list-keys").stdout.decode()
    fingerprint = next(line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr"))
    reader.run(then, "--quick-add-key", fingerprint, "cv25519", "encr", "30d")
    return fingerprint
