"""Certificates that valid signatures introduce go to the keystore, apart from the FETCH that brought them.

Security: nothing that fails here is told to a mail client or makes it wait; there is a limit to what waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from keystore.model import Introduction
from secmailproxy.logs import place

log = logging.getLogger(__name__)

MOST_WAITING = 2000
"""Introductions; what comes beyond is lost until the same correspondent writes again."""


class Harvest:
    """Brings in what messages introduce, one batch after the other."""

    def __init__(self, keystore: Keystore, clock: Callable[[], datetime]) -> None:
        """Nothing runs yet."""
        self._keystore = keystore
        self._clock = clock
        self._waiting: dict[Introduction, None] = {}
        self._task: asyncio.Task[None] | None = None

    def take(self, introduced: Iterable[Introduction]) -> None:
        """Bring these in soon."""
        for one in introduced:
            if len(self._waiting) < MOST_WAITING:
                self._waiting[one] = None
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    async def settled(self) -> None:
        """Wait until everything is in."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = list(self._waiting), {}
            await asyncio.to_thread(self._bring_in, batch)

    def _bring_in(self, batch: list[Introduction]) -> None:
        for one in batch:
            try:
                self._keystore.smime.learn(one, self._clock())
            except KeystoreError as error:
                log.warning("a certificate that came with mail was not kept", extra=place(error))
            except Exception as error:  # noqa: BLE001  of strangers' octets; nobody waits for this
                log.error("a certificate that came with mail was not kept", extra=place(error))
