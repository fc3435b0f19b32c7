"""APPEND and REPLACE whose messages pass straight through: they may be larger than memory. PURE.

The header section of each message is looked at before the server hears of it. A message with our verdict
field is one that we have presented, on its way back to the server because the client moves mail by copying:
it is kept, and stored as it should be (`appending`). So is a draft among other messages. The price is that a
server's refusal reaches the client after the message, not before.

What we cannot store ends the whole command: an empty message cancels it (RFC 3502); the server keeps none.

Standards: RFC 9051 section 6.3.12; RFC 3502 (MULTIAPPEND); RFC 8508 (REPLACE).
"""

from __future__ import annotations

import re
from enum import Enum

from keystore.errors import KeystoreError
from secmailproxy.errors import KeystoreLocked, SecMailProxyError
from secmailproxy.imap.appending import Announced, Planner, Upload, announcement
from secmailproxy.imap.fetching import failure
from secmailproxy.imap.grammar import GrammarError
from secmailproxy.imap.reading import MESSAGE_LIMIT
from secmailproxy.imap.sending import Sender, pieces_of, waiting
from secmailproxy.imap.steps import EncryptToSelf, Task
from secmailproxy.imap.wire import ClientEvent, Command, CommandReader, LiteralAhead, LiteralPart

LOOKED_AT = 64 * 1024
"""Octets of a message in which our field is looked for; we write it first, clients put little before it."""
_CANCEL = b" {0}\r\n"
_TOO_LARGE = b"NO [TOOBIG] the message is too large to encrypt\r\n"
_SIZE = re.compile(rb"~?\{\d+\+?\}\r?\n\Z")

End = Command | LiteralAhead
"""What follows a message: the end of the command, or the announcement of the next message."""


class _Phase(Enum):
    REST = "no message"
    LOOK = "the header section is not complete"
    WAIT = "the server was asked and has not answered"
    FLOW = "the server takes the message"
    KEEP = "the message is ours to store"
    SEAL = "the message is being encrypted"
    DROP = "the message was refused"


