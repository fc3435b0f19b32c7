"""A changed certificate is held until the owner settles it, by one decision for one address."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.importing import Origin
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Reason, Trust
from keystore.openpgp.selfsigning import EXPIRES
from tests.fixtures.keystores import NOW
from tests.fixtures.selfsigned import certified, without_user_id

DAY = timedelta(days=1)
BOB, HOME = "bob@example.org", "bob@home.example"


def certificate(address: str = BOB, age: timedelta = 9 * DAY, **options) -> openpgp.SecretKey:
    return openpgp.generate(address, now=NOW - age, **options)


FIRST, SECOND, THIRD = certificate(), certificate(age=DAY), certificate(age=2 * DAY)
ENDED = certificate(age=20 * DAY, expires=10 * DAY)


def bring(keystore: Keystore, key: openpgp.SecretKey, level: Trust = Trust.KNOWN, **options) -> None:
    """As something that comes along does it."""
    origin = Origin("mail", None, NOW, level=level, **options)
    keystore._importer.take_all(key.certificate_octets, origin, None)


def used(keystore: Keystore, address: str = BOB) -> str | Reason | None:
    selection = keystore.select(address, NOW)
    return selection.certificates[0].fingerprint if selection.usable else selection.reason


def trust(keystore: Keystore, key: openpgp.SecretKey) -> Trust | None:
    found = keystore.certificate(key.fingerprint)
    return found.trust if found else None


def test_what_is_held_is_told_with_its_source(keystore: Keystore) -> None:
    bring(keystore, FIRST)
    bring(keystore, SECOND)
    bring(keystore, SECOND)
    [held] = keystore.settling.waiting(BOB.upper())
    assert keystore.settling.waiting() == [held]
    assert (held.address, held.fingerprint, held.since, held.source) == (BOB, SECOND.fingerprint, NOW, "mail")
    assert (trust(keystore, FIRST), trust(keystore, SECOND)) == (Trust.KNOWN, Trust.UNKNOWN)
    assert used(keystore) == FIRST.fingerprint


@pytest.mark.parametrize(
    ("first", "level", "chosen"),
    [
        (Trust.UNKNOWN, Trust.UNKNOWN, "first"),
        (Trust.UNKNOWN, Trust.KNOWN, "second"),
        (Trust.KNOWN, Trust.UNKNOWN, "first"),
        (Trust.KNOWN, Trust.KNOWN, "first"),
        (Trust.VERIFIED, Trust.KNOWN, "first"),
        (Trust.REJECTED, Trust.KNOWN, "second"),
    ],
)
def test_who_comes_second(keystore: Keystore, first: Trust, level: Trust, chosen: str) -> None:
    """Only a better source than a keyserver's changes anything, and only what a keyserver said."""
    keystore.import_keys(FIRST.certificate_octets, source="a test", trust=first, now=NOW)
    bring(keystore, SECOND, level)
    assert used(keystore) == (FIRST if chosen == "first" else SECOND).fingerprint
    assert bool(keystore.settling.waiting()) is (chosen == "first")


def test_a_better_source_makes_the_same_certificate_known(keystore: Keystore) -> None:
    """So that it is not replaced by what the better source never said."""
    bring(keystore, FIRST, Trust.UNKNOWN)
    bring(keystore, FIRST)
    assert trust(keystore, FIRST) is Trust.KNOWN
    bring(keystore, SECOND)
    bring(keystore, SECOND)
    assert (trust(keystore, SECOND), used(keystore)) == (Trust.UNKNOWN, FIRST.fingerprint)


def test_a_better_source_does_not_put_one_in_the_place_of_a_known_one(keystore: Keystore) -> None:
    """The keyserver's was first and lost its place; when another source gives it too, that is a change."""
    bring(keystore, SECOND, Trust.UNKNOWN)
    bring(keystore, FIRST)
    assert used(keystore) == FIRST.fingerprint
    bring(keystore, SECOND)
    assert (used(keystore), trust(keystore, SECOND)) == (FIRST.fingerprint, Trust.UNKNOWN)
    assert [one.fingerprint for one in keystore.settling.waiting(BOB)] == [SECOND.fingerprint]


def test_taking_the_new_one_sets_the_old_one_aside(keystore: Keystore) -> None:
    """For encryption: mail that the old one has signed is judged as before. It is not asked about again."""
    bring(keystore, FIRST)
    keystore.set_trust(FIRST.fingerprint, Trust.VERIFIED)
    bring(keystore, SECOND)
    keystore.settling.take(BOB, SECOND.fingerprint, NOW)
    bring(keystore, FIRST)
    assert (used(keystore), keystore.settling.waiting()) == (SECOND.fingerprint, [])
    assert (trust(keystore, FIRST), trust(keystore, SECOND)) == (Trust.VERIFIED, Trust.KNOWN)
    bring(keystore, THIRD)
    assert [one.fingerprint for one in keystore.settling.waiting()] == [THIRD.fingerprint]


def test_keeping_the_old_one_sets_the_new_one_aside(keystore: Keystore) -> None:
    bring(keystore, FIRST)
    bring(keystore, SECOND)
    assert keystore.settling.keep(BOB, NOW) == [SECOND.fingerprint]
    bring(keystore, SECOND)
    assert (used(keystore), keystore.settling.waiting()) == (FIRST.fingerprint, [])
    assert trust(keystore, SECOND) is Trust.UNKNOWN
    keystore.settling.take(BOB, SECOND.fingerprint, NOW)
    assert used(keystore) == SECOND.fingerprint


