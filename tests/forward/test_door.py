"""The door of the daemon and who knocks at it: a message is taken whole, once, or it stays where it was."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from keystore.errors import KeyRefused, StoreLocked
from secmailproxy.errors import NoUsableCertificate, UpstreamUnavailable
from secmailproxy.forward.door import Deadlines, Door, Room, settings_for
from secmailproxy.forward.knock import GREETING, at_door
from secmailproxy.forward.model import Forward, ForwardSettings, Target
from tests.fixtures.processes import service_folder

MESSAGE = b"Subject: s\n\nwindmill\n"
UNKNOWN = (75, b"4.3.0 the daemon did not say whether it has sent the message; see its log")


@pytest.fixture
def path() -> Iterator[Path]:
    with service_folder("door") as folder:
        yield folder / "forward.sock"


class Inside:
    """What has come through the door."""

    def __init__(self, answer: Callable[[bytes], bool] = lambda message: True) -> None:
        self.answer = answer
        self.messages: list[tuple[tuple[str, ...], bytes]] = []
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def process(self, options: tuple[str, ...], message: bytes) -> bool:
        with self._lock:
            self._now += len(message)
            self.most = max(self.most, self._now)
        try:
            taken = self.answer(message)
            with self._lock:
                self.messages.append((options, message))
            return taken
        finally:
            with self._lock:
                self._now -= len(message)


@contextlib.asynccontextmanager
async def open_door(path: Path, inside: Inside, **more: object) -> AsyncIterator[Door]:
    door = Door(path, inside.process, **more)  # type: ignore[arg-type]  # of the test's own
    await door.start()
    try:
        yield door
    finally:
        await door.stop(5)


async def knock(path: Path, message: bytes = MESSAGE, *words: str) -> tuple[int, bytes] | None:
    return await asyncio.to_thread(at_door, str(path), list(words), message)


@pytest.mark.parametrize("message", [MESSAGE, b"x", b"\0\xff\r\n" * 300_000], ids=["small", "tiny", "large"])
async def test_a_message_is_taken_whole(message: bytes, path: Path) -> None:
    inside = Inside()
    async with open_door(path, inside):
        assert path.stat().st_mode & 0o777 == 0o600
        assert await knock(path, message) == (0, b"")
        assert await knock(path, message, "--to", "ädmin@example.org") == (0, b"")
    assert inside.messages == [((), message), (("--to", "ädmin@example.org"), message)]
    assert not path.exists()


class Odd(Exception):
    """Of nobody."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (NoUsableCertificate("none\nis known"), b"4.7.5 none is known"),
        (UpstreamUnavailable("sendmail ended with status 1"), b"4.3.0 sendmail ended with status 1"),
        (StoreLocked("it is locked"), b"4.7.5 it is locked"),
        (KeyRefused("no key"), b"4.3.0 no key"),
        (
            OSError(28, "No space left on device", "windmill"),
            b"4.3.0 cannot read or write: No space left on device",
        ),
        (Odd("windmill"), b"4.3.0 internal error (Odd)"),
    ],
)
async def test_fwd_01_an_error_is_75_and_one_line(error: Exception, line: bytes, path: Path) -> None:
    def fail(message: bytes) -> bool:
        raise error

    async with open_door(path, Inside(fail)):
        assert await knock(path) == (75, line)


async def test_what_the_daemon_leaves_to_the_pipe_is_its_own(path: Path) -> None:
    async with open_door(path, Inside(lambda message: False)):
        assert await knock(path) is None


async def test_who_is_not_let_in_does_it_alone(path: Path) -> None:
    inside = Inside()
    async with open_door(path, inside, users=frozenset({os.geteuid() + 1})):
        assert await knock(path) is None
    assert inside.messages == []


async def test_no_message_is_not_handed_over(path: Path) -> None:
    inside = Inside()
    async with open_door(path, inside):
        assert await knock(path, b"") is None
    assert inside.messages == []


async def test_where_nobody_listens_nothing_is_handed_over(path: Path) -> None:
    assert await knock(path) is None
    path.write_text("no socket")
    assert await knock(path) is None
    path.unlink()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert await knock(path) is None
    inside = Inside()
    async with open_door(path, inside):  # one that a killed daemon has left is no hindrance
        assert await knock(path) == (0, b"")
    long = path.parent / ("x" * 120)
    long.mkdir()
    assert await knock(long / "forward.sock") is None


