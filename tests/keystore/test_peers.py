"""The address book: what is kept of correspondents, in whatever order their mail is read."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from keystore import peers as module
from keystore.keystore import Keystore
from keystore.model import Fingerprint
from keystore.peers import Peer, PeerSeen
from tests.fixtures.keystores import NOW

DAY = timedelta(days=1)
BOB = "bob@example.org"
ONE, OTHER = Fingerprint("A" * 40), Fingerprint("B" * 40)
SEEN = (
    PeerSeen("Bob@Example.org", NOW - 3 * DAY, ONE, encrypted=True),
    PeerSeen(BOB, NOW - 2 * DAY, OTHER),
    PeerSeen(BOB, NOW - DAY, written=True),
    PeerSeen(BOB, NOW),
)


def test_a_peer_is_what_its_messages_say(keystore: Keystore) -> None:
    assert keystore.peers.get(BOB) is None
    keystore.peers.seen(*SEEN)
    assert keystore.peers.get("BOB@example.org") == Peer(
        BOB,
        first_seen=NOW - 3 * DAY,
        last_seen=NOW,
        count=4,
        written=NOW - DAY,
        encrypted=NOW - 3 * DAY,
        signer=OTHER,
    )


def test_the_order_of_reading_changes_no_dates(keystore: Keystore) -> None:
    """Mail is read in any order; only of who signed last may older mail, read first, be told."""
    for number, messages in enumerate(itertools.permutations(SEEN)):
        address = f"bob{number}@example.org"
        keystore.peers.seen(
            *(PeerSeen(address, one.when, one.signer, one.encrypted, one.written) for one in messages)
        )
        found = keystore.peers.get(address)
        assert found is not None
        assert (found.first_seen, found.last_seen, found.count) == (NOW - 3 * DAY, NOW, 4)
        assert (found.written, found.encrypted) == (NOW - DAY, NOW - 3 * DAY)
        assert found.signer in {ONE, OTHER}


def test_what_we_write_says_nothing_of_the_other_side(keystore: Keystore) -> None:
    keystore.peers.seen(PeerSeen(BOB, NOW, ONE, encrypted=True, written=True))
    assert keystore.peers.get(BOB) == Peer(BOB, NOW, NOW, 1, written=NOW)


def test_search_takes_words_in_any_order_and_the_last_seen_come_first(keystore: Keystore) -> None:
    keystore.peers.seen(PeerSeen(BOB, NOW - DAY), PeerSeen("carol@example.org", NOW))
    keystore.peers.seen(PeerSeen("dave@example.net", NOW - 2 * DAY))
    assert [one.address for one in keystore.peers.search()] == [
        "carol@example.org",
        BOB,
        "dave@example.net",
    ]
    assert [one.address for one in keystore.peers.search("EXAMPLE.org b")] == [BOB]


def test_strangers_cannot_fill_it(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the owner writes to is kept all the same, and who is known is still counted."""
    monkeypatch.setattr(module, "MOST_IN_ALL", 2)
    keystore.peers.seen(*(PeerSeen(f"stranger{number}@example.org", NOW) for number in range(5)))
    assert len(keystore.peers.search()) == 2
    keystore.peers.seen(PeerSeen(BOB, NOW, written=True), PeerSeen(BOB, NOW))
    bob = keystore.peers.get(BOB)
    assert bob is not None
    assert (bob.count, len(keystore.peers.search())) == (2, 3)
