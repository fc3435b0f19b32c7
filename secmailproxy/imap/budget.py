"""How many octets of answers all connections together may hold before they are worked on.

A protected message is collected whole before it can be opened. What servers announce is counted before it is
read, so that a server that announces too much, or many that do, cannot fill the memory: a connection without
room stops reading from its server until another gives some back. Whoever has waited for too long gives up,
and its command fails; so two connections that wait for each other do not wait for ever. The connections of
one account never hold all: the server of one, or a client that stalls, does not close the others' mailboxes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

from secmailproxy.imap.running import COLLECT_LIMIT

HELD_LIMIT = 256 * 1024 * 1024
"""Octets; two of the largest messages that we open, and some."""
ACCOUNT_LIMIT = HELD_LIMIT - COLLECT_LIMIT
"""What the connections of one account leave is enough for the largest message of another."""
_PATIENCE = 120.0
"""Seconds; the largest message over a slow line, and the client is told meanwhile that we are at work."""


class Budget:
    """Room for `limit` octets, of which one account holds at most `each`."""

    def __init__(
        self, limit: int = HELD_LIMIT, patience: float = _PATIENCE, each: int = ACCOUNT_LIMIT
    ) -> None:
        self.limit = limit
        self.each = each
        self.patience = patience
        self.held = 0
        """Octets that are held now, or announced."""
        self._held_by: Counter[str] = Counter()
        self._freed = asyncio.Event()

    def share(self, wanted: Callable[[], int], account: str = "") -> Share:
        """For one connection, which holds as many octets as `wanted` says, once it has `settled`."""
        return Share(self, wanted, account)

    def take(self, account: str, octets: int) -> bool:
        """Hold more, if there is room."""
        if self.held + octets > self.limit or self._held_by[account] + octets > self.each:
            return False
        self.held += octets
        self._held_by[account] += octets
        return True

    def free(self, account: str, octets: int) -> None:
        """Give back."""
        self.held -= octets
        self._held_by[account] -= octets
        self._freed.set()

    async def freed(self) -> None:
        """Wait until somebody gives back."""
        self._freed.clear()
        await self._freed.wait()


class Share:
    """What one connection holds. `close` it at the end."""

    def __init__(self, budget: Budget, wanted: Callable[[], int], account: str) -> None:
        """Made by `Budget.share`."""
        self._budget = budget
        self._account = account
        self._wanted = wanted
        self._held = 0

    async def settled(self) -> bool:
        """Wait until there is room for what is wanted, and hold it; False when that takes too long."""
        self.lower()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._budget.patience):
                while not self.fits():
                    await self._budget.freed()
                return True
        return False

    def fits(self) -> bool:
        """Hold what is wanted if there is room for it now; False when there is not."""
        more = self._wanted() - self._held
        if more > 0:
            if not self._budget.take(self._account, more):
                return False
            self._held += more
        return True

    def lower(self) -> None:
        """Give back what is no longer wanted."""
        less = max(0, self._held - self._wanted())
        self._held -= less
        # Whoever waits in this connection may want less than before, even if it gives nothing back.
        self._budget.free(self._account, less)

    def close(self) -> None:
        """Give everything back."""
        octets, self._held = self._held, 0
        self._budget.free(self._account, octets)
