"""FWD-06: what is collected is on the disk, sealed and whole, until it has left."""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from keystore.errors import StoreDamaged, StoreLocked
from keystore.letterbox import Letterbox
from secmailproxy.forward.collected import Collected, keep_slot, known_slot, mark_of
from secmailproxy.forward.model import Collect, Entrance, SystemMail
from tests.fixtures.digests import cron, system
from tests.fixtures.dying import done_before_death

BOX = Letterbox(bytes(range(32)))
NIGHTLY = Collect("nightly")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MAIL = SystemMail(cron("the windmill"), "root@web1", ("root", "a@b.example"), Entrance.LMTP)


def folder_in(path: Path, *, now: datetime = NOW) -> Collected:
    return Collected(path / "state" / "collected", lambda: BOX.slot, lambda: now)


@pytest.fixture
def collected(tmp_path: Path) -> Collected:
    (tmp_path / "state").mkdir()
    return folder_in(tmp_path)


def test_what_is_collected_is_sealed_and_comes_back(collected: Collected) -> None:
    collected.collect(MAIL, NIGHTLY)
    (entry,) = collected.entries("nightly")
    (path,) = (collected.folder / "nightly").iterdir()
    sealed = path.read_bytes()
    assert not [
        word for word in (b"windmill", b"web1", b"root", b"Cron") if word in sealed + path.name.encode()
    ]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == collected.folder.stat().st_mode & 0o777 == 0o700
    message = collected.read(entry, BOX)
    assert (message.mail, message.at, message.name) == (MAIL, NOW, entry.name)
    assert collected.digests() == ["nightly"]
    collected.drop([entry])
    collected.drop([entry])
    assert collected.entries("nightly") == []


def test_what_was_changed_or_moved_does_not_open(collected: Collected) -> None:
    collected.collect(MAIL, NIGHTLY)
    collected.collect(MAIL, Collect("hourly"))
    (one,), (other,) = collected.entries("nightly"), collected.entries("hourly")
    there = collected.folder / "hourly" / f"{other.name}.collected"
    there.write_bytes((collected.folder / "nightly" / f"{one.name}.collected").read_bytes())
    with pytest.raises(StoreDamaged):
        collected.read(other, BOX)
    assert collected.read(one, BOX).mail == MAIL
    with pytest.raises(StoreDamaged):
        collected.read(one, Letterbox(bytes(32)))


def test_what_is_none_of_ours_is_left_alone(collected: Collected) -> None:
    collected.collect(MAIL, NIGHTLY)
    for name in ("x.collected", "20261121T120000000000Z-00.collected", ".x.collected.abc", "notes"):
        (collected.folder / "nightly" / name).write_bytes(b"")
    (collected.folder / "README").write_bytes(b"")
    assert len(collected.entries("nightly")) == 1
    assert collected.digests() == ["nightly"]
    assert collected.entries("unknown") == []
    assert Collected(collected.folder / "none", lambda: BOX.slot).digests() == []


def test_a_message_is_known_again_only_where_it_cannot_rightly_come_twice(collected: Collected) -> None:
    marks = []
    for octets in (cron("x"), cron("x"), cron("y"), b"Subject: x\r\n\r\n", b"Received: by x\r\n\r\n"):
        collected.collect(system(octets), Collect(f"d{len(marks)}"))
        (entry,) = collected.entries(f"d{len(marks)}")
        marks.append(mark_of(collected.read(entry, BOX), BOX))
    assert marks[0] == marks[1] != marks[2]
    assert marks[3] == ""
    assert marks[4] not in ("", *marks[:4])


def note(collected: Collected, *noted: Any) -> None:
    with collected.noting(*noted):
        pass


