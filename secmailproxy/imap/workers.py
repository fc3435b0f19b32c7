"""Processes that open messages at the first sight of a mailbox: started when needed, ended when idle.

A process reads the same keystore. It gets the key of the keystore, and every message, through a pipe, never
by a file or an argument; it ends when the pipe does, and so with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, cast

from keystore.keystore import KeystoreSettings
from keystore.secrets import HandedOver
from secmailproxy.imap.rendering import Job, Locked
from secmailproxy.logs import place
from secmailproxy.views import View

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">Q")
"""Before each value: how many octets it has."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a process must know before its first message."""

    keystore: KeystoreSettings
    secrets: HandedOver
    field_name: str
    log_level: str


def send(pipe: IO[bytes], value: object) -> None:
    """Write a value to another process of ours."""
    octets = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pipe.write(_HEAD.pack(len(octets)) + octets)
    pipe.flush()


def receive(pipe: IO[bytes]) -> object:
    """Read the next value. Raises EOFError at the end."""
    (length,) = _HEAD.unpack(_exactly(pipe, _HEAD.size))
    octets = _exactly(pipe, length)
    return pickle.loads(octets)  # noqa: S301  # both ends of the pipe are this program


def _exactly(pipe: IO[bytes], length: int) -> bytes:
    octets = pipe.read(length)
    if len(octets) < length:
        raise EOFError
    return octets


class _Worker:
    """A process; `ask` blocks."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "secmailproxy.imap.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def ask(self, value: object) -> object:
        """Raises OSError or EOFError when the process has gone."""
        assert self.process.stdin is not None, "it is a pipe"
        assert self.process.stdout is not None, "it is a pipe"
        send(self.process.stdin, value)
        return receive(self.process.stdout)

    def end(self) -> None:
        """At once; whoever waits for an answer gets an error."""
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.__exit__(None, None, None)


_Answer = asyncio.Future[list[View | Locked] | None]
_Task = tuple[Sequence[Job], _Answer]


class _Idle(Exception):
    """There was nothing to do for long."""


class Workers:
    """At most `most` processes for one keystore. They start at the first `call`, and end by themselves."""

    def __init__(
        self,
        start: Start,
        most: int | None = None,
        idle_seconds: float = 60.0,
        answer_seconds: float = 600.0,
    ) -> None:
        """A process that takes longer than `answer_seconds`, in which people type passphrases, is ended."""
        self._start = start
        self._answer_seconds = answer_seconds
        self._most = min(2, len(os.sched_getaffinity(0))) if most is None else most
        self._idle_seconds = idle_seconds
        self._queue: asyncio.Queue[_Task] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self.processes: set[int] = set()
        """Their process numbers."""
        self.ready = 0
        """How many of them can work now."""

    def call(self) -> None:
        """Start what is missing; work can be done before they are ready."""
        for _ in range(self._most - len(self._tasks)):
            task = asyncio.create_task(self._employ())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def views(self, jobs: Sequence[Job]) -> list[View | Locked] | None:
        """The views of some messages; None when no process is left to do it."""
        if not self.ready:
            return None
        future: _Answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((jobs, future))
        return await future

    async def close(self) -> None:
        """End all processes now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _employ(self) -> None:
        """The life of one process."""
        try:
            worker = _Worker()
        except OSError as error:
            log.error("a process to open messages could not be started", extra=place(error))
            return
        self.processes.add(worker.process.pid)
        try:
            await self._serve(worker)
        except (OSError, EOFError) as error:
            log.error("a process that opens messages has ended", extra=place(error))
        finally:
            worker.end()
            self.processes.discard(worker.process.pid)

    async def _serve(self, worker: _Worker) -> None:
        async with asyncio.timeout(self._answer_seconds):
            await asyncio.to_thread(worker.ask, self._start)
        self.ready += 1
        try:
            while True:
                jobs, future = await self._next()
                await self._carry_out(worker, jobs, future)
        except _Idle:
            return
        finally:
            self.ready -= 1
            while not self.ready and not self._queue.empty():
                _settle(self._queue.get_nowait()[1], None)

    async def _next(self) -> _Task:
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await self._queue.get()
        except TimeoutError:
            raise _Idle from None

    async def _carry_out(self, worker: _Worker, jobs: Sequence[Job], future: _Answer) -> None:
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await asyncio.to_thread(worker.ask, list(jobs))
        except BaseException:
            _settle(future, None)
            raise
        _settle(future, cast("list[View | Locked]", answer))


def _settle(future: _Answer, result: list[View | Locked] | None) -> None:
    """Whoever waits may have left."""
    if not future.done():
        future.set_result(result)
