"""The daemon's door for pipes: a Unix socket in the state folder, by which `knock` hands messages over.

What is said is in `knock`. Whoever knocks tells how large the message is and waits for a turn before a single
octet of it is sent, so however many wait, they cost the daemon their first line alone. A message is answered
when `Desk.process` has returned, and with nothing less.

Security: the kernel says who knocks; only this user and root may. A message that does not come whole in time
is thrown away, and so is one whose sender has gone before it was whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from secmailproxy.forward.complaint import complaint
from secmailproxy.forward.knock import GREETING, MESSAGE_MOST, REFUSAL, TURN
from secmailproxy.forward.model import ForwardSettings
from secmailproxy.localuser import user_at

log = logging.getLogger(__name__)

Process = Callable[[tuple[str, ...], bytes], bool]
"""(options of `forward`, the message as it came): True when it cannot be lost any more, False when the caller
must do it by itself, and nothing was done here. Blocks; raises as `Desk.process`."""

_OF_THE_VISITOR = (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError)
_BACKLOG = 1024
_THREADS = 4
_LINE_MOST = 100
_OPTIONS_MOST = 16 * 1024
_ROOM_OCTETS = 64 * 1024 * 1024
_SHARES = 16
"""So many messages at most are inside at the same time, however small."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds to wait for the first line, and for a whole message."""

    line: float = 10.0
    message: float = 60.0


class Room:
    """How much may be inside at a time. Who comes first goes in first."""

    def __init__(self, octets: int = _ROOM_OCTETS, shares: int = _SHARES) -> None:
        self._octets = octets
        self._least = octets // shares
        self._inside = 0
        self._queue = asyncio.Lock()
        self._left = asyncio.Event()

    @contextlib.asynccontextmanager
    async def of(self, octets: int) -> AsyncIterator[None]:
        """Wait until there is room for a message of this size; one larger than all of it goes in alone."""
        needed = max(octets, self._least)
        async with self._queue:
            while self._inside and self._inside + needed > self._octets:
                self._left.clear()
                await self._left.wait()
            self._inside += needed
        try:
            yield
        finally:
            self._inside -= needed
            self._left.set()


class Door:
    """The socket, while the daemon runs. `start`, then `stop`."""

    def __init__(
        self,
        path: Path,
        process: Process,
        *,
        deadlines: Deadlines | None = None,
        users: frozenset[int] | None = None,
    ) -> None:
        """Nothing listens yet. `path` is in a folder that is closed to others; `users` are let in."""
        self._users = frozenset({0, os.geteuid()}) if users is None else users
        self._path = path
        self._process = process
        self._deadlines = deadlines or Deadlines()
        self._room = Room()
        self._threads = ThreadPoolExecutor(_THREADS, "door")
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError."""
        # One daemon has this folder: what is there was left by one that is gone.
        self._path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(str(self._path))
            self._path.chmod(0o600)
            self._server = await asyncio.start_unix_server(
                self._visited, sock=listening, backlog=_BACKLOG, limit=_LINE_MOST
            )
        except BaseException:
            listening.close()
            raise

    async def stop(self, grace: float) -> None:
        """Let nobody in any more; answer those who are inside, for at most `grace` seconds."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
        if self._visits:
            await asyncio.wait(self._visits, timeout=grace)
        for visit in list(self._visits):
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visit = asyncio.current_task()
        assert visit is not None  # a server calls this
        self._visits.add(visit)
        try:
            # Cancelled only by `stop`, which waits for the end.
            with contextlib.suppress(*_OF_THE_VISITOR, asyncio.CancelledError):
                await self._visit(reader, writer)
        finally:
            self._visits.discard(visit)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One message. Raises what `_OF_THE_VISITOR` has: then nothing was done with it."""
        user = user_at(writer.get_extra_info("socket"))
        if user not in self._users:
            log.warning("somebody else's program was turned away at the door", extra={"uid": user})
            return
        async with asyncio.timeout(self._deadlines.line):
            options, octets = _announced(await reader.readuntil(b"\n"))
        async with self._room.of(options + octets):
            writer.write(TURN)
            async with asyncio.timeout(self._deadlines.message):
                words = await reader.readexactly(options)
                message = await reader.readexactly(octets)
            writer.write(await self._answer(words, message))
            await writer.drain()

    async def _answer(self, words: bytes, message: bytes) -> bytes:
        options = tuple(os.fsdecode(word) for word in words.split(b"\0")) if words else ()
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._process, options, message)
        try:
            # Once begun it is finished, whoever has gone meanwhile.
            taken = await asyncio.shield(work)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # noqa: BLE001  # whoever knocked keeps the message
            return b"75 %s\n" % complaint(error).encode("utf-8", "backslashreplace")
        return b"0\n" if taken else REFUSAL + b"\n"


def _announced(line: bytes) -> tuple[int, int]:
    """The octets of the options and of the message. Raises ValueError."""
    if not line.startswith(GREETING):
        raise ValueError("not a pipe of this version")
    options, octets = (int(word) for word in line.removeprefix(GREETING).split())
    if not (0 <= options <= _OPTIONS_MOST and 0 <= octets <= MESSAGE_MOST):
        raise ValueError("too large")
    return options, octets


def settings_for(words: Sequence[str], settings: ForwardSettings) -> ForwardSettings | None:
    """What `forward` with these options would go by; None where only the full way can tell."""
    if len(words) == 2 and words[0] == "--to":
        wanted = [one.address for one in settings.targets if one.address.lower() == words[1].lower()]
    else:
        addresses = [settings.to] if settings.to else [one.address for one in settings.targets]
        wanted = [] if words else addresses
    if len(wanted) != 1 or not settings.sender or (settings.via == "smarthost" and not settings.account):
        return None
    return replace(settings, default=replace(settings.default, rcpt_tos=(wanted[0],)))
