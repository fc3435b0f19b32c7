"""The truth table of what follows an interruption, and what is left alone."""

from __future__ import annotations

import itertools

import pytest

from secmailproxy.errands.plan import (
    MESSAGE_LIMIT,
    Candidate,
    Errand,
    Left,
    State,
    Step,
    flag_change,
    leave,
    next_step,
)

TABLE = """
    state        original  copy   step
    copying      there     there  VERIFY
    copying      there     gone   FORGET
    copying      gone      there  KEEP
    copying      gone      gone   FORGET
    copied       there     there  VERIFY
    copied       there     gone   FORGET
    copied       gone      there  KEEP
    copied       gone      gone   FORGET
    deleting     there     there  DELETE
    deleting     there     gone   RESTORE
    deleting     gone      there  DONE
    deleting     gone      gone   DONE
    withdrawing  there     there  WITHDRAW
    withdrawing  there     gone   FORGET
    withdrawing  gone      there  WITHDRAW
    withdrawing  gone      gone   FORGET
"""
ROWS = [line.split() for line in TABLE.strip().splitlines()[1:]]


@pytest.mark.parametrize(("state", "original", "copy", "step"), ROWS)
def test_the_next_step(state: str, original: str, copy: str, step: str) -> None:
    found = next_step(State(state), original=original == "there", copy=copy == "there")
    assert found is Step[step]


def test_the_table_is_complete() -> None:
    rows = {(state, original, copy) for state, original, copy, _ in ROWS}
    assert rows == set(itertools.product([one.value for one in State], ["there", "gone"], ["there", "gone"]))


def test_a_copy_is_deleted_only_where_that_was_decided_while_the_original_was_known() -> None:
    """Whatever is found, no step deletes the only one of a message that we may have deleted."""
    for state, original, copy, step in ROWS:
        if step == "WITHDRAW" and original == "gone":
            assert state == "withdrawing", (state, copy)


PLAIN = b"Content-Type: text/plain\r\n\r\n"
SEALED = b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=x\r\n\r\n'
SIGNED = b'Content-Type: multipart/signed; protocol="application/pgp-signature"; boundary=x\r\n\r\n'
SMIME = b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n\r\n"
SMIME_SIGNED = b"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "encrypt", "decrypt", "reprocess"),
    [
        (PLAIN, None, Left.CLEAR, None),
        (b"\r\n", None, Left.CLEAR, None),
        (b"Content-Type: nonsense\r\n\r\n", None, Left.CLEAR, None),
        (SIGNED, None, Left.CLEAR, None),
        (SMIME_SIGNED, None, Left.CLEAR, None),
        (SEALED, Left.PROTECTED, None, None),
        (SMIME, Left.PROTECTED, None, None),
    ],
)
def test_what_is_left_alone_by_its_type(
    header: bytes, encrypt: Left | None, decrypt: Left | None, reprocess: Left | None
) -> None:
    candidate = Candidate(frozenset(), False, 1000, header)
    expected = {Errand.ENCRYPT: encrypt, Errand.DECRYPT: decrypt, Errand.REPROCESS: reprocess}
    assert {errand: leave(errand, candidate, 10_000) for errand in Errand} == expected


@pytest.mark.parametrize(
    ("flags", "deleted", "size", "limit", "reason"),
    [
        ([], True, 1, 100, Left.DELETED),
        ([rb"\Seen", b"$Label1", b"NonJunk"], False, 1, 100, None),
        ([b"two]"], False, 1, 100, Left.ODD_FLAGS),
        ([b"st*r"], False, 1, 100, Left.ODD_FLAGS),
        ([b"\xc3\xbc"], False, 1, 100, Left.ODD_FLAGS),
        ([b'"quoted"'], False, 1, 100, Left.ODD_FLAGS),
        ([], False, 100, 100, Left.TOO_LARGE),
        ([], False, 66, 100, None),
        ([], False, MESSAGE_LIMIT + 1, 10 * MESSAGE_LIMIT, Left.TOO_LARGE),
    ],
)
def test_what_is_left_alone_by_flags_and_size(
    flags: list[bytes], deleted: bool, size: int, limit: int, reason: Left | None
) -> None:
    assert leave(Errand.ENCRYPT, Candidate(frozenset(flags), deleted, size, PLAIN), limit) is reason


def test_changes_of_flags() -> None:
    change = flag_change(frozenset({b"a", b"b"}), frozenset({b"b", b"c"}))
    assert (change.add, change.remove) == ({b"c"}, {b"a"})
