"""Hands a protected message to the sendmail program of this machine.

Standards: Postfix sendmail(1), Exim command line; RFC 5321 section 4.5.5 (null sender).
Security: an argument list, never a shell; `--` before the recipients; the envelope is given, never read from
the header (-t). What the program prints is not passed on: it may quote the message. A program that is this
one under another name is refused, and so is one that comes back here by whatever way.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from secmailproxy.errors import ConfigError, UpstreamUnavailable
from secmailproxy.forward.wake import HANDED_OVER

NULL_SENDER = "<>"
_OURS = re.compile(rb"(?:\b(?:from|import)|-m)\s+secmailproxy\b")
"""In a script that starts us."""
_PATIENCE = 300.0
"""Seconds after which a sendmail program that does not end is given up."""


class Unanswered(UpstreamUnavailable):
    """The program had the message, and did not say what it has made of it."""


def by_sendmail(program: Path, mail_from: str, rcpt_tos: Sequence[str], octets: bytes) -> None:
    """Returns when `program` has taken the message (CRLF, given to it with LF); `mail_from` "" is null.

    Raises UpstreamUnavailable, naming the program and how it ended, ConfigError for a program that is us.
    """
    refuse_ourselves(program)
    command = [str(program), "-i", "-f", mail_from or NULL_SENDER, "--", *rcpt_tos]
    try:
        status = _run(command, octets.replace(b"\r\n", b"\n"))
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{program} did not end within {_PATIENCE:.0f} seconds") from None
    except OSError as error:
        raise UpstreamUnavailable(f"cannot run {program}: {error.strerror}") from None
    if status < 0:
        raise Unanswered(f"{program} ended with status {status}")
    if status != 0:
        raise UpstreamUnavailable(f"{program} ended with status {status}")


def _run(command: list[str], octets: bytes) -> int:
    """Its exit status, as subprocess has it. Raises TimeoutExpired, OSError when it cannot be run."""
    with _whole(octets) as message:
        process = subprocess.Popen(
            command,
            stdin=message,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, HANDED_OVER: "1"},
        )
    with process:
        try:
            return _status(process)
        except BaseException:
            process.kill()
            raise


def _whole(octets: bytes) -> IO[bytes]:
    """A file in memory. Were it a pipe, our death would end the message early, and look like its end.

    Where the system has none, one on the disk without a name: what goes to a program is encrypted, or was
    passed on by a rule in clear, and then that program writes it to its own queue.
    """
    try:
        file: IO[bytes] = os.fdopen(os.memfd_create("message"), "w+b")
    except (AttributeError, OSError):  # such as on systems without it
        import tempfile

        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    file.write(octets)
    file.seek(0)
    return file


def _status(process: subprocess.Popen[bytes]) -> int:
    """What it ends with. `subprocess` looks for that again and again, up to 50 ms late; the system tells."""
    try:
        ended = os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return process.wait(_PATIENCE)
    try:
        ready = select.poll()
        ready.register(ended, select.POLLIN)
        if not ready.poll(_PATIENCE * 1000):
            raise subprocess.TimeoutExpired(process.args, _PATIENCE)
        return process.wait()
    finally:
        os.close(ended)


def refuse_ourselves(program: Path) -> None:
    """Raises ConfigError when handing over to `program` would bring the message back to us."""
    if os.environ.get(HANDED_OVER):
        raise ConfigError(
            f"{program} hands the message back to secmailproxy (mail loop); see forward.sendmail"
        )
    real = os.path.realpath(program)
    if os.path.basename(real).startswith("secmailproxy") or _OURS.search(_beginning(real)):
        raise ConfigError(
            f"{program} is secmailproxy itself; name the program of an MTA in forward.sendmail, or use "
            'forward.via = "smarthost"'
        )


def _beginning(path: str) -> bytes:
    """Of a script; a binary has nothing to say."""
    try:
        with open(path, "rb") as file:
            octets = file.read(4096)
    except OSError:
        return b""
    return octets if octets.startswith(b"#!") else b""