def test_one_whose_owner_took_the_address_back_is_not_replaced_silently(keystore: Keystore) -> None:
    """It no longer names the address, and stands for it all the same, until its owner settles that."""
    bring(keystore, FIRST)
    keystore._importer.take_all(without_user_id(FIRST, NOW - DAY), Origin("mail", None, NOW), None)
    assert used(keystore) is Reason.USER_ID_REVOKED
    bring(keystore, SECOND)
    assert used(keystore) is Reason.HELD
    keystore.settling.take(BOB, SECOND.fingerprint, NOW)
    assert used(keystore) == SECOND.fingerprint


@pytest.mark.parametrize(("made", "lasts"), [(8, 7), (-1, 9)], ids=["lapsed", "by a clock that is late"])
def test_one_whose_self_signature_does_not_count_now_is_not_replaced_silently(
    keystore: Keystore, made: int, lasts: int
) -> None:
    """Only the signature has an end, not the key; or this machine's clock has gone back behind it."""
    limited = (EXPIRES, (lasts * 86400).to_bytes(4, "big"))
    octets = certified(FIRST, NOW - made * DAY, limited, alone=True)
    then = NOW - made * DAY + DAY
    keystore._importer.take_all(octets, Origin("mail", None, then), None)
    assert keystore.select(BOB, then).usable
    bring(keystore, SECOND)
    assert used(keystore) is Reason.HELD


def test_one_that_has_ended_can_be_kept_or_left(keystore: Keystore) -> None:
    bring(keystore, ENDED)
    bring(keystore, SECOND)
    assert used(keystore) is Reason.HELD
    keystore.settling.keep(BOB, NOW)
    assert used(keystore) is Reason.EXPIRED
    keystore.settling.take(BOB, SECOND.fingerprint, NOW)
    assert used(keystore) == SECOND.fingerprint


@pytest.mark.parametrize("settled", [False, True])
def test_what_is_held_does_not_slip_in_when_the_one_in_use_is_gone(keystore: Keystore, settled: bool) -> None:
    bring(keystore, FIRST)
    bring(keystore, SECOND)
    if settled:
        keystore.settling.keep(BOB, NOW)
    keystore.delete(FIRST.fingerprint)
    assert used(keystore) is Reason.HELD
    [conflict] = keystore.settling.conflicts(BOB, NOW)
    assert (conflict.used, [one.certificate.fingerprint for one in conflict.others]) == (
        None,
        [SECOND.fingerprint],
    )
    with pytest.raises(KeyRefused, match="no certificate in use"):
        keystore.settling.keep(BOB, NOW)


def test_what_only_waits_behind_one_that_has_ended_is_settled_too(keystore: Keystore) -> None:
    """A keyserver's was first, and is not held; it serves for nothing once a known one has come."""
    bring(keystore, SECOND, Trust.UNKNOWN)
    bring(keystore, ENDED)
    assert used(keystore) is Reason.HELD
    [conflict] = keystore.settling.conflicts(BOB, NOW)
    assert [one.certificate.fingerprint for one in conflict.others] == [SECOND.fingerprint]
    keystore.settling.take(BOB, SECOND.fingerprint, NOW)
    assert used(keystore) == SECOND.fingerprint


def test_the_owners_word_about_the_certificate_ends_it_too(keystore: Keystore) -> None:
    bring(keystore, FIRST)
    bring(keystore, SECOND)
    keystore.set_trust(SECOND.fingerprint, Trust.VERIFIED)
    assert (used(keystore), keystore.settling.waiting()) == (SECOND.fingerprint, [])
    bring(keystore, THIRD)
    keystore.import_keys(THIRD.certificate_octets, source="a file", trust=Trust.KNOWN, now=NOW)
    assert (used(keystore), keystore.settling.waiting()) == (SECOND.fingerprint, [])
    keystore.set_trust(THIRD.fingerprint, Trust.REJECTED)
    assert keystore.settling.conflicts(BOB, NOW) == []


@pytest.mark.parametrize("wrong", ["another address", "not there", "rejected"])
def test_what_cannot_be_taken(keystore: Keystore, wrong: str) -> None:
    other = certificate(HOME)
    bring(keystore, FIRST)
    bring(keystore, SECOND)
    bring(keystore, other)
    keystore.set_trust(SECOND.fingerprint, Trust.REJECTED)
    asked = {
        "another address": other.fingerprint,
        "not there": Fingerprint("A" * 40),
        "rejected": SECOND.fingerprint,
    }
    with pytest.raises(KeyRefused):
        keystore.settling.take(BOB, asked[wrong], NOW)
    assert used(keystore) == FIRST.fingerprint


def test_what_one_process_settles_the_other_one_sees(make_keystore) -> None:
    one, other = make_keystore("home"), make_keystore("home")
    bring(one, FIRST)
    bring(one, SECOND)
    assert used(other) == FIRST.fingerprint
    one.settling.take(BOB, SECOND.fingerprint, NOW)
    assert (used(other), other.settling.waiting()) == (SECOND.fingerprint, [])
