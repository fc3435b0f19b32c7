"""Which certificate system mail goes to: a chosen one, or none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keystore.keystore import Keystore
from keystore.model import Fingerprint, Trust
from secmailproxy.errors import NoUsableCertificate, UsageError
from secmailproxy.forward.target import fingerprint_of, pinned
from tests.fixtures.keystores import KeystoreFactory, credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]

ADMIN = "admin@example.org"


def now() -> datetime:
    return datetime.now(UTC)


def learn(keystore: Keystore, make_keystore: KeystoreFactory, address: str, name: str = "") -> Fingerprint:
    """Import the certificate of somebody else."""
    other = make_keystore(f"other-{address}-{name}")
    certificate = other.generate(address, name=name)
    keystore.import_keys(other.export(certificate.fingerprint), source="test", trust=Trust.KNOWN)
    return certificate.fingerprint


def test_the_only_certificate_of_the_address_counts(
    keystore: Keystore, make_keystore: KeystoreFactory
) -> None:
    fingerprint = learn(keystore, make_keystore, ADMIN)
    learn(keystore, make_keystore, "evil@example.net", name=ADMIN)
    learn(keystore, make_keystore, "xadmin@example.org")
    assert pinned(keystore, "Admin@Example.org", (), now()) == fingerprint


def test_of_several_none_is_picked(keystore: Keystore, make_keystore: KeystoreFactory) -> None:
    first = learn(keystore, make_keystore, ADMIN, name="One")
    learn(keystore, make_keystore, ADMIN, name="Two")
    with pytest.raises(NoUsableCertificate, match=r"2 usable certificates claim <admin@example.org>"):
        pinned(keystore, ADMIN, (), now())
    assert pinned(keystore, ADMIN, (first,), now()) == first


@pytest.mark.parametrize("trust", [Trust.UNKNOWN, Trust.REJECTED])
def test_a_certificate_that_nobody_chose_does_not_count(
    trust: Trust, keystore: Keystore, make_keystore: KeystoreFactory
) -> None:
    keystore.set_trust(learn(keystore, make_keystore, ADMIN), trust)
    with pytest.raises(NoUsableCertificate, match="none is known"):
        pinned(keystore, ADMIN, (), now())


def test_several_pins_for_one_address_are_no_choice(keystore: Keystore) -> None:
    with pytest.raises(NoUsableCertificate, match="several fingerprints"):
        pinned(keystore, ADMIN, (Fingerprint("A" * 40), Fingerprint("B" * 40)), now())
    assert pinned(keystore, ADMIN, (Fingerprint("A" * 40),) * 2, now()) == "A" * 40


@pytest.mark.parametrize("text", ["a" * 40, "0x" + "A" * 40, "AAAA AAAA " * 5, "b" * 64])
def test_fingerprints_as_people_write_them(text: str) -> None:
    assert fingerprint_of(text) in ("A" * 40, "B" * 64)


@pytest.mark.parametrize("text", ["", "A" * 16, "A" * 39, "G" * 40, "A" * 41, "\u0661" * 40])
def test_short_fingerprints_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        fingerprint_of(text)
