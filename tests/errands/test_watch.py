"""A watched mailbox at a real Dovecot: each message once, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secmailproxy.accounts import Account, ImapLogin, ImapUpstream
from secmailproxy.errands import client
from secmailproxy.errands.watch import KEYWORD, After, Watch, WatchSettings
from secmailproxy.errors import NotAllowed, NoUsableCertificate
from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.relay import Relay


def letter(name: str) -> bytes:
    return f"Subject: {name}\r\n\r\nnews of {name}\r\n".encode()


@dataclass
class Watched:
    """A mailbox, the watch over it, and what it has handed on."""

    mailbox: Mailbox
    folder: Path
    port: int
    taken: list[bytes] = field(default_factory=list)
    errors: dict[bytes, list[Exception]] = field(default_factory=dict)
    """What taking a message raises, one error each time, until there is none left."""
    gate: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def errand_login(self, address: str, password: str) -> ImapLogin:
        """As `Accounts.errand_login`."""
        server = ImapUpstream("localhost", self.port, "implicit", self.mailbox.server.ca.ca_file)
        return ImapLogin(Account(address, server), address, self.mailbox.password)

    def take(self, octets: bytes) -> None:
        """Take it, or raise what is due."""
        self.reached.set()
        self.gate.wait(10)
        if self.errors.get(octets):
            raise self.errors[octets].pop(0)
        self.taken.append(octets)

    @contextlib.asynccontextmanager
    async def watching(
        self, after: After = After.KEEP, **settings: object
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Watch until the block ends."""
        values = {"first_pause": 0.02, "longest_pause": 0.05, **settings}
        move_to = "Archive" if after is After.MOVE else ""
        chosen = WatchSettings(self.mailbox.address, "INBOX", after, move_to, **values)
        task = asyncio.create_task(Watch(chosen, self, self.take, self.folder).run())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def append(self, *names: str, flags: str = "") -> None:
        for name in names:
            await asyncio.to_thread(self.mailbox.append, letter(name), flags=flags)

    async def stored(self, folder: str = "INBOX") -> list[bytes]:
        return await asyncio.to_thread(self.mailbox.stored, folder)

    async def flags(self) -> list[bytes]:
        def look() -> list[bytes]:
            with self.mailbox.imap() as imap:
                imap.select("INBOX", readonly=True)
                return [one for one in imap.fetch("1:*", "(FLAGS)")[1] if one is not None]

        return await asyncio.to_thread(look)

    async def until_taken(self, *names: str) -> None:
        """Until exactly these were handed on."""
        await until(lambda: len(self.taken) >= len(names))
        assert sorted(self.taken) == sorted(map(letter, names))

    async def until_stored(self, *names: str, folder: str = "INBOX") -> None:
        async with asyncio.timeout(20):
            while await self.stored(folder) != [letter(name) for name in names]:
                await asyncio.sleep(0.02)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def watched(dovecot: Dovecot, relay: Relay, tmp_path: Path) -> Watched:
    made = Watched(dovecot.mailbox("watched"), tmp_path, relay.port)
    with made.mailbox.imap() as imap:
        imap.create("Archive")
    return made


async def test_what_is_there_and_what_comes(watched: Watched) -> None:
    """By IDLE; the originals stay, unread, marked with a keyword; a restart finds what came meanwhile."""
    await watched.append("one")
    async with watched.watching():
        await watched.until_taken("one")
        await watched.append("two")
        await watched.until_taken("one", "two")
        async with asyncio.timeout(20):
            while [KEYWORD in one for one in await watched.flags()] != [True, True]:
                await asyncio.sleep(0.02)
    assert not any(rb"\Seen" in one for one in await watched.flags())
    await watched.append("three")
    async with watched.watching():
        await watched.until_taken("one", "two", "three")
    assert await watched.stored() == [letter("one"), letter("two"), letter("three")]


@pytest.mark.parametrize("after", [After.MOVE, After.DELETE])
async def test_what_was_handed_on_goes(after: After, watched: Watched) -> None:
    """And nothing else: a message that somebody has marked as deleted is not ours to hand on."""
    await watched.append("gone", flags=r"\Deleted")
    await watched.append("one", "two")
    async with watched.watching(after):
        await watched.until_taken("one", "two")
        await watched.until_stored("gone")
    assert await watched.stored("Archive") == ([letter("one"), letter("two")] if after is After.MOVE else [])


async def test_a_server_without_move(watched: Watched, relay: Relay) -> None:
    """Copied, then deleted; with UIDPLUS nothing else is."""
    relay.rewrites = {b" MOVE": b" XOVE"}
    await watched.append("gone", flags=r"\Deleted")
    await watched.append("one")
    async with watched.watching(After.MOVE):
        await watched.until_stored("gone")
    assert (watched.taken, await watched.stored("Archive")) == ([letter("one")], [letter("one")])


async def test_a_server_without_idle_is_polled(watched: Watched, relay: Relay) -> None:
    relay.rewrites = {b" IDLE": b" XDLE"}
    async with watched.watching(poll=0.05):
        await watched.append("one")
        await watched.until_taken("one")
        await watched.append("two")
        await watched.until_taken("one", "two")


