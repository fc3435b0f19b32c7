"""Which messages a FETCH means: what is forwarded at once names none that is not known to be plain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap import selected
from secmailproxy.imap.grammar import FetchCommand
from secmailproxy.imap.numbers import STAR, parse_ranges
from secmailproxy.imap.selected import Selected, Selecting
from secmailproxy.views import Kind, Mailbox


def box(covered: bytes = b"1:9", kinds: dict[int, Kind] | None = None) -> Mailbox:
    return Mailbox(1, "alice@example.org", b"INBOX", 7, covered, kinds or {})


def command(numbers: bytes, *, uid: bool = True, modifiers: bytes = b"") -> FetchCommand:
    return FetchCommand(b"a", uid, numbers, (), b"(FLAGS)", modifiers)


PLAIN = {
    b"5": b"5",
    b"1:9": b"1:9",
    b"3:*": b"3:9",
    b"*": b"9",
    b"*:2,4": b"9:2,4",
    b"10": None,
    b"9:10": None,
    b"12:*": None,
    b"$": None,
    b"x": b"x",
}
"""What each set becomes where UIDs 1 to 9 are there, known and plain; None: the task must run."""


@pytest.mark.parametrize(("numbers", "expected"), PLAIN.items())
def test_plain_sets_by_uid(numbers: bytes, expected: bytes | None) -> None:
    assert selected.plain_set(Selected(box(), 9, 10), command(numbers)) == expected


@pytest.mark.parametrize(
    ("numbers", "expected"), [(b"5", b"5"), (b"3:*", b"3:9"), (b"*", b"9"), (b"10", None), (b"10:*", None)]
)
def test_plain_sets_by_number(numbers: bytes, expected: bytes | None) -> None:
    assert selected.plain_set(Selected(box(), 9, 10), command(numbers, uid=False)) == expected


@pytest.mark.parametrize(
    "one",
    [
        Selected(box(kinds={9: Kind.SIGNED}), 9, 10),
        Selected(box(), None, 10),
        Selected(box(), 9, None),
        Selected(box(), 9, 11),
        Selected(box(b""), 9, 10),
        Selected(box(), 0, 10),
    ],
    ids=["something protected", "count unknown", "mail has come", "not covered", "nothing covered", "empty"],
)
def test_by_number_only_where_all_are_known_to_be_plain(one: Selected) -> None:
    assert selected.plain_set(one, command(b"1", uid=False)) is None


def test_a_star_needs_to_know_which_message_is_the_last() -> None:
    assert selected.plain_set(Selected(box(), 9, None), command(b"3:*")) is None
    assert selected.plain_set(Selected(box(), 9, None), command(b"3:9")) == b"3:9"


NUMBERS = st.one_of(st.integers(1, 14).map(str), st.just("*"))
SETS = st.lists(st.one_of(NUMBERS, st.tuples(NUMBERS, NUMBERS).map(":".join)), min_size=1, max_size=4).map(
    lambda parts: ",".join(parts).encode()
)


@given(
    SETS,
    st.sets(st.integers(1, 14)),
    st.sets(st.integers(1, 12)),
    st.one_of(st.none(), st.integers(1, 14)),
    st.booleans(),
)
def test_what_is_forwarded_is_known_and_plain(
    numbers: bytes, covered: set[int], protected: set[int], uid_next: int | None, uid: bool
) -> None:
    text = b",".join(b"%d" % one for one in sorted(covered))
    one = Selected(box(text, dict.fromkeys(protected, Kind.SEALED)), len(covered), uid_next)
    forwarded = selected.plain_set(one, command(numbers, uid=uid))
    if forwarded is None:
        return
    assert b"*" not in forwarded
    named = {n for low, high in parse_ranges(forwarded) or () for n in range(low, high + 1)}
    if uid:
        assert named <= covered - protected
    else:
        assert not protected
        assert max(named) <= len(covered)
        assert uid_next is not None
        assert set(range(1, uid_next)) <= covered


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (command(b"3"), [3]),
        (command(b"3:5"), [3, 4, 5]),
        (command(b"2:3"), None),
        (command(b"3:*"), None),
        (command(b"$"), None),
        (command(b"x"), None),
        (command(b"3", uid=False), None),
        (command(b"3", modifiers=b" (CHANGEDSINCE 1)"), None),
        (command(b"3:%d" % (STAR - 1)), None),
    ],
)
def test_fetches_of_protected_messages_alone(asked: FetchCommand, meant: list[int] | None) -> None:
    one = Selected(box(kinds=dict.fromkeys((3, 4, 5), Kind.FORM)), 9, 10)
    found = selected.only_protected(one, asked)
    assert (None if found is None else list(found)) == meant


def test_what_the_server_tells_while_a_mailbox_is_opened_and_after() -> None:
    opening = Selecting()
    opening.number(b"UIDVALIDITY", 7)
    opening.number(b"UIDNEXT", 10)
    opening.count(9, exists=True)
    opening.count(3, exists=False)
    one = opening.opened(box())
    assert (opening.uidvalidity, one.exists, one.uid_next) == (7, 9, 10)
    assert one.fully_covered
    one.count(2, exists=False)
    assert (one.exists, one.uid_next) == (8, 10)
    one.count(8, exists=True)
    assert one.uid_next == 10
    one.count(9, exists=True)
    assert (one.exists, one.uid_next, one.fully_covered) == (9, None, False)
    one.exists = None
    one.count(1, exists=False)
    assert one.exists is None
    one.mailbox.covered = b"1:3"
    assert list(one.covered) == [1, 2, 3]
    assert Selected(box(b""), 0, 1).fully_covered
