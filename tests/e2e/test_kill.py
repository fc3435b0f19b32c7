"""The running proxy is killed, or told to stop, while submissions are at every step there is.

Each step has a mail client of its own, all at one proxy. Nothing is timed: a step is reached when the client
has the reply, or when the smarthost, the processes that help, or the lock of a database keep the proxy there.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import signal
import socket
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fixtures.alone import ALICE, PASSWORD, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.people import SUBJECT, TEXT, leaked
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import Proxy, ProxyHome, serving
from tests.smtp.peers import GREETING, PIPELINING, Answer, Client, Peer, Scripted

BLIND = {"354": "second@example.org", "copies": "blind@example.org"}
"""The second recipients of the messages that are split; their copies are sent last."""
CLIENT_STEPS = ("EHLO", "AUTH", "MAIL", "RCPT", "DATA", "half")
"""Where the client waits: after the reply to a command, or with half of its message sent."""
SMARTHOST_STEPS = ("354", "begun", "dot", "accepted", "copies")
"""Where the smarthost keeps the proxy: with one of two transactions at 354, with a message begun, with all of
it before the reply, with the reply sent but not read, and with one of two copies accepted."""
PROXY_STEPS = ("process", "memory")
"""While another process protects the message; before its Message-ID is remembered."""
STEPS = (*CLIENT_STEPS, *SMARTHOST_STEPS, *PROXY_STEPS)
COMPLETE = {"dot", "accepted", "copies"}
"""Those that the smarthost has taken: a kill after the final dot leaves an unknown outcome."""
IDLE = {"EHLO", "AUTH"}
"""No transaction has begun."""


def address(step: str) -> str:
    """Whom the message of this step is for."""
    return f"{step.lower()}@example.org"


def letter(step: str) -> bytes:
    """In clear; so large that another process protects it, or that it fits no buffer on the way."""
    octets = {"half": 400_000, "begun": 2_500_000, "process": 400_000}.get(step, 0)
    noise = base64.encodebytes(random.Random(step).randbytes(octets)).replace(b"\n", b"\r\n")
    head = f"From: <{ALICE}>\r\nTo: <{address(step)}>\r\nSubject: {SUBJECT}\r\n"
    head += f"Message-ID: <{step}@example.org>\r\nMIME-Version: 1.0\r\n\r\n{TEXT}\r\n"
    return head.encode() + noise + f"{TEXT}\r\n".encode()


@dataclass
class Held:
    """A smarthost that stops at the point that the recipient names, until it may go on."""

    reached: Mapping[str, asyncio.Event] = field(
        default_factory=lambda: {address(step): asyncio.Event() for step in SMARTHOST_STEPS + PROXY_STEPS}
    )
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Everybody may go on."""
    say: asyncio.Event = field(default_factory=asyncio.Event)
    """The reply to the message of the step "accepted" may be said."""
    said: asyncio.Event = field(default_factory=asyncio.Event)
    taken: list[tuple[str, bytes]] = field(default_factory=list)
    """Recipient and octets of each message that came with its dot."""

    def script(self) -> Mapping[str, Answer]:
        """To be followed."""
        return {"CONNECT": self._connect, "EHLO": PIPELINING, "DATA": self._data}

    async def _connect(self, peer: Peer) -> None:
        connection = peer.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        await peer.say(GREETING)

    async def _data(self, peer: Peer) -> None:
        (to,) = [line for line in peer.lines if line.startswith(b"RCPT")][-1:]
        rcpt_to = to[9:].partition(b">")[0].decode()
        if rcpt_to == BLIND["354"]:
            await self._hold("354")
        await peer.say(b"354 go\r\n")
        first = b""
        if rcpt_to in map(address, PROXY_STEPS):
            self.reached[rcpt_to].set()
        elif rcpt_to == address("begun"):
            first = await peer.reader.readline()
            peer.writer.transport.pause_reading()
            await self._hold("begun")
            peer.writer.transport.resume_reading()
        self.taken.append((rcpt_to, first + await peer._message()))
        if rcpt_to == BLIND["copies"]:
            await self._hold("copies")
        elif rcpt_to == address("dot"):
            await self._hold("dot")
        elif rcpt_to == address("accepted"):
            self.reached[rcpt_to].set()
            await self.say.wait()
        await peer.say(b"250 2.0.0 queued\r\n")
        if rcpt_to == address("accepted"):
            self.said.set()

    async def _hold(self, step: str) -> None:
        self.reached[address(step)].set()
        await self.go.wait()

    def count(self) -> Counter[str]:
        """How many messages each recipient has."""
        return Counter(rcpt_to for rcpt_to, _ in self.taken)


