"""One mail client that has logged in, and its server: carries octets, work and time around a session."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque

from keystore.errors import KeystoreError
from secmailproxy.errors import SecMailProxyError
from secmailproxy.imap import steps
from secmailproxy.imap.budget import Budget
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.session import Actions, Session
from secmailproxy.imap.steps import Work
from secmailproxy.imap.upstream import Upstream
from secmailproxy.logs import place

log = logging.getLogger(__name__)

READ_OCTETS = 256 * 1024
_IDLE_SECONDS = 35 * 60.0
"""RFC 9051 section 5.4 asks for at least 30 minutes."""
_FINISH_SECONDS = 30.0


class Connection:
    """Carries octets between client, session and server until one of them leaves."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: Upstream,
        session: Session,
        presenter: Presenter,
        budget: Budget,
        interject_seconds: float = 20.0,
        account: str = "",
    ) -> None:
        """`budget` is shared by all connections of a listener; `account` is whose part of it this is."""
        self._reader = reader
        self._writer = writer
        self._server = server
        self._session = session
        self._presenter = presenter
        self._share = budget.share(lambda: session.held, account)
        self._interject_seconds = interject_seconds
        self._work: deque[tuple[int, Work]] = deque()
        self._has_work = asyncio.Event()
        self._client_may_send = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def mid_response(self) -> bool:
        """Whether the client has a part of a response and waits for the rest."""
        return self._session.mid_response

    async def settled(self) -> None:
        """Wait until no command is in work."""
        await self._settled.wait()

    async def run(self, first: bytes) -> None:
        """Serve until the end; `first` is what the client has sent already."""
        await self._carry_out(self._session.from_upstream(self._server.rest))
        await self._carry_out(self._session.from_client(first))
        pumps = [self._from_client, self._from_upstream, self._do_work, self._interject]
        tasks = [asyncio.create_task(pump()) for pump in pumps]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0] in done and tasks[0].exception() is None and self._session.owes:
                # The client has left; what it asked for, such as an APPEND, is finished all the same.
                tasks.append(asyncio.create_task(self.settled()))
                await asyncio.wait(tasks[1:], timeout=_FINISH_SECONDS, return_when="FIRST_COMPLETED")
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._share.close()

    async def _from_client(self) -> None:
        while True:
            data = b""
            async with asyncio.timeout(_IDLE_SECONDS):
                if not self._session.wants_client:
                    self._client_may_send.clear()
                    await self._client_may_send.wait()
                with contextlib.suppress(ConnectionError):
                    data = await self._reader.read(READ_OCTETS)
            if not data:
                return
            if await self._carry_out(self._session.from_client(data)):
                return

    async def _from_upstream(self) -> None:
        while True:
            data = b""
            with contextlib.suppress(OSError):
                data = await self._server.reader.read(READ_OCTETS)
            if not data:
                await self._carry_out(self._session.upstream_gone())
                return
            if await self._carry_out(self._session.from_upstream(data)):
                return
            if not await self._share.settled():
                await self._carry_out(self._session.no_room())

    async def _do_work(self) -> None:
        while True:
            await self._has_work.wait()
            numbers, work = self._next_work()
            try:
                result = await self._presenter.carry_out(work)
            except (SecMailProxyError, KeystoreError) as error:
                actions = self._session.work_failed(numbers, error)
            except Exception as error:  # noqa: BLE001 - fails one command, not the connection; text may be mail
                log.error("imap work failed", extra={"work": type(work).__name__, **place(error)})
                actions = self._session.work_failed(
                    numbers, SecMailProxyError("Internal error in secmailproxy.")
                )
            else:
                actions = self._session.work_done(numbers, result)
            if await self._carry_out(actions):
                return

    def _next_work(self) -> tuple[list[int], Work]:
        """The next work, and the tasks it is for; what can be done for several tasks in one go is."""
        number, work = self._work.popleft()
        numbers = [number]
        for other in list(self._work):
            joined = steps.joined(work, other[1])
            if joined is not None:
                work = joined
                numbers.append(other[0])
                self._work.remove(other)
        if not self._work:
            self._has_work.clear()
        return numbers, work

    async def _interject(self) -> None:
        while True:
            await asyncio.sleep(self._interject_seconds)
            if interjection := self._session.interjection:
                self._writer.write(interjection)
                await self._writer.drain()

    async def _carry_out(self, actions: Actions) -> bool:
        """Do what the session says; True when the connection shall end."""
        for fault in actions.faults:
            log.error("imap command failed", extra=place(fault))
        if actions.work:
            self._work.extend(actions.work)
            self._has_work.set()
        if actions.to_upstream:
            self._server.writer.write(actions.to_upstream)
        if actions.to_client:
            self._writer.write(actions.to_client)
        if self._session.wants_client:
            self._client_may_send.set()
        self._share.lower()
        if self._session.owes:
            self._settled.clear()
        else:
            self._settled.set()
        if actions.to_client and not self._writer.is_closing():
            with contextlib.suppress(ConnectionError):
                await self._writer.drain()
        if actions.to_upstream:
            await self._server.writer.drain()
        return actions.close
