"""SMTP-10: a notification is on the disk, whole, before anybody is told 250, and until it is dropped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from keystore.errors import StoreDamaged
from secmailproxy.errands.spool import Spool, SpoolDamaged, waiting
from tests.fixtures.desk import Desk, desk
from tests.fixtures.dying import done_before_death
from tests.smtp.test_notification import NOTIFICATION

__all__ = ["desk"]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@dataclass(frozen=True)
class Plainly:
    """Seals nothing: for tests of files alone."""

    def seal(self, octets: bytes, context: bytes) -> bytes:
        return octets

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        return sealed


def test_what_is_kept_is_sealed_and_comes_back(desk: Desk, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "notifications", desk.keystore)
    spool.put("one", NOTIFICATION, NOW)
    (path,) = spool.folder.iterdir()
    assert not any(word in path.read_bytes() for word in (b"dave@", b"windmill", b"spam"))
    assert path.stat().st_mode & 0o777 == 0o600
    (told,) = waiting(spool.folder)
    assert (told.name, told.account, told.since) == ("one", "alice@example.org", NOW)
    assert spool.read("one") == NOTIFICATION
    spool.drop("one")
    spool.drop("one")
    assert waiting(spool.folder) == []


def test_what_was_changed_is_not_delivered_and_not_dropped(desk: Desk, tmp_path: Path) -> None:
    """Its account is bound to it: it never goes to another one."""
    spool = Spool(tmp_path, desk.keystore)
    spool.put("one", NOTIFICATION, NOW)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes().replace(b"alice@", b"elvis@"))
    with pytest.raises(StoreDamaged):
        spool.read("one")
    path.write_bytes(b"no line")
    (told,) = waiting(tmp_path)
    assert (told.name, told.account) == ("one", "")
    with pytest.raises(SpoolDamaged):
        Spool(tmp_path, Plainly()).read("one")


@pytest.mark.parametrize(
    "line",
    [
        b'{"account": "a@b", "since": "2026-11-20T12:00:00"}',
        b'{"account": "a@b", "since": "0001-01-01T00:00:00"}',
        b'{"account": "a@b"}',
        b"[]",
        b"[" * 4000,
        b"\xff",
        None,
    ],
)
def test_a_file_that_is_none_of_ours_hides_no_other(line: bytes | None, tmp_path: Path) -> None:
    """Such as one of a restored backup, or a folder; whatever it says."""
    spool = Spool(tmp_path, Plainly())
    spool.put("one", NOTIFICATION, NOW)
    strange = tmp_path / "strange.notification"
    strange.mkdir() if line is None else strange.write_bytes(line)
    assert {one.name for one in waiting(tmp_path)} == {"one", "strange"}


def test_a_process_that_dies_at_any_step_has_kept_what_it_has_answered_for(tmp_path: Path) -> None:
    outcomes = []
    for step in range(100):
        spool = Spool(tmp_path / str(step) / "notifications", Plainly())
        spool.folder.parent.mkdir()
        said = done_before_death(partial(spool.put, "one", NOTIFICATION, NOW), step)
        kept = waiting(spool.folder)
        assert all(spool.read(one.name) == NOTIFICATION for one in kept)
        outcomes.append((said, len(kept)))
        if said:
            break
    assert outcomes[0] == (False, 0)
    assert outcomes[-1] == (True, 1)
    assert set(outcomes) == {(False, 0), (False, 1), (True, 1)}