class Sender:
    """The mail client of one step."""

    def __init__(self, step: str, client: Client, message: bytes) -> None:
        """Connected, nothing said."""
        self.step = step
        self.client = client
        half = len(message) // 2
        token = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode())
        rcpt_tos = [address(step), *([BLIND[step]] if step in BLIND else [])]
        self._left = [
            (b"EHLO client.example\r\n", b"250"),
            (b"AUTH PLAIN %b\r\n" % token, b"235"),
            (b"MAIL FROM:<%b>\r\n" % ALICE.encode(), b"250"),
            *((b"RCPT TO:<%b>\r\n" % one.encode(), b"250") for one in rcpt_tos),
            (b"DATA\r\n", b"354"),
            (message[:half], b""),
            (message[half:] + b".\r\n", b""),
        ]

    async def advance(self, octets: bytes | None = None) -> None:
        """Up to the piece that begins so, the final dot by default, but not waiting for the final reply."""
        while self._left and (octets is None or not self._left[0][0].startswith(octets)):
            said, code = self._left.pop(0)
            await self.client.send(said)
            if code:
                assert (reply := await self.client.reply()).startswith(code), (self.step, reply)

    async def go(self) -> None:
        """To the step where the client waits."""
        until = dict(zip(CLIENT_STEPS, (b"AUTH", b"MAIL", b"RCPT", b"DATA", b"From"), strict=False))
        if self.step == "half":
            await self.advance(self._left[-1][0])
            await asyncio.to_thread(wait_until, self._is_read, "the proxy has read it")
        else:
            await self.advance(until.get(self.step))

    def _is_read(self) -> bool:
        """Whether nothing of what we have sent waits in the kernel for the proxy."""
        ours, theirs = (self.client.writer.get_extra_info(name)[1] for name in ("sockname", "peername"))
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, _, queues = line.split()[:5]
            if (local[9:], remote[9:]) == (f"{theirs:04X}", f"{ours:04X}"):
                return int(queues.partition(":")[2], 16) == 0
        return False

    async def rest(self) -> bytes:
        """Whatever else comes, to the end."""
        with contextlib.suppress(ConnectionError):
            return await self.client.reader.read()
        return b""


def children(process: int) -> list[int]:
    """The processes that it has started."""
    found = Path(f"/proc/{process}/task").glob("*/children")
    return [int(one) for path in found for one in path.read_text().split()]


@contextlib.contextmanager
def stopped(processes: list[int]) -> Iterator[None]:
    """They do nothing within the block."""
    for one in processes:
        os.kill(one, signal.SIGSTOP)
    try:
        yield
    finally:
        for one in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGCONT)


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else writes within the block."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@dataclass
class Scene:
    """A proxy with a client at every step."""

    proxy: Proxy
    senders: Mapping[str, Sender]
    workers: list[int]
    holds: contextlib.ExitStack
    """Keeps those of PROXY_STEPS."""