async def test_a_server_that_refuses_idle_is_polled(watched: Watched, relay: Relay) -> None:
    relay.refusals = {b" IDLE": b"NO not now"}
    async with watched.watching(poll=0.05):
        await watched.append("one")
        await watched.until_taken("one")


async def test_idle_is_begun_anew(watched: Watched) -> None:
    """However often, each message is handed on once."""
    async with watched.watching(idle=0.01):
        await watched.append("one", "two", "three")
        await watched.until_taken("one", "two", "three")
    assert len(watched.taken) == 3


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("after", [After.MOVE, After.DELETE])
async def test_a_connection_that_breaks_anywhere(
    after: After, side: str, watched: Watched, relay: Relay
) -> None:
    """After any number of pieces from either side: none twice, none lost, none gone unless handed on."""
    names = []
    for cut in range(9):
        names.append(f"cut{cut}")
        await watched.append(names[-1])
        relay.arm(side, cut)
        async with watched.watching(after, idle=0.05):
            await until(relay.broken.is_set)
            relay.arm(side)
            await watched.until_stored()
            await watched.until_taken(*names)
    moved = [letter(name) for name in names] if after is After.MOVE else []
    assert await watched.stored("Archive") == moved


async def test_a_server_that_falls_silent(
    watched: Watched, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given up when IDLE is begun anew, and what came meanwhile is found."""
    monkeypatch.setattr(client, "SILENCE_SECONDS", 0.3)
    relay.arm("server", before=b"+ idling", stall=True)
    async with watched.watching():
        await until(relay.broken.is_set)
        relay.arm("server")
        await watched.append("one")
        await watched.until_taken("one")


async def test_a_message_that_fails_keeps_no_other_waiting(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    """It is tried again, stays until then, and no word of it is logged."""
    error = NoUsableCertificate("no certificate for <admin@example.org>")
    watched.errors[letter("one")] = [error, OSError(28, "full"), ValueError("news of one")]
    await watched.append("one", "two")
    async with watched.watching(After.DELETE):
        await until(lambda: letter("two") in watched.taken)
        await watched.until_taken("two", "one")
        await watched.until_stored()
    assert watched.taken == [letter("two"), letter("one")]
    said = [str(vars(one)) for one in caplog.records if "waits" in one.getMessage()]
    assert len(said) == 3
    assert not [one for one in said if "news of" in one]


async def test_what_failed_is_tried_at_once_when_told(watched: Watched) -> None:
    """As after SIGHUP: a pause that has become long is cut short."""
    watched.errors[letter("one")] = [OSError(28, "full")]
    await watched.append("one")
    settings = WatchSettings(watched.mailbox.address, "INBOX", first_pause=600.0)
    watch = Watch(settings, watched, watched.take, watched.folder)
    task = asyncio.create_task(watch.run())
    await until(lambda: not watched.errors[letter("one")])
    while not watched.taken:
        watch.hurry()
        await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_fwd_05_what_may_not_leave_is_left_alone(watched: Watched) -> None:
    """Such as our own message in a loop: tried once, never deleted, also not after a restart."""
    watched.errors[letter("loop")] = [NotAllowed("a mail loop")] * 3
    await watched.append("loop")
    async with watched.watching(After.DELETE):
        await watched.append("one")
        await watched.until_taken("one")
        await watched.until_stored("loop")
    async with watched.watching(After.DELETE):
        await watched.append("two")
        await watched.until_taken("one", "two")
        await watched.until_stored("loop")
    assert len(watched.errors[letter("loop")]) == 2


async def test_fwd_06_stopped_while_a_message_is_handed_on(watched: Watched) -> None:
    """What was begun is finished and remembered, though the watch is over; the original goes next time."""
    watched.gate.clear()
    await watched.append("one")
    async with watched.watching(After.MOVE) as task:
        await until(watched.reached.is_set)
        for _ in range(3):
            task.cancel()
            # Time enough to end, for a task that does not wait for its thread.
            await asyncio.wait({task}, timeout=0.02)
            assert not task.done()
        watched.gate.set()
    assert watched.taken == [letter("one")]
    assert await watched.stored() == [letter("one")]
    async with watched.watching(After.MOVE):
        await watched.until_stored()
    assert (watched.taken, await watched.stored("Archive")) == ([letter("one")], [letter("one")])


async def test_fwd_06_a_mailbox_that_was_made_anew(watched: Watched, tmp_path: Path) -> None:
    """Another UIDVALIDITY, or another machine: the keyword tells what was handed on before."""
    await watched.append("one")
    async with watched.watching():
        await watched.until_taken("one")
        async with asyncio.timeout(20):
            while KEYWORD not in (await watched.flags())[0]:
                await asyncio.sleep(0.02)
    watched.folder = tmp_path / "another"
    await watched.append("two")
    async with watched.watching():
        await watched.until_taken("one", "two")


async def test_too_large(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    """It is not even fetched, and it stays."""
    await watched.append("x" * 200, "one")
    async with watched.watching(After.DELETE, size_limit=150, first_pause=5.0, longest_pause=9.0):
        await watched.until_taken("one")
        await watched.until_stored("x" * 200)
    assert any("submission.max_octets" in str(vars(one)) for one in caplog.records)
