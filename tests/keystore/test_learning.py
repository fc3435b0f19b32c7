"""Certificates that valid signatures introduce: what is kept, how far it is trusted, and how much of it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.x509.oid import NameOID

from keystore import learning, openpgp
from keystore.keystore import Keystore
from keystore.model import Certificate, Introduction, Purpose, Reason, Scheme, Trust
from keystore.smime.capabilities import statement
from tests.fixtures.keystores import KeystoreFactory
from tests.fixtures.x509 import (
    DAY,
    NOW,
    Issued,
    addresses,
    key_usage,
    learn,
    name,
    own,
    private_key,
    root,
)

ROOT = root("Introducing Root", number=300)
MAIL_CA = ROOT.authority("Introducing Authority", number=301)
ALICE = "alice@example.org"


def introduced(person: Issued, address: str = ALICE, capabilities: bytes = b"") -> Introduction:
    return Introduction(address, person.der, (MAIL_CA.der,), capabilities, NOW)


def kept(keystore: Keystore, person: Issued) -> Certificate | None:
    return keystore.certificate(person.fingerprint)


def test_a_certificate_is_known_and_can_be_encrypted_to(keystore: Keystore) -> None:
    """Never verified; the authorities in between are kept and are no roots."""
    person = MAIL_CA.person(ALICE, number=302)
    keystore.smime.learn(introduced(person), NOW)
    found = kept(keystore, person)
    assert found is not None
    assert (found.trust, found.source, found.addresses) == (Trust.KNOWN, "signed mail", (ALICE,))
    assert keystore.usability(found.fingerprint, Purpose.ENCRYPT, NOW).usable
    above = kept(keystore, MAIL_CA)
    assert above is not None
    assert above.trust is Trust.KNOWN
    assert kept(keystore, ROOT) is None
    assert above.octets not in keystore.authorities.anchors.roots


def test_what_the_owner_has_decided_stays(keystore: Keystore) -> None:
    verified, rejected = MAIL_CA.person(ALICE, number=303), MAIL_CA.person("bob@example.org", number=304)
    for person, trust in ((verified, Trust.VERIFIED), (rejected, Trust.REJECTED)):
        learn(keystore, person)
        keystore.set_trust(person.fingerprint, trust)
    before = keystore.certificates()
    keystore.smime.learn(Introduction(ALICE, verified.der), NOW)
    keystore.smime.learn(Introduction("bob@example.org", rejected.der), NOW)
    assert keystore.certificates() == before


def test_another_one_for_the_same_address_waits_for_its_owner(keystore: Keystore) -> None:
    """As when it is imported: it takes the place of none that is usable."""
    first, second = (MAIL_CA.person(ALICE, number=number) for number in (305, 306))
    for person in (first, second):
        keystore.smime.learn(introduced(person), NOW)
    trusts = [one.trust for person in (first, second) if (one := kept(keystore, person))]
    assert trusts == [Trust.KNOWN, Trust.UNKNOWN]
    assert [one.fingerprint for one in keystore.select(ALICE, NOW, scheme=Scheme.SMIME).certificates] == [
        first.fingerprint
    ]


def test_one_does_not_take_the_place_of_a_certificate_of_openpgp(keystore: Keystore) -> None:
    """Nor where that has ended, as it is with those of one scheme."""
    keystore.generate("me@example.org", now=NOW)
    key = openpgp.generate(ALICE, now=NOW, expires=DAY)
    keystore.import_keys(key.certificate_octets, source="a test", now=NOW)
    person = MAIL_CA.person(ALICE, number=327)
    keystore.smime.learn(introduced(person), NOW)
    assert keystore.select(ALICE, NOW + 2 * DAY, scheme=Scheme.SMIME).reason is Reason.HELD


@pytest.mark.parametrize(
    "case", ["another address", "an authority", "too large", "too many addresses", "nothing"]
)
def test_what_is_not_kept(keystore: Keystore, case: str) -> None:
    many = [f"a{number}@example.org" for number in range(learning.MOST_ADDRESSES)]
    usage = key_usage("digital_signature", "key_agreement")
    key = private_key("p256", 307)
    long = name("L" * 50, *((NameOID.ORGANIZATIONAL_UNIT_NAME, "x" * 60) for _ in range(300)))
    person = {
        "another address": MAIL_CA.person("mallory@example.org"),
        "an authority": MAIL_CA,
        "too large": MAIL_CA.issue(long, key, usage, addresses(ALICE)),
        "too many addresses": MAIL_CA.issue(name("Many"), key, usage, addresses(ALICE, *many)),
    }
    der = person[case].der if case in person else b"nothing"
    keystore.smime.learn(Introduction(ALICE, der), NOW)
    assert keystore.certificates() == []


def test_how_many_are_kept_for_one_address(keystore: Keystore) -> None:
    """What has expired makes room, as people renew theirs; what the owner imported is not touched."""
    old = [
        MAIL_CA.person(ALICE, number=310 + number, until=NOW + (number + 1) * DAY)
        for number in range(learning.MOST_FOR_ADDRESS)
    ]
    mine = MAIL_CA.person(ALICE, number=320, until=NOW + DAY)
    learn(keystore, mine)
    for person in old:
        keystore.smime.learn(introduced(person), NOW)
    new = MAIL_CA.person(ALICE, number=321)
    keystore.smime.learn(introduced(new), NOW)
    assert kept(keystore, new) is None
    keystore.smime.learn(introduced(new), NOW + 1.5 * DAY)
    assert [kept(keystore, one) is not None for one in (*old, mine, new)] == [
        False,
        True,
        True,
        True,
        True,
        True,
    ]


def test_making_room_does_not_take_the_place_of_what_has_ended(keystore: Keystore) -> None:
    """The one in use expires and makes room for one more: that is another one all the same."""
    persons = [
        MAIL_CA.person(ALICE, number=330 + number, until=NOW + (1 if number == 0 else 50) * DAY)
        for number in range(learning.MOST_FOR_ADDRESS + 1)
    ]
    for person in persons[:-1]:
        keystore.smime.learn(introduced(person), NOW)
    later = NOW + 2 * DAY
    keystore.smime.learn(introduced(persons[-1]), later)
    assert kept(keystore, persons[0]) is None
    assert kept(keystore, persons[-1]) is not None
    assert keystore.select(ALICE, later, scheme=Scheme.SMIME).reason is Reason.HELD


def test_how_many_are_kept_in_a_day_and_in_all(keystore: Keystore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has a certificate that is believed here cannot fill the store."""
    monkeypatch.setattr(learning, "MOST_A_DAY", 4)
    monkeypatch.setattr(learning, "MOST_IN_ALL", 6)

    def after(numbers: range, moment: timedelta) -> int:
        for number in numbers:
            address = f"p{number}@example.org"
            keystore.smime.learn(Introduction(address, MAIL_CA.person(address).der), NOW + moment)
        return len(keystore.certificates())

    assert after(range(6), timedelta()) == 4
    assert after(range(6, 12), 2 * DAY) == 6
    assert after(range(12, 18), 4 * DAY) == 6


