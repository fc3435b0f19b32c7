"""MIME-01: other programs decrypt, verify and read what leaves the proxy, as docs/interoperability.md says.

Each letter goes through the running proxy, Postfix and Dovecot; each program reads what is in the mailbox.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.people import leaked
from tests.fixtures.x509 import Authority, Gpgsm
from tests.interop.clients import by_mutt, by_neomutt, by_notmuch
from tests.interop.letters import BLIND, LETTERS, SIGNATURES, leaves, subject
from tests.interop.matrix import row, said, table
from tests.interop.post import OPENPGP, SMIME, Delivery, Post, Protection, message_id, verdict
from tests.interop.readers import (
    Reader,
    Reading,
    Ring,
    by_gpg,
    by_gpgsm,
    by_openssl,
    by_pysequoia,
    by_sq,
    good_by_gpg,
)

READERS: dict[str, tuple[Reader, tuple[Protection, ...]]] = {
    "gpg": (by_gpg, OPENPGP),
    "sq": (by_sq, OPENPGP),
    "Sequoia (pysequoia)": (by_pysequoia, OPENPGP),
    "openssl": (by_openssl, SMIME),
    "gpgsm": (by_gpgsm, SMIME),
    "notmuch": (by_notmuch, (*OPENPGP, *SMIME)),
    "mutt": (by_mutt, (*OPENPGP, *SMIME)),
    "neomutt": (by_neomutt, (*OPENPGP, *SMIME)),
}
PAIRS = [(reader, protection) for reader, (_, protections) in READERS.items() for protection in protections]
GPGSM = "disable-crl-checks\ndisable-dirmngr\ndisable-policy-checks\n"


@pytest.fixture
def ring(rings: Callable[[], GnuPG], post: Post, mail_authority: Authority) -> Ring:
    """A new key ring."""
    people = post.people
    gnupg = rings()
    ring = Ring(
        gnupg,
        people.bob.gnupg.export_secret(people.bob.fingerprint),
        people.alice.certificate(),
        people.alice.fingerprint,
        people.doras,
        mail_authority.above[0],
    )
    gnupg.take(ring.key)
    gnupg.take(ring.certificate)
    (gnupg.home / "gpgsm.conf").write_text(GPGSM)
    gpgsm = Gpgsm(gnupg.home)
    gpgsm.trust(ring.root)
    gpgsm.own(ring.doras)
    return ring


def facts(deliveries: Sequence[Delivery], readings: Sequence[Reading], *signer: str) -> dict[str, bool]:
    """What holds of every letter; `signer` are the names that Alice's certificate has."""
    pairs = list(zip(deliveries, readings, strict=True))
    return {
        "decrypts": all(reading.decrypted for reading in readings),
        "verifies": all(len(reading.good) == 1 and reading.good <= {*signer} for reading in readings),
        "content": all(reading.leaves == leaves(delivery.written) for delivery, reading in pairs),
        "subject": all(reading.subject == LETTERS[delivery.kind].subject for delivery, reading in pairs),
    }


PROTECTIONS = pytest.mark.parametrize("protection", Protection, ids=lambda one: one.value)


@pytest.mark.parametrize(("reader", "protection"), PAIRS)
def test_the_reader_finds_what_the_document_says(
    reader: str, protection: Protection, ring: Ring, post: Post
) -> None:
    deliveries = post.of(protection)
    readings = list(READERS[reader][0](ring, protection, deliveries))
    found = facts(deliveries, readings, *post.people.signer(protection))
    assert said(found) == row(reader, protection.value)


@PROTECTIONS
def test_our_own_side_that_reads_finds_what_the_document_says(protection: Protection, post: Post) -> None:
    deliveries, people = post.of(protection), post.people
    presented = people.reader.proxy.messages(people.recipient(protection))
    by_name = {message_id(octets): octets for octets in presented}
    readings = []
    for delivery in deliveries:
        octets = by_name[message_id(delivery.octets)]
        status, items = verdict(people.reader, octets)
        good = {items["fpr"]} if items["signature"] == "valid" else set()
        content = [leaf for leaf in leaves(octets) if leaf[0] not in SIGNATURES]
        readings.append(Reading(status.endswith("encrypted"), frozenset(good), subject(octets), content))
    assert said(facts(deliveries, readings, *people.signer(protection))) == row(
        "secmailproxy", protection.value
    )


def test_the_document_has_a_row_for_each_reader_and_protection() -> None:
    rows = [(one["reader"], one["protection"]) for one in table("reader")]
    tested = [(reader, protection.value) for reader, protection in PAIRS]
    tested += [("secmailproxy", protection.value) for protection in Protection]
    tested += [("Thunderbird", protection.value) for protection in Protection]
    assert sorted(rows) == sorted(tested)
    assert all(one["version"] for one in table("reader"))


def test_the_document_names_each_letter() -> None:
    assert [one["letter"] for one in table("letter")] == list(LETTERS)


def test_the_blind_recipient_reads_the_letter_and_nothing_leaks(post: Post) -> None:
    people = post.people
    delivery = post.arrived[Protection.ENCRYPTED, BLIND]
    copies = {message_id(octets): octets for octets in people.blind.mailbox.stored()}
    copy = copies[message_id(delivery.octets)]
    people.blind.gnupg.take(people.alice.certificate())
    payload, status = opened_by(people.blind.gnupg, copy)
    assert good_by_gpg(status.encode()) == {people.alice.fingerprint}
    assert leaves(payload) == leaves(delivery.written)
    assert people.blind.address.encode() not in delivery.octets + payload


def test_no_word_of_what_is_encrypted_stands_outside(post: Post) -> None:
    for delivery in post.of(Protection.ENCRYPTED) + post.of(Protection.SMIME_ENCRYPTED):
        assert not leaked(delivery.octets), delivery.kind
        assert LETTERS[delivery.kind].subject.encode() not in delivery.octets
        assert subject(delivery.octets) == "[...]"
