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
import time
from collections.abc import Sequence
from pathlib import Path

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
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, HANDED_OVER: "1"},
    )
    with process:
        try:
            ended = _ended(process)
            if ended is not None:
                return _status(process, octets, ended)
            process.communicate(octets, timeout=_PATIENCE)
            return process.returncode
        except BaseException:
            process.kill()
            raise


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """A descriptor that can be read when it has ended, to be closed; None where the system has none.

    `subprocess` looks for the end of a process again and again, up to 50 ms late, when it has a limit.
    """
    try:
        return os.pidfd_open(process.pid)
    except (AttributeError, OSError):
        return None


def _status(process: subprocess.Popen[bytes], octets: bytes, ended: int) -> int:
    """Give it `octets`, and wait until it has `ended`, which is closed."""
    assert process.stdin is not None  # asked for by `_run`
    deadline = time.monotonic() + _PATIENCE
    try:
        os.set_blocking(process.stdin.fileno(), False)
        left = memoryview(octets)
        while left:
            _wait(process, process.stdin.fileno(), select.POLLOUT, deadline)
            left = left[_written(process.stdin.fileno(), left) :]
        process.stdin.close()
        _wait(process, ended, select.POLLIN, deadline)
        return process.wait()
    finally:
        os.close(ended)


def _wait(process: subprocess.Popen[bytes], descriptor: int, event: int, deadline: float) -> None:
    """Until something can be done with `descriptor`. Raises TimeoutExpired."""
    ready = select.poll()
    ready.register(descriptor, event)
    if not ready.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise subprocess.TimeoutExpired(process.args, _PATIENCE)


def _written(descriptor: int, octets: memoryview) -> int:
    """How many it has; all when it wants no more, for its status says why."""
    try:
        return os.write(descriptor, octets)
    except BlockingIOError:
        return 0
    except BrokenPipeError:
        return len(octets)


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
