"""Hands a protected message to the sendmail program of this machine.

Standards: Postfix sendmail(1), Exim command line; RFC 5321 section 4.5.5 (null sender).
Security: an argument list, never a shell; `--` before the recipient; the envelope is given, never read from
the header (-t). What the program prints is not passed on: it may quote the message.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from secmailproxy.errors import UpstreamUnavailable

NULL_SENDER = "<>"
_PATIENCE = 300.0
"""Seconds after which a sendmail program that does not end is given up."""


def by_sendmail(program: Path, mail_from: str, rcpt_to: str, octets: bytes) -> None:
    """Returns when `program` has taken the message (CRLF, given to it with LF); `mail_from` "" is null.

    Raises UpstreamUnavailable, naming the program and how it ended.
    """
    command = [str(program), "-i", "-f", mail_from or NULL_SENDER, "--", rcpt_to]
    try:
        done = subprocess.run(
            command,
            input=octets.replace(b"\r\n", b"\n"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UpstreamUnavailable(f"{program} did not end within {_PATIENCE:.0f} seconds") from None
    except OSError as error:
        raise UpstreamUnavailable(f"cannot run {program}: {error.strerror}") from None
    if done.returncode != 0:
        raise UpstreamUnavailable(f"{program} ended with status {done.returncode}")
