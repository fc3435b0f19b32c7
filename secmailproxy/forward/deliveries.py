"""Delivers what is due in the queue.

A message leaves the queue when every recipient is settled. Before its first octet is sent, the queue says so
on the disk; after an end that nobody has seen, the next try knows of it. When a message is given up, the
notification about it is in the queue before it leaves.

A few messages are sent at once, each next hop gets many over one connection, and one that cannot be reached
is not asked again for every message.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime

from keystore.errors import KeystoreError
from secmailproxy.errors import ConfigError, SecMailProxyError, UpstreamLost
from secmailproxy.forward.attempts import (
    TOLD_NOBODY,
    Fate,
    Outcome,
    Patience,
    Progress,
    Recipient,
    Step,
    after,
    is_over,
    postponed,
    resumed,
)
from secmailproxy.forward.filing import MAIL
from secmailproxy.forward.hops import Hop
from secmailproxy.forward.queue import BeingDelivered, Damaged, NotQueued, Queue, Taken, Unreadable
from secmailproxy.forward.spool import Route, Spool
from secmailproxy.forward.undelivered import Undelivered, notice
from secmailproxy.logs import place
from secmailproxy.stamp import RANDOM_OCTETS, Stamp

log = logging.getLogger(__name__)

_AT_ONCE = 4
_CLOSING = 421
_LOST_MOST = 3
"""Connections lost one after the other, after which a next hop counts as unreachable: one message alone may
have been the cause of the first."""
_LOOKED_AT = 1.0
"""Seconds for which a message is left alone that somebody else has at this moment."""
NOTICE = "-undelivered"
"""Behind the id of a message, it is that of the notification about it."""


class Deliveries:
    """Whoever calls `due` must hold the lock of the runner."""

    def __init__(
        self,
        queue: Queue,
        hop: Callable[[Route], Hop],
        patience: Callable[[], Patience] = Patience,
        alarm: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`hop` may raise ConfigError; `alarm` hears, without content, what needs a person, and may block.

        Times are seconds since 1970.
        """
        self._queue = queue
        self._hop = hop
        self._patience = patience
        self._alarm = alarm
        self._clock = clock
        self._down: dict[Route, tuple[float, str]] = {}
        """Until when a next hop that could not be reached is spared, and why."""
        self._lost: dict[Route, int] = {}
        self._stopping = False
        self._not_before: dict[str, float] = {}
        """When those are tried again of which nothing could be written down."""

    def stop(self) -> None:
        """Begin no other message; those that are being sent are finished."""
        self._stopping = True

    def spare_nobody(self) -> None:
        """Ask next hops again that could not be reached just now."""
        self._down.clear()

    def waiting(self) -> bool:
        """Whether anything is in the queue that will be tried again. Blocks."""
        return any(self._pause(name) is not None for name in self._queue.names())

    async def due(self) -> float | None:
        """Try what is due; in how many seconds there is more to do, None when nothing waits."""
        await asyncio.to_thread(self._queue.tidy)
        names = iter(await asyncio.to_thread(self._due_names))
        for name in names:
            # The first one alone: a next hop that is down is found out by one connection.
            if not self._stopping:
                await self._try(name)
            break
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(self._try_all(names))
        return await asyncio.to_thread(self._until_next)

    async def _try_all(self, names: Iterator[str]) -> None:
        for name in names:
            if self._stopping:
                return
            await self._try(name)

    def _due_names(self) -> list[str]:
        names = self._queue.names()
        self._not_before = {name: self._not_before[name] for name in names if name in self._not_before}
        return [name for name in names if self._pause(name) == 0]

    def _until_next(self) -> float | None:
        pauses = [self._pause(name) for name in self._queue.names()]
        return min((one for one in pauses if one is not None), default=None)

    def _pause(self, name: str) -> float | None:
        """In how many seconds it is due; None for what is held."""
        now, patience = self._clock(), self._patience()
        spared = _spared(self._not_before.get(name, 0.0), now, max(_LOOKED_AT, patience.first))
        try:
            progress = self._queue.progress(name)
        except Damaged:
            return spared  # the try finds out more, and keeps no other waiting
        if progress.held:
            return None
        return max(0.0 if progress.is_due(now, patience) else progress.again - now, spared)

    async def _try(self, name: str) -> None:
        """One message; whatever is wrong with it keeps no other waiting."""
        try:
            await self._attempt(name)
        except NotQueued:
            return  # somebody has dropped it
        except BeingDelivered:
            # Somebody looks at it; what it is to be afterwards is not known yet.
            self._not_before[name] = self._clock() + _LOOKED_AT
        except Exception as error:  # noqa: BLE001  such as of a full disk: it stays in the queue
            log.error("a queued message cannot be tried", extra={"id": name, **place(error)})
            self._not_before[name] = self._clock() + self._patience().first
            await asyncio.to_thread(self._alarm, f"the queued message {name} cannot be tried")

    async def _attempt(self, name: str) -> None:
        try:
            with ExitStack() as stack:
                taken = await asyncio.to_thread(stack.enter_context, self._queue.taken(name))
                await self._deliver(taken)
        except Unreadable:
            raise
        except Damaged as error:
            await asyncio.to_thread(self._alarm, f"a file of the queue cannot be read: {name}")
            await asyncio.to_thread(self._queue.set_aside, name + MAIL, error.text)

    async def _deliver(self, taken: Taken) -> None:
        if taken.progress.held:
            return  # by somebody who was quicker
        queued, progress = taken.queued, resumed(taken.progress)
        down_until, why = self._down.get(queued.route, (0.0, ""))
        if progress.held:
            await self._hold(taken, progress)
            return
        if _spared(down_until, self._clock(), self._patience().first):
            await self._postpone(taken, progress, why)
            return
        try:
            hop = await asyncio.to_thread(self._hop, queued.route)
            fates = await self._send(hop, taken, progress)
        except (SecMailProxyError, KeystoreError) as error:
            if isinstance(error, Damaged):
                raise
            self._not_reached(queued.route, error)
            if isinstance(error, ConfigError):
                # No server will ever be asked, until a person has changed something.
                await asyncio.to_thread(self._alarm, f"the queued message {queued.name} has no way out")
            await self._postpone(taken, progress, " ".join(str(error).split()))
            return
        cut = next((one for one in fates.values() if _is_cut(one)), None)
        if cut is None:
            self._lost.pop(queued.route, None)
        else:
            self._lose(queued.route, cut.text)
        progress = dataclasses.replace(progress, settled=taken.progress.settled)
        step = after(progress, fates, queued.arrived, self._clock(), self._patience())
        await self._settle(taken, step)

    async def _send(self, hop: Hop, taken: Taken, progress: Progress) -> dict[Recipient, Fate]:
        """One message of the file after the other; what is accepted of one is kept before the next begins."""
        left = taken.queued.left(progress)
        fates: dict[Recipient, Fate] = {}
        for at in sorted({at for at, _ in left}):
            product = await asyncio.to_thread(taken.product, at)
            settled = taken.progress.settled

            async def begun(settled: frozenset[Recipient] = settled) -> None:
                mark = dataclasses.replace(progress, begun=True, settled=settled)
                await asyncio.to_thread(taken.save, mark, durable=False)

            rcpt_tos = [to for one, to in left if one == at]
            found = {(at, to): fate for to, fate in (await hop.send(product, rcpt_tos, begun)).items()}
            fates |= found
            if len(taken.queued.messages) > 1:
                done = settled | {one for one, fate in found.items() if fate.outcome is Outcome.ACCEPTED}
                doubt = any(fate.outcome is Outcome.UNKNOWN for fate in found.values())
                mark = dataclasses.replace(progress, settled=done, begun=doubt)
                await asyncio.to_thread(taken.save, mark)
        return fates

    def _not_reached(self, route: Route, error: Exception) -> None:
        why = " ".join(str(error).split())
        if isinstance(error, UpstreamLost):
            self._lose(route, why)
        else:
            self._spare(route, why)

    def _lose(self, route: Route, why: str) -> None:
        """A connection ended before its time."""
        self._lost[route] = self._lost.get(route, 0) + 1
        if self._lost[route] >= _LOST_MOST:
            self._spare(route, why)

    def _spare(self, route: Route, why: str) -> None:
        log.warning("the next hop cannot be used", extra={"hop": route.name, "why": why})
        self._down[route] = (self._clock() + self._patience().first, why)

    async def _postpone(self, taken: Taken, progress: Progress, why: str) -> None:
        now, patience = self._clock(), self._patience()
        progress = dataclasses.replace(progress, settled=taken.progress.settled)
        next_ = postponed(progress, why, now, patience)
        if is_over(next_, taken.queued.arrived, now, patience):
            fates = dict.fromkeys(taken.queued.left(progress), Fate(Outcome.DEFERRED, 0, why))
            await self._settle(taken, after(progress, fates, taken.queued.arrived, now, patience))
        else:
            await asyncio.to_thread(taken.save, next_, durable=False)

    async def _settle(self, taken: Taken, step: Step) -> None:
        """Tell of what failed; then the message leaves the queue, or waits with what is left of it."""
        queued, progress = taken.queued, step.progress
        for at in sorted({at for at, _ in step.failed}):
            fates = {to: fate for (one, to), fate in step.failed.items() if one == at}
            if not await asyncio.to_thread(self._told, taken, at, fates):
                untold = frozenset((at, to) for to in fates)
                why = next(iter(fates.values())).text
                progress = dataclasses.replace(
                    progress, settled=progress.settled - untold, held=TOLD_NOBODY, why=why
                )
        if progress.held:
            await self._hold(taken, progress)
        elif queued.left(progress):
            log.info("a queued message waits", extra={"id": queued.name, "tries": progress.tries})
            await asyncio.to_thread(taken.save, progress, durable=bool(progress.settled))
        else:
            await asyncio.to_thread(taken.remove)
            log.info("a queued message has left", extra={"id": queued.name, "given_up_for": len(step.failed)})

    async def _hold(self, taken: Taken, progress: Progress) -> None:
        await asyncio.to_thread(taken.save, progress)
        log.error("a queued message is held", extra={"id": taken.queued.name, "why": progress.held})
        text = f"the queued message {taken.queued.name} is held: {progress.held}"
        await asyncio.to_thread(self._alarm, text)

    def _told(self, taken: Taken, at: int, fates: dict[str, Fate]) -> bool:
        """Put the notification into the queue; False where nobody may be told. Blocks."""
        queued, product = taken.queued, taken.product(at)
        if not product.envelope.mail_from or not queued.bounces:
            return False
        now = datetime.fromtimestamp(self._clock(), UTC)
        stamp = Stamp.fresh(now, "secmailproxy.localhost", secrets.token_bytes(RANDOM_OCTETS))
        arrived = dataclasses.replace(stamp, now=datetime.fromtimestamp(queued.arrived, UTC)).date
        told = notice(Undelivered(queued.name, arrived, product, fates), queued.bounces, stamp)
        # One name for each: after a kill at this point the same notification is written again, not another.
        name = f"{queued.name}{NOTICE}-{at}-{taken.progress.tries}"
        Spool(self._queue.folder).put([told], queued.route, name=name)
        log.error("a queued message is given up", extra={"id": queued.name, "recipients": len(fates)})
        return True


def _is_cut(fate: Fate) -> bool:
    """Whether the next hop has ended the connection with it (RFC 5321 section 3.8: 421)."""
    return fate.outcome is Outcome.UNKNOWN or fate.code == _CLOSING


def _spared(until: float, now: float, most: float) -> float:
    """Seconds left until that time; none where it is farther away than ever: the clock was set back."""
    return max(0.0, until - now) if until - now <= most else 0.0
