"""Opening messages for all connections: each message once, and many at a time in other processes.

Python runs one thread at a time, so a thread that opens a thousand messages would slow every connection down
and use one processor only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import cast

from secmailproxy import confinement
from secmailproxy.harvest import Harvest
from secmailproxy.imap.rendering import Job, Locked, Renderer
from secmailproxy.imap.suspects import Suspects
from secmailproxy.views import View, message_hash
from secmailproxy.workers import Lost, Urgency, Workers

_MANY = 12
"""So many messages at once are worth other processes."""
_CHUNK = 6
"""Messages that go to a process together."""
_LARGE = 512 * 1024
"""A message of so many octets would keep the sessions of this process waiting."""
_PATIENCE = 10.0
"""Seconds that large messages wait for a process to start."""
_MOST_APART = 2
"""Messages at once that are opened by a process of their own: each takes the memory of one."""
_ATTEMPTS = 2
"""How often a message may end a process that has nothing else to do, before it is known to be at fault."""


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

    def __init__(
        self,
        workers: Workers | None = None,
        suspects: Suspects | None = None,
        harvest: Harvest | None = None,
    ) -> None:
        """Without `workers` messages are opened in threads of this process."""
        self._workers = workers
        self._suspects = suspects
        self._harvest = harvest
        self._opening: dict[tuple[str, bytes], asyncio.Event] = {}
        self._local = asyncio.Lock()
        self._apart = asyncio.Semaphore(_MOST_APART)

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
        """The views of messages, in their order. What one message does to its process, others do not feel."""
        views = await self._views(renderer, jobs)
        if self._harvest is not None:
            opened = [one for one in views if isinstance(one, View)]
            self._harvest.take(found for one in opened for found in (one.introduction, one.heard) if found)
        return [
            replace(one, introduction=None, heard=None) if isinstance(one, View) else one for one in views
        ]

    def overheard(self, sections: Iterable[bytes]) -> None:
        """Header sections (CRLF) of messages in clear that have passed, with an Autocrypt field each."""
        if self._harvest is not None:
            self._harvest.take(sections)

    async def _views(self, renderer: Renderer, jobs: Sequence[Job]) -> list[View | Locked]:
        workers, suspects = self._workers, self._suspects
        if workers is None:
            return await asyncio.to_thread(renderer.views, jobs)
        suspect = [suspects is not None and message_hash(job.octets) in suspects for job in jobs]
        apart = [job for job, alone in zip(jobs, suspect, strict=True) if alone]
        rest = [job for job, alone in zip(jobs, suspect, strict=True) if not alone]
        done, opened = await asyncio.gather(
            self._all(workers, renderer, rest),
            asyncio.gather(*(self._alone(workers, renderer, job) for job in apart)),
        )
        alone_views, other_views = iter(opened), iter(done)
        return [next(alone_views if alone else other_views) for alone in suspect]

    async def _all(self, workers: Workers, renderer: Renderer, jobs: Sequence[Job]) -> list[View | Locked]:
        """Many, or large ones, by other processes; few small ones in a thread."""
        large = [len(job.octets) >= _LARGE for job in jobs]
        if len(jobs) < _MANY and not any(large):
            return await self._here(renderer, jobs)
        workers.call()
        if any(large):
            await workers.any_ready(_PATIENCE)
        chunks = [jobs[at : at + _CHUNK] for at in range(0, len(jobs), _CHUNK)]
        done = await asyncio.gather(*(self._chunk(workers, renderer, chunk) for chunk in chunks))
        return [view for views in done for view in views]

    async def _here(self, renderer: Renderer, jobs: Sequence[Job]) -> list[View | Locked]:
        if self._suspects is None:
            return await asyncio.to_thread(renderer.views, jobs)
        with self._suspects.opening(message_hash(job.octets) for job in jobs):
            return await asyncio.to_thread(renderer.views, jobs)

    async def _chunk(self, workers: Workers, renderer: Renderer, chunk: Sequence[Job]) -> list[View | Locked]:
        """By a process; until one is ready, and where none can be, by this one."""
        if not workers.ready:
            async with self._local:
                if not workers.ready:
                    return await self._here(renderer, chunk)
        views = await workers.tried(renderer.task(*chunk), Urgency.SYNC)
        if views is None:
            return await self._here(renderer, chunk)
        if isinstance(views, Lost):
            # One of them may have ended the process, and would end this one.
            return [await self._each(workers, renderer, job) for job in chunk]
        return [
            await self._alone(workers, renderer, job) if isinstance(view, Locked) and view.by_memory else view
            for job, view in zip(chunk, cast("list[View | Locked]", views), strict=True)
        ]

    async def _each(self, workers: Workers, renderer: Renderer, job: Job) -> View | Locked:
        """One that was in bad company: most are innocent, and need no process of their own."""
        found = await workers.tried(renderer.task(job), Urgency.SYNC)
        if found is None or isinstance(found, Lost):
            workers.call()
            return await self._alone(workers, renderer, job)
        (view,) = cast("list[View | Locked]", found)
        return view

    async def _alone(self, workers: Workers, renderer: Renderer, job: Job) -> View | Locked:
        """By processes that do nothing else; a message that ends them, one after the other, is left closed.

        Never for what may be the machine's fault: that is for a while, and the view would be for ever.
        """
        reason = ""
        for _ in range(_ATTEMPTS):
            async with self._apart:
                found = await workers.alone(renderer.task(job))
            if isinstance(found, Lost):
                reason = confinement.BY_ITS_FAULT.get(found.signal, "")
                if not reason:
                    return Locked("A process that opens messages was ended; try again.")
                continue
            if found is None:
                return Locked("No process could be started to open a message; try again.")
            (view,) = cast("list[View | Locked]", found)
            if not isinstance(view, Locked) or not view.by_memory:
                self._clear(job)
                return view
            if not confinement.has_room(len(job.octets)):
                return view
            reason = confinement.TOO_MUCH_MEMORY
        self._clear(job)
        # Without its octets: they are not looked at again in this process.
        return renderer.failed(reason, signed=job.signed)

    def _clear(self, job: Job) -> None:
        if self._suspects is not None:
            self._suspects.cleared(message_hash(job.octets))
