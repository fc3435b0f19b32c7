"""Commands to a smarthost that has let us in, its replies in order, and message octets.

Several commands may be on their way at once where the server offers PIPELINING; where it does not, each waits
here for the reply to the one before. The library that opens connections knows one command at a time only, and
throws away what a server says unasked.

Standards: RFC 5321, RFC 2920 (PIPELINING).

Security: after a failed, cut or cancelled exchange the connection is closed, so that a late reply cannot be
taken for that of another command; a reply that nobody asked for ends it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from secmailproxy.errors import MalformedMessage, UpstreamLost
from secmailproxy.model import Reply
from secmailproxy.smtp.replies import NotSmtp, ReplyReader

CHUNK: Final = 128 * 1024
"""Octets of a message that are written at once; one that is not longer is one write."""

_QUIT_TIMEOUT = 2.0
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_CLOSED = "closed the connection or broke the protocol"

Coming = asyncio.Future[Reply | None]
"""A reply that is to come; None when none will."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one server may be asked, and how long it may take. Times in seconds."""

    name: str
    """Of the server, for people."""
    pipelining: bool
    timeout: float
    """For one reply, and for one chunk of a message to leave."""
    final_timeout: float
    """For the reply to a message."""
    transactions: int | None = None
    """How many there may be on one connection, where the server says so (RFC 9422)."""


class Exchange(asyncio.Protocol):
    """What is said over one connection from the login on."""

    def __init__(self, transport: asyncio.Transport, pace: Pace) -> None:
        """Takes the transport over."""
        self._transport = transport
        self._pace = pace
        self._reader = ReplyReader()
        self._coming: deque[Coming] = deque()
        self._held: deque[bytes] = deque()
        self._writable = asyncio.Event()
        self._writable.set()
        self._why = _CLOSED
        # The transport's own word for it is not to be trusted once TLS has ended.
        self.alive = True
        """Whether the connection still stands, as far as this side knows."""
        self.dirty = False
        """Whether a transaction was left open, so that RSET is due."""
        self.idle_since = 0.0
        """Time of the loop."""
        self.transactions = 0
        """How often MAIL was said."""
        transport.set_protocol(self)

    @property
    def pace(self) -> Pace:
        """As it was given."""
        return self._pace

    @property
    def worn(self) -> bool:
        """Whether the server would take no further transaction on this connection."""
        return self._pace.transactions is not None and self.transactions >= self._pace.transactions

    @property
    def waiting(self) -> bool:
        """Whether a reply is still to come."""
        return bool(self._coming)

    def ask(self, lines: Sequence[bytes]) -> list[Coming]:
        """Send commands, given without CRLF, in one piece if the server allows it; what to wait for.

        Raises MalformedMessage, before anything is sent, for a control character in a command.
        """
        if any(_CONTROL.search(line) for line in lines):
            raise MalformedMessage("control character in an address or parameter")
        coming: list[Coming] = [asyncio.get_running_loop().create_future() for _ in lines]
        for one in coming:
            if not self.alive:
                one.set_result(None)
        if self.alive:
            self._held += (line + b"\r\n" for line in lines)
            self._coming += coming
            self._write_held(idle=len(self._coming) == len(coming))
        return coming

    async def reply(self, coming: Coming, timeout: float | None = None) -> Reply:
        """The reply when it is there. Raises UpstreamLost; the connection is closed then."""
        with self._closing_on_failure():
            if not coming.done():
                await asyncio.wait({coming}, timeout=timeout or self._pace.timeout)
            if not coming.done():
                raise TimeoutError
            reply = coming.result()
        if reply is None:
            raise self.lost(self._why)
        return reply

    async def message(self, stuffed: bytes) -> Reply:
        """Send octets that end in the final dot, return the reply to them. Raises UpstreamLost.

        A refusal that comes before all has been sent is returned too; the connection is closed then.
        """
        coming: Coming = asyncio.get_running_loop().create_future()
        if not self.alive:
            raise self.lost(self._why)
        self._coming.append(coming)
        with self._closing_on_failure():
            complete = await self._write_message(stuffed, coming)
        reply = await self.reply(coming, self._pace.final_timeout)
        if not complete:
            self.abort()
            if reply.positive:
                raise self.lost("answered before the end of the message")
        return reply

    def close(self) -> None:
        """Say QUIT and close; does not wait."""
        if self.alive:
            self.alive = False
            self._transport.write(b"QUIT\r\n")
            self._transport.close()

    async def quit(self) -> None:
        """Say QUIT, wait a moment for the answer, close."""
        with contextlib.suppress(UpstreamLost):
            await self.reply(self.ask([b"QUIT"])[0], _QUIT_TIMEOUT)
        self.abort()
        await asyncio.sleep(0)

    def abort(self) -> None:
        """Close at once, so that what was not completed never counts."""
        if self.alive:
            self._give_up()
            self._transport.abort()

    def lost(self, what: str) -> UpstreamLost:
        """The error to raise, with the name of the server."""
        return UpstreamLost(f"{self._pace.name} {what}")

    async def _write_message(self, stuffed: bytes, coming: Coming) -> bool:
        """Write all, piece by piece; False when a reply or the end came first."""
        view = memoryview(stuffed)
        for start in range(0, len(stuffed), CHUNK):
            if coming.done():
                return False
            self._transport.write(view[start : start + CHUNK])
            if not self._writable.is_set():
                await asyncio.wait_for(self._writable.wait(), self._pace.timeout)
        return not coming.done() or not self._transport.get_write_buffer_size()

    def _write_held(self, *, idle: bool) -> None:
        """Send what the server may be sent now."""
        if self._pace.pipelining:
            self._transport.write(b"".join(self._held))
            self._held.clear()
        elif idle and self._held:
            self._transport.write(self._held.popleft())

    # Called by asyncio.

    def data_received(self, octets: bytes) -> None:
        """Give each reply to the one who waits for it."""
        try:
            for reply in self._reader.feed(octets):
                self._arrived(reply)
        except NotSmtp:
            self._why = "answered with something that is not SMTP"
            self.abort()

    def _arrived(self, reply: Reply) -> None:
        if not self._coming:
            # Said unasked: 421 before an idle connection is closed, or nonsense.
            self.abort()
            return
        self._coming.popleft().set_result(reply)
        self._writable.set()  # a server that refuses a message early may read no more of it
        if reply.code == 421:
            self.abort()
        else:
            self._write_held(idle=True)

    def pause_writing(self) -> None:
        """The server is slower than we are."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def eof_received(self) -> bool:
        """The server has gone; what it has not answered it never will."""
        self.abort()
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more will come."""
        self._give_up()

    def _give_up(self) -> None:
        self.alive = False
        self._held.clear()
        while self._coming:
            self._coming.popleft().set_result(None)
        self._writable.set()

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError:
            self.abort()
            raise self.lost("did not answer in time") from None
        except BaseException:
            self.abort()
            raise
