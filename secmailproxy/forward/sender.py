"""What this machine is called in addresses; who sends what leaves, where the configuration names nobody."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from secmailproxy.forward.model import ForwardSettings

MAIL_NAME = Path("/etc/mailname")


def with_sender(settings: ForwardSettings) -> ForwardSettings:
    """`settings` with a sender: the configured one, the account's address, else the user on this machine."""
    if settings.sender:
        return settings
    account = settings.account if settings.via == "smarthost" else ""
    return replace(settings, sender=account or _local_sender())


def _local_sender() -> str:
    """A fixed local address, for bounces."""
    import getpass
    import socket

    return f"{getpass.getuser()}@{socket.getfqdn()}"


def mail_name() -> str:
    """What stands after "@" in addresses of this machine: /etc/mailname as on Debian, else its own name."""
    try:
        name = MAIL_NAME.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        name = ""
    name = name or os.uname().nodename
    kept = "".join(one for one in name if one.isascii() and (one.isalnum() or one in ".-")).strip(".-")
    return kept or "localhost"


def own_names() -> tuple[str, ...]:
    """What this machine calls itself: its name, whole and short, and the one for mail where it is longer.

    A name for mail that is not this machine's, such as one for a whole company, is none of them.
    """
    host = os.uname().nodename.lower()
    short, named = host.partition(".")[0], mail_name().lower()
    return tuple(dict.fromkeys((host, short, *([named] if named.partition(".")[0] == short else ()))))
