"""What a submission tells its sender of the recipients' certificates, and notes of the recipients.

Security: nothing that fails here is told to a mail client, or takes back that its message was accepted.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from keystore.errors import StoreLocked
from keystore.keystore import Keystore
from keystore.model import lower_case
from keystore.peers import PeerSeen
from keystore.selection import how_to_settle
from secmailproxy.logs import place
from secmailproxy.rules import normal_address

log = logging.getLogger(__name__)

MOST_WAITING = 2000
"""Recipients; what comes beyond is not noted until somebody writes to them again."""
MOST_LINES = 8
"""Of one reply: clients show little of it."""
_PAUSE = 0.2
_TRIES = 300
"""While another process writes to the keystore."""


class Correspondents:
    """Whom the owners of the accounts write to."""

    def __init__(self, keystore: Keystore, clock: Callable[[], datetime]) -> None:
        """Nothing runs yet."""
        self._keystore = keystore
        self._clock = clock
        self._waiting: list[PeerSeen] = []
        self._task: asyncio.Task[None] | None = None
        self._tries = _TRIES

    def accepted(self, rcpt_tos: Sequence[str]) -> tuple[str, ...]:
        """A message to these has been accepted; return what its sender is to be told, line by line.

        They are noted in the address book soon.
        """
        try:
            told = tuple(self._changed(rcpt_tos))
        except Exception as error:  # noqa: BLE001  the message has left, whatever becomes of the remark
            log.error("what is held was not told", extra=place(error))
            told = ()
        self._note(rcpt_tos)
        return told[:MOST_LINES]

    async def settled(self) -> None:
        """Wait until everything is noted, or cannot be."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def close(self) -> None:
        """Note what can be noted at once."""
        self._tries = 0
        await self.settled()

    def _changed(self, rcpt_tos: Iterable[str]) -> Iterable[str]:
        told = 0
        # As it is written too: a certificate for it is looked up so first (`Decider.select`).
        spellings = (one for rcpt_to in rcpt_tos for one in (lower_case(rcpt_to), normal_address(rcpt_to)))
        for rcpt_to in dict.fromkeys(spellings):
            if self._keystore.settling.is_waiting(rcpt_to):
                told += 1
                yield (
                    f"Note: another certificate than before has come for <{rcpt_to}>, and is not used; "
                    f"see both and decide: {how_to_settle(rcpt_to)}"
                )
        if told:
            log.warning("certificates of recipients have changed", extra={"count": told})

    def _note(self, rcpt_tos: Iterable[str]) -> None:
        now = self._clock()
        room = MOST_WAITING - len(self._waiting)
        self._waiting += [PeerSeen(one, now, written=True) for one in map(normal_address, rcpt_tos)][:room]
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        tried = 0
        while self._waiting:
            batch, self._waiting = self._waiting, []
            if await asyncio.to_thread(self._write, batch):
                tried = 0
                continue
            tried += 1
            if tried > self._tries:
                log.warning("recipients were not noted in the address book", extra={"count": len(batch)})
                continue
            self._waiting = batch + self._waiting
            await asyncio.sleep(_PAUSE)

    def _write(self, batch: Sequence[PeerSeen]) -> bool:
        """Whether that is done with; not while another process writes."""
        try:
            self._keystore.peers.seen(*batch)
        except StoreLocked:
            return False
        except Exception as error:  # noqa: BLE001  nobody waits for this
            log.error("recipients were not noted in the address book", extra=place(error))
        return True
