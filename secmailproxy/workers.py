"""Processes that do what would keep this one busy: started when needed, ended when idle.

A process reads the same keystore. It gets the key of the keystore, and every task, through a pair of sockets,
never by a file or an argument; it ends when its socket does, and so with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
import os
import pickle
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import keystore
from keystore.keystore import Keystore, KeystoreSettings
from keystore.secrets import HandedOver
from secmailproxy.logs import place

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">Q")
"""Before each value: how many octets it has."""
_BUFFER = 1024 * 1024
"""Octets that a socket may hold, so that few pieces make a large message."""
_PIECE = 256 * 1024
"""Octets that are handed to the transport at once; what it cannot send now, it copies."""
WRITE_BUFFER = 64 * 1024
"""Octets of an answer that leave a process at once, so that who waits for it is woken once."""


@dataclass(frozen=True, slots=True)
class Start:
    """What a process must know before its first task."""

    keystore: KeystoreSettings
    secrets: HandedOver
    log_level: str
    program: str = ""
    """`program()` when we started. A process that finds another one ends: we would not understand it."""


def program() -> str:
    """Names this program as it is on the disk now; after an update it is another one."""
    folders = [Path(__file__).parent, Path(keystore.__file__).parent]
    found = [(path, path.stat()) for folder in folders for path in sorted(folder.rglob("*.py"))]
    text = "".join(f"{path} {stat.st_size} {stat.st_mtime_ns}\n" for path, stat in found)
    return hashlib.sha256(text.encode()).hexdigest()


class Task(Protocol):
    """Something to do with a keystore. It is pickled, and so is its outcome."""

    def carry_out(self, keystore: Keystore) -> object:
        """The outcome; None when it must be done by who asked. May raise nothing that says what mail says."""


class Lost(NamedTuple):
    """Instead of an outcome: the process ended before it was done."""

    signal: int | None = None
    """What ended it; None when it has ended itself, or took too long."""


class Urgency(IntEnum):
    """Which task comes first."""

    SUBMISSION = 0
    """Somebody waits for one message."""
    SYNC = 1
    """One of hundreds."""


def send(pipe: IO[bytes], value: object) -> None:
    """Write a value to another process of ours."""
    octets = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    pipe.write(_HEAD.pack(len(octets)))
    pipe.write(octets)
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


class _Answers(asyncio.Protocol):
    """Our end of the sockets: one question at a time, each with one answer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._answer: asyncio.Future[object] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._drained = asyncio.Event()
        self._drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Both ends are there."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    async def ask(self, value: object) -> object:
        """Raises EOFError when the process has gone."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        if self._transport.is_closing():
            raise EOFError
        octets = memoryview(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
        self._transport.write(_HEAD.pack(len(octets)) + octets[:_PIECE])
        for start in range(_PIECE, len(octets), _PIECE):
            await self._drained.wait()
            self._transport.write(octets[start : start + _PIECE])
            if self._transport.is_closing():
                break
        return await self._answer

    def pause_writing(self) -> None:
        """The process is behind."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._drained.set()

    def data_received(self, data: bytes) -> None:
        """A piece of an answer."""
        self._buffer += data
        if len(self._buffer) < _HEAD.size:
            return
        (length,) = _HEAD.unpack_from(self._buffer)
        if len(self._buffer) < _HEAD.size + length:
            return
        with memoryview(self._buffer) as view:
            answer = pickle.loads(view[_HEAD.size :])  # noqa: S301  # both ends are this program
        self._buffer.clear()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """The process has ended, or is told to."""
        self._drained.set()
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(EOFError())
            self._answer.exception()  # who asked may have left

    def close(self) -> None:
        """Ends the process, if nothing else has."""
        if self._transport is not None:
            self._transport.abort()


def _started() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A process, and our end of the sockets between us."""
    ours, its = socket.socketpair()
    for end in (ours, its):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    with its:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "secmailproxy.worker"],
                stdin=its.fileno(),
                stdout=its.fileno(),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        except BaseException:
            ours.close()
            raise
    return process, ours


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@dataclass(eq=False, slots=True)
class _Waiting:
    """A task that was handed in."""

    task: Task
    outcome: asyncio.Future[object]
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether a process has it, or none ever will."""