def test_what_has_left_is_remembered_for_as_long_as_it_is_tried_again(collected: Collected) -> None:
    assert collected.left("nightly") == set()
    collected.collect(MAIL, NIGHTLY)
    note(collected, "nightly", ["one"], NOW - timedelta(days=11))
    note(collected, "nightly", ["two", "three"], NOW - timedelta(days=9))
    done = collected.folder / "nightly.done"
    # Of a process that died while it wrote:
    done.write_bytes(done.read_bytes() + b"2026-11-2")
    note(collected, "nightly", ["four"], NOW)
    assert {"one", "two", "three", "four"} <= collected.left("nightly")
    collected.tidy("nightly", NOW)
    assert {"two", "three", "four"} <= collected.left("nightly")
    assert "one" not in collected.left("nightly")
    assert done.stat().st_mode & 0o777 == 0o600


def test_what_did_not_leave_is_not_noted_whatever_ended_it(collected: Collected) -> None:
    collected.collect(MAIL, NIGHTLY)
    note(collected, "nightly", ["one"], NOW)
    with suppress(ZeroDivisionError), collected.noting("nightly", ["two"], NOW):
        assert collected.left("nightly") == {"one"}
        # As whoever comes after a kill finds it:
        killed = (collected.folder / "nightly.done").read_bytes()
        raise ZeroDivisionError
    assert collected.left("nightly") == {"one"}
    (collected.folder / "nightly.done").write_bytes(killed)
    note(collected, "nightly", ["three"], NOW)
    assert collected.left("nightly") == {"one", "three"}
    collected.tidy("nightly", NOW)
    assert (collected.folder / "nightly.done").read_text().count("\n") == 2


def test_files_that_are_no_entries_are_nothing_that_waits(collected: Collected) -> None:
    collected.collect(MAIL, NIGHTLY)
    (collected.folder / "nightly" / f"20269999T000000000000Z-{'0' * 16}.collected").touch()
    (collected.folder / "nightly" / f"20261122T000000000000Z-{'0' * 16}.collected").symlink_to("gone")
    assert len(collected.entries("nightly")) == 1


def test_what_was_left_half_written_goes_after_a_day(collected: Collected) -> None:
    collected.collect(MAIL, NIGHTLY)
    (entry,) = collected.entries("nightly")
    half = collected.folder / "nightly" / f".{entry.name}.collected.x7a"
    for age, is_there in ((timedelta(hours=1), True), (timedelta(days=2), False)):
        half.write_bytes(b"half")
        os.utime(half, times=((NOW - age).timestamp(),) * 2)
        collected.tidy("nightly", NOW)
        assert half.exists() is is_there
    assert collected.entries("nightly") == [entry]


def test_the_slot_is_asked_for_once_and_follows_the_keystore(tmp_path: Path) -> None:
    path = tmp_path / "keystore" / "letterbox"

    def locked() -> Letterbox:
        raise StoreLocked("the keyring is locked")

    with pytest.raises(StoreLocked):
        known_slot(path, locked)
    assert known_slot(path, lambda: BOX) == BOX.slot
    assert known_slot(path, locked) == BOX.slot
    other = Letterbox(bytes(32))
    assert keep_slot(path, other) == known_slot(path, locked) == other.slot
    path.write_bytes(b"damaged")
    assert known_slot(path, lambda: BOX) == BOX.slot
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_locked_keystore_without_slot_defers(tmp_path: Path) -> None:
    def locked() -> Letterbox:
        raise StoreLocked("the keyring is locked")

    collected = Collected(tmp_path, lambda: known_slot(tmp_path / "slot", locked))
    with pytest.raises(StoreLocked):
        collected.collect(MAIL, NIGHTLY)
    assert collected.entries("nightly") == []


def test_fwd_06_a_process_that_dies_at_any_step_has_collected_what_it_has_answered_for(
    tmp_path: Path,
) -> None:
    outcomes = []
    for step in range(100):
        collected = folder_in(tmp_path / str(step))
        collected.folder.parent.mkdir(parents=True)
        said = done_before_death(partial(collected.collect, MAIL, NIGHTLY), step)
        kept = collected.entries("nightly")
        assert all(collected.read(one, BOX).mail == MAIL for one in kept)
        assert not any(b"windmill" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        outcomes.append((said, len(kept)))
        if said:
            break
    assert outcomes[0] == (False, 0)
    assert outcomes[-1] == (True, 1)
    assert set(outcomes) == {(False, 0), (False, 1), (True, 1)}
