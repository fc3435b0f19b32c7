"""Work on the octets of a whole message, without keeping other sessions waiting.

Each pass over a large message takes the interpreter for milliseconds. From a thread, the event loop gets its
turn between the passes; for a small message, the thread would cost more than the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

LARGE = 512 * 1024
"""Octets of a message that is worth a thread."""

T = TypeVar("T")


async def aside(octets: int, work: Callable[[], T]) -> T:
    """What `work`, on so many octets, returns or raises."""
    return work() if octets < LARGE else await asyncio.to_thread(work)
