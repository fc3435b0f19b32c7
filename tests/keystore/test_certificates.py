"""What is asked of the keystore about certificates as a whole."""

from __future__ import annotations

from keystore.holders import reports
from keystore.keystore import Keystore
from keystore.model import Holder
from tests.fixtures.rows import NOW, V6, put

ALICE = "alice@example.org"


def test_own_certificates_are_found_without_reading_those_of_others(keystore: Keystore) -> None:
    """A store may have 100,000 of others; these octets nobody could read."""
    own = keystore.generate(ALICE, now=NOW)
    put(keystore._store, V6, "bob@example.org")
    assert keystore.count() == 2
    assert [(one.fingerprint, one.holder) for one in keystore.owned()] == [(own.fingerprint, Holder.OWN)]
    (ours, *others) = reports(keystore)
    assert [one.fingerprint for one in ours.keys] == [own.fingerprint]
    assert not any(one.keys for one in others)
