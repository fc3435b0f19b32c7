"""An APPEND whose message passes straight through: it may be larger than memory. PURE.

Its header section is looked at before the server hears of it. A message with our verdict field is one that we
have presented, on its way back to the server because the client moves mail by copying: it is kept, to be
stored as it should be (`appending`), and does not pass. The price is that a server's refusal reaches the
client after the message, not before.

Standards: RFC 9051 section 6.3.12.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from secmailproxy.imap.sending import Sender, pieces_of
from secmailproxy.imap.wire import ClientEvent, Command, CommandReader, LiteralAhead, LiteralPart, WireError

LOOKED_AT = 64 * 1024
"""Octets of a message in which our field is looked for; we write it first, clients put little before it."""


class _Phase(Enum):
    REST = "no message"
    LOOK = "the header section is not complete"
    WAIT = "the server was asked and has not answered"
    FLOW = "the server takes the message"
    KEEP = "the message is ours to store"
    DROP = "the message was refused"


class Stream:
    """One command at a time."""

    def __init__(
        self, reader: CommandReader, sender: Sender, up: list[bytes], ours: Callable[[bytes], bool]
    ) -> None:
        """`up` takes octets for the server; `ours` says whether a header section has our verdict field."""
        self._reader = reader
        self._sender = sender
        self._up = up
        self._ours = ours
        self._phase = _Phase.REST
        self._tag = b""
        self._head = Command()
        self._held = bytearray()
        self._keeps_at_most = 0
        self._refusal = b""

    @property
    def waits(self) -> bool:
        """Whether the server has been asked and has not answered."""
        return self._phase is _Phase.WAIT

    @property
    def takes(self) -> bool:
        """Whether the client's next octets belong to the message or end its command."""
        return self._phase not in (_Phase.REST, _Phase.WAIT)

    def begin(self, tag: bytes, ahead: LiteralAhead, keeps_at_most: int) -> None:
        """The client was told to go ahead; of a message that is ours, so many octets are kept."""
        self._phase = _Phase.LOOK
        self._tag = tag
        self._head = Command(list(ahead.command.fragments), list(ahead.command.literals))
        self._held.clear()
        self._keeps_at_most = keeps_at_most
        self._reader.stream()

    def go_ahead(self) -> bool:
        """The server said "+"; False when it was not asked by us."""
        if not self.waits:
            return False
        self._phase = _Phase.FLOW
        self._up.append(bytes(self._held))
        self._held.clear()
        return True

    def take(self, event: ClientEvent) -> Command | bytes | None:
        """What came while it `takes`: maybe the whole command, to be carried out, or an answer to the client.

        Raises `WireError` for a form that we do not offer.
        """
        match event:
            case LiteralPart(octets, left):
                self._part(octets, left)
                return None
            case Command(fragments) if fragments[-1] in (b"\r\n", b"\n"):
                return self._end(event)
            case _:
                raise WireError("APPEND takes one message")

    def _part(self, octets: bytes, left: int) -> None:
        if self._phase is _Phase.FLOW:
            self._up.append(octets)
        elif self._phase is not _Phase.DROP:
            self._held += octets
        if self._phase is _Phase.LOOK and (not left or _complete(self._held)):
            self._decide(left)

    def _decide(self, left: int) -> None:
        if not self._ours(bytes(self._held)):
            self._phase = _Phase.WAIT
            # A mailbox name in a literal has a continuation of its own, which the client must not see.
            self._sender.send(self._tag, pieces_of(self._head))
        elif len(self._held) + left > self._keeps_at_most:
            self._phase = _Phase.DROP
            self._held.clear()
            self._refusal = self._tag + b" NO [TOOBIG] the message is too large to encrypt\r\n"
        else:
            self._phase = _Phase.KEEP

    def _end(self, command: Command) -> Command | bytes | None:
        phase, self._phase = self._phase, _Phase.REST
        match phase:
            case _Phase.KEEP:
                message = bytes(self._held)
                self._held.clear()
                return Command(command.fragments, [*command.literals[:-1], message])
            case _Phase.DROP:
                return self._refusal
            case _:
                self._up.append(b"\r\n")
                return None

    def refused(self, tag: bytes, line: bytes) -> bool:
        """A command was answered; True when it is ours: the client gets the refusal after its message."""
        if not self.waits or tag != self._tag:
            return False
        self._phase = _Phase.DROP
        self._held.clear()
        self._refusal = line
        return True


def _complete(octets: bytes | bytearray) -> bool:
    """Whether a header section ends in `octets`, or they are enough."""
    return b"\r\n\r\n" in octets or b"\n\n" in octets or len(octets) >= LOOKED_AT
