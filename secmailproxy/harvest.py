"""Certificates that valid signatures introduce go to the keystore, apart from the FETCH that brought them.

Security: nothing that fails here is told to a mail client or makes it wait; there is a limit to what waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from keystore.errors import StoreLocked
from keystore.keystore import Keystore
from keystore.model import Introduction
from secmailproxy.logs import place

log = logging.getLogger(__name__)

MOST_WAITING = 2000
"""Introductions; what comes beyond is lost until the same correspondent writes again."""
_PAUSE = 0.2
_TRIES = 300
"""While another process writes to the keystore."""
_LAST_SECONDS = 1.0
"""For what waits when the proxy is told to stop."""


class Harvest:
    """Brings in what messages introduce, one batch after the other."""

    def __init__(self, keystore: Keystore, clock: Callable[[], datetime]) -> None:
        """Nothing runs yet."""
        self._keystore = keystore
        self._clock = clock
        self._waiting: dict[Introduction, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._tries = _TRIES
        self._last = float("inf")
        """When to stop, by the monotonic clock."""

    def take(self, introduced: Iterable[Introduction]) -> None:
        """Bring these in soon."""
        for one in introduced:
            if len(self._waiting) < MOST_WAITING:
                self._waiting[one] = None
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Wait until everything is in, or cannot be."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self, seconds: float = _LAST_SECONDS) -> None:
        """Bring in what can be in so many seconds: each goes to the disk by itself."""
        self._tries = 0
        self._last = time.monotonic() + seconds
        await self.settled()

    async def _run(self) -> None:
        tried = 0
        while self._waiting:
            batch, self._waiting = list(self._waiting), {}
            left = await asyncio.to_thread(self._bring_in, batch)
            tried = tried + 1 if left else 0
            if left and tried > self._tries:
                log.warning("certificates that came with mail were not kept", extra={"count": len(left)})
            elif left:
                self._waiting = dict.fromkeys(left) | self._waiting
                await asyncio.sleep(_PAUSE)

    def _bring_in(self, batch: list[Introduction]) -> list[Introduction]:
        """What could not be brought in because another process writes, or there is no time."""
        for at, one in enumerate(batch):
            if time.monotonic() > self._last:
                return batch[at:]
            try:
                self._keystore.smime.learn(one, self._clock())
            except StoreLocked:
                return batch[at:]
            except Exception as error:  # noqa: BLE001  of strangers' octets, or of the disk; nobody waits for this
                log.error("a certificate that came with mail was not kept", extra=place(error))
        return []
