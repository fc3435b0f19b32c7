"""One mail transaction at a smarthost, its commands on their way together where that is safe.

Standards: RFC 5321 section 3.3, RFC 2920 section 3.1.

Security: a transaction that is given up once DATA was sent is ended by cutting the connection, so that no
server takes what it has got for a message; so is one whose replies have not all come. An unknown outcome
after the final dot is an error, never a second attempt (SMTP-02).
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from secmailproxy.errors import MalformedMessage, UpstreamLost
from secmailproxy.model import Reply
from secmailproxy.smtp.aside import aside
from secmailproxy.smtp.exchange import Coming, Exchange
from secmailproxy.smtp.wire import dot_stuffed, fault

CHECK_TIMEOUT: Final = 10.0
"""Seconds in which a kept connection must show that it still works."""


class _State(Enum):
    READY = "no transaction begun"
    OPEN = "MAIL sent"
    DATA = "DATA sent and not refused"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the connection of a transaction comes from and goes to."""

    reconnect: Callable[[], Awaitable[Exchange]]
    """A new one in place of a kept one that is gone."""
    take_back: Callable[[Exchange], None]


@dataclass(eq=False)
class Asked:
    """A command that was sent; await it for the reply, in the order of sending."""

    transaction: Transaction
    line: bytes
    coming: Coming

    def __await__(self) -> Generator[Any, None, Reply]:
        """Raises UpstreamLost when the connection breaks or stalls."""
        return self.transaction.reply_to(self).__await__()


class Transaction:
    """Its commands are sent at once and may be awaited later."""

    def __init__(self, origin: Origin, exchange: Exchange, *, kept: bool, check: bool = False) -> None:
        """Use `Smarthost.start` or `Smarthost.begin`.

        A connection that was `kept` is replaced, once, if it turns out to be gone before anything was
        answered on it. `check` has RSET sent first, which must succeed.
        """
        self._origin = origin
        self._exchange: Exchange | None = exchange
        self._kept = kept
        self._check = check
        self._checked: Coming | None = None
        self._asked: list[Asked] = []
        self._state = _State.READY

    def mail(self, mail_from: str, options: Sequence[str] = ()) -> Asked:
        """MAIL."""
        return self._ask([_mail(mail_from, options)])[0]

    def rcpt(self, rcpt_to: str, options: Sequence[str] = ()) -> Asked:
        """RCPT."""
        return self._ask([_rcpt(rcpt_to, options)])[0]

    def data(self) -> Asked:
        """DATA: 354, or a refusal. From here on, giving up costs the connection."""
        return self._ask([b"DATA"])[0]

    async def open(
        self, mail_from: str, options: Sequence[str], rcpts: Sequence[tuple[str, Sequence[str]]]
    ) -> Reply | None:
        """MAIL, RCPT for each, DATA, in one round trip if the server has PIPELINING.

        The first refusal, or None when the server waits for the message. Raises UpstreamLost.
        """
        lines = [_mail(mail_from, options), *(_rcpt(*rcpt) for rcpt in rcpts), b"DATA"]
        for group in [lines] if self._open.pace.pipelining else [[line] for line in lines]:
            refusal = await self._first_refusal(self._ask(group))
            if refusal is not None:
                return refusal
        return None

    async def send(self, octets: bytes) -> Reply:
        """The message, exactly these octets, and the server's final reply, which settles the transaction.

        Raises MalformedMessage before the first octet; UpstreamLost when the outcome is unknown.
        """
        stuffed = await aside(len(octets), lambda: _stuffed(octets))
        reply = await self._open.message(stuffed)
        if reply.code // 100 == 3:
            raise self._nonsense("the message", reply)
        self._state = _State.READY
        return reply

    async def reply_to(self, asked: Asked) -> Reply:
        """What awaiting `asked` does."""
        reply = await (self._first_reply(asked) if self._kept else self._open.reply(asked.coming))
        if asked.line == b"DATA":
            if not reply.positive:
                self._state = _State.OPEN
            elif reply.code != 354:
                raise self._nonsense("DATA", reply)
        elif reply.code // 100 == 3:
            raise self._nonsense(asked.line[:4].decode("ascii"), reply)
        return reply

    def end(self) -> None:
        """Give the connection back, or cut it; does nothing the second time."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if self._state is _State.DATA or exchange.waiting:
            exchange.abort()
        exchange.dirty = self._state is _State.OPEN
        self._origin.take_back(exchange)

    def _ask(self, lines: Sequence[bytes]) -> list[Asked]:
        prefix = [b"RSET"] if self._check and not self._asked else []
        coming = self._open.ask([*prefix, *lines])
        if prefix:
            self._checked = coming.pop(0)
        asked = [Asked(self, line, one) for line, one in zip(lines, coming, strict=True)]
        self._asked += asked
        if b"DATA" in lines:
            self._state = _State.DATA
        elif self._state is _State.READY:
            self._state = _State.OPEN
            self._open.transactions += 1
        return asked

    async def _first_reply(self, asked: Asked) -> Reply:
        """On a kept connection that is gone only commands were sent: they are said again on a new one."""
        exchange = self._open
        patience = min(CHECK_TIMEOUT, exchange.pace.timeout)
        with contextlib.suppress(UpstreamLost):
            sound = self._checked is None or (await exchange.reply(self._checked, patience)).code == 250
            reply = await exchange.reply(asked.coming, patience) if sound else None
            if reply is not None and reply.code != 421:
                self._kept = False
                return reply
        exchange.abort()
        self._kept = False
        self._exchange = exchange = await self._origin.reconnect()
        exchange.transactions += 1
        for one, coming in zip(self._asked, exchange.ask([one.line for one in self._asked]), strict=True):
            one.coming = coming
        return await exchange.reply(asked.coming)

    async def _first_refusal(self, group: Sequence[Asked]) -> Reply | None:
        """Hear all replies, for the sake of the connection; a refusal counts even if it breaks then."""
        refusal: Reply | None = None
        try:
            for asked in group:
                reply = await asked
                if refusal is None and not reply.positive:
                    refusal = reply
        except UpstreamLost:
            if refusal is None:
                raise
        return refusal

    def _nonsense(self, what: str, reply: Reply) -> UpstreamLost:
        exchange = self._open
        exchange.abort()
        return exchange.lost(f"answered {what} with {reply.code}")

    @property
    def _open(self) -> Exchange:
        if self._exchange is None:
            raise UpstreamLost("the transaction has ended")
        return self._exchange


def _mail(mail_from: str, options: Sequence[str]) -> bytes:
    return " ".join((f"MAIL FROM:<{mail_from}>", *options)).encode()


def _rcpt(rcpt_to: str, options: Sequence[str]) -> bytes:
    return " ".join((f"RCPT TO:<{rcpt_to}>", *options)).encode()


def _stuffed(octets: bytes) -> bytes:
    if reason := fault(octets):
        raise MalformedMessage(reason)
    return dot_stuffed(octets)
