"""Opening many messages: each once, whoever asks, in this process or in others; and what failure leaves."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from keystore.keystore import Keystore, KeystoreSettings
from keystore.model import Opened
from keystore.openpgp import engine
from secmailproxy.errors import KeystoreLocked
from secmailproxy.imap.openings import Openings
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.rendering import Job, Locked, Renderer
from secmailproxy.imap.steps import Present
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.views import Kind, Mailbox, View, Views
from secmailproxy.workers import Start, Workers
from tests.fixtures.desk import BOB, FIELD, NOW, TEXT, Desk, desk, message
from tests.fixtures.workers import hired, until

__all__ = ["desk"]

COUNT = 30


class Counting(Keystore):
    """Counts what it opens."""

    opened = 0

    def decrypt(self, ciphertext: bytes, now: object) -> Opened:
        """Opens."""
        self.opened += 1
        return super().decrypt(ciphertext, now)  # type: ignore[arg-type]  # passed through


@pytest.fixture
def views(desk: Desk, tmp_path: Path) -> Iterator[Views]:
    with closing(Views.open(tmp_path / "views.sqlite3", desk.keystore)) as views:
        yield views


@pytest.fixture(scope="module")
def sealed(desk: Desk) -> dict[int, bytes]:
    """UIDs and messages."""
    return {uid: message(desk.encrypt(TEXT), b"%d" % uid) for uid in range(1, COUNT + 1)}


def box_of(views: Views, name: bytes) -> Mailbox:
    box = views.mailbox(BOB, name, 1)
    views.classify(box, b"1:%d" % COUNT, dict.fromkeys(range(1, COUNT + 1), Kind.SEALED))
    return box


def counting(desk: Desk) -> Counting:
    return Counting(
        desk.keystore._store,
        desk.keystore._vault,
        desk.keystore._gnupg,
        desk.keystore.roots,
        desk.keystore._folder,
    )


def presenter(views: Views, keystore: Keystore, openings: Openings) -> Presenter:
    outbound = Outbound(keystore, OutboundSettings())
    return Presenter(BOB, views, keystore, outbound, FIELD, lambda: NOW, openings=openings)


def forms(views: Views, box: Mailbox) -> list[View]:
    found = [views.view(box, uid, octets=True) for uid in range(1, COUNT + 1)]
    assert all(view is not None and view.kind is Kind.FORM for view in found)
    return [view for view in found if view is not None]


async def test_two_who_ask_at_once_open_each_message_once(
    desk: Desk, views: Views, sealed: dict[int, bytes]
) -> None:
    """Also when they ask from two mailboxes, and in opposite order."""
    keystore, openings = counting(desk), Openings()
    one, other = box_of(views, b"INBOX"), box_of(views, b"All")
    there = {uid: sealed[uid] for uid in reversed(sealed)}
    await asyncio.gather(
        presenter(views, keystore, openings).carry_out(Present(one, sealed)),
        presenter(views, keystore, openings).carry_out(Present(one, there)),
        presenter(views, keystore, openings).carry_out(Present(other, there)),
    )
    assert keystore.opened == COUNT
    assert forms(views, one) == forms(views, other)


async def test_who_gives_up_leaves_the_work_to_who_waits(
    desk: Desk, views: Views, sealed: dict[int, bytes]
) -> None:
    keystore, openings = counting(desk), Openings()
    box = box_of(views, b"INBOX")
    first = asyncio.create_task(presenter(views, keystore, openings).carry_out(Present(box, sealed)))
    await asyncio.sleep(0)
    second = asyncio.create_task(presenter(views, keystore, openings).carry_out(Present(box, sealed)))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    forms(views, box)


async def test_other_processes_make_the_same_views(
    desk: Desk, views: Views, sealed: dict[int, bytes]
) -> None:
    """With the key that they were handed; octets and verdicts are those of this process."""
    box, again = box_of(views, b"INBOX"), views.mailbox("again@example.org", b"INBOX", 1)
    views.classify(again, b"1:%d" % COUNT, dict.fromkeys(sealed, Kind.SEALED))
    keystore = counting(desk)
    async with hired(desk) as workers:
        workers.call()
        await until(workers, 2)
        by_others = presenter(views, keystore, Openings(workers))
        await by_others.carry_out(Present(box, sealed))
        assert keystore.opened == 0
    here = presenter(views, keystore, Openings())
    await Presenter(
        "again@example.org", views, keystore, here.outbound, FIELD, lambda: NOW, openings=Openings()
    ).carry_out(Present(again, sealed))
    assert keystore.opened == COUNT
    assert forms(views, box) == forms(views, again)


async def test_a_process_that_dies_takes_no_message_with_it(
    desk: Desk, views: Views, sealed: dict[int, bytes]
) -> None:
    box, keystore = box_of(views, b"INBOX"), counting(desk)
    async with hired(desk) as workers:
        workers.call()
        await until(workers, 2)
        for process in workers.processes:
            os.kill(process, signal.SIGSTOP)
        work = asyncio.create_task(
            presenter(views, keystore, Openings(workers)).carry_out(Present(box, sealed))
        )
        async with asyncio.timeout(30):
            # Five lots of messages, and two processes that have one each.
            while workers._queue.qsize() != 3:
                await asyncio.sleep(0)
        for process in workers.processes:
            os.kill(process, signal.SIGKILL)
        await work
    assert keystore.opened < COUNT, "what a process had is not opened by this one"
    forms(views, box)


async def test_a_process_that_hangs_is_ended(desk: Desk, views: Views, sealed: dict[int, bytes]) -> None:
    box, keystore = box_of(views, b"INBOX"), counting(desk)
    async with hired(desk) as workers:
        workers.call()
        await until(workers, 2)
        for process in workers.processes:
            os.kill(process, signal.SIGSTOP)
        hanging, workers._answer_seconds = set(workers.processes), 0.1
        work = asyncio.create_task(
            presenter(views, keystore, Openings(workers)).carry_out(Present(box, sealed))
        )
        await until(workers, 0)
        workers._answer_seconds = 600
        await work
        assert not hanging & workers.processes
    assert keystore.opened < COUNT
    forms(views, box)


async def test_few_messages_start_no_process_and_idle_ones_end(
    desk: Desk, views: Views, sealed: dict[int, bytes]
) -> None:
    box = box_of(views, b"INBOX")
    async with hired(desk, idle_seconds=0.5) as workers:
        opener = presenter(views, desk.keystore, Openings(workers))
        await opener.carry_out(Present(box, {1: sealed[1]}))
        assert not workers.processes
        await opener.carry_out(Present(box, sealed))
        assert workers.processes
        async with asyncio.timeout(30):
            while workers.processes:
                await asyncio.sleep(0)


async def test_a_locked_keystore_is_told_and_fixes_nothing(
    desk: Desk, views: Views, sealed: dict[int, bytes], tmp_path: Path
) -> None:
    """IMAP-04, where the key that was handed over does not open the keystore (any more)."""
    folder = tmp_path / "other"
    with closing(Keystore.open(KeystoreSettings(folder), desk.keystore.hand_over())) as other:
        other.import_keys(desk.keystore.export(desk.keys[BOB], secret=True), source="test")
    settings = KeystoreSettings(folder)
    start = Start(settings, type(desk.keystore.hand_over())("keystore-key", "A" * 43 + "="), "info")
    box, workers = box_of(views, b"INBOX"), Workers(start, most=1)
    try:
        workers.call()
        await until(workers, 1)
        with pytest.raises(KeystoreLocked):
            await presenter(views, desk.keystore, Openings(workers)).carry_out(Present(box, sealed))
    finally:
        await workers.close()
    assert set(box.kinds.values()) == {Kind.SEALED}


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")])
def test_what_this_machine_lacks_is_never_fixed(
    desk: Desk, sealed: dict[int, bytes], error: Exception
) -> None:
    """IMAP-04: another time there is enough."""

    class Short(Counting):
        def decrypt(self, ciphertext: bytes, now: object) -> Opened:
            raise error

    store = desk.keystore
    renderer = Renderer(
        Short(store._store, store._vault, store._gnupg, store.roots, store._folder), FIELD, lambda: NOW
    )
    (outcome,) = renderer.views([Job(sealed[1], signed=False)])
    assert isinstance(outcome, Locked)
    assert "try again" in outcome.text


def test_an_engine_without_memory_judges_nothing() -> None:
    def question() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        engine.holds(question)
