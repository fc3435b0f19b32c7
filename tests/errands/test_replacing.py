"""Errands at a real server: octets, dates, flags and keywords stay; interruptions lose and double nothing."""

from __future__ import annotations

import asyncio

import pytest

from secmailproxy.errands.plan import Errand, Left
from secmailproxy.errors import UpstreamUnavailable
from secmailproxy.policy import Protect
from tests.errands.conftest import DATE, FLAGS, Place, Relay
from tests.fixtures.people import letter, leaked, protect

ODD = b"Subject: a  * b (c \r\nFrom: x@example.test\r\nContent-Type: text/plain; hp=clear\r\n\r\n\xff {5}\r\n"
KEPT = frozenset(FLAGS.strip(b"()").split())


def mail(place: Place) -> list[bytes]:
    address = place.user.address
    return [letter(address, address), ODD, letter(address, address, text="* ( )\r\n" * 3000)]


async def test_a_mailbox_is_encrypted_and_decrypted_in_place(place: Place) -> None:
    originals = mail(place)
    signed = await asyncio.to_thread(protect, place.user, originals[0], Protect.SIGN)
    sealed = await asyncio.to_thread(protect, place.user, originals[0])
    for octets in (*originals, signed, sealed):
        place.append(octets)
    before = place.stored()
    outcome = (await place.run(Errand.ENCRYPT, "inbox"))["INBOX"]
    assert (outcome.replaced, outcome.left, outcome.failed) == (4, {Left.PROTECTED: 1}, [])
    after = place.stored()
    assert [one.uid for one in after] == [5, 6, 7, 8, 9]
    assert {one.flags for one in after} == {KEPT}
    assert {one.date for one in after} == {one.date for one in before}
    assert [place.opened(one) for one in after[1:]] == [*originals, signed]
    assert not [one for one in after if leaked(one.octets)]
    assert not set().union(*map(leaked, place.user.mailbox.files()))

    assert (await place.run(Errand.ENCRYPT, "INBOX"))["INBOX"].left == {Left.PROTECTED: 5}
    assert place.stored() == after, "a second run changes nothing"

    outcome = (await place.run(Errand.DECRYPT, "INBOX"))["INBOX"]
    assert (outcome.replaced, outcome.left, outcome.failed) == (4, {Left.NOT_OURS: 1}, [])
    restored = place.stored()
    assert [one.octets for one in restored] == [sealed, *originals, signed]
    assert {(one.flags, one.date) for one in restored} == {(KEPT, before[0].date)}
    assert place.journals() == [b""]


@pytest.mark.parametrize("side", ["client", "server"])
async def test_wherever_encrypting_is_interrupted_one_of_each_is_left(
    side: str, place: Place, relay: Relay
) -> None:
    originals = mail(place)[:2]
    for cut in range(100):
        folder = place.folder(f"{side}{cut}", *originals)
        date = place.stored(folder)[0].date
        relay.arm(side, cut)
        try:
            await place.run(Errand.ENCRYPT, folder, port=relay.port)
        except UpstreamUnavailable:
            assert relay.broken.is_set()
        found = place.stored(folder)
        assert {place.opened(one) for one in found} == set(originals), "nothing is lost at any time"
        again = (await place.run(Errand.ENCRYPT, folder))[folder]
        assert not again.failed
        after = place.stored(folder)
        assert sorted(map(place.opened, after)) == sorted(originals), cut
        assert not [one for one in after if leaked(one.octets)]
        assert {(one.flags, one.date) for one in after} == {(KEPT, date)}
        if not relay.broken.is_set():
            break
    assert cut > 15
    assert set(place.journals()) == {b""}
