"""A mail client that costs little: sessions kept open, one command at a time on each, as smtp-source works.

Unlike smtp-source it logs in and speaks TLS, so that the same client measures both ways.
"""

from __future__ import annotations

import base64
import selectors
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

_READ = 64 * 1024


class Refused(Exception):
    """A reply that was not the expected one."""


@dataclass
class Session:
    """One kept session, logged in."""

    connection: socket.socket
    mail: bytes
    rcpt: bytes
    last: bytes = b""
    """The final reply to the latest message."""
    took: list[float] = field(default_factory=list)
    """Seconds from MAIL to the final reply, for each message."""
    _began: float = 0.0
    _left: list[tuple[bytes, bytes]] = field(default_factory=list)
    """What is still to come: the reply code, and what is sent after it."""

    def command(self, octets: bytes) -> bytes:
        """Send, and wait for the reply."""
        self.connection.sendall(octets)
        return self.reply()

    def reply(self) -> bytes:
        """One reply, of one or several lines."""
        octets = b""
        while not _is_whole(octets):
            read = self.connection.recv(_READ)
            if not read:
                raise Refused(f"closed after {octets!r}")
            octets += read
        return octets

    def submit(self, message: bytes) -> float:
        """One message (CRLF, with its final dot), and how many seconds it took."""
        self.start(message)
        while not self.step():
            pass
        return self.took[-1]

    def start(self, message: bytes) -> None:
        """Begin to submit."""
        self._left = [(b"250", b""), (b"354", message), (b"250", b"DATA\r\n"), (b"250", self.rcpt)]
        self._began = time.perf_counter()
        self.connection.sendall(self.mail)

    def step(self) -> bool:
        """Take one reply and send what comes next; whether the message is done."""
        reply = self.reply()
        code, following = self._left.pop()
        if not reply.startswith(code):
            raise Refused(repr(reply))
        if self._left:
            self.connection.sendall(following)
            return False
        self.took.append(time.perf_counter() - self._began)
        self.last = reply
        return True


def _is_whole(octets: bytes) -> bool:
    if not octets.endswith(b"\r\n"):
        return False
    last = octets[octets.rfind(b"\r\n", 0, -2) + 2 :] if octets.count(b"\r\n") > 1 else octets
    return last[3:4] == b" "


@contextmanager
def sessions(
    count: int, port: int, sender: str, rcpt_to: str, password: str, context: ssl.SSLContext | None = None
) -> Iterator[list[Session]]:
    """`count` sessions at 127.0.0.1:`port`, logged in; with `context` over TLS from the first octet."""
    with ExitStack() as stack:
        yield [
            _session(stack, port, sender, rcpt_to, password, context)  # one after the other
            for _ in range(count)
        ]


def _session(
    stack: ExitStack, port: int, sender: str, rcpt_to: str, password: str, context: ssl.SSLContext | None
) -> Session:
    connection: socket.socket = stack.enter_context(socket.create_connection(("127.0.0.1", port), 60))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if context is not None:
        connection = stack.enter_context(context.wrap_socket(connection, server_hostname="localhost"))
    session = Session(
        connection, b"MAIL FROM:<%b>\r\n" % sender.encode(), b"RCPT TO:<%b>\r\n" % rcpt_to.encode()
    )
    token = base64.b64encode(f"\0{sender}\0{password}".encode())
    session.reply()
    session.command(b"EHLO localhost\r\n")
    if not (reply := session.command(b"AUTH PLAIN %b\r\n" % token)).startswith(b"235"):
        raise Refused(repr(reply))
    session.command(b"EHLO localhost\r\n")
    return session


def submit_all(
    open_sessions: Sequence[Session], messages: Iterable[bytes], each: Callable[[], object] = lambda: None
) -> float:
    """Submit every message, each session the next as soon as it is free; seconds for all.

    `each` is called after each message.
    """
    left = iter(messages)
    with selectors.DefaultSelector() as selector:
        began = time.perf_counter()
        for session, message in zip(open_sessions, left, strict=False):
            selector.register(session.connection, selectors.EVENT_READ, session)
            session.start(message)
        while selector.get_map():
            for key, _ in selector.select():
                if not key.data.step():
                    continue
                each()
                message = next(left, None)
                if message is None:
                    selector.unregister(key.fileobj)
                else:
                    key.data.start(message)
        return time.perf_counter() - began
