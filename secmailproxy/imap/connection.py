"""One mail client that has logged in, and its server: carries octets, work and time around a session.

What only passes through is sent on in the very callback that it came in: nothing is queued but in the two
transports. Whichever of them is full stops the reading that fills it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from keystore.errors import KeystoreError
from secmailproxy.errors import SecMailProxyError
from secmailproxy.imap import steps
from secmailproxy.imap.budget import Budget
from secmailproxy.imap.leg import Leg
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.session import Actions, Session
from secmailproxy.imap.steps import Work
from secmailproxy.imap.upstream import Upstream
from secmailproxy.logs import place

log = logging.getLogger(__name__)

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
        self._client_leg = Leg(self._from_client, self._client_left, self._steer)
        self._server_leg = Leg(self._from_upstream, self._server_left, self._steer)
        self._work: deque[tuple[int, Work]] = deque()
        self._has_work = asyncio.Event()
        self._lacks_room = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.create_future()
        self._heard = self._loop.time()
        self._client_gone = False

    @property
    def mid_response(self) -> bool:
        """Whether the client has a part of a response and waits for the rest."""
        return self._session.mid_response

    async def settled(self) -> None:
        """Wait until no command is in work."""
        await self._settled.wait()

    async def run(self, first: bytes) -> None:
        """Serve until the end; `first` is what the client has sent already."""
        first += await self._client_leg.take_over(self._reader, self._writer)
        rest = self._server.rest + await self._server_leg.take_over(self._server.reader, self._server.writer)
        self._carry_out(self._session.from_upstream(rest))
        self._carry_out(self._session.from_client(first))
        pumps = [self._do_work, self._make_room, self._interject, self._watch]
        tasks = [asyncio.create_task(pump()) for pump in pumps]
        try:
            done, _ = await asyncio.wait([self._end, *tasks], return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            self._finish(None)
            for task in tasks:
                task.cancel()
            await asyncio.gather(self._end, *tasks, return_exceptions=True)
            self._share.close()

    # Callbacks

    def _from_client(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._react(lambda: self._session.from_client(data))

    def _from_upstream(self, data: bytes) -> None:
        self._react(lambda: self._session.from_upstream(data))
        if not self._end.done() and not self._share.fits():
            self._lacks_room.set()
            self._steer()

    def _client_left(self) -> None:
        """What the client asked for, such as an APPEND, is finished all the same."""
        self._client_gone = True
        if not self._session.owes:
            self._finish(None)
        self._loop.call_later(_FINISH_SECONDS, self._finish, None)

    def _server_left(self) -> None:
        self._react(self._session.upstream_gone)

    def _react(self, event: Callable[[], Actions]) -> None:
        if self._end.done():
            return
        try:
            self._carry_out(event())
        except Exception as error:  # noqa: BLE001 - `run` raises it; asyncio would log it, with octets of mail
            self._finish(error)

    def _finish(self, error: Exception | None) -> None:
        if self._end.done():
            return
        if error is None:
            self._end.set_result(None)
        else:
            self._end.set_exception(error)
        self._steer()

    def _steer(self) -> None:
        """Read what can be passed on, and no more."""
        goes_on = self._client_leg.takes and not self._end.done()
        self._server_leg.read(goes_on and not self._lacks_room.is_set())
        self._client_leg.read(goes_on and self._server_leg.takes and self._session.wants_client)

    def _carry_out(self, actions: Actions) -> None:
        """Do what the session says."""
        for fault in actions.faults:
            log.error("imap command failed", extra=place(fault))
        if actions.overheard:
            self._presenter.openings.overheard(actions.overheard)
        if actions.work:
            self._work.extend(actions.work)
            self._has_work.set()
        if actions.to_upstream:
            self._server_leg.write(actions.to_upstream)
        if actions.to_client:
            self._client_leg.write(actions.to_client)
        self._share.lower()
        owes = self._session.owes
        if owes:
            self._settled.clear()
        else:
            self._settled.set()
        if actions.close or (self._client_gone and not owes):
            self._finish(None)
        self._steer()

    # Tasks

    async def _make_room(self) -> None:
        while True:
            await self._lacks_room.wait()
            if not await self._share.settled():
                self._carry_out(self._session.no_room())
            self._lacks_room.clear()
            self._steer()

    async def _watch(self) -> None:
        """Raise TimeoutError when the client has said nothing for too long."""
        while True:
            left = self._heard + _IDLE_SECONDS - self._loop.time()
            if left <= 0:
                raise TimeoutError
            await asyncio.sleep(left)

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
            self._carry_out(actions)
            await self._client_leg.drained()

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
            if self._client_leg.takes and (interjection := self._session.interjection):
                self._client_leg.write(interjection)
