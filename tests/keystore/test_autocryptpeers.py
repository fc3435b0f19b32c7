"""What Autocrypt fields and gossip put into the keystore, how far it is trusted, and how much of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from keystore import autocryptpeers, openpgp
from keystore.autocrypt import Gossip, Heard, Recommendation
from keystore.autocryptpeers import GOSSIP, SOURCE
from keystore.errors import StoreLocked
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Reason, Scheme, Trust
from tests.fixtures.keystores import NOW, KeystoreFactory, credentials, keystore, make_keystore
from tests.fixtures.x509 import learn, own, root

__all__ = ["credentials", "keystore", "make_keystore"]

ALICE, BOB, CAROL = "alice@example.org", "bob@example.org", "carol@example.org"
DAY = timedelta(days=1)
ROOT = root("Other Scheme Root", number=850)


def key(address: str, name: str = "") -> openpgp.SecretKey:
    return openpgp.generate(address, name=name, kind="ed25519", now=NOW - 9 * DAY, expires=None)


A1, A2, C1 = key(ALICE), key(ALICE), key(CAROL)


def said(one: openpgp.SecretKey, author: str = ALICE, days: int = -1, *, mutual: bool = False) -> Heard:
    return Heard(author, NOW + days * DAY, one.certificate_octets, mutual)


def kept(keystore: Keystore) -> dict[str, tuple[Trust, str]]:
    return {one.fingerprint: (one.trust, one.source) for one in keystore.certificates()}


def test_the_first_certificate_of_an_address_is_known(keystore: Keystore) -> None:
    keystore.autocrypt.hear(said(A1, mutual=True), NOW)
    assert kept(keystore) == {A1.fingerprint: (Trust.KNOWN, SOURCE)}
    state = keystore.autocrypt.state(ALICE.upper())
    assert state is not None
    assert (state.certificate, state.mutual) == (A1.fingerprint, True)
    assert state.autocrypt_timestamp == state.last_seen == NOW - DAY
    assert [one.fingerprint for one in keystore.select(ALICE, NOW).certificates] == [A1.fingerprint]
    recommend = keystore.autocrypt.recommendation
    assert recommend(ALICE, NOW, own_mutual=True) is Recommendation.ENCRYPT
    assert recommend(ALICE, NOW, own_mutual=False) is Recommendation.AVAILABLE
    assert recommend(BOB, NOW, own_mutual=True) is Recommendation.DISABLE


def test_a_clock_that_was_wrong_silences_nobody(keystore: Keystore) -> None:
    """It was years ahead when a message was read."""
    gossip = Heard(BOB, NOW + 900 * DAY, gossip=(Gossip(CAROL, C1.certificate_octets),))
    later = NOW + 1000 * DAY
    for one in (said(A1, days=900), gossip):
        keystore.autocrypt.hear(one, later)
    keystore.autocrypt.hear(said(A2), NOW)
    state, gossiped = map(keystore.autocrypt.state, (ALICE, CAROL))
    assert state is not None
    assert gossiped is not None
    assert (state.certificate, state.autocrypt_timestamp) == (A2.fingerprint, NOW - DAY)
    keystore.autocrypt.hear(replace(gossip, sent=NOW - DAY), NOW)
    gossiped = keystore.autocrypt.state(CAROL)
    assert gossiped is not None
    assert gossiped.gossip_timestamp == NOW - DAY


def test_another_one_never_takes_its_place(keystore: Keystore) -> None:
    """The state says which one its owner tells of; the one in use stays in use."""
    keystore.autocrypt.hear(said(A1), NOW)
    keystore.autocrypt.hear(said(A2, days=0), NOW)
    state = keystore.autocrypt.state(ALICE)
    assert state is not None
    assert state.certificate == A2.fingerprint
    assert [one.fingerprint for one in keystore.select(ALICE, NOW).certificates] == [A1.fingerprint]


def test_a_field_does_not_take_the_place_of_a_certificate_of_smime(keystore: Keystore) -> None:
    """OpenPGP is tried first: anybody's mail in her name would else decide who reads what is for her."""
    learn(keystore, ROOT.person(ALICE, number=851))
    own(keystore, ROOT.person(BOB, number=852))
    keystore.autocrypt.hear(said(A1), NOW)
    assert keystore.select(ALICE, NOW).reason is Reason.HELD
    assert keystore.select(ALICE, NOW, scheme=Scheme.SMIME).usable
    assert keystore.settling.keep(ALICE, NOW) == [A1.fingerprint]
    assert (keystore.settling.waiting(), keystore.select(ALICE, NOW).usable) == ([], False)
    keystore.settling.take(ALICE, A1.fingerprint, NOW)
    assert keystore.select(ALICE, NOW).usable


