"""The SMTP conversation with one client: octets in, commands carried out, replies out. Imports aiosmtpd.

The library gives the transport, the session and the AUTH exchanges. Ours is what it lacks: lines and messages
cut exactly, no timer and no hang-up that ends a relay, and replies that say nothing but what they should.

Standards: RFC 5321, RFC 2920 (PIPELINING), RFC 2034 (enhanced status codes), RFC 3207 (STARTTLS), RFC 8314
(implicit TLS).

Security: what came before a TLS handshake is thrown away, so that nobody can put commands in front of the
client's. Log records hold no message text, no command line and no credential; the library's own logger,
which would, is silenced. No text of an exception reaches the client (SMTP-18).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import secrets
import ssl
from collections import deque
from collections.abc import Awaitable, Callable

from aiosmtpd.smtp import SMTP

from secmailproxy.admission import Refusal
from secmailproxy.errors import SecMailProxyError
from secmailproxy.localuser import user_at
from secmailproxy.logs import place
from secmailproxy.model import Reply
from secmailproxy.smtp.aside import aside
from secmailproxy.smtp.commands import Refused
from secmailproxy.smtp.replies import render, reply_for, split_status, with_status
from secmailproxy.smtp.settings import ConversationSettings
from secmailproxy.smtp.wire import Gathered, LineFault, Wire
from secmailproxy.throttle import COMMANDS_BEFORE_LOGIN

log = logging.getLogger(__name__)

HOSTNAME = "localhost"
"""What we call ourselves; no name of this machine leaves it."""

_READ = 128 * 1024
_HTTP = re.compile(rb"[A-Z]+ \S+ HTTP/\d[.\d]*")
"""How a browser begins, which a web page can make send commands to this port in the body of a request."""
_LINGER_SECONDS = 5.0
"""In which a client that we leave may read what it has been sent."""
_UNREAD_MOST = 64 * 1024
"""Octets of replies that wait for a client."""

_library_log = logging.getLogger("mail.log")
_library_log.setLevel(logging.CRITICAL + 1)
_library_log.addFilter(lambda record: False)


class Conversation(SMTP):
    """One client, until it leaves, is idle for too long or is told to retire. Commands are a subclass's."""

    # Also the flow-control limit of the library's reader, which is far too small for messages.
    line_length_limit = _READ

    def __init__(self, settings: ConversationSettings) -> None:
        """Made by the listener for each connection."""
        super().__init__(
            None,
            enable_SMTPUTF8=True,
            hostname=HOSTNAME,
            ident="ESMTP secmailproxy",
            auth_require_tls=False,
            loop=asyncio.get_running_loop(),
        )
        # As an argument it would print a warning for every client: TLS is not needed on loopback.
        self._auth_required = True
        for verb in ("EXPN", "HELP"):
            self._smtp_methods.pop(verb, None)
        self.settings = settings
        self.over_tls = False
        self._login_until = self.loop.time() + settings.login_timeout
        self.user: int | None = None
        """Who is at the other end of a Unix socket, where the system tells."""
        self._shaking_hands = False
        self._admitted = False
        self._cut_short = False
        self._lingering = False
        self._wire = Wire()
        self._leaving = False
        self._retiring = False
        self._faults = 0
        self._commands = 0
        self._due: deque[Callable[[], Awaitable[Reply]]] = deque()

    def welcome(self, task: asyncio.Task[None]) -> bool:
        """Whether there is room for this client, whose conversation `task` runs."""
        raise NotImplementedError

    @property
    def logged_in(self) -> bool:
        """Whether the client has shown who it is; until then its time is limited."""
        raise NotImplementedError

    @property
    def in_transaction(self) -> bool:
        """Whether leaving now would cost the client a mail transaction."""
        raise NotImplementedError

    def forget(self) -> None:
        """End the mail transaction, if there is one."""
        raise NotImplementedError

    # In place of the library's way to begin and end a connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is there."""
        super().connection_made(transport)
        self.user = user_at(transport.get_extra_info("socket"))
        if self.settings.implicit_tls:
            assert isinstance(transport, asyncio.ReadTransport)
            transport.pause_reading()  # until `_secure`: the first octets are the handshake's
        assert self._handler_coroutine is not None
        self._admitted = self.welcome(self._handler_coroutine)
        self._leaving = not self._admitted

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still worked on and answered (SMTP-03).

        Over TLS asyncio closes both directions at once: then it is worked on, but cannot be answered.
        """
        asyncio.StreamReaderProtocol.eof_received(self)
        return not self.over_tls

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone; a relay that is under way is not (SMTP-03)."""
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None

    def _reset_timeout(self, duration: float | None = None) -> None:
        """No timer of the library: ours run only while we wait for the client (SMTP-04)."""

    def retire(self) -> None:
        """The server stops: leave now, or after the transaction that is under way."""
        self._retiring = True
        if self._shaking_hands or self._lingering:
            self._writer.transport.abort()
        elif not self.in_transaction and self.transport is not None:
            self._leaving = True
            self._write(Reply(421, "4.3.2 shutting down"))
            self._hang_up()

    def leave(self) -> None:
        """Read no further command: what the client has sent is not to be trusted, or of no use any more."""
        self._leaving = self._cut_short = True

    def _hang_up(self) -> None:
        """Close; a second time would make a transport of TLS forget its connection."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()

    # TLS.

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Answer STARTTLS and shake hands; the client is then as one that has just come."""
        if self._wire.holds_octets or self._reader._buffer:  # type: ignore[attr-defined]  # see below
            self.refuse(Refusal.ABUSE, why="commands before the TLS handshake")
        self._wire = Wire()
        # As the library does it: what is still in the reader came in clear, maybe from somebody else.
        self._reader._buffer.clear()  # type: ignore[attr-defined]  # there is no other way
        # From here to the handshake nothing may wait, else an octet in clear could still get into the reader.
        self._write(Reply(220, "2.0.0 go ahead"))
        await self._secure(context)
        self._login_until = self.loop.time() + self.settings.login_timeout

    async def _secure(self, context: ssl.SSLContext) -> None:
        """Shake hands. When that fails, the connection is over."""
        if self._writer.transport.is_closing():
            # asyncio would wait for ever: nobody tells it again of a connection that is lost already.
            self._leaving = True
            return
        self._shaking_hands = True
        try:
            transport = await self.loop.start_tls(
                self._writer.transport,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=max(self._patience() - self.loop.time(), 0.001),
                ssl_shutdown_timeout=_LINGER_SECONDS,
            )
        except OSError as error:
            told = {"client": self.client, "why": type(error).__name__}
            log.info("%s no TLS", self.settings.name, extra=told)
            transport = None
        finally:
            self._shaking_hands = False
        if transport is None or transport.is_closing():
            self._leaving, self.transport = True, None
            return
        # The library's way again; a new writer would let the old one close the connection.
        self._reader._transport = transport  # type: ignore[attr-defined]  # see above
        self._writer._transport = transport  # type: ignore[attr-defined]  # see above
        # As in clear; asyncio would let eight times as much wait for a client that does not read.
        transport.set_write_buffer_limits(_UNREAD_MOST)
        self.transport, self.over_tls = transport, True

    # Lines in, replies out.

    async def _handle_client(self) -> None:
        try:
            await self._converse()
            self.forget()
            await self._linger()
        finally:
            self.forget()
            if self.transport is not None:
                self._hang_up()
                # A client that does not read would keep its replies, and its descriptor, for ever.
                self.loop.call_later(_LINGER_SECONDS, self._writer.transport.abort)

    async def _linger(self) -> None:
        """Where we end it, take what still comes, unread; to close upon it would cost the client our reply.

        TLS does the like by itself. Who was not admitted, or must go since the server stops, gets no more
        of our time.
        """
        transport = self._writer.transport
        is_due = self._cut_short and self._admitted and not self._retiring
        if not is_due or transport.is_closing() or not transport.can_write_eof():
            return
        self._lingering = True
        transport.write_eof()
        with contextlib.suppress(OSError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_READ):
                    pass

    async def _converse(self) -> None:
        if self.settings.implicit_tls:
            context = None if self._leaving else self.settings.tls()
            if context is None:
                return  # in clear there is nothing to say
            await self._secure(context)
            if self._leaving:
                return
        if self._leaving:
            await self.say(421, "4.7.0 too many connections, or shutting down")
            return
        await self.say(220, f"{HOSTNAME} {self.__ident__}")
        while not self._leaving:
            try:
                line = await self.line()
                if line is None:
                    return
                await self._perform(line)
            except LineFault as fault:
                self.refuse(Refusal.ABUSE, why=str(fault))
                await self._mistake(500, f"5.5.2 {fault}")
            if self._retiring and not self.in_transaction and not self._leaving:
                await self.say(421, "4.3.2 shutting down")
                return

    async def _perform(self, line: bytes) -> None:
        """Carry out one command and answer it, whatever happens."""
        verb, _, argument = line.partition(b" ")
        self._commands += not self.logged_in
        if self._commands > COMMANDS_BEFORE_LOGIN:
            self.refuse(Refusal.ABUSE, why="too many commands before a login")
            await self.say(421, "4.7.0 too many commands before a login")
            return
        method = self._smtp_methods.get(verb.upper().decode("ascii", "replace"))
        if method is None and _HTTP.fullmatch(line):
            self.refuse(Refusal.ABUSE, why="an HTTP request")
            await self.say(421, "4.7.0 this is no web server")
            return
        if method is None:
            await self._mistake(500, "5.5.2 command not recognized")
            return
        if verb.upper() != b"RCPT":
            await self._settle()
            if self._leaving:
                return
        try:
            await method(argument.strip().decode("utf-8") or None)
        except UnicodeDecodeError:
            await self._mistake(501, "5.5.2 not UTF-8")
        except Refused as refused:
            await self.answer(refused.reply)
        except LineFault:
            raise
        except Exception as error:  # noqa: BLE001  the client must get a reply, and no more than that
            await self.answer(self.reply_for(error))

    async def line(self) -> bytes | None:
        """The next line, None at the end. Raises LineFault."""
        while (line := self._wire.line()) is None:
            if not await self._read():
                return None
        return line

    async def message(self, limit: int) -> Gathered | None:
        """What follows 354, None when the client left before the dot."""
        wire = self._wire
        while (gathered := await aside(wire.work, lambda: wire.message(limit))) is None:
            if not await self._read():
                return None
        return gathered

    async def _read(self) -> bool:
        """Wait for the client, no longer than it may take. False when there is no more to come."""
        try:
            async with asyncio.timeout_at(self._patience()):
                octets = await self._reader.read(_READ)
        except TimeoutError:
            await self._out_of_time()
            return False
        except OSError:
            return False
        self._wire.feed(octets)
        return bool(octets)

    def _patience(self) -> float:
        """Until when we wait for the client now, on the clock of the loop."""
        until = self.loop.time() + self.settings.idle_timeout
        return until if self.logged_in else min(until, self._login_until)

    async def _out_of_time(self) -> None:
        if self.logged_in or self.loop.time() < self._login_until:
            await self.say(421, "4.4.2 idle for too long")
        else:
            self.refuse(Refusal.NO_LOGIN)
            await self.say(421, "4.7.0 no login in time")

    async def push(self, status: str | bytes) -> None:
        """Send a reply given as text, as the library does."""
        text = status if isinstance(status, str) else status.decode("ascii", "replace")
        await self.answer(Reply(int(text[:3]), text[4:]))

    async def answer(self, reply: Reply) -> None:
        """Send a reply with an enhanced status code. After 421 the connection ends."""
        reply = with_status(reply)
        await self.say(reply.code, reply.text)

    async def answer_in_turn(self, answer: Callable[[], Awaitable[Reply]]) -> None:
        """Wait for this reply and send it, but begin the commands that the client has sent already before."""
        self._due.append(answer)
        if not self._wire.holds_line:
            await self._settle()

    async def _settle(self) -> None:
        """Send the replies that are due, in their order."""
        while self._due and not self._leaving:
            answer = self._due.popleft()
            try:
                reply = await answer()
            except Exception as error:  # noqa: BLE001  as in _perform
                reply = self.reply_for(error)
            reply = with_status(reply)
            await self._send(reply.code, reply.text)

    async def say(self, code: int, text: str) -> None:
        """Send a reply as it is, after those that are due."""
        await self._settle()
        await self._send(code, text)

    async def _send(self, code: int, text: str) -> None:
        if code == 421:
            self.leave()
        self._write(Reply(code, text))
        if not self._writer.transport.get_write_buffer_size():
            return
        # A client that is gone or does not read gets no reply; what was begun for it goes on.
        try:
            async with asyncio.timeout_at(self._patience()):
                await self._writer.drain()
        except TimeoutError:
            self._leaving = True
        except OSError:
            pass  # what it has sent before is still worked on

    def _write(self, reply: Reply) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self._writer.write(render(reply))

    async def _mistake(self, code: int, text: str) -> None:
        stays = self.settings.admission.may_err(self.client, self._faults)
        self._faults += 1
        if stays:
            await self.answer(Reply(code, text))
        else:
            await self.say(421, "4.7.0 too many errors")

    def refuse(self, refusal: Refusal, **facts: str | int) -> None:
        """Log one line. `facts` must hold nothing that the client has said."""
        self.settings.admission.refuse(refusal, self.client, **facts)

    def reply_for(self, error: Exception) -> Reply:
        """The reply for an error; what is not ours is logged by place and type, never by its text."""
        reference = secrets.token_hex(4)
        reply = reply_for(error, reference)
        if not isinstance(error, SecMailProxyError):
            log.error("%s internal error", self.settings.name, extra={"reference": reference, **place(error)})
        else:
            # The text may name addresses; the client has it.
            status, _ = split_status(reply.text)
            told = {"client": self.client, "reply": reply.code, "status": status}
            log.info("%s refused", self.settings.name, extra=told)
        return reply

    @property
    def client(self) -> str:
        """Address of the client: "unix:" and its user at a Unix socket, "unknown" when it has left."""
        peer = self.session.peer if self.session is not None else None
        if peer == "":
            return "unix" if self.user is None else f"unix:{self.user}"
        return str(peer[0]) if peer else "unknown"
