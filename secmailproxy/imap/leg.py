"""One of the two transports of a connection, by callbacks: octets that only pass through wake no task.

Until the login both sides are asyncio streams, which read well where one thing follows the other. `take_over`
then puts a `Leg` in their place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Leg(asyncio.Protocol):
    """Octets in by `received`, out by `write`; `left` is called once, when no more will come."""

    def __init__(
        self, received: Callable[[bytes], None], left: Callable[[], None], steer: Callable[[], None]
    ) -> None:
        """`steer` is called when `takes` has changed."""
        self._received = received
        self._left = left
        self._steer = steer
        self._transport: asyncio.Transport | None = None
        self._former: asyncio.BaseProtocol | None = None
        self._reads = False
        self._has_left = False
        self._may_write = asyncio.Event()
        self._may_write.set()

    async def take_over(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        """Become the protocol of these streams, paused; what was received and not read.

        The streams can still be closed, and write; they never read again.
        """
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport), "sockets and TLS can be read and written"
        self._transport, self._former = transport, transport.get_protocol()
        transport.set_protocol(self)
        octets = b""
        with contextlib.suppress(OSError):
            reader.feed_eof()
            octets = await reader.read()
        # An end that the streams have seen is seen once more when reading is resumed.
        transport.pause_reading()
        return octets

    @property
    def takes(self) -> bool:
        """Whether it is time to write more: what was written before has mostly left."""
        return self._may_write.is_set()

    async def drained(self) -> None:
        """Wait until it `takes`."""
        await self._may_write.wait()

    def write(self, octets: bytes) -> None:
        """Send; to one that has left, nothing."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(octets)

    def read(self, wanted: bool) -> None:
        """Whether octets shall come now."""
        if self._transport is None or wanted is self._reads:
            return
        self._reads = wanted
        if not wanted:
            self._transport.pause_reading()
        elif self._transport.is_closing():
            self._leave()
        else:
            self._transport.resume_reading()

    # What asyncio calls

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        self._received(data)

    def eof_received(self) -> bool:
        """No more will come; over plain TCP the other direction stays open."""
        self._leave()
        return self._transport is not None and self._transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        """Nothing more can be sent either; whoever waits to write need not."""
        self.resume_writing()
        self._leave()
        if isinstance(self._former, asyncio.Protocol):
            # Whoever has the streams can still close them and wait for that.
            self._former.connection_lost(error)

    def pause_writing(self) -> None:
        """Much is waiting to be sent."""
        self._may_write.clear()
        self._steer()

    def resume_writing(self) -> None:
        """Little is."""
        self._may_write.set()
        self._steer()

    def _leave(self) -> None:
        if not self._has_left:
            self._has_left = True
            self._left()
