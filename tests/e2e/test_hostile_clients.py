"""Mail clients that hang up, dawdle, flood and stuff everything into one segment, at the running program.

After each of them every message that was complete is at the smarthost once, the descriptors are as many as
before, and the session of a client that was there all the time goes on.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import os
import socket
import ssl
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bench.load import Session, sessions
from tests.fixtures.alone import ALICE, PASSWORD, REQUIRED, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.processes import free_port, running, wait_until
from tests.fixtures.proxy import SOURCES, Proxy, serving

BOB = "bob@example.org"
LOGIN = b"AUTH PLAIN %b\r\n" % base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode())
ENVELOPE = b"MAIL FROM:<%b>\r\nRCPT TO:<%b>\r\n" % (ALICE.encode(), BOB.encode())
CONNECTIONS = 40
RESET = struct.pack("ii", 1, 0)
TLS = '[listen]\nsubmissions = "127.0.0.1:0"\n'


@dataclass
class Place:
    """The proxy, what has arrived behind it, and what should have."""

    proxy: Proxy
    ledger: Path
    context: ssl.SSLContext
    witness: Session
    """Of a client that behaves; it was there before the others came."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    accepted: Counter[str] = field(default_factory=Counter)

    def letter(self) -> bytes:
        """One that must arrive, with its final dot."""
        name = f"<{next(self.numbers)}@example.org>"
        self.accepted[name] += 1
        return b"From: %b\r\nMessage-ID: %b\r\n\r\nhello\r\n.\r\n" % (ALICE.encode(), name.encode())

    def connect(self, way: str = "clear") -> socket.socket:
        """A connection whose greeting has been read."""
        port = self.proxy.submissions_port if way == "implicit" else self.proxy.submission_port
        connection = socket.create_connection(("127.0.0.1", port), 20)
        if way == "implicit":
            connection = self.context.wrap_socket(connection, server_hostname="localhost")
        assert connection.recv(1000)[:4] == b"220 "
        if way == "STARTTLS":
            connection.sendall(b"EHLO client.example\r\nSTARTTLS\r\n")
            read_until(connection, b"220 ")
            connection = self.context.wrap_socket(connection, server_hostname="localhost")
        return connection

    @property
    def descriptors(self) -> int:
        """Those of the proxy."""
        return len(os.listdir(f"/proc/{self.proxy.process.pid}/fd"))


def read_until(connection: socket.socket, code: bytes) -> bytes:
    """Replies up to the last line of the first one with this code."""
    found = b""
    while not any(line.startswith(code) for line in found.split(b"\r\n")[:-1]):
        octets = connection.recv(65536)
        assert octets, found
        found += octets
    return found


def rest(connection: socket.socket) -> bytes:
    """What comes until the end, however it ends."""
    found = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while octets := connection.recv(65536):
            found += octets
    return found