@contextlib.asynccontextmanager
async def daemon(path: Path, turn: bytes, reads: bool, answer: bytes) -> AsyncIterator[list[bytes]]:
    """One that dies, or speaks nonsense, at some point of the conversation."""
    read: list[bytes] = []

    async def visited(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            line = await reader.readline()
            writer.write(turn)
            if reads:
                read.append(await reader.readexactly(int(line.split()[-1])))
            writer.write(answer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_unix_server(visited, path):
        yield read


LARGE = b"x" * 4_000_000


@pytest.mark.parametrize("turn", [b"", b"-", b"x"])
async def test_before_our_turn_the_message_is_ours(turn: bytes, path: Path) -> None:
    async with daemon(path, turn, False, b""):
        assert await knock(path) is None


async def test_a_daemon_that_dies_before_the_message_is_whole_has_none(path: Path) -> None:
    async with daemon(path, b"+", False, b""):
        assert await knock(path, LARGE) is None


@pytest.mark.parametrize(
    "answer", [b"", b"0", b"00\n", b"0\n0\n", b"75 cut off", b"nonsense\n", b"-", b"x" * 9999]
)
async def test_fwd_01_without_an_answer_it_may_have_been_sent(answer: bytes, path: Path) -> None:
    """It is never sent by another way then, and never told as sent."""
    async with daemon(path, b"+", True, answer) as read:
        assert await knock(path) == UNKNOWN
    assert read == [MESSAGE]


HOSTILE = [
    b"",
    b"\n",
    b"x" * 10_000,
    b"x" * 10_000 + b"\n",
    b"GET / HTTP/1.0\r\n\r\n",
    GREETING + b"\n",
    GREETING + b"1\n",
    GREETING + b"1 2 3\n",
    GREETING + b"-1 5\n",
    GREETING + b"0 -5\n",
    GREETING + b"0 99999999999\n",
    GREETING + b"99999999 1\n",
    GREETING + b"0 5\nabc",
]


@pytest.mark.parametrize("octets", HOSTILE, ids=range(len(HOSTILE)))
async def test_nonsense_and_halves_are_thrown_away(octets: bytes, path: Path) -> None:
    inside = Inside()
    async with open_door(path, inside):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(octets)
        writer.write_eof()
        assert await reader.read() in (b"", b"+")
        writer.close()
        assert await knock(path) == (0, b"")
    assert inside.messages == [((), MESSAGE)]


async def test_who_says_nothing_is_shown_out_in_time(path: Path) -> None:
    inside = Inside()
    async with open_door(path, inside, deadlines=Deadlines(line=0.05, message=0.05)):
        silent = [await asyncio.open_unix_connection(path) for _ in range(20)]
        for _, writer in silent[10:]:
            writer.write(GREETING + b"0 60000000\n")
        # They hold all the room there is, and only as long as they are waited for.
        assert await knock(path) == (0, b"")
        for reader, writer in silent:
            assert await reader.read() in (b"", b"+")
            writer.close()
    assert inside.messages == [((), MESSAGE)]


async def test_1000_at_once_none_lost_none_twice_memory_bound(path: Path) -> None:
    """Their octets are sent when it is their turn: what is inside at a time has a bound."""
    inside = Inside()
    body = b"x" * 100_000

    async def hand_over(number: int) -> bytes:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(GREETING + b"0 %d\n" % (6 + len(body)))
        assert await reader.readexactly(1) == b"+"
        writer.write(b"%06d" % number + body)
        try:
            return await reader.read()
        finally:
            writer.close()

    async with open_door(path, inside):
        answers = await asyncio.gather(*map(hand_over, range(1000)))
    assert set(answers) == {b"0\n"}
    assert sorted(message[:6] for _, message in inside.messages) == [b"%06d" % one for one in range(1000)]
    assert inside.most <= 16 * (len(body) + 6)


async def test_room_is_given_in_order_and_bounded() -> None:
    room, order, inside = Room(100, shares=4), [], 0

    async def enter(name: str, octets: int) -> None:
        nonlocal inside
        async with room.of(octets):
            order.append(name)
            inside += octets
            assert inside <= 100 or inside == octets
            for _ in range(3):
                await asyncio.sleep(0)
            inside -= octets

    await asyncio.gather(enter("a", 60), enter("large", 500), enter("b", 1), enter("c", 60), enter("d", 1))
    assert order == ["a", "large", "b", "c", "d"]


async def test_stopping_answers_who_is_inside(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(message: bytes) -> bool:
        begun.set()
        return go_on.wait(10)

    inside = Inside(slowly)
    door = Door(path, inside.process)
    await door.start()
    visit = asyncio.create_task(knock(path))
    await asyncio.to_thread(begun.wait, 10)
    stopping = asyncio.create_task(door.stop(10))
    while path.exists():
        await asyncio.sleep(0)
    go_on.set()
    assert await visit == (0, b"")
    await stopping


async def test_stopping_without_grace_leaves_it_unknown(path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(message: bytes) -> bool:
        begun.set()
        return go_on.wait(10)

    door = Door(path, Inside(slowly).process)
    await door.start()
    visit = asyncio.create_task(knock(path))
    await asyncio.to_thread(begun.wait, 10)
    await door.stop(0)
    assert await visit == UNKNOWN
    go_on.set()


ONE, TWO = Target("admin@example.org", ()), Target("other@example.org", ())


@pytest.mark.parametrize(
    ("words", "targets", "wanted"),
    [
        ([], (ONE,), "admin@example.org"),
        ([], (ONE, TWO), None),
        ([], (), None),
        (["--to", "ADMIN@example.org"], (ONE, TWO), "admin@example.org"),
        (["--to", "else@example.org"], (ONE, TWO), None),
        (["--to"], (ONE,), None),
        (["--from", "admin@example.org"], (ONE,), None),
        (["--to", "admin@example.org", "--via", "sendmail"], (ONE,), None),
    ],
)
def test_which_options_the_daemon_knows(
    words: list[str], targets: tuple[Target, ...], wanted: str | None
) -> None:
    found = settings_for(
        words, ForwardSettings(targets=targets, sender="bounce@host.example", via="sendmail")
    )
    assert (found.default if found else None) == (Forward((wanted,)) if wanted else None)


def test_without_a_sender_the_full_way_must_find_one() -> None:
    assert settings_for([], ForwardSettings(targets=(ONE,))) is None
