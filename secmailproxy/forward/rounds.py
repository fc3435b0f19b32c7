"""What is due now, one thing after the other: deliveries, digests, heartbeats, warnings.

Each is asked in turn, does what is due, and says when to come again. The daemon goes round for ever; a timer
goes round once with `secmailproxy queue run`. What fails keeps nothing else waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from secmailproxy.logs import place

log = logging.getLogger(__name__)

AFTER_FAILURE = 300.0
"""Seconds after which what has failed is asked again."""


class Due(Protocol):
    """Something that is done in time."""

    async def due(self) -> float | None:
        """Do what is due; in how many seconds there is more to do, None for when something is new."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """The things that are done in time, in their order."""

    things: Sequence[Due]

    async def once(self) -> float | None:
        """Everything that is due; in how many seconds the next thing is, None for when there is news."""
        pauses = []
        for thing in self.things:
            try:
                pauses.append(await thing.due())
            except Exception as error:  # noqa: BLE001  the next one may have more luck, and this one later
                log.error("what was due failed", extra={"thing": type(thing).__name__, **place(error)})
                pauses.append(AFTER_FAILURE)
        return min((one for one in pauses if one is not None), default=None)
