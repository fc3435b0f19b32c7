"""What the sources said last, on disk."""

from __future__ import annotations

from datetime import timedelta

from keystore.discovery.answers import MOST_KEPT, Answer, Taken
from keystore.discovery.model import SourceKind
from keystore.keystore import Keystore
from keystore.model import Fingerprint, ImportAction, Scheme
from tests.fixtures.keystores import NOW, KeystoreFactory

DAY = timedelta(days=1)
BOB = "bob@example.org"
TAKEN = Taken(
    "https://example.org/x", ImportAction.ADDED, Scheme.SMIME, Fingerprint("AB" * 20), "held: a reason"
)


def answer(kind: SourceKind = SourceKind.WKD, days: int = 0, **more: object) -> Answer:
    return Answer(kind, NOW + days * DAY, NOW + (days + 7) * DAY, **more)


def test_an_answer_is_kept_as_it_was_for_every_spelling_and_process(make_keystore: KeystoreFactory) -> None:
    said = [answer(taken=(TAKEN,)), answer(SourceKind.VKS, failure="out of reach")]
    for one in said:
        make_keystore().answers.keep("Bob@example.org", one)
    assert make_keystore().answers.of("BOB@example.org") == {one.kind: one for one in said}
    assert make_keystore().answers.of("eve@example.org") == {}


def test_the_last_answer_of_a_source_replaces_the_one_before(keystore: Keystore) -> None:
    for one in (answer(taken=(TAKEN,)), answer(days=1)):
        keystore.answers.keep(BOB, one)
    assert keystore.answers.of(BOB) == {SourceKind.WKD: answer(days=1)}


def test_what_is_long_over_is_forgotten(keystore: Keystore) -> None:
    """Nobody is to find in it for ever to whom was written once."""
    keystore.answers.keep(BOB, answer())
    keystore.answers.keep("eve@example.org", answer(days=7 + MOST_KEPT.days))
    assert keystore.answers.of(BOB)
    keystore.answers.keep("eve@example.org", answer(days=8 + MOST_KEPT.days))
    assert keystore.answers.of(BOB) == {}


def test_a_source_of_another_version_is_passed_over(keystore: Keystore) -> None:
    keystore.answers.keep(BOB, answer())
    with keystore._store.transaction():
        keystore._store.write("UPDATE lookups SET source = 'oracle'")
    assert keystore.answers.of(BOB) == {}
