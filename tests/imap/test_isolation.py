"""MIME-08: a message that ends the process that opens it harms no other, in no FETCH and after no start."""

from __future__ import annotations

import asyncio
import resource
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from secmailproxy.confinement import BY_ITS_FAULT, has_room, memory
from secmailproxy.errors import ConfigError, KeystoreLocked
from secmailproxy.imap.openings import _LARGE, Openings
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.steps import Present
from secmailproxy.imap.suspects import Suspects
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.views import Kind, Mailbox, Views, message_hash
from secmailproxy.workers import Lost, Workers
from tests.fixtures.desk import BOB, FIELD, NOW, TEXT, Desk, desk, message
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import proxied
from tests.fixtures.workers import Deadly, DeadlyOpenings, Greedy, Murdered, hired, until

__all__ = ["desk"]

COUNT = 14


@pytest.fixture
def views(desk: Desk, tmp_path: Path) -> Iterator[Views]:
    with closing(Views.open(tmp_path / "views.sqlite3", desk.keystore)) as views:
        yield views


def mail(desk: Desk, count: int = COUNT) -> dict[int, bytes]:
    """UIDs and messages."""
    return {uid: message(desk.encrypt(TEXT), b"%d" % uid) for uid in range(1, count + 1)}


def box_of(views: Views, sealed: dict[int, bytes]) -> Mailbox:
    box = views.mailbox(BOB, b"INBOX", 1)
    views.classify(box, b"1:%d" % max(sealed), dict.fromkeys(sealed, Kind.SEALED))
    return box


def presenter(desk: Desk, views: Views, openings: Openings) -> Presenter:
    outbound = Outbound(desk.keystore, OutboundSettings())
    return Presenter(BOB, views, desk.keystore, outbound, FIELD, lambda: NOW, openings=openings)


def shown(views: Views, box: Mailbox, uid: int) -> str:
    view = views.view(box, uid, octets=True)
    assert view is not None
    return ((view.verdict or b"") + (view.octets or b"")).decode("latin-1")


def deadly(workers: Workers, sealed: dict[int, bytes], kinds: dict[int, type[Deadly]]) -> Openings:
    openings = DeadlyOpenings(workers)
    openings.deadly = {sealed[uid]: kind for uid, kind in kinds.items()}
    return openings


async def test_a_message_that_ends_its_process_is_left_closed_and_others_are_read(
    desk: Desk, views: Views
) -> None:
    sealed = mail(desk)
    box = box_of(views, sealed)
    async with hired(desk) as workers:
        workers.call()
        await until(workers, 2)
        await presenter(desk, views, deadly(workers, sealed, {3: Deadly})).carry_out(Present(box, sealed))
    for uid in sealed:
        if uid == 3:
            assert "not decrypted" in shown(views, box, uid)
            assert BY_ITS_FAULT[signal.SIGSEGV] in " ".join(shown(views, box, uid).split())
        else:
            assert TEXT.decode() in shown(views, box, uid)


async def test_a_process_that_somebody_else_ended_fixes_nothing(desk: Desk, views: Views) -> None:
    """IMAP-04: as when memory runs out, which says nothing of the message; the others are read."""
    sealed = mail(desk)
    box = box_of(views, sealed)
    async with hired(desk) as workers:
        workers.call()
        await until(workers, 2)
        with pytest.raises(KeystoreLocked, match="try again"):
            await presenter(desk, views, deadly(workers, sealed, {3: Murdered})).carry_out(
                Present(box, sealed)
            )
        assert views.view(box, 3) is None
        assert TEXT.decode() in shown(views, box, 4)
        await presenter(desk, views, Openings(workers)).carry_out(Present(box, {3: sealed[3]}))
    assert TEXT.decode() in shown(views, box, 3)


async def test_what_ended_the_program_is_opened_by_another_process_after_the_start(
    desk: Desk, views: Views, tmp_path: Path
) -> None:
    """Though there are few; the innocent are read, the others left closed, and none is suspected on."""
    sealed = mail(desk, 3)
    box = box_of(views, sealed)
    folder = tmp_path / "opening"
    before = Suspects(folder)
    with before.opening(message_hash(sealed[uid]) for uid in (1, 2)):
        # What a process leaves that ends here.
        left = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name, octets in left.items():
        (folder / name).write_bytes(octets)
    suspects = Suspects(folder)
    assert [message_hash(sealed[uid]) in suspects for uid in (1, 2, 3)] == [True, True, False]
    async with hired(desk) as workers:
        openings = deadly(workers, sealed, {1: Deadly})
        openings._suspects = suspects
        await presenter(desk, views, openings).carry_out(Present(box, sealed))
    assert "not decrypted" in shown(views, box, 1)
    assert TEXT.decode() in shown(views, box, 2)
    assert TEXT.decode() in shown(views, box, 3)
    assert not list(folder.iterdir())


