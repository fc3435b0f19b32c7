"""FETCH of plain mail octet by octet: straight from Dovecot, and through the proxy, by the same raw client.

Both are read over one connection that is opened before the clock starts; the direct one is TLS, as the
proxy's own is.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from bench.crypto import entity
from bench.imap import Place, place
from bench.measure import Row, alternating, cost, seconds
from tests.fixtures.dovecot import Mailbox
from tests.fixtures.proxy import serving
from tests.fixtures.transcript import RawImap, direct, proxied

SMALL = 4000
LARGE = 100
LARGE_OCTETS = 200 * 1024
WINDOW = 50
"""Commands that are sent before the first answer is read, as mbsync does."""
RUNS = 7


def _until(connection: socket.socket, end: bytes) -> None:
    """Read up to the response that begins with `end`."""
    tail = b""
    while end not in tail:
        data = connection.recv(1024 * 1024)
        assert data, "the connection was closed"
        tail = tail[-len(end) :] + data


def one_by_one(imap: RawImap) -> None:
    """A command for each message, the next after the answer."""
    for uid in range(1, SMALL // 4 + 1):
        imap.send(b"s%d UID FETCH %d (BODY.PEEK[])\r\n" % (uid, uid))
        _until(imap.connection, b"\r\ns%d OK" % uid)


def pipelined(imap: RawImap) -> None:
    """A command for each message, `WINDOW` at once."""
    for first in range(1, SMALL + 1, WINDOW):
        uids = range(first, first + WINDOW)
        imap.send(b"".join(b"p%d UID FETCH %d (BODY.PEEK[])\r\n" % (uid, uid) for uid in uids))
        _until(imap.connection, b"\r\np%d OK" % uids[-1])


def all_at_once(imap: RawImap) -> None:
    """One command for all messages."""
    imap.send(b"w1 UID FETCH 1:* (UID FLAGS BODY.PEEK[])\r\n")
    _until(imap.connection, b"\r\nw1 OK")


def rows() -> Iterator[Row]:
    """5 KB pipelined and one by one, then 200 KB."""
    with place() as where:
        small = _filled(where, "small", SMALL, entity)
        large = _filled(where, "large", LARGE, lambda: entity(LARGE_OCTETS))
        yield _row(where, small, f"pipelined FETCH of {SMALL} plain messages of 5 KB", pipelined, 1.10)
        yield _row(where, small, f"FETCH of {SMALL} plain messages of 5 KB by one command", all_at_once, 1.10)
        yield _row(where, small, f"FETCH of {SMALL // 4} plain messages one by one", one_by_one, 1.5)
        yield _row(where, large, f"FETCH of {LARGE} plain messages of 200 KB", all_at_once, 1.15)


def _filled(where: Place, name: str, count: int, body: Callable[[], bytes]) -> Mailbox:
    mailbox = where.dovecot.mailbox(name)
    mailbox.fill(
        b"From: n@example.net\r\nTo: x@example.test\r\nSubject: number %d\r\nMIME-Version: 1.0\r\n%b"
        % (number, body())
        for number in range(count)
    )
    return mailbox


def _row(where: Place, mailbox: Mailbox, what: str, read: Callable[[RawImap], None], aim: float) -> Row:
    with ExitStack() as stack:
        proxy = stack.enter_context(serving(where.factory.home(mailbox)))
        through = stack.enter_context(proxied(proxy, mailbox))
        straight = stack.enter_context(direct(mailbox))
        for imap in (straight, through):
            imap.ok(b"EXAMINE INBOX")
            imap.ok(b"UID FETCH 1:* (RFC822.SIZE)")
            read(imap)
        times = alternating(
            RUNS, lambda: seconds(lambda: read(through)), lambda: seconds(lambda: read(straight))
        )
    return cost(what, ("proxy", "direct"), times, aim)