def test_what_was_kept_while_the_clock_was_wrong_counts_for_no_day(
    keystore: Keystore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or nothing would be kept until that day."""
    monkeypatch.setattr(learning, "MOST_A_DAY", 1)
    early, now, late = (f"{when}@example.org" for when in ("early", "now", "late"))
    for address, moment in ((early, NOW + 100 * DAY), (now, NOW), (late, NOW)):
        keystore.smime.learn(Introduction(address, MAIL_CA.person(address).der), moment)
    assert [one.addresses for one in keystore.certificates()] == [(now,), (early,)]


def test_what_a_program_reads_is_kept_beside_the_certificate(keystore: Keystore) -> None:
    """The latest word counts; that of an own certificate is our own."""
    person, mine = MAIL_CA.person(ALICE, number=322), MAIL_CA.person("me@example.org", number=323)
    own(keystore, mine)
    stated = statement(rsa=False)
    keystore.smime.learn(introduced(person, capabilities=stated), NOW)
    keystore.smime.learn(introduced(mine, "me@example.org", capabilities=stated), NOW)
    assert keystore._cache.stated(person.fingerprint) == stated
    assert keystore._cache.stated(mine.fingerprint) is None


def test_what_is_held_says_nothing_of_what_the_one_in_use_reads(keystore: Keystore) -> None:
    """Whoever has another certificate with the address could else have weaker ciphers used."""
    first, second = (MAIL_CA.person(ALICE, number=number) for number in (325, 326))
    keystore.smime.learn(introduced(first), NOW)
    keystore.smime.learn(introduced(second, capabilities=statement(rsa=False)), NOW)
    assert keystore._cache.stated(first.fingerprint) is None


def test_another_process_learns_at_the_same_time(make_keystore: KeystoreFactory) -> None:
    person = MAIL_CA.person(ALICE, number=324)
    for keystore in (make_keystore(), make_keystore()):
        keystore.smime.learn(introduced(person), NOW)
    assert kept(make_keystore(), person) is not None
