"""What is remembered of a watched mailbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.errands.handedon import HandedOn
from secmailproxy.errors import ConfigError


def known(folder: Path, uidvalidity: int = 7, mailbox: str = "INBOX") -> HandedOn:
    """As another process finds it."""
    found = HandedOn(folder, "Root@example.test", mailbox)
    found.use(uidvalidity)
    return found


def test_it_survives_and_is_of_one_mailbox(tmp_path: Path) -> None:
    one = known(tmp_path)
    one.done(3)
    one.leave(5)
    again = known(tmp_path)
    assert [uid for uid in range(1, 8) if again.is_done(uid)] == [3, 5]
    assert [uid for uid in range(1, 8) if again.is_left(uid)] == [5]
    assert not known(tmp_path, mailbox="Other").is_done(3)
    assert one.path.stat().st_mode & 0o777 == 0o600


def test_what_could_not_be_noted_is_known_as_long_as_the_process_lives(tmp_path: Path) -> None:
    """A new connection reads the disk again; no other message is handed on before it can be noted."""
    folder = tmp_path / "watched"
    one = known(folder)
    folder.write_text("in the way")
    with pytest.raises(ConfigError):
        one.done(3)
    one.use(7)
    assert one.is_done(3)
    with pytest.raises(ConfigError):
        one.prepare()
    folder.unlink()
    one.prepare()
    assert known(folder).is_done(3)
    one.use(8)
    assert not one.is_done(3)


def test_another_uidvalidity_makes_all_uids_new(tmp_path: Path) -> None:
    known(tmp_path).done(3)
    renewed = known(tmp_path, uidvalidity=8)
    assert not renewed.is_done(3)
    renewed.done(1)
    assert not known(tmp_path).is_done(1)


@pytest.mark.parametrize(
    "octets", [b"", b"{", b"[]", b'{"uidvalidity": 7, "floor": "x", "done": [], "left": []}']
)
def test_a_damaged_file_is_told_and_not_guessed(octets: bytes, tmp_path: Path) -> None:
    one = known(tmp_path)
    one.done(3)
    one.path.write_bytes(octets)
    with pytest.raises(ConfigError, match="is damaged; remove it"):
        known(tmp_path)


@settings(max_examples=40)
@given(
    existing=st.sets(st.integers(1, 30)),
    done=st.sets(st.integers(1, 30)),
    left=st.sets(st.integers(1, 30)),
    finished=st.booleans(),
)
def test_compacting_changes_no_answer(
    existing: set[int],
    done: set[int],
    left: set[int],
    finished: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """For messages that are there, and for those still to come."""
    folder = tmp_path_factory.mktemp("known")
    one = known(folder)
    for uid in done:
        one.done(uid)
    for uid in left:
        one.leave(uid)
    asked = [*existing, 31, 32]
    before = [(one.is_done(uid), not finished and one.is_left(uid)) for uid in asked]
    one.compact(existing, finished=finished)
    for found in (one, known(folder)):
        assert [found.is_done(uid) for uid in asked] == [was for was, _ in before]
        if not finished:
            # What must still be seen off is above the floor, so that it is found again.
            assert all(uid >= found.floor for uid in existing & (done - left))