def test_what_was_being_opened_twice_is_suspected_on(tmp_path: Path) -> None:
    """Also by a process that ends before it has come to it; half a hash is none."""
    one, other = bytes(32), b"\1" * 32
    (tmp_path / "a").write_bytes(one + other[:7])
    assert one in Suspects(tmp_path)
    assert one in Suspects(tmp_path)
    assert other not in Suspects(tmp_path)
    Suspects(tmp_path).cleared(one)
    assert one not in Suspects(tmp_path)


async def test_many_that_are_suspected_on_take_the_memory_of_few_processes(
    desk: Desk, views: Views, tmp_path: Path
) -> None:
    sealed = mail(desk, 3)
    (tmp_path / "left").write_bytes(b"".join(map(message_hash, sealed.values())))
    async with hired(desk) as workers:
        openings = Openings(workers, Suspects(tmp_path))
        work = presenter(desk, views, openings).carry_out(Present(box := box_of(views, sealed), sealed))
        opening, most = asyncio.create_task(work), 0
        while not opening.done():
            most = max(most, len(workers.processes))
            await asyncio.sleep(0)
        await opening
    assert most == 2
    assert all(TEXT.decode() in shown(views, box, uid) for uid in sealed)


def test_a_disk_that_is_full_leaves_nothing_behind(desk: Desk, tmp_path: Path) -> None:
    suspects = Suspects(tmp_path / "opening")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    former = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        with pytest.raises(OSError, match="large"), suspects.opening([bytes(32)]):
            raise AssertionError("not written, and opened all the same")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, former)
    assert not list((tmp_path / "opening").iterdir())


def test_a_folder_with_something_else_in_it_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "opening" / "folder").mkdir(parents=True)
    with pytest.raises(ConfigError, match="opening/folder: "):
        Suspects(tmp_path / "opening")


@pytest.mark.parametrize(("available", "room"), [(1024 * 1024, True), (1024 * 1023, False)])
def test_memory_that_files_take_meanwhile_is_there(tmp_path: Path, available: int, room: bool) -> None:
    """Or a message that takes too much would be tried for ever, on a machine that has enough."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 9999999 kB\nMemFree: 1000 kB\nMemAvailable: {available} kB\n")
    assert has_room(0, meminfo) is room
    assert has_room(0) is not has_room(2**60)


async def test_large_messages_are_opened_by_other_processes(desk: Desk, views: Views) -> None:
    """The engine would keep every session waiting."""
    sealed = {1: message(desk.encrypt(TEXT + b"a line of it\r\n" * (_LARGE // 13)))}
    box = box_of(views, sealed)
    async with hired(desk) as workers:
        await presenter(desk, views, deadly(workers, sealed, {1: Deadly})).carry_out(Present(box, sealed))
    assert "not decrypted" in shown(views, box, 1)


async def test_the_share_of_a_message_is_bounded(desk: Desk) -> None:
    """By processor time, which ends the process, and by memory, which is refused."""
    async with hired(desk) as workers:
        assert await workers.alone(Greedy(2 * memory(0))) == "refused"
        assert await workers.alone(Greedy()) == Lost(signal.SIGXCPU)


def test_the_proxy_reads_what_it_was_opening_when_it_was_killed(
    proxies: ProxyFactory, dovecot: Dovecot
) -> None:
    user = proxy_user(proxies, dovecot.mailbox("suspected"))
    sealed = protect(user, letter(user.address, user.address))
    user.mailbox.append(sealed)
    stored = user.mailbox.stored()[0]
    user.home.folders.opening.mkdir(parents=True, mode=0o700)
    (user.home.folders.opening / "left").write_bytes(message_hash(stored))
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        assert b"windmill" in b"".join(imap.ok(b"FETCH 1 BODY.PEEK[]"))
    assert not list(user.home.folders.opening.iterdir())
