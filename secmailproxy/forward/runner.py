"""The runner: goes round while it is wanted, one in an installation at a time.

The daemon has one for as long as it runs, a pipe starts one that ends when the queue is empty, a timer one
that goes round once. Which of them works is settled by the lock of `wake`; the others are told so, or wait.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from secmailproxy.errors import ConfigError
from secmailproxy.forward.deliveries import Deliveries
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.rounds import Due, Rounds
from secmailproxy.forward.spool import make_folder
from secmailproxy.forward.wake import HASTE, POKE, lock, poke
from secmailproxy.logs import place

log = logging.getLogger(__name__)

_LOCK_AGAIN = 5.0
"""Seconds after which the daemon asks for the lock again, while another runner has it."""
_NAP_MOST = 300.0
"""Seconds after which the next look comes in any case: clocks are set, and machines sleep."""
_ROUNDS_MOST = 10


class Runner:
    """Runs in one event loop; `wake` may be called from any thread."""

    def __init__(self, queue: Queue, deliveries: Deliveries, *others: Due) -> None:
        """`others` are done in time too, while `run` or `once` runs; what they queue is delivered at once."""
        self._folder = queue.folder
        self._deliveries = deliveries
        self._others = Rounds(others)
        self._others_at = 0.0
        """When those are asked again while another runner delivers, on the clock of the loop."""
        self._rounds = Rounds((*others, deliveries))
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closing = False

    def wake(self) -> None:
        """There is something new."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended: so has the work
                self._loop.call_soon_threadsafe(self._news.set)

    async def run(self) -> None:
        """Until `close`: for the daemon."""
        self._loop = asyncio.get_running_loop()
        while not self._closing:
            try:
                held = await asyncio.to_thread(self._lock)
            except (ConfigError, OSError) as error:
                log.error("the queue cannot be used", extra=place(error))
                held = None
            if held is None:
                await self._while_another_delivers()
                continue
            try:
                await self._serve()
            finally:
                os.close(held)

    def close(self) -> None:
        """Have it end once the messages that are being sent are. If it is cancelled or killed before, nobody
        knows what became of these, and they are sent once more."""
        self._closing = True
        self._deliveries.stop()
        self._news.set()

    async def once(self) -> bool:
        """Everything that is due: for a timer. Whether deliveries were ours; else their runner was told."""
        held = await asyncio.to_thread(self._lock)
        if held is None:
            poke(self._folder, HASTE)
            await self._others.once()
            return False
        try:
            for _ in range(_ROUNDS_MOST):
                # What was delivered may have led to more, such as a notification.
                if await self._rounds.once() != 0 or self._closing:
                    break
        finally:
            os.close(held)
        return True

    async def until_empty(self, held: int) -> None:
        """Deliver until nothing waits, with the lock that the starter has got: for a pipe."""
        self._loop = asyncio.get_running_loop()
        descriptor: int | None = held
        while descriptor is not None:
            try:
                await self._serve(until_empty=True)
            finally:
                os.close(descriptor)
            # What came after the last look and found the lock taken relies on this one.
            waits = not self._closing and await asyncio.to_thread(self._deliveries.waiting)
            descriptor = await asyncio.to_thread(self._lock) if waits else None

    async def _while_another_delivers(self) -> None:
        """It may do nothing else, and for days: one that a pipe has started waits for the last retry."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._others_at:
            pause = await self._others.once()
            self._others_at = loop.time() + (_NAP_MOST if pause is None else min(pause, _NAP_MOST))
        await self._wait(_LOCK_AGAIN)
        if self._news.is_set():
            self._news.clear()
            self._others_at = 0.0
            poke(self._folder)

    async def _serve(self, *, until_empty: bool = False) -> None:
        rounds = Rounds((self._deliveries,)) if until_empty else self._rounds
        with self._poked():
            while not self._closing:
                self._news.clear()
                pause = await rounds.once()
                if pause is None and until_empty and not self._news.is_set():
                    return
                await self._wait(pause)

    async def _wait(self, pause: float | None) -> None:
        if self._closing:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_NAP_MOST if pause is None else min(pause, _NAP_MOST)):
                await self._news.wait()

    def _lock(self) -> int | None:
        make_folder(self._folder)
        return lock(self._folder)

    @contextmanager
    def _poked(self) -> Iterator[None]:
        """Hear pokes within the block."""
        try:
            descriptor = self._pipe()
        except OSError as error:
            # Then new messages wait for the next round.
            log.error("the runner cannot be told of new messages", extra=place(error))
            yield
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, self._hear, descriptor)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def _pipe(self) -> int:
        path = self._folder / POKE
        with suppress(FileNotFoundError):
            if not stat.S_ISFIFO(path.lstat().st_mode):
                path.unlink()
        with suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        # Open for writing too, so that the last poke is not an end of the file.
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def _hear(self, descriptor: int) -> None:
        with suppress(BlockingIOError):
            if HASTE in os.read(descriptor, 65536):
                self._deliveries.spare_nobody()
        self._news.set()
