"""The IMAP listener: sockets, tasks and time around `front` and `session`.

Receives from mail clients on loopback; delivers to the IMAP server of the account that logs in. One
connection of ours for each of the client's; nothing reconnects silently, for selected state and sequence
numbers would be lost (RFC 9051 section 3).

Security: loopback only; failed logins are slowed down and end the connection; the log holds the client's
address and what happened, never commands, credentials or message text.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import re
import secrets
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from secmailproxy import localuser
from secmailproxy.accounts import Accounts, ImapLogin
from secmailproxy.admission import Admission, Refusal
from secmailproxy.errors import ConfigError, KeystoreLocked, NotAllowed, SecMailProxyError
from secmailproxy.imap import fetching, upstream
from secmailproxy.imap.budget import Budget
from secmailproxy.imap.capability import rewrite
from secmailproxy.imap.commands import Settings
from secmailproxy.imap.connection import Connection
from secmailproxy.imap.front import GREETING, Front, LoginAttempt
from secmailproxy.imap.openings import Openings
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.searching import Searching
from secmailproxy.imap.session import Session
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.imap.upstream import LoginRefusedByServer, Upstream
from secmailproxy.imap.wire import WireError
from secmailproxy.logs import place
from secmailproxy.model import SearchScope
from secmailproxy.outbound import Outbound
from secmailproxy.searchindex import SearchIndex
from secmailproxy.verdict import VERDICT_LENGTH
from secmailproxy.views import Views

log = logging.getLogger(__name__)

LOGIN_ATTEMPTS = 5
_LOGIN_DELAY = 0.5
"""Seconds, times the failures before."""
_CLOSE_SECONDS = 1.0
_HANDSHAKE_SECONDS = 15.0
_LINGER_SECONDS = 5.0
"""In which a client that we leave may read what it has been sent."""
_LOCKED = b"NO [UNAVAILABLE] Too many failed logins; this one was not tried. Try again later.\r\n"
"""Not AUTHENTICATIONFAILED: no client shall throw away a password that was not tried (RFC 5530 section 3)."""
_TROUBLE = re.compile(rb"NO \[(?:UNAVAILABLE|INUSE|LIMIT|SERVERBUG)\]|BYE ", re.IGNORECASE)
_MOST_CONNECTIONS = 400
"""Twice two sockets each must fit the usual 1024 descriptors; a client opens about five."""
_READ_OCTETS = 256 * 1024


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class ImapSettings:
    """Where to listen (port 0 takes any free one) and the name of the verdict field."""

    host: str
    port: int
    verdict_field: str
    clock: Callable[[], datetime] = _now
    admission: Admission = field(default_factory=lambda: Admission("imap"))
    budget: Budget = field(default_factory=Budget)
    tls: ssl.SSLContext | None = None
    """TLS from the first octet (RFC 8314 section 3.2), or none."""
    login_seconds: float = 180.0
    """From the greeting to the end of a login that succeeds."""
    interject_seconds: float = 20.0
    """Between two signs of life: mail clients give up after about 100 s of silence (Thunderbird's
    mailnews.tcptimeout)."""


class ImapServer:
    """Serves any number of mail clients. Start and stop once."""

    def __init__(
        self,
        settings: ImapSettings,
        accounts: Accounts,
        views: Views,
        outbound: Outbound,
        keystore: Keystore,
        index: SearchIndex | None = None,
        openings: Openings | None = None,
    ) -> None:
        """`openings` is shared by all that open messages of these accounts."""
        self._settings = settings
        self._accounts = accounts
        self._views = views
        self._outbound = outbound
        self._keystore = keystore
        self._index = index
        self._openings = openings or Openings()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._sessions: set[Connection] = set()

    async def start(self) -> tuple[str, int]:
        """Listen; the address it became. Raises ConfigError for one that is not loopback, OSError."""
        addresses = await asyncio.get_running_loop().getaddrinfo(
            self._settings.host, self._settings.port, type=socket.SOCK_STREAM
        )
        if not all(ipaddress.ip_address(address[4][0]).is_loopback for address in addresses):
            raise ConfigError(
                f"{self._settings.host} is not a loopback address; IMAP is served on loopback only."
            )
        self._server = await asyncio.start_server(
            self._accept,
            self._settings.host,
            self._settings.port,
            limit=_READ_OCTETS,
            ssl=self._settings.tls,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if self._settings.tls else None,
            ssl_shutdown_timeout=_LINGER_SECONDS if self._settings.tls else None,
        )
        host, port = self._server.sockets[0].getsockname()[:2]
        return str(host), int(port)

    async def stop(self, grace: float) -> None:
        """Take no new clients; let commands in work finish for at most `grace` seconds; say BYE."""
        if self._server is not None:
            self._server.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                for session in list(self._sessions):
                    await session.settled()
        for connection in list(self._connections):
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections, timeout=_CLOSE_SECONDS)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _address_of(writer)
        if len(self._connections) >= _MOST_CONNECTIONS or not self._settings.admission.enter(client):
            _say(writer, b"* BYE [UNAVAILABLE] Too many connections.\r\n")
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None, "start_server runs this in a task"
        self._connections.add(task)
        try:
            await self._serve(reader, writer, client)
        except asyncio.CancelledError:
            _say(writer, b"* BYE secmailproxy is stopping.\r\n")
        except (WireError, ConnectionError, TimeoutError) as error:
            log.info(
                "imap connection ended", extra={"client": client, "why": str(error) or type(error).__name__}
            )
            _say(writer, b"* BYE " + (str(error) or "Timeout").encode("ascii", "replace") + b"\r\n")
        except Exception as error:
            log.error("imap internal error", extra={"client": client, **place(error)})
            log.debug("imap internal error", exc_info=True)
            _say(writer, b"* BYE [SERVERBUG] Internal error in secmailproxy.\r\n")
        finally:
            await _close(writer)
            self._connections.discard(task)
            self._settings.admission.leave(client)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str) -> None:
        writer.write(GREETING)
        admission = self._settings.admission
        front = Front(lambda mistakes: admission.may_err(client, mistakes))
        try:
            async with asyncio.timeout(self._settings.login_seconds):
                logged_in = await self._log_in(front, reader, writer, client)
        except TimeoutError:
            admission.refuse(Refusal.NO_LOGIN, client)
            _say(writer, b"* BYE No login in time.\r\n")
            return
        except WireError as error:
            admission.refuse(Refusal.ABUSE, client, why=str(error))
            raise
        if front.abuse:
            admission.refuse(Refusal.ABUSE, client, why=front.abuse)
        if logged_in is None:
            return
        login, server = logged_in
        self._accounts.logged_in(login)
        log.info("imap login", extra={"client": client, "account": login.account.address})
        await self._carry(login, server, front.rest(), reader, writer)

    async def _carry(
        self,
        login: ImapLogin,
        server: Upstream,
        rest: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Between the client and the server until one of them ends; `rest` came behind the login."""
        special_use = self._special_use(login, server)
        session, presenter = self._session(login, server, special_use), self._presenter(login)
        settings = self._settings
        connection = Connection(
            reader,
            writer,
            server,
            session,
            presenter,
            settings.budget,
            settings.interject_seconds,
            login.account.address,
        )
        self._sessions.add(connection)
        try:
            await connection.run(rest)
        except BaseException:
            if connection.mid_response:
                # Whatever is said now would become a part of the message that is half-way out.
                writer.transport.abort()
            raise
        finally:
            self._sessions.discard(connection)
            server.abort()
            self._keep_special_use(login, special_use)

    async def _log_in(
        self, front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str
    ) -> tuple[ImapLogin, Upstream] | None:
        admission = self._settings.admission
        guest = await _guest_of(writer)
        for failures in range(LOGIN_ATTEMPTS):
            attempt = await _next_attempt(front, reader, writer)
            if attempt is None:
                return None
            account = self._accounts.known_as(attempt.username)
            name = account or attempt.username
            if not admission.may_try(client, name, attempt.password, guest):
                writer.write(attempt.tag + b" " + _LOCKED)
                continue
            try:
                login, server = await self._try(attempt, front.client_id)
            except SecMailProxyError as error:
                if _is_judged(error):
                    admission.refuse(Refusal.LOGIN, client, **({"account": account} if account else {}))
                    await asyncio.sleep(_LOGIN_DELAY * failures)
                else:
                    admission.logins.withdraw(guest, name, attempt.password)
                    log.warning("imap login impossible", extra={"client": client, "why": error.text})
                if isinstance(error, LoginRefusedByServer):
                    writer.writelines(error.alerts)
                writer.write(attempt.tag + b" " + _refusal(error))
                continue
            admission.logins.succeeded(guest, name)
            completion = rewrite(server.completion)
            if b"[CAPABILITY " not in completion[:24].upper():
                code = rewrite(b"OK [CAPABILITY " + server.capabilities + b"] ")
                completion = code + completion[3:]
            writer.writelines(server.alerts)
            writer.write(attempt.tag + b" " + completion)
            return login, server
        writer.write(b"* BYE Too many failed logins.\r\n")
        return None

    async def _try(self, attempt: LoginAttempt, client_id: bytes) -> tuple[ImapLogin, Upstream]:
        try:
            if self._keystore.locked:
                raise KeystoreLocked("The keystore is locked; unlock it and log in again.")
            login = await asyncio.to_thread(self._accounts.imap_login, attempt.username, attempt.password)
        except KeystoreError as error:
            # Of the secrets backend, or of a damaged store.
            raise KeystoreLocked(str(error)) from None
        return login, await upstream.log_in(login, client_id)

    def _special_use(self, login: ImapLogin, server: Upstream) -> SpecialUse:
        """What is known of the account's mailboxes: clients remember it, too, when a server tells no more."""
        account = login.account
        special_use = SpecialUse(
            account.encrypt_drafts,
            account.encrypt_sent,
            account.encrypt_other,
            *self._views.special_uses(account.address),
        )
        for line in server.special_use:
            special_use.learn(line)
        self._keep_special_use(login, special_use)
        return special_use

    def _keep_special_use(self, login: ImapLogin, known: SpecialUse) -> None:
        if (known.drafts, known.sent) != self._views.special_uses(login.account.address):
            self._views.keep_special_uses(login.account.address, known.drafts, known.sent)

    def _session(self, login: ImapLogin, server: Upstream, special_use: SpecialUse) -> Session:
        return Session(
            Settings(
                field_name=self._settings.verdict_field.encode(),
                verdict_length=VERDICT_LENGTH,
                literal_plus=b"LITERAL+" in server.capabilities.upper().split(),
                special_use=special_use,
                searching=self._searching(login),
                inline_pgp=login.account.inline_pgp,
                keywords=login.account.verdict_keywords,
                opens_signed=bool(login.account.subject_mark),
                tag_prefix=b"smp" + secrets.token_hex(4).encode() + b"x",
            )
        )

    def _searching(self, login: ImapLogin) -> Searching | None:
        if login.account.search is SearchScope.SERVER or self._index is None:
            return None
        return Searching(login.account.search, self._settings.verdict_field.encode(), VERDICT_LENGTH)

    def _presenter(self, login: ImapLogin) -> Presenter:
        settings = self._settings
        return Presenter(
            login.account.address,
            self._views,
            self._keystore,
            self._outbound,
            settings.verdict_field,
            settings.clock,
            self._index,
            self._openings,
            login.account.inline_pgp,
            login.account.verdict_keywords,
            login.account.subject_mark,
        )


