"""How many connections one client address may have at a listener.

On loopback nearly all clients are 127.0.0.1, so this is also what all mail clients together may open. It
keeps a program that connects again and again from using up the descriptors of this process and the
connections that the mail server grants.

Security: a refusal leaves one log record of a form that does not change.
"""

from __future__ import annotations

import logging
from collections import Counter

log = logging.getLogger(__name__)

CONNECTIONS_PER_CLIENT = 100
"""Thunderbird opens five for each account."""


class Admission:
    """Counts the connections of one listener. `limit` may be changed at any time; it binds those who come."""

    def __init__(self, listener: str, limit: int = CONNECTIONS_PER_CLIENT) -> None:
        """`listener` begins the event of the log record: "imap" or "submission"."""
        self._listener = listener
        self.limit = limit
        self._open: Counter[str] = Counter()

    def enter(self, client: str) -> bool:
        """Count one more connection of this address; False, logged and not counted, when it has its share."""
        if self._open[client] >= self.limit:
            log.warning(
                "%s too many connections", self._listener, extra={"client": client, "limit": self.limit}
            )
            return False
        self._open[client] += 1
        return True

    def leave(self, client: str) -> None:
        """A connection that had entered is over."""
        self._open[client] -= 1
        if not self._open[client]:
            del self._open[client]