_Queued = tuple[Urgency, int, _Waiting]


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
        self._queue: asyncio.PriorityQueue[_Queued] = asyncio.PriorityQueue()
        self._numbers = itertools.count()
        self._begun = 0
        """How many tasks processes have taken."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.processes: set[int] = set()
        """Their process numbers."""
        self.ready = 0
        """How many of them can work now."""
        self._known = asyncio.Event()
        """Whether one is ready, or none will be."""

    def call(self) -> None:
        """Start what is missing; work can be done before they are ready."""
        if not self.ready:
            self._known.clear()
        for _ in range(self._most - len(self._tasks)):
            task = asyncio.create_task(self._employ())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def outcome(self, task: Task, urgency: Urgency, patience: float | None = None) -> object | None:
        """The outcome of a task; None when no process is left to do it, or none can.

        With `patience` also when none has begun with it, or with any other, for so many seconds: then all are
        busy with what takes long.
        """
        found = await self.tried(task, urgency, patience)
        return None if isinstance(found, Lost) else found

    async def tried(
        self, task: Task, urgency: Urgency, patience: float | None = None
    ) -> object | Lost | None:
        """The same, but `Lost` when a process ended while it did it."""
        if not self.ready:
            return None
        waiting = _Waiting(task, asyncio.get_running_loop().create_future())
        self._queue.put_nowait((urgency, next(self._numbers), waiting))
        if patience is not None and not await self._begins(waiting, patience):
            waiting.outcome.cancel()
            return None
        return await waiting.outcome

    async def _begins(self, waiting: _Waiting, patience: float) -> bool:
        while not waiting.begun.is_set():
            before = self._begun
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await waiting.begun.wait()
            if before == self._begun and not waiting.begun.is_set():
                return False
        return True

    async def alone(self, task: Task) -> object | Lost | None:
        """The outcome of a task by a process of its own; `Lost` when it ended, None when there is none."""
        try:
            process, ours = _started()
        except OSError as error:
            log.error("a process to help could not be started", extra=place(error))
            return None
        self.processes.add(process.pid)
        answers = _Answers()
        try:
            await asyncio.get_running_loop().create_connection(lambda: answers, sock=ours)
            async with asyncio.timeout(self._answer_seconds):
                await answers.ask(self._start)
            try:
                async with asyncio.timeout(self._answer_seconds):
                    return await answers.ask(task)
            except EOFError:
                return Lost(-await asyncio.to_thread(process.wait))
        except (OSError, EOFError) as error:
            log.error("a process that helps has ended", extra=place(error))
            return Lost()
        finally:
            answers.close()
            ours.close()
            _end(process)
            self.processes.discard(process.pid)

    async def any_ready(self, patience: float) -> None:
        """After `call`, wait until a process can work, or none will, for at most `patience` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                await self._known.wait()

    async def close(self) -> None:
        """End all processes now."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _employ(self) -> None:
        """The life of one process."""
        try:
            process, ours = _started()
        except OSError as error:
            log.error("a process to help could not be started", extra=place(error))
            self._tell()
            return
        self.processes.add(process.pid)
        answers = _Answers()
        try:
            await asyncio.get_running_loop().create_connection(lambda: answers, sock=ours)
            await self._serve(answers)
        except (OSError, EOFError) as error:
            log.error("a process that helps has ended", extra=place(error))
        finally:
            answers.close()
            ours.close()
            _end(process)
            self.processes.discard(process.pid)
            self._tell()

    def _tell(self) -> None:
        if self.ready or not self.processes:
            self._known.set()

    async def _serve(self, answers: _Answers) -> None:
        async with asyncio.timeout(self._answer_seconds):
            await answers.ask(self._start)
        self.ready += 1
        self._tell()
        try:
            while True:
                await self._carry_out(answers, await self._next())
        except _Idle:
            return
        finally:
            self.ready -= 1
            while not self.ready and not self._queue.empty():
                _settle(self._queue.get_nowait()[-1], None)

    async def _next(self) -> _Waiting:
        """The next that anybody still waits for."""
        while True:
            waiting = await self._next_queued()
            if not waiting.outcome.done():
                self._begun += 1
                waiting.begun.set()
                return waiting

    async def _next_queued(self) -> _Waiting:
        with contextlib.suppress(asyncio.QueueEmpty):
            return self._queue.get_nowait()[-1]
        try:
            async with asyncio.timeout(self._idle_seconds):
                return (await self._queue.get())[-1]
        except TimeoutError:
            raise _Idle from None

    async def _carry_out(self, answers: _Answers, waiting: _Waiting) -> None:
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await answers.ask(waiting.task)
        except BaseException:
            _settle(waiting, Lost())
            raise
        _settle(waiting, answer)


def _settle(waiting: _Waiting, result: object) -> None:
    """Whoever waits may have left."""
    waiting.begun.set()
    if not waiting.outcome.done():
        waiting.outcome.set_result(result)
