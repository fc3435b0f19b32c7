"""Certificates that mail brings go to the keystore, apart from the FETCH that brought it.

S/MIME: what a valid signature introduces. OpenPGP: what messages say by Autocrypt, of protected mail as it is
opened, of mail in clear as its header section passes (`imap.passing`).

Security: nothing that fails here is told to a mail client or makes it wait; there is a limit to what waits.
Nothing is asked of anybody because mail was read.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from keystore.autocrypt import Heard
from keystore.errors import StoreLocked
from keystore.keystore import Keystore
from keystore.model import Introduction
from secmailproxy import hearing
from secmailproxy.logs import place

log = logging.getLogger(__name__)

MOST_WAITING = 2000
"""Of what was brought; what comes beyond is lost until it is read again."""
MOST_OCTETS_WAITING = 8 * 1024 * 1024
"""Of header sections among it."""
_MOST_MET = 20_000
"""Header sections that are known to have been read: clients fetch the same mail again and again."""
_PAUSE = 0.2
_TRIES = 300
"""While another process writes to the keystore."""
_LAST_SECONDS = 1.0
"""For what waits when the proxy is told to stop."""

Brought = Introduction | Heard | bytes
"""A header section (CRLF) of a message in clear is read when it is its turn."""


@dataclass(frozen=True, slots=True)
class HarvestSettings:
    """What is kept of what mail brings."""

    signed: bool = True
    """Certificates of S/MIME."""
    autocrypt: bool = True
    gossip: bool = True


class Harvest:
    """Brings in what messages bring, one batch after the other."""

    def __init__(
        self,
        keystore: Keystore,
        clock: Callable[[], datetime],
        settings: HarvestSettings = HarvestSettings(),
    ) -> None:
        """Nothing runs yet."""
        self._keystore = keystore
        self._clock = clock
        self._settings = settings
        self._waiting: dict[Brought, None] = {}
        self._octets = 0
        self._met: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._tries = _TRIES
        self._last = float("inf")
        """When to stop, by the monotonic clock."""

    def take(self, brought: Iterable[Brought]) -> None:
        """Bring these in soon."""
        for one in brought:
            if self._is_wanted(one) and len(self._waiting) < MOST_WAITING:
                self._waiting[one] = None
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run())

    def _is_wanted(self, one: Brought) -> bool:
        if isinstance(one, Introduction):
            return self._settings.signed
        if isinstance(one, Heard):
            return self._settings.autocrypt or one.protected
        if (
            not self._settings.autocrypt
            or hash(one) in self._met
            or self._octets + len(one) > MOST_OCTETS_WAITING
        ):
            return False
        if len(self._met) >= _MOST_MET:
            self._met.clear()
        self._met.add(hash(one))
        self._octets += len(one)
        return True

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
            batch, self._waiting, self._octets = list(self._waiting), {}, 0
            left = await asyncio.to_thread(self._bring_in, batch)
            tried = tried + 1 if left else 0
            if left and tried > self._tries:
                log.warning("certificates that came with mail were not kept", extra={"count": len(left)})
            elif left:
                self._waiting = dict.fromkeys(left) | self._waiting
                await asyncio.sleep(_PAUSE)

    def _bring_in(self, batch: list[Brought]) -> list[Brought]:
        """What could not be brought in because another process writes, or there is no time."""
        read = [found for one in batch if (found := self._read(one)) is not None]
        try:
            self._keystore.autocrypt.seen((one for one in read if isinstance(one, Heard)), self._clock())
        except StoreLocked:
            return list(read)
        except Exception as error:  # noqa: BLE001  such as a full disk; what each brings is tried all the same
            log.error("correspondents were not noted", extra=place(error))
        # Counted now, and not again when they are tried again.
        counted = (replace(one, protected=False) if isinstance(one, Heard) else one for one in read)
        ready = sorted(counted, key=_newest_first)
        for at, one in enumerate(ready):
            if time.monotonic() > self._last:
                return list(ready[at:])
            try:
                self._keep(one)
            except StoreLocked:
                return list(ready[at:])
            except Exception as error:  # noqa: BLE001  of strangers' octets, or of the disk; nobody waits for this
                log.error("a certificate that came with mail was not kept", extra=place(error))
        return []

    def _read(self, one: Brought) -> Introduction | Heard | None:
        if not isinstance(one, bytes):
            return one
        try:
            return hearing.of_header_section(one)
        except Exception as error:  # noqa: BLE001  of strangers' octets
            log.error("a header section could not be read", extra=place(error))
            return None

    def _keep(self, one: Introduction | Heard) -> None:
        if isinstance(one, Introduction):
            self._keystore.smime.learn(one, self._clock())
        elif self._settings.autocrypt:
            heard = one if self._settings.gossip else replace(one, gossip=())
            self._keystore.autocrypt.hear(heard, self._clock())


def _newest_first(one: Introduction | Heard) -> float:
    """So that of a whole mailbox the last word of each author is written, and no earlier one."""
    return -one.sent.timestamp() if isinstance(one, Heard) else 0.0
