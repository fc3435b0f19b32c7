"""How much memory mail may take: of any size passes, and who stalls holds up nothing but itself (IMAP-21)."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from pathlib import Path

from tests.fixtures.fake_imap import FakeImap, Peer
from tests.fixtures.people import ProxyUser
from tests.fixtures.proxy import Proxy
from tests.fixtures.transcript import proxied

MIB = 1024 * 1024
GIB = 1024 * MIB
BLOCK = b"0123456789abcde\n" * 65536


def resident(proxy: Proxy) -> int:
    """Octets of memory that the proxy uses now."""
    return _status(proxy, "VmRSS")


def _status(proxy: Proxy, name: str) -> int:
    text = Path(f"/proc/{proxy.process.pid}/status").read_text()
    found = re.search(rf"(?m)^{name}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024


class Peak:
    """The most memory that the proxy has used since this was made, over what it used then."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        Path(f"/proc/{proxy.process.pid}/clear_refs").write_text("5")
        self._before = resident(proxy)

    @property
    def growth(self) -> int:
        """In octets."""
        return _status(self._proxy, "VmHWM") - self._before


def headers(kind: bytes) -> dict[bytes, bytes]:
    """Every message says that it is of this kind."""
    value = b"Content-Type: " + kind + b"\r\n\r\n"
    return {
        rb"UID FETCH .* \(UID BODY\.PEEK\[HEADER\.FIELDS \(CONTENT-TYPE CONTENT-DISPOSITION\)\]\)": b"".join(
            b"* %d FETCH (UID %d BODY[HEADER.FIELDS (CONTENT-TYPE CONTENT-DISPOSITION)] {%d}\r\n%b)\r\n"
            % (uid, uid, len(value), value)
            for uid in range(1, 10)
        )
        + b"TAG OK\r\n"
    }


def whole(size: int, end: bytes = b")\r\nTAG OK done\r\n") -> object:
    """Answers a FETCH of BODY[] with so many octets, made as they are sent."""

    def send(peer: Peer, match: re.Match[bytes]) -> None:
        uid = int(match[1])
        origin = b"<0>" if b"<0." in match[0] else b""
        peer.send(b"* %d FETCH (UID %d BODY[]%b {%d}\r\n" % (uid, uid, origin, size))
        for _ in range(size // len(BLOCK)):
            peer.connection.sendall(BLOCK)
        peer.send(end)

    return send


FETCH = rb"UID FETCH (\d+).* \(?(?:UID )?BODY\.PEEK\[\](?:<0\.\d+>)?\)?"


def receive(connection: socket.socket, octets: int) -> int:
    """Read so many octets and forget them; how many of them were line feeds."""
    view = memoryview(bytearray(4 * MIB))
    feeds, left = 0, octets
    while left:
        count = connection.recv_into(view[: min(left, len(view))])
        assert count, f"{left} octets are missing"
        feeds += bytes(view[:count]).count(b"\n")
        left -= count
    return feeds


def test_a_gibibyte_is_read_in_little_memory(fake_user: ProxyUser, fake: FakeImap) -> None:
    """IMAP-21."""
    fake.play({**headers(b"text/plain"), FETCH: whole(GIB)})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        peak = Peak(fake_user.proxy)
        imap.send(b"a UID FETCH 3 BODY.PEEK[]\r\n")
        head = b"* 3 FETCH (UID 3 BODY[] {%d}\r\n" % GIB
        assert imap.connection.recv(len(head), socket.MSG_WAITALL) == head
        assert receive(imap.connection, GIB) == GIB // 16
        assert imap.response() == b")\r\n"
        assert imap.response() == b"a OK done\r\n"
        assert peak.growth < 64 * MIB


def test_a_gibibyte_is_stored_in_little_memory(fake_user: ProxyUser, fake: FakeImap) -> None:
    """IMAP-21."""

    def take(peer: Peer, match: re.Match[bytes]) -> None:
        peer.send(b"+ go on\r\n")
        peer.swallow(int(match[1]) + 2)
        peer.send(b"TAG OK stored\r\n")

    fake.play({rb"APPEND INBOX \{(\d+)\}": take})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        peak = Peak(fake_user.proxy)
        imap.send(b"a APPEND INBOX {%d}\r\n" % GIB)
        assert imap.response().startswith(b"+")
        first = b"Subject: large\r\n\r\n".ljust(len(BLOCK), b"x")
        imap.send(first)
        for _ in range(GIB // len(BLOCK) - 1):
            imap.connection.sendall(BLOCK)
        imap.send(b"\r\n")
        assert imap.response() == b"a OK stored\r\n"
        assert peak.growth < 64 * MIB
    assert fake.peers[-1].received == GIB + 2


def test_a_client_that_stalls_stops_the_server(fake_user: ProxyUser, fake: FakeImap) -> None:
    """IMAP-21: what the client does not take stays with the server."""
    sent = [0]
    blocked = threading.Event()

    def send(peer: Peer, match: re.Match[bytes]) -> None:
        peer.send(b"* 3 FETCH (UID 3 BODY[] {%d}\r\n" % GIB)
        peer.connection.settimeout(1.0)
        try:
            for _ in range(GIB // len(BLOCK)):
                peer.connection.sendall(BLOCK)
                sent[0] += len(BLOCK)
        except TimeoutError:
            blocked.set()
            raise

    fake.play({**headers(b"text/plain"), FETCH: send})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        imap.ok(b"SELECT INBOX")
        peak = Peak(fake_user.proxy)
        imap.send(b"a UID FETCH 3 BODY.PEEK[]\r\n")
        assert blocked.wait(30)
        assert sent[0] < 64 * MIB
        assert peak.growth < 16 * MIB
        fake.play({})
        with proxied(fake_user.proxy, fake_user.mailbox) as other:
            other.ok(b"NOOP")


def test_a_server_that_stalls_stops_the_client(fake_user: ProxyUser, fake: FakeImap) -> None:
    """IMAP-21: what the server does not take stays with the client."""
    stalled, over = threading.Event(), threading.Event()

    def take(peer: Peer, match: re.Match[bytes]) -> None:
        peer.send(b"+ go on\r\n")
        stalled.set()
        over.wait(60)

    fake.play({rb"APPEND INBOX \{(\d+)\}": take})
    sent = 0
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        peak = Peak(fake_user.proxy)
        imap.send(b"a APPEND INBOX {%d}\r\n" % GIB)
        assert imap.response().startswith(b"+")
        imap.send(b"Subject: large\r\n\r\n".ljust(len(BLOCK), b"x"))
        assert stalled.wait(30)
        imap.connection.settimeout(1.0)
        with contextlib.suppress(TimeoutError):
            while sent < GIB:
                sent += imap.connection.send(BLOCK)
        assert sent < 64 * MIB
        assert peak.growth < 16 * MIB
        over.set()


def test_an_answer_that_is_announced_too_large_is_not_kept(fake_user: ProxyUser, fake: FakeImap) -> None:
    """Read to its end, since no server can be stopped; the command fails, the connection goes on."""
    sealed = b'multipart/encrypted; protocol="application/pgp-encrypted"; boundary="x"'
    fake.play({**headers(sealed), FETCH: whole(256 * MIB)})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.ok(b"SELECT elsewhere")
        peak = Peak(fake_user.proxy)
        assert imap.command(b"UID FETCH 3 BODY.PEEK[]")[-1].startswith(b"T NO ")
        assert peak.growth < 16 * MIB
        imap.ok(b"NOOP")
