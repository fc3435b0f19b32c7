"""A private Dovecot, one process on pipes, as the oracle for structures and sections."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.processes import die_with_parent, service_folder

_LITERAL = re.compile(rb"\{(\d+)\}\r\n\Z")
_CONFIGURATION = """
base_dir = {run}
state_dir = {run}
log_path = /dev/stderr
mail_location = maildir:{mail}:LAYOUT=fs
protocols = imap
ssl = no
mail_uid = {uid}
mail_gid = {gid}
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
namespace inbox {{
  inbox = yes
}}
"""


class Dovecot:
    """An IMAP session, already authenticated, with one mailbox of our own."""

    def __init__(self, folder: Path) -> None:
        uid = os.getuid() or 65534
        for name in ("run", "mail"):
            (folder / name).mkdir()
            os.chown(folder / name, uid, -1)
        settings = folder / "dovecot.conf"
        settings.write_text(
            _CONFIGURATION.format(run=folder / "run", mail=folder / "mail", uid=uid, gid=os.getgid() or 65534)
        )
        self._process = subprocess.Popen(
            ["/usr/lib/dovecot/imap", "-c", str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "USER": "reader", "HOME": str(folder)},
            bufsize=0,
            preexec_fn=die_with_parent,
        )
        self._input = self._process.stdin
        self._output = self._process.stdout
        assert self._input is not None
        assert self._output is not None
        self._reader = os.fdopen(os.dup(self._output.fileno()), "rb")
        self._count = 0

    def open(self) -> None:
        """Wait for the greeting and select the mailbox."""
        self._line()
        self._command(b"SELECT INBOX")

    def close(self) -> None:
        """End the session and the process."""
        self._input.close()
        self._process.wait(10)
        self._reader.close()
        self._output.close()
        self._process.stderr.close()

    def store(self, message: bytes) -> int:
        """Append a message; its sequence number."""
        self._input.write(b"t APPEND INBOX {%d+}\r\n" % len(message))
        self._input.write(message + b"\r\n")
        self._answer()
        self._count += 1
        return self._count

    def fetch(self, number: int, item: bytes) -> bytes:
        """The value of one FETCH item, as it stood in the response (a literal with its announcement)."""
        response = next(
            piece for piece in self._command(b"FETCH %d (%b)" % (number, item)) if b" FETCH (" in piece
        )
        return response.split(b" ", 4)[4].removesuffix(b")\r\n") if b"[" not in item else _after(response)

    def _command(self, command: bytes) -> list[bytes]:
        self._input.write(b"t " + command + b"\r\n")
        return self._answer()

    def _answer(self) -> list[bytes]:
        responses = []
        while True:
            response = self._line()
            responses.append(response)
            if response.startswith(b"t "):
                assert response.startswith(b"t OK"), response
                return responses

    def _line(self) -> bytes:
        response = b""
        while True:
            line = self._reader.readline()
            assert line, "Dovecot went away: " + self._process.stderr.read().decode()
            response += line
            literal = _LITERAL.search(line)
            if literal is None:
                return response
            response += self._reader.read(int(literal[1]))


def _after(response: bytes) -> bytes:
    """The octets of the literal (or quoted string, or NIL) that a BODY[...] item has."""
    value = response[response.index(b"] ") + 2 :].removesuffix(b")\r\n")
    if value.startswith((b"{", b"~{")):
        return value.split(b"\r\n", 1)[1]
    return value.strip(b'"') if value != b"NIL" else b""


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    """A Dovecot whose answers are what ours are compared with."""
    with service_folder("mime") as folder, closing(Dovecot(folder)) as server:
        server.open()
        yield server