def test_who_has_no_key_of_smime_uses_no_certificate_of_it(keystore: Keystore) -> None:
    """So nothing takes its place, and what signed mail has brought stands in nobody's way."""
    learn(keystore, ROOT.person(ALICE, number=851))
    keystore.autocrypt.hear(said(A1), NOW)
    assert keystore.select(ALICE, NOW).usable


def test_what_the_owner_has_decided_stays(keystore: Keystore) -> None:
    keystore.autocrypt.hear(said(A1), NOW)
    for trust in (Trust.REJECTED, Trust.VERIFIED):
        keystore.set_trust(A1.fingerprint, trust)
        keystore.autocrypt.hear(said(A1, days=0), NOW)
        keystore.autocrypt.hear(Heard(BOB, NOW, gossip=(Gossip(ALICE, A1.certificate_octets),)), NOW)
        assert keystore.trust(A1.fingerprint) is trust


def test_an_older_message_and_one_read_again_change_nothing(keystore: Keystore) -> None:
    keystore.autocrypt.hear(said(A1), NOW)
    version, before = keystore.version, keystore.autocrypt.state(ALICE)
    for again in (said(A1), said(A2, days=-2), Heard(ALICE, NOW - 2 * DAY)):
        keystore.autocrypt.hear(again, NOW)
    assert (keystore.version, keystore.autocrypt.state(ALICE)) == (version, before)


def test_gossip_is_unknown_and_only_where_there_is_nothing(keystore: Keystore) -> None:
    """Level 1 section 3: a third person's word, used where nothing else is, and discouraged."""
    gossip = (Gossip(ALICE, A1.certificate_octets), Gossip(CAROL, C1.certificate_octets))
    keystore.autocrypt.hear(Heard(BOB, NOW - DAY, gossip=gossip, encrypted=True), NOW)
    assert set(kept(keystore).values()) == {(Trust.UNKNOWN, GOSSIP)}
    assert keystore.autocrypt.recommendation(CAROL, NOW, own_mutual=True) is Recommendation.DISCOURAGE
    state = keystore.autocrypt.state(CAROL)
    assert state is not None
    assert (state.gossip_certificate, state.certificate) == (C1.fingerprint, None)
    # Its author was seen, and told nothing of himself.
    assert keystore.autocrypt.state(BOB) is None


def test_a_claim_is_made_on_no_other_address(keystore: Keystore) -> None:
    """Nor by a certificate with several user IDs, of which the one of the author stays."""
    keystore.autocrypt.hear(said(A1, author=BOB), NOW)
    assert kept(keystore) == {}
    assert keystore.autocrypt.state(BOB) is None


def test_nothing_is_learned_of_own_addresses(keystore: Keystore) -> None:
    mine = keystore.generate(BOB, now=NOW - DAY)
    other = key(BOB)
    keystore.autocrypt.hear(said(other, author=BOB), NOW)
    keystore.autocrypt.hear(Heard(ALICE, NOW, gossip=(Gossip(BOB, other.certificate_octets),)), NOW)
    assert list(kept(keystore)) == [mine.fingerprint]


@pytest.mark.parametrize(
    "octets", [b"nothing", A1.to_octets(), A1.certificate_octets + A2.certificate_octets]
)
def test_what_is_no_one_certificate_says_nothing(keystore: Keystore, octets: bytes) -> None:
    keystore.autocrypt.hear(Heard(ALICE, NOW, octets), NOW)
    assert kept(keystore) == {}
    assert keystore.autocrypt.state(ALICE) is None


def test_strangers_cannot_fill_the_store(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocryptpeers, "MOST_FOR_ADDRESS", 1)
    monkeypatch.setattr(autocryptpeers, "MOST_A_DAY", 2)
    monkeypatch.setattr(autocryptpeers, "MOST_IN_ALL", 3)
    people = [key(f"p{number}@example.org") for number in range(4)]

    def hear(number: int, moment: timedelta) -> int:
        one = Heard(f"p{number}@example.org", NOW, people[number].certificate_octets)
        keystore.autocrypt.hear(one, NOW + moment)
        return len(kept(keystore))

    assert [hear(number, timedelta()) for number in range(3)] == [1, 2, 2]
    assert [hear(2, 2 * DAY), hear(3, 2 * DAY), hear(3, 4 * DAY)] == [3, 3, 3]
    keystore.autocrypt.hear(said(A1, days=0), NOW + 6 * DAY)
    assert keystore.autocrypt.state(ALICE) is None


def test_another_process_that_writes_is_not_waited_for(make_keystore: KeystoreFactory) -> None:
    one, other = make_keystore(), make_keystore()
    with other.autocrypt.at_once(), pytest.raises(StoreLocked):
        one.autocrypt.hear(said(A1), NOW)
    one.autocrypt.hear(said(A1), NOW)
    assert Fingerprint(A1.fingerprint) in kept(other)
