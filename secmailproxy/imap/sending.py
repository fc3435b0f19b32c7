"""Commands to the server, piece by piece where a literal waits for its continuation. PURE.

Standards: RFC 9051 section 4.3; RFC 7888.
"""

from __future__ import annotations

import re
from collections import deque

from secmailproxy.imap.wire import Command

Pieces = tuple[bytes, ...]
"""A command cut after each announcement of a literal; between two pieces the server says "+"."""


class Sender:
    """Keeps commands in order; while one waits for "+", no other is sent."""

    def __init__(self, out: list[bytes], *, literal_plus: bool) -> None:
        """`out` takes the octets to send; with `literal_plus` the server takes literals without waiting."""
        self._out = out
        self._literal_plus = literal_plus
        self._queue: deque[tuple[bytes, Pieces]] = deque()
        self._rest: tuple[bytes, Pieces] | None = None

    @property
    def waits(self) -> bool:
        """Whether a continuation is awaited."""
        return self._rest is not None

    def send(self, tag: bytes, pieces: Pieces) -> None:
        """Send a command, its tag included in the first piece, when its turn comes."""
        if self._literal_plus and len(pieces) > 1:
            pieces = (b"".join(_without_waiting(piece) for piece in pieces[:-1]) + pieces[-1],)
        self._queue.append((tag, pieces))
        self._next()

    def continuation(self) -> bool:
        """The server said "+"; False when no command of ours waits for it."""
        if self._rest is None:
            return False
        tag, pieces = self._rest
        self._out.append(pieces[0])
        self._rest = (tag, pieces[1:]) if len(pieces) > 1 else None
        self._next()
        return True

    def completed(self, tag: bytes) -> None:
        """A command was answered; if it still waits, it was refused and the rest of it is not sent."""
        if self._rest is not None and self._rest[0] == tag:
            self._rest = None
            self._next()

    def _next(self) -> None:
        while self._rest is None and self._queue:
            tag, pieces = self._queue.popleft()
            self._out.append(pieces[0])
            if len(pieces) > 1:
                self._rest = (tag, pieces[1:])


def pieces_of(command: Command, skip: int = 0) -> Pieces:
    """A client's command in pieces, its first `skip` octets left out; announcements are made to wait."""
    fragments = [waiting(fragment) for fragment in command.fragments]
    tails = [literal + fragment for literal, fragment in zip(command.literals, fragments[1:], strict=True)]
    return (fragments[0][skip:], *tails)


def waiting(fragment: bytes) -> bytes:
    """A line whose announcement, if it has one, is made to wait."""
    return re.sub(rb"\+\}(\r?\n)\Z", rb"}\1", fragment)


def _without_waiting(piece: bytes) -> bytes:
    return re.sub(rb"(\d)\}(\r?\n)\Z", rb"\1+}\2", piece)
