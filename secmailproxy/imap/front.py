"""What a client may say before it has logged in. PURE.

The account, and so the server, is not known yet: we greet and answer by ourselves and offer what works with
every server. The password is handed on once and never kept.

Standards: RFC 9051 sections 6.1, 6.2; RFC 4616 (PLAIN); RFC 4959 (SASL-IR); RFC 2971 (ID).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from secmailproxy.imap import capability, grammar
from secmailproxy.imap.grammar import GrammarError, Source, Verb
from secmailproxy.imap.wire import Command, CommandReader, LiteralAhead
from secmailproxy.throttle import COMMANDS_BEFORE_LOGIN, MISTAKES

GREETING = b"* OK [CAPABILITY " + capability.BEFORE_LOGIN + b"] secmailproxy ready.\r\n"
_LITERAL_LIMIT = 4096
_ATOM = re.compile(rb"[^\s]+")
_HTTP = re.compile(rb"[A-Z]+ \S+ HTTP/\d")
"""How a browser begins, which a web page can make send commands to this port in the body of a request."""


@dataclass(frozen=True, slots=True)
class LoginAttempt:
    """A client wants to log in; `tag` answers it."""

    tag: bytes
    username: str
    password: str = field(repr=False)


class Front:
    """The unauthenticated state. `feed` octets, then call `next` until it returns None."""

    def __init__(self, may_err: Callable[[int], bool] = lambda mistakes: mistakes < MISTAKES) -> None:
        """`may_err` is asked at each mistake, with the number of those before."""
        self._may_err = may_err
        self._mistakes = 0
        self._commands = 0
        self._reader = CommandReader()
        self._sasl_tag = b""
        self.out = bytearray()
        """Octets for the client; the caller sends and clears them."""
        self.closing = False
        self.abuse = ""
        """Why a client that is no mail client was sent away, in words of ours, or ""."""
        self.client_id = b""
        """What the client said of itself by ID, for the server; or empty."""

    def feed(self, data: bytes) -> None:
        """Octets from the client."""
        self._reader.feed(data)

    def rest(self) -> bytes:
        """What the client has sent after its login; ends the use of this object."""
        return self._reader.take_all()

    def next(self) -> LoginAttempt | None:
        """The next login attempt, if the octets so far hold one. Raises `WireError`."""
        while not self.closing:
            if self._sasl_tag:
                line = self._reader.take_line()
                if line is None:
                    return None
                tag, self._sasl_tag = self._sasl_tag, b""
                attempt = self._plain(tag, line.strip())
            else:
                event = self._reader.next_event()
                if event is None:
                    return None
                attempt = self._event(event)
            if attempt is not None:
                return attempt
        return None

    def _event(self, event: object) -> LoginAttempt | None:
        if isinstance(event, LiteralAhead):
            if event.size > _LITERAL_LIMIT:
                self._send_away("a literal that is too long", b"* BYE The literal is too long.\r\n")
                return None
            self._reader.collect()
            if event.synchronising:
                self.out += b"+ OK\r\n"
            return None
        assert isinstance(event, Command), "nothing is streamed here"
        if _HTTP.match(event.fragments[0]):
            self._send_away("an HTTP request", b"")
            return None
        self._commands += 1
        if self._commands > COMMANDS_BEFORE_LOGIN:
            self._send_away(
                "too many commands before a login", b"* BYE Too many commands before a login.\r\n"
            )
            return None
        try:
            verb = grammar.parse_verb(event)
        except GrammarError as error:
            self._mistake(b"*", str(error))
            return None
        try:
            return self._command(event, verb)
        except GrammarError as error:
            self._mistake(verb.tag, str(error))
            return None

    def _mistake(self, tag: bytes, text: str) -> None:
        self.out += tag + b" BAD " + text.encode() + b"\r\n"
        if not self._may_err(self._mistakes):
            self.out += b"* BYE Too many errors.\r\n"
            self.closing = True
        self._mistakes += 1

    def _send_away(self, why: str, farewell: bytes) -> None:
        self.abuse, self.closing = why, True
        self.out += farewell

    def _command(self, command: Command, verb: Verb) -> LoginAttempt | None:
        match verb.name:
            case "LOGIN":
                return self._login(command, verb)
            case "AUTHENTICATE":
                return self._authenticate(command, verb)
            case "CAPABILITY":
                self.out += b"* CAPABILITY " + capability.BEFORE_LOGIN + b"\r\n"
                self._ok(verb)
            case "NOOP":
                self._ok(verb)
            case "ID":
                # Handed on as one line; what comes in literals would be lines of its own.
                self.client_id = b"" if command.literals else command.octets[verb.arguments :].strip()
                self.out += b'* ID ("name" "secmailproxy")\r\n'
                self._ok(verb)
            case "LOGOUT":
                self.out += b"* BYE Logging out.\r\n"
                self._ok(verb)
                self.closing = True
            case _:
                self._mistake(verb.tag, "Log in first.")
        return None

    def _ok(self, verb: Verb) -> None:
        self.out += verb.tag + b" OK " + verb.name.encode() + b" completed.\r\n"

    def _login(self, command: Command, verb: Verb) -> LoginAttempt:
        source = Source(command.octets, verb.arguments)
        source.expect(b" ")
        username = source.astring()
        source.expect(b" ")
        password = source.astring()
        if not source.at_end:
            raise GrammarError("LOGIN takes a user name and a password")
        return LoginAttempt(verb.tag, _text(username), _text(password))

    def _authenticate(self, command: Command, verb: Verb) -> LoginAttempt | None:
        source = Source(command.octets, verb.arguments)
        source.expect(b" ")
        if not source.literally(b"PLAIN"):
            self.out += verb.tag + b" NO [CANNOT] Only AUTHENTICATE PLAIN and LOGIN are offered here.\r\n"
            return None
        if source.literally(b" "):
            initial = source.match(_ATOM)
            if initial is None or not source.at_end:
                raise GrammarError("malformed initial response")
            return self._plain(verb.tag, b"" if initial[0] == b"=" else initial[0])
        self.out += b"+ \r\n"
        self._sasl_tag = verb.tag
        return None

    def _plain(self, tag: bytes, response: bytes) -> LoginAttempt | None:
        if response == b"*":
            self.out += tag + b" BAD Authentication cancelled.\r\n"
            return None
        try:
            parts = base64.b64decode(response, validate=True).split(b"\0")
        except binascii.Error:
            parts = []
        if len(parts) != 3:
            self._mistake(tag, "Malformed PLAIN response.")
            return None
        return LoginAttempt(tag, _text(parts[1]), _text(parts[2]))


def _text(octets: bytes) -> str:
    """A user name or password as text; octets that are not UTF-8 survive a round trip."""
    return octets.decode("utf-8", "surrogateescape")