async def _next_attempt(
    front: Front, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> LoginAttempt | None:
    """Serve the client up to its next login attempt; None when it leaves."""
    while True:
        attempt = front.next()
        writer.write(bytes(front.out))
        front.out.clear()
        await writer.drain()
        if attempt is not None or front.closing:
            return attempt
        data = await reader.read(_READ_OCTETS)
        if not data:
            return None
        front.feed(data)


def _is_judged(error: SecMailProxyError) -> bool:
    """Whether user name or password are wrong; a server in trouble judges nothing (RFC 5530 section 3)."""
    if isinstance(error, LoginRefusedByServer):
        return not _TROUBLE.match(error.completion)
    return isinstance(error, NotAllowed)


def _refusal(error: SecMailProxyError) -> bytes:
    if isinstance(error, LoginRefusedByServer):
        return error.completion
    if isinstance(error, NotAllowed):
        return b"NO [AUTHENTICATIONFAILED] " + error.text.encode("ascii", "replace") + b"\r\n"
    return fetching.failure(error)


async def _close(writer: asyncio.StreamWriter) -> None:
    """A client that does not read would keep what it has not read, and its descriptor, for ever."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            await writer.wait_closed()
    writer.transport.abort()


def _address_of(writer: asyncio.StreamWriter) -> str:
    """The client's; empty when it has left already."""
    peer = writer.get_extra_info("peername")
    return str(peer[0]) if peer else ""


async def _guest_of(writer: asyncio.StreamWriter) -> str:
    """The client as one who may be guessing; empty when it has left already."""
    peer, here = writer.get_extra_info("peername"), writer.get_extra_info("sockname")
    return await asyncio.to_thread(localuser.guest, peer[:2], here[:2]) if peer and here else ""


def _say(writer: asyncio.StreamWriter, octets: bytes) -> None:
    with contextlib.suppress(ConnectionError, RuntimeError):
        writer.write(octets)