async def connect(proxy: Proxy, step: str, message: str | None = None) -> Sender:
    """A client that has read the greeting."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.submission_port)
    sender = Sender(step, Client(reader, writer), letter(step if message is None else message))
    assert (await sender.client.reply()).startswith(b"220 ")
    return sender


async def submit(proxy: Proxy, step: str, message: str | None = None) -> bytes:
    """One message, that of the step by default; the final reply."""
    sender = await connect(proxy, step, message)
    await sender.advance()
    reply = await sender.client.reply()
    sender.client.writer.close()
    return reply


@asynccontextmanager
async def at_every_step(home: ProxyHome, held: Held) -> AsyncIterator[Scene]:
    """Clients at all steps, those first that are beyond the places where the later ones stop."""
    with serving(home) as proxy:
        assert (await submit(proxy, "half")).startswith(b"250")  # has the processes started that help
        workers = await asyncio.to_thread(wait_until, lambda: children(proxy.process.pid), "helpers")
        senders = {step: await connect(proxy, step) for step in STEPS}
        for step in (*CLIENT_STEPS, *SMARTHOST_STEPS):
            await senders[step].go()
            if step in SMARTHOST_STEPS:
                await held.reached[address(step)].wait()
        with contextlib.ExitStack() as stack:
            stack.enter_context(stopped(workers))
            stack.enter_context(locked(home.folders.views))
            for step in PROXY_STEPS:
                await senders[step].go()
                await held.reached[address(step)].wait()
            yield Scene(proxy, senders, workers, stack)
        for sender in senders.values():
            sender.client.writer.close()


@pytest.fixture
async def held(ca: TestCA) -> AsyncIterator[tuple[Held, Scripted]]:
    """A smarthost over TLS that stops where it should."""
    one = Held()
    async with Scripted(one.script(), tls=ca.server_context()).running() as smarthost:
        yield one, smarthost


@pytest.fixture
def home(held: tuple[Held, Scripted], ca: TestCA, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyHome]:
    """With a key for everybody, and encryption required; temporary files would be in it too."""
    with alone(ca, held[1].port, *map(address, STEPS), *BLIND.values()) as made:
        temporary = made.folder / "tmp"
        temporary.mkdir()
        monkeypatch.setenv("TMPDIR", str(temporary))
        yield made


def nothing_in_clear(home: ProxyHome) -> bool:
    """Whether no word of any letter is in any file."""
    return not any(leaked(path.read_bytes()) for path in home.folder.rglob("*") if path.is_file())


def gone(process: int) -> bool:
    """Whether it has ended, though nobody may have asked how."""
    try:
        return ") Z " in Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True


async def test_smtp_01_02_killed_at_every_step(held: tuple[Held, Scripted], home: ProxyHome) -> None:
    """SMTP-01, SMTP-02: none is told 250; nothing is taken in part or twice, nor after the next start."""
    host, smarthost = held
    async with asyncio.timeout(60), at_every_step(home, host) as scene:
        scene.proxy.process.send_signal(signal.SIGSTOP)
        host.say.set()
        await host.said.wait()  # on its way, and nobody there to read it
        scene.proxy.process.kill()
        scene.proxy.process.wait(10)
        assert nothing_in_clear(home)
        for step, sender in scene.senders.items():
            assert await sender.rest() == b"", step
    await asyncio.to_thread(wait_until, lambda: all(map(gone, scene.workers)), "the helpers end")
    host.go.set()
    await asyncio.wait(smarthost._tasks)
    expected = Counter(map(address, ["half", *COMPLETE])) + Counter([BLIND["copies"]])
    assert host.count() == expected
    with serving(home) as proxy:
        for step in STEPS:
            assert (await submit(proxy, step, "again")).startswith(b"250 ")
    assert host.count() == expected + Counter(map(address, STEPS)) + Counter(BLIND.values())
    assert all(b"multipart/encrypted" in octets and not leaked(octets) for _, octets in host.taken)
    assert nothing_in_clear(home)


async def test_sigterm_at_every_step(held: tuple[Held, Scripted], home: ProxyHome) -> None:
    """SMTP-01: what was begun is finished, and answered; who has begun nothing is told to go."""
    host, _ = held
    async with asyncio.timeout(60), at_every_step(home, host) as scene:
        scene.proxy.process.send_signal(signal.SIGTERM)
        for step in IDLE:
            assert (await scene.senders[step].rest()).startswith(b"421 ")
        host.go.set()
        host.say.set()
        scene.holds.close()
        for step in [one for one in STEPS if one not in IDLE]:
            sender = scene.senders[step]
            await sender.advance()
            replies = await sender.rest()
            assert replies.startswith(b"250 "), step
            assert replies.count(b"\r\n") <= 2, step
        assert await asyncio.to_thread(scene.proxy.process.wait, 30) == 0
    begun = [one for one in STEPS if one not in IDLE]
    assert host.count() == Counter(map(address, [*begun, "half"])) + Counter(BLIND.values())
    assert not any(leaked(octets) for _, octets in host.taken)
    assert nothing_in_clear(home)
    assert "Traceback" not in scene.proxy.log()
