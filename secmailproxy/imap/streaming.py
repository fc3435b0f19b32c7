"""An APPEND whose message passes straight through: it may be larger than memory. PURE.

Standards: RFC 9051 section 6.3.12.
"""

from __future__ import annotations

from secmailproxy.imap.sending import Sender, pieces_of
from secmailproxy.imap.wire import ClientEvent, Command, CommandReader, LiteralAhead, LiteralPart


class Stream:
    """One command at a time: its head waits for the server's "+", then the octets flow."""

    def __init__(self, reader: CommandReader, sender: Sender, up: list[bytes]) -> None:
        """`up` takes octets for the server."""
        self._reader = reader
        self._sender = sender
        self._up = up
        self._tag = b""
        self.waits = False
        """Whether the server has been asked and has not answered."""
        self.flows = False
        """Whether the client's next octets belong to the message or end its command."""

    def begin(self, tag: bytes, ahead: LiteralAhead) -> None:
        """Send the head of the command. A name in a literal has a "+" of its own, kept from the client."""
        self._tag = tag
        self.waits = True
        self._sender.send(tag, pieces_of(ahead.command))

    def go_ahead(self) -> bool:
        """The server said "+"; False when it was not asked by us."""
        if not self.waits:
            return False
        self.waits, self.flows = False, True
        self._reader.stream()
        return True

    def take(self, event: ClientEvent) -> bool:
        """What came while it `flows`; False for a form that we do not offer: the connection must end."""
        match event:
            case LiteralPart(octets):
                self._up.append(octets)
                return True
            case Command(fragments):
                self.flows = False
                self._up.append(b"\r\n")
                return fragments[-1] in (b"\r\n", b"\n")
            case LiteralAhead():
                return False

    def completed(self, tag: bytes) -> None:
        """A command was answered; if it is ours and still waits, the server does not take the message."""
        if self.waits and tag == self._tag:
            self.waits = False
            self._reader.refuse()
