"""The smarthost: kept connections, and transactions on them.

Standards: RFC 5321 section 3.3.

Security: a connection serves one transaction at a time and only the credential it was logged in with. An
unknown outcome after the final dot is an error, never a second attempt (SMTP-02); a transaction that is given
up before it is cut without the final dot.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum

from secmailproxy.accounts import Credentials, Mechanism
from secmailproxy.errors import LimitExceeded, MalformedMessage, SecMailProxyError, UpstreamLost
from secmailproxy.model import Reply
from secmailproxy.smtp.connection import Connection, SmarthostSettings, tls_context
from secmailproxy.smtp.sasl import mechanisms
from secmailproxy.smtp.wire import dot_stuffed, fault

__all__ = ["Credentials", "Smarthost", "SmarthostSettings", "Transaction"]

log = logging.getLogger(__name__)

_CHECK_AFTER = 30.0
"""Seconds idle after which a kept connection is tried before it is trusted."""
_CHECK_TIMEOUT = 10.0


class _State(Enum):
    READY = "no transaction begun"
    OPEN = "MAIL accepted"
    DATA = "354 received"


class Smarthost:
    """The submission server of one or several accounts."""

    def __init__(self, settings: SmarthostSettings) -> None:
        """Nothing is opened or read before the first use."""
        self.settings = settings
        self.extensions: Mapping[str, str] | None = None
        """EHLO keywords in upper case with parameters, as last seen over TLS; None before the first time."""
        self._context: ssl.SSLContext | None = None
        self._idle: dict[bytes, list[Connection]] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._learning: asyncio.Task[None] | None = None
        self._key = secrets.token_bytes(32)

    async def verify_login(self, credentials: Credentials) -> None:
        """Return when the credentials are right; the connection is kept for the mail to come.

        Raises LoginRefused with the server's own reply, UpstreamUnavailable, ConfigError (CA file).
        """
        connection, _ = await self._take(credentials, check_after=0)
        self._keep(credentials, connection)

    async def learn(self, patience: float) -> Mapping[str, str]:
        """`extensions`, after connecting if they are not known. Empty if that fails or takes too long."""
        if self.extensions is None:
            if self._learning is None or self._learning.done():
                self._learning = asyncio.create_task(self._probe())
            await asyncio.wait({self._learning}, timeout=patience)
        return self.extensions or {}

    async def start(self, credentials: Credentials) -> Transaction:
        """A transaction on a logged-in connection; its owner must call `end`. Errors as in `verify_login`."""
        connection, kept = await self._take(credentials)
        return Transaction(self, credentials, connection, kept=kept)

    @asynccontextmanager
    async def begin(self, credentials: Credentials) -> AsyncIterator[Transaction]:
        """`start`, with `end` at the end of the block."""
        transaction = await self.start(credentials)
        try:
            yield transaction
        finally:
            transaction.end()

    async def close(self) -> None:
        """Close idle connections. Transactions are not touched."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        idle, self._idle = self._idle, {}
        await asyncio.gather(*(connection.quit() for kept in idle.values() for connection in kept))
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait({self._learning})

    @property
    def mechanisms(self) -> frozenset[Mechanism]:
        """The ways to log in that the server offers and we can use; empty as long as that is not known."""
        return mechanisms((self.extensions or {}).get("AUTH", ""))

    @property
    def size_limit(self) -> int | None:
        """Octets the server accepts for a message (RFC 1870), None if it names no limit."""
        limit = (self.extensions or {}).get("SIZE", "")
        return int(limit) or None if limit.isdecimal() else None

    def check(self, octets: bytes) -> None:
        """Raises MalformedMessage or LimitExceeded for a message that cannot be sent here."""
        if reason := fault(octets):
            raise MalformedMessage(reason)
        if self.size_limit is not None and len(octets) > self.size_limit:
            raise LimitExceeded(
                f"the message has {len(octets)} octets once protected; {self.settings.host} accepts "
                f"{self.size_limit}"
            )
        if self.extensions is not None and "8BITMIME" not in self.extensions and not octets.isascii():
            error = MalformedMessage(f"{self.settings.host} accepts no 8-bit message (no 8BITMIME)")
            error.enhanced_status = "5.6.3"
            raise error

    async def reconnect(self, credentials: Credentials) -> Connection:
        """A new logged-in connection."""
        connection = await self._connect()
        await connection.login(credentials)
        return connection

    def release(self, credentials: Credentials, connection: Connection, state: _State) -> None:
        """Take a connection back; one that waits for message octets is cut."""
        if state is _State.DATA:
            connection.abort()
        else:
            connection.dirty = state is _State.OPEN
            self._keep(credentials, connection)

    async def _probe(self) -> None:
        try:
            await (await self._connect()).quit()
        except SecMailProxyError as error:
            log.warning("what the smarthost offers is not known", extra={"why": error.text})

    async def _connect(self) -> Connection:
        if self._context is None:
            self._context = await asyncio.to_thread(tls_context, self.settings)
        connection = await Connection.open(self.settings, self._context)
        self.extensions = connection.extensions
        return connection

    async def _take(
        self, credentials: Credentials, check_after: float = _CHECK_AFTER
    ) -> tuple[Connection, bool]:
        """A connection, and whether it had been kept. The most recently used kept one is taken first."""
        now = asyncio.get_running_loop().time()
        kept = self._idle.get(self._proof(credentials), [])
        while kept:
            connection = kept.pop()
            if not connection.alive:
                continue
            if not connection.dirty and now - connection.idle_since < check_after:
                return connection, True
            if await self._healthy(connection):
                return connection, True
        return await self.reconnect(credentials), False

    async def _healthy(self, connection: Connection) -> bool:
        """Whether RSET is answered with 250; it also ends a transaction that was left open."""
        try:
            reply = await connection.command(b"RSET", timeout=min(_CHECK_TIMEOUT, self.settings.timeout))
        except UpstreamLost:
            return False
        if reply.code != 250:
            connection.close()
            return False
        connection.dirty = False
        return True

    def _keep(self, credentials: Credentials, connection: Connection) -> None:
        if not connection.alive:
            return
        loop = asyncio.get_running_loop()
        kept = self._idle.setdefault(self._proof(credentials), [])
        kept.append(connection)
        connection.idle_since = loop.time()
        if self._expiry is None:
            self._expiry = loop.call_later(self.settings.idle_limit, self._expire)
        if len(kept) > self.settings.keep:
            kept.pop(0).close()

    def _expire(self) -> None:
        """Close what has been idle for too long, and come again while anything is kept."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for proof, kept in list(self._idle.items()):
            for connection in [one for one in kept if now - one.idle_since >= self.settings.idle_limit]:
                kept.remove(connection)
                connection.close()
            if not kept:
                del self._idle[proof]
        self._expiry = loop.call_later(self.settings.idle_limit, self._expire) if self._idle else None

    def _proof(self, credentials: Credentials) -> bytes:
        """Names the credential; keyed with a secret of this process, so lookups tell nothing by time."""
        text = f"{credentials.mechanism}\0{credentials.username}\0{credentials.secret}"
        return hmac.digest(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256)


class Transaction:
    """One mail transaction. Its commands raise UpstreamLost when the connection breaks or stalls."""

    def __init__(
        self, smarthost: Smarthost, credentials: Credentials, connection: Connection, *, kept: bool
    ) -> None:
        """Use `Smarthost.start` or `Smarthost.begin`."""
        self._smarthost = smarthost
        self._credentials = credentials
        self._connection: Connection | None = connection
        self._kept = kept
        self._state = _State.READY

    async def mail(self, mail_from: str, options: Sequence[str] = ()) -> Reply:
        """MAIL. A kept connection that turns out to be gone is replaced once: nothing was sent on it yet."""
        words = (b"MAIL", b"FROM:<" + mail_from.encode() + b">", *(option.encode() for option in options))
        reply = None
        if self._kept:
            with contextlib.suppress(UpstreamLost):
                reply = await self._open.command(*words)
            if reply is None or reply.code == 421:
                self._open.abort()
                self._connection = await self._smarthost.reconnect(self._credentials)
                self._kept, reply = False, None
        if reply is None:
            reply = await self._open.command(*words)
        if reply.positive:
            self._state = _State.OPEN
        return reply

    async def rcpt(self, rcpt_to: str, options: Sequence[str] = ()) -> Reply:
        """RCPT."""
        words = (b"RCPT", b"TO:<" + rcpt_to.encode() + b">", *(option.encode() for option in options))
        return await self._open.command(*words)

    async def data(self) -> Reply:
        """DATA: 354, or a refusal."""
        reply = await self._open.command(b"DATA")
        if reply.code == 354:
            self._state = _State.DATA
        elif reply.positive:
            self._open.abort()
            raise UpstreamLost(f"{self._smarthost.settings.name} answered DATA with {reply.code}")
        return reply

    async def send(self, octets: bytes) -> Reply:
        """The message, exactly these octets, and the server's final reply, which settles the transaction.

        Raises MalformedMessage before the first octet; UpstreamLost when the outcome is unknown.
        """
        if reason := fault(octets):
            raise MalformedMessage(reason)
        reply = await self._open.message(dot_stuffed(octets))
        if reply.code // 100 == 3:
            self._open.abort()
            raise UpstreamLost(f"{self._smarthost.settings.name} answered the message with {reply.code}")
        self._state = _State.READY
        return reply

    def end(self) -> None:
        """Give the connection back; does nothing the second time.

        At 354 the connection is cut, so that the server must throw away what it has.
        """
        connection, self._connection = self._connection, None
        if connection is not None:
            self._smarthost.release(self._credentials, connection, self._state)

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise UpstreamLost("the transaction has ended")
        return self._connection