class Stream:
    """One command at a time."""

    def __init__(
        self,
        reader: CommandReader,
        sender: Sender,
        up: list[bytes],
        out: list[bytes],
        planner: Planner,
        in_flight: dict[bytes, str],
        keeps_at_most: int = MESSAGE_LIMIT,
    ) -> None:
        """`up` takes octets for the server, `out` for the client; `in_flight` has the commands not answered.

        Of a message that is ours, `keeps_at_most` octets are kept.
        """
        self._reader = reader
        self._sender = sender
        self._up = up
        self._out = out
        self._planner = planner
        self._keeps_at_most = keeps_at_most
        self._in_flight = in_flight
        self._phase = _Phase.REST
        self._tag = b""
        self._upload = Upload(b"", b"", ())
        self._head = Command()
        self._line = b""
        self._message = Announced(b"", draft=False, literal8=False)
        self._held = bytearray()
        self._then: End | None = None
        self._open = False
        self._answered = False
        self._cancelling = False
        self._refusal = b""

    @property
    def waits(self) -> bool:
        """Whether nothing more can be read before something is answered."""
        return self._phase in (_Phase.WAIT, _Phase.SEAL) or (self._phase is _Phase.REST and self._cancelling)

    @property
    def takes(self) -> bool:
        """Whether the client's next octets belong to a message or end its command."""
        return self._phase not in (_Phase.REST, _Phase.WAIT, _Phase.SEAL)

    def begin(self, tag: bytes, ahead: LiteralAhead, upload: Upload) -> None:
        """Take the message ahead, the last of `upload` so far."""
        self._tag = tag
        self._in_flight[tag] = "APPEND"
        self._upload = upload
        self._head = Command(list(ahead.command.fragments), list(ahead.command.literals))
        self._open = self._answered = False
        self._expect(ahead, upload.messages[-1])

    def _expect(self, ahead: LiteralAhead, message: Announced) -> None:
        self._line, self._message = ahead.command.fragments[-1], message
        self._held.clear()
        self._phase = _Phase.LOOK
        if self._planner.plan(self._upload.mailbox, message, b"") is not None:
            self._phase = _Phase.KEEP
        self._reader.stream()
        if ahead.synchronising:
            self._out.append(b"+ OK\r\n")

    # From the client

    def take(self, event: ClientEvent) -> Command | Task | None:
        """What came while it `takes`: maybe the whole command or a task, to be carried out."""
        if isinstance(event, LiteralPart):
            self._part(event.octets, event.left)
            return None
        match self._phase:
            case _Phase.FLOW:
                self._go_on(event)
                return None
            case _Phase.KEEP if isinstance(event, Command) and not self._open:
                self._phase = _Phase.REST
                message = bytes(self._held)
                self._held.clear()
                fragments = [*self._head.fragments, event.fragments[-1]]
                return Command(fragments, [*self._head.literals, message])
            case _Phase.KEEP:
                self._phase = _Phase.SEAL
                return self._store(bytes(self._held), event)
            case _:
                self._drop(event)
                return None

    def _part(self, octets: bytes, left: int) -> None:
        if self._phase is _Phase.FLOW:
            self._up.append(octets)
        elif self._phase is not _Phase.DROP:
            self._held += octets
            if len(self._held) + left > self._keeps_at_most and self._phase is _Phase.KEEP:
                self._refuse(_TOO_LARGE)
        if self._phase is _Phase.LOOK and (not left or _complete(self._held)):
            self._decide(left)

    def _decide(self, left: int) -> None:
        if self._planner.plan(self._upload.mailbox, self._message, bytes(self._held)) is None:
            self._ask(self._line)
        elif len(self._held) + left > self._keeps_at_most:
            self._refuse(_TOO_LARGE)
        else:
            self._phase = _Phase.KEEP

    def _ask(self, line: bytes) -> None:
        self._phase = _Phase.WAIT
        if self._open:
            self._up.append(waiting(line))
            return
        self._head.fragments[-1] = line
        # A mailbox name in a literal has a continuation of its own, which the client must not see.
        self._sender.send(self._tag, pieces_of(self._head))

    def _store(self, message: bytes, end: End) -> Task:
        plan = self._planner.plan(self._upload.mailbox, self._message, message)
        stored: object = message if plan is None else plan.message
        if plan is not None and plan.encrypt:
            try:
                stored = yield EncryptToSelf(plan.message, plan.sign)
            except (SecMailProxyError, KeystoreError) as error:
                if self._answered:
                    self._drop(end)
                    return b""
                cause = KeystoreLocked(str(error)) if isinstance(error, KeystoreError) else error
                self._refuse(failure(cause))
                self._drop(end)
                return b""
        assert isinstance(stored, bytes)
        if self._answered:
            self._drop(end)
            return b""
        self._held[:] = stored
        self._then = end
        self._ask(_SIZE.sub(b"{%d}\r\n" % len(stored), self._line))
        return b""

    def _go_on(self, end: End) -> None:
        """The server has the message; what the client sent after it."""
        if isinstance(end, Command):
            self._phase = _Phase.REST
            self._up.append(end.fragments[-1])
            return
        refusal = b"" if self._answered else self._flaw(end)
        if refusal is None:
            self._expect(end, announcement(end.command.fragments[-1]))
            return
        if refusal:
            self._refuse(refusal)
        self._drop(end)

    def _flaw(self, ahead: LiteralAhead) -> bytes | None:
        """Why the server shall not hear of one more message, if so."""
        try:
            announcement(ahead.command.fragments[-1])
        except GrammarError as error:
            return b"BAD " + str(error).encode() + b"\r\n"
        return None if self._upload.verb == b"APPEND" else b"BAD REPLACE takes one message\r\n"

    def _refuse(self, refusal: bytes) -> None:
        """The command fails, and the client will hear why; what the server has of it is cancelled."""
        self._phase = _Phase.DROP
        self._held.clear()
        self._refusal = self._tag + b" " + refusal
        if self._open:
            self._cancelling = True
            self._up.append(_CANCEL)

    def _drop(self, end: End) -> None:
        """Forget what is left of the command, and say why as soon as the client can hear it."""
        if isinstance(end, LiteralAhead) and not end.synchronising:
            self._phase = _Phase.DROP
            self._reader.stream()
            return
        if isinstance(end, LiteralAhead):
            self._reader.refuse()
        self._phase = _Phase.REST
        if self._refusal:
            self._out.append(self._refusal)
            self._in_flight.pop(self._tag, None)
            self._refusal = b""

    # From the server

    def go_ahead(self) -> bool:
        """The server said "+"; False when it was not asked by us."""
        if self._cancelling:
            self._up.append(b"\r\n")
            return True
        if self._phase is not _Phase.WAIT:
            return False
        self._phase, self._open = _Phase.FLOW, True
        self._up.append(bytes(self._held))
        self._held.clear()
        end, self._then = self._then, None
        if end is not None:
            self._go_on(end)
        return True

    def refused(self, tag: bytes, line: bytes) -> bool:
        """A command was answered; True when it is ours: the client gets the refusal after its message."""
        if tag != self._tag:
            return False
        if self._cancelling:
            self._cancelling = False
            return True
        match self._phase:
            case _Phase.REST:
                return False
            case _Phase.FLOW:
                self._answered = True
                return False
            case _Phase.SEAL:
                self._answered = True
            case _:
                self._phase = _Phase.DROP
                self._held.clear()
        self._refusal = line
        end, self._then = self._then, None
        if end is not None:
            self._drop(end)
        return True


def _complete(octets: bytes | bytearray) -> bool:
    """Whether a header section ends in `octets`, or they are enough."""
    return b"\r\n\r\n" in octets or b"\n\n" in octets or len(octets) >= LOOKED_AT
