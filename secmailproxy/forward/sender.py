"""The sender of what leaves, where the configuration names none."""

from __future__ import annotations

from dataclasses import replace

from secmailproxy.forward.model import ForwardSettings


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
