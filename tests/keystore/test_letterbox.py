"""What is put through the slot comes out with the keystore key, and with nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import StoreDamaged
from keystore.letterbox import Letterbox, Slot
from tests.fixtures.keystores import KeystoreFactory, credentials, make_keystore

__all__ = ["credentials", "make_keystore"]
BOX = Letterbox(bytes(range(32)))


@given(st.binary(max_size=3000), st.binary(max_size=80))
def test_who_has_the_slot_can_put_in_and_only_the_box_takes_out(octets: bytes, context: bytes) -> None:
    slot = Slot.from_octets(BOX.slot.to_octets())
    letter = slot.put(octets, context)
    assert BOX.open(letter, context) == octets
    assert len(letter) == len(octets) + 48
    assert letter != slot.put(octets, context)
    for changed in (letter[:-1], b"\0" * 32 + letter[32:], letter[:40] + b"\xff" + letter[41:] + b"x"):
        with pytest.raises(StoreDamaged):
            BOX.open(changed, context)
    with pytest.raises(StoreDamaged):
        BOX.open(letter, context + b"x")
    with pytest.raises(StoreDamaged):
        Letterbox(bytes(32)).open(letter, context)


@pytest.mark.parametrize(
    "line", [b"", b"x", b"secmailproxy-slot-1 ", b"secmailproxy-slot-1 !!", b"\xff" * 60]
)
def test_a_damaged_slot_takes_nothing(line: bytes) -> None:
    with pytest.raises(StoreDamaged):
        Slot.from_octets(line)


def test_the_box_belongs_to_the_keystore_key(make_keystore: KeystoreFactory) -> None:
    one, again = make_keystore(), make_keystore()
    letter = one.letterbox().slot.put(b"windmill", b"here")
    assert again.letterbox().open(letter, b"here") == b"windmill"
    assert again.letterbox().slot == one.letterbox().slot


def test_marks_are_known_again_by_the_same_box_alone() -> None:
    assert BOX.mark(b"windmill") == Letterbox(bytes(range(32))).mark(b"windmill")
    assert len({BOX.mark(b"windmill"), BOX.mark(b"mill"), Letterbox(bytes(32)).mark(b"windmill")}) == 3
