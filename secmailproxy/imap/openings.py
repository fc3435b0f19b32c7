"""Opening messages for all connections: each message once, and many at a time in other processes.

Python runs one thread at a time, so a thread that opens a thousand messages would slow every connection down
and use one processor only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from secmailproxy.imap.rendering import Job, Locked, Renderer, Rendering
from secmailproxy.views import View
from secmailproxy.workers import Urgency, Workers

_MANY = 12
"""So many messages at once are worth other processes."""
_CHUNK = 6
"""Messages that go to a process together."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A claim on some messages."""

    mine: Collection[bytes]
    """The hashes that nobody else is opening."""
    others: Collection[asyncio.Event]

    async def others_done(self) -> None:
        """Wait until the rest have been opened, or given up."""
        for event in self.others:
            await event.wait()


class Openings:
    """What is being opened now, and by whom."""

    def __init__(self, workers: Workers | None = None) -> None:
        """Without `workers` messages are opened in threads of this process."""
        self._workers = workers
        self._opening: dict[tuple[str, bytes], asyncio.Event] = {}
        self._local = asyncio.Lock()

    @contextmanager
    def claim(self, account: str, hashes: Iterable[bytes]) -> Iterator[Opening]:
        """For as long as the block lasts, messages that nobody else is opening are the caller's."""
        wanted = set(hashes)
        others = {one: self._opening[account, one] for one in wanted if (account, one) in self._opening}
        mine = wanted - others.keys()
        done = asyncio.Event()
        self._opening.update(((account, one), done) for one in mine)
        try:
            yield Opening(mine, set(others.values()))
        finally:
            for one in mine:
                del self._opening[account, one]
            done.set()

    async def views(self, renderer: Renderer, jobs: Sequence[Job]) -> list[View | Locked]:
        """The views of messages, in their order."""
        if self._workers is None or len(jobs) < _MANY:
            return await asyncio.to_thread(renderer.views, jobs)
        chunks = [jobs[at : at + _CHUNK] for at in range(0, len(jobs), _CHUNK)]
        self._workers.call()
        done = await asyncio.gather(*(self._chunk(self._workers, renderer, chunk) for chunk in chunks))
        return [view for views in done for view in views]

    async def _chunk(self, workers: Workers, renderer: Renderer, chunk: Sequence[Job]) -> list[View | Locked]:
        """By a process; until one is ready, and where one has failed, by this one."""
        if not workers.ready:
            async with self._local:
                if not workers.ready:
                    return await asyncio.to_thread(renderer.views, chunk)
        views = await workers.outcome(Rendering(tuple(chunk), renderer.field_name), Urgency.SYNC)
        if views is None:
            return await asyncio.to_thread(renderer.views, chunk)
        return cast("list[View | Locked]", views)
