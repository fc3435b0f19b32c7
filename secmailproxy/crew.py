"""Where a message is protected: in a thread of this process, or where there is much to do, in another one.

Python runs one thread at a time, and the OpenPGP engine lets no other run while it works: several messages at
once would share one processor, and a large one would keep every session waiting.

Security: a task of which nobody knows what became of it is done again here: nothing has left this machine
before the outcome is known. Keys that GnuPG holds may ask somebody for a passphrase; who is asked must not
keep others from a process, so with such keys all is done here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from secmailproxy.errors import SecMailProxyError
from secmailproxy.workers import Task, Urgency, Workers

_MANY = 4
"""So many messages at once are worth other processes."""
_LARGE = 512 * 1024
"""A message of so many octets is worth one."""

_PATIENCE = 10.0
"""Seconds that a large message waits for a process to start."""
_BUSY = 2.0
"""Seconds after which processes are busy that take nothing: messages that somebody has sent us to be opened
may take long, and delay no submission."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What a task came to: a value, or an error of ours."""

    value: T | None = None
    error: SecMailProxyError | None = None


def outcome_of(work: Callable[[], T]) -> Outcome[T]:
    """Do it, and keep the error if it is one of ours."""
    try:
        return Outcome(work())
    except SecMailProxyError as error:
        return Outcome(error=error)


class Crew:
    """Chooses who does what."""

    def __init__(self, workers: Workers) -> None:
        """`workers` are called when they are first needed."""
        self._workers = workers
        self._busy = 0

    async def run(self, task: Task, here: Callable[[], T], octets: int) -> T:
        """Carry out `task`, whose outcome is an `Outcome`, in a process, or do the same `here`, in a thread.

        `octets` is the size of the message. Raises what `here` raises.
        """
        self._busy += 1
        try:
            outcome = await self._elsewhere(task, is_large=octets >= _LARGE)
            if outcome is None:
                return await asyncio.to_thread(here)
        finally:
            self._busy -= 1
        if outcome.error is not None:
            raise outcome.error
        return cast("T", outcome.value)

    async def _elsewhere(self, task: Task, *, is_large: bool) -> Outcome[object] | None:
        if is_large or self._busy >= _MANY:
            self._workers.call()
        if is_large:
            await self._workers.any_ready(_PATIENCE)
        return cast("Outcome[object] | None", await self._workers.outcome(task, Urgency.SUBMISSION, _BUSY))