@pytest.fixture(scope="module")
def served(ca: TestCA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With TLS, and a smarthost that notes the Message-ID of what it takes."""
    folder, port = tmp_path_factory.mktemp("taker"), free_port()
    ledger = folder / "ledger"
    argv = [sys.executable, "-m", "bench.sink", str(port), ca.cert_file, ca.key_file, ledger]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    with (
        running(argv, ports=[port], log=folder / "log", env=environment),
        alone(ca, port, BOB, config=REQUIRED) as home,
    ):
        settings = home.folders.config_file
        more = f"{TLS}connections_per_client = {CONNECTIONS}\n"
        settings.write_text(settings.read_text().replace("[listen]\n", more, 1))
        home.run("certificate", "create")
        certificate = home.folder / "exported.pem"
        home.run("certificate", "export", "--output", certificate)
        context = ssl.create_default_context(cafile=certificate)
        with (
            serving(home) as proxy,
            sessions(1, proxy.submission_port, ALICE, BOB, PASSWORD) as (witness,),
        ):
            yield Place(proxy, ledger, context, witness)


@pytest.fixture
def place(served: Place) -> Iterator[Place]:
    """Checked when the test is over."""
    served.witness.submit(served.letter())
    before = served.descriptors
    yield served
    served.witness.submit(served.letter())
    # Connections to the smarthost are kept, five at most.
    wait_until(lambda: served.descriptors <= before + 5, lambda: f"{before} -> {served.descriptors}")
    wait_until(lambda: arrived(served) >= served.accepted, lambda: str(served.accepted - arrived(served)))
    assert arrived(served) == served.accepted
    assert "Traceback" not in served.proxy.log()
    assert "internal error" not in served.proxy.log()


def arrived(place: Place) -> Counter[str]:
    """The Message-IDs at the smarthost."""
    return Counter(place.ledger.read_text().split())


@pytest.mark.parametrize("way", ["clear", "STARTTLS", "implicit"])
def test_smtp_03_a_client_that_hangs_up_at_any_point(way: str, place: Place) -> None:
    """By closing and by resetting; what was complete arrives once, the rest never."""
    script = [b"EHLO client.example\r\n", LOGIN, *ENVELOPE.splitlines(keepends=True), b"DATA\r\n"]
    codes = [b"250 ", b"235 ", b"250 ", b"250 ", b"354 "]
    for is_reset, count, is_partial in itertools.product((False, True), range(7), (False, True)):
        with place.connect(way) as connection:
            for said, code in zip(script[:count], codes, strict=False):
                connection.sendall(said)
                read_until(connection, code)
            last = [*script, b"Subject: half\r\n\r\nhalf\r\n", b""][count]
            if count == 6:
                last = place.letter()
            connection.sendall(last[: len(last) // 2] if is_partial and count < 6 else last)
            if is_reset and count < 6:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        place.witness.command(b"NOOP\r\n")


@pytest.mark.parametrize("way", ["clear", "implicit"])
def test_whole_transactions_in_one_segment(way: str, place: Place) -> None:
    """Though nobody may send DATA's message before 354: nothing is lost, and nothing taken for a command."""
    letters = [place.letter() for _ in range(3)]
    octets = b"EHLO client.example\r\n" + LOGIN + b"".join(ENVELOPE + b"DATA\r\n" + one for one in letters)
    with place.connect(way) as connection:
        connection.sendall(octets + b"QUIT\r\n")
        replies = rest(connection)
    codes = [line[:3] for line in replies.split(b"\r\n") if line[3:4] == b" "]
    assert codes == [b"250", b"235", *[b"250", b"250", b"354", b"250"] * 3, b"221"]


def test_who_sends_no_more_still_gets_the_replies(place: Place) -> None:
    """SMTP-03: the socket is closed in one direction."""
    with place.connect() as connection:
        connection.sendall(b"EHLO c\r\n" + LOGIN + ENVELOPE + b"DATA\r\n" + place.letter())
        connection.shutdown(socket.SHUT_WR)
        replies = rest(connection)
    assert replies.splitlines()[-1].startswith(b"250 2.0.0 ")
    assert b"encrypted" in replies.splitlines()[-1]


def test_connections_that_say_nothing_or_half_a_word(place: Place) -> None:
    """As many as one address may have; one more is told; the witness and IMAP do not notice."""
    with contextlib.ExitStack() as stack:
        for number in range(CONNECTIONS - 1):
            one = stack.enter_context(place.connect())
            one.sendall((b"", b"E", b"EHLO c\r\nMAIL", b"\r\n" * 3, b"EHLO c\r\nAUTH PLAIN ")[number % 5])
        for _ in range(200):
            with socket.create_connection(("127.0.0.1", place.proxy.submission_port), 20) as late:
                assert rest(late).startswith(b"421 4.7.0 ")
        place.witness.submit(place.letter())
        with socket.create_connection(("127.0.0.1", place.proxy.imap_port), 20) as imap:
            assert imap.recv(1000).startswith(b"* OK ")


@pytest.mark.parametrize(
    ("storm", "again", "replies"),
    [
        (b"RSET\r\n", 2000, [b"250"]),
        (ENVELOPE + b"RSET\r\n", 300, [b"250"]),
        (b"EHLO c\r\n", 500, [b"250"]),
        (LOGIN, 300, [b"503"]),
        (b"BDAT 6 LAST\r\nRSET\r\n", 20, [b"500", b"250", b"421"]),
        (b"\xff\xfe\0" * 4000 + b"\r\n", 20, [b"500", b"421"]),
        (b"X" * 3_000_000 + b"\r\n", 1, [b"500"]),
    ],
    ids=["RSET", "MAIL RCPT RSET", "EHLO", "AUTH", "BDAT", "noise", "a long line"],
)
def test_storms(storm: bytes, again: int, replies: list[bytes], place: Place) -> None:
    """Each command has its reply, or the client is shown the door; the witness submits meanwhile."""
    with place.connect() as connection:
        connection.sendall(b"EHLO c\r\n" + LOGIN)
        read_until(connection, b"235 ")
        connection.setblocking(False)
        left, found = memoryview(storm * again), b""
        place.witness.start(place.letter())
        while left:
            with contextlib.suppress(BlockingIOError):
                found += connection.recv(65536) or b""
            try:
                left = left[connection.send(left) :]
            except BlockingIOError:
                continue
            except ConnectionError:
                break
        while not place.witness.step():
            pass
        connection.setblocking(True)
        if b"421 " not in found:
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"QUIT\r\n")
        found += rest(connection)
    codes = {line[:3] for line in found.split(b"\r\n") if line[3:4] == b" "}
    assert codes - {b"221"} == set(replies)


def test_a_flood_of_logins(place: Place) -> None:
    """Those who guess wait longer and longer; who knows the password does not."""
    wrong = b"AUTH PLAIN %b\r\n" % base64.b64encode(b"\0mallory@example.org\0guess")
    with contextlib.ExitStack() as stack:
        guessing = [stack.enter_context(place.connect()) for _ in range(CONNECTIONS - 2)]
        for one in guessing:
            one.sendall(b"EHLO c\r\n" + wrong * 50)
        place.witness.submit(place.letter())
        with place.connect() as other:
            other.sendall(b"EHLO c\r\n" + LOGIN + ENVELOPE + b"DATA\r\n" + place.letter() + b"QUIT\r\n")
            assert rest(other).splitlines()[-2].startswith(b"250 2.0.0 ")
        read_until(guessing[0], b"535 ")
