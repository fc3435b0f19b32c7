"""The smarthost: connections kept for the next transaction, and what it offers.

Standards: RFC 5321 section 4.1.1.1 (EHLO), RFC 1870 (SIZE).

Security: a connection serves one transaction at a time and only the credential it was logged in with, the
mechanism included. A login is tried once.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from secmailproxy.accounts import Credentials, Mechanism
from secmailproxy.errors import LimitExceeded, MalformedMessage, SecMailProxyError, UpstreamLost
from secmailproxy.smtp.aside import aside
from secmailproxy.smtp.connection import Connection, SmarthostSettings, tls_context
from secmailproxy.smtp.exchange import Exchange
from secmailproxy.smtp.sasl import mechanisms
from secmailproxy.smtp.transaction import CHECK_TIMEOUT, Origin, Transaction
from secmailproxy.smtp.wire import fault, long_line_fault

__all__ = ["Credentials", "Smarthost", "SmarthostSettings", "Transaction"]

log = logging.getLogger(__name__)

_CHECK_AFTER = 30.0
"""Seconds idle after which a kept connection is tried before it is trusted."""


class Smarthost:
    """The submission server of one or several accounts."""

    def __init__(self, settings: SmarthostSettings) -> None:
        """Nothing is opened or read before the first use."""
        self.settings = settings
        self.extensions: Mapping[str, str] | None = None
        """EHLO keywords in upper case with parameters, as last seen over TLS; None before the first time."""
        self._context: ssl.SSLContext | None = None
        self._idle: dict[bytes, list[Exchange]] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._learning: asyncio.Task[None] | None = None
        self._key = secrets.token_bytes(32)

    async def verify_login(self, credentials: Credentials) -> None:
        """Return when the credentials are right; the connection is kept for the mail to come.

        Raises LoginRefused with the server's own reply, UpstreamUnavailable, ConfigError (CA file).
        """
        exchange = self._kept(credentials)
        while exchange is not None and not await _sound(exchange):
            exchange = self._kept(credentials)
        self._keep(credentials, exchange or await self._reconnect(credentials))

    async def learn(self, patience: float) -> Mapping[str, str]:
        """`extensions`, after connecting if they are not known. Empty if that fails or takes too long."""
        if self.extensions is None:
            if self._learning is None or self._learning.done():
                self._learning = asyncio.create_task(self._probe())
            await asyncio.wait({self._learning}, timeout=patience)
        return self.extensions or {}

    async def start(self, credentials: Credentials) -> Transaction:
        """A transaction on a logged-in connection; its owner must call `end`. Errors as in `verify_login`."""
        exchange = self._kept(credentials)
        origin = Origin(partial(self._reconnect, credentials), partial(self._keep, credentials))
        if exchange is None:
            return Transaction(origin, await self._reconnect(credentials), kept=False)
        idle = asyncio.get_running_loop().time() - exchange.idle_since
        return Transaction(origin, exchange, kept=True, check=exchange.dirty or idle >= _CHECK_AFTER)

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
        await asyncio.gather(*(exchange.quit() for kept in idle.values() for exchange in kept))
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

    async def check(self, octets: bytes) -> None:
        """Raises MalformedMessage or LimitExceeded for a message that cannot be sent here."""
        if reason := await aside(len(octets), lambda: fault(octets) or long_line_fault(octets)):
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

    async def _reconnect(self, credentials: Credentials) -> Exchange:
        """A new connection, logged in."""
        return await (await self._connect()).login(credentials)

    def _kept(self, credentials: Credentials) -> Exchange | None:
        """The connection that was used last, if one is kept."""
        kept = self._idle.get(self._proof(credentials), [])
        while kept:
            exchange = kept.pop()
            if exchange.alive:
                return exchange
        return None

    def _keep(self, credentials: Credentials, exchange: Exchange) -> None:
        if exchange.worn:
            exchange.close()
        if not exchange.alive:
            return
        loop = asyncio.get_running_loop()
        kept = self._idle.setdefault(self._proof(credentials), [])
        kept.append(exchange)
        exchange.idle_since = loop.time()
        if self._expiry is None:
            self._expiry = loop.call_later(self.settings.idle_limit, self._expire)
        if len(kept) > self.settings.keep:
            kept.pop(0).close()

    def _expire(self) -> None:
        """Close what has been idle for too long, and come again while anything is kept."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for proof, kept in list(self._idle.items()):
            for exchange in [one for one in kept if now - one.idle_since >= self.settings.idle_limit]:
                kept.remove(exchange)
                exchange.close()
            if not kept:
                del self._idle[proof]
        self._expiry = loop.call_later(self.settings.idle_limit, self._expire) if self._idle else None

    def _proof(self, credentials: Credentials) -> bytes:
        """Names the credential; keyed with a secret of this process, so lookups tell nothing by time."""
        text = f"{credentials.mechanism}\0{credentials.username}\0{credentials.secret}"
        return hmac.digest(self._key, text.encode("utf-8", "surrogateescape"), hashlib.sha256)


async def _sound(exchange: Exchange) -> bool:
    """Whether RSET is answered with 250; it also ends a transaction that was left open."""
    try:
        reply = await exchange.reply(exchange.ask([b"RSET"])[0], min(CHECK_TIMEOUT, exchange.pace.timeout))
    except UpstreamLost:
        return False
    if reply.code != 250:
        exchange.close()
        return False
    exchange.dirty = False
    return True
