"""Which certificate system mail goes to: a chosen one, or none."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keystore.keystore import Keystore
from keystore.model import Fingerprint, Scheme, Trust
from secmailproxy.errors import ConfigError, NoUsableCertificate, UsageError
from secmailproxy.forward.model import Target
from secmailproxy.forward.target import Pinned, fingerprint_of, pinned
from tests.fixtures import x509
from tests.fixtures.keystores import KeystoreFactory, credentials, keystore, make_keystore
from tests.fixtures.x509 import Authority

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
    assert pinned(keystore, Target("Admin@Example.org", ()), now()).fingerprints == (fingerprint,)


def test_of_several_none_is_picked(keystore: Keystore, make_keystore: KeystoreFactory) -> None:
    first = learn(keystore, make_keystore, ADMIN, name="One")
    learn(keystore, make_keystore, ADMIN, name="Two")
    with pytest.raises(NoUsableCertificate, match=r"2 usable certificates claim <admin@example.org>"):
        pinned(keystore, Target(ADMIN, ()), now())
    assert pinned(keystore, Target(ADMIN, (first,)), now()).fingerprints == (first,)


@pytest.mark.parametrize("trust", [Trust.UNKNOWN, Trust.REJECTED])
def test_a_certificate_that_nobody_chose_does_not_count(
    trust: Trust, keystore: Keystore, make_keystore: KeystoreFactory
) -> None:
    keystore.set_trust(learn(keystore, make_keystore, ADMIN), trust)
    with pytest.raises(NoUsableCertificate, match="none is known"):
        pinned(keystore, Target(ADMIN, ()), now())


def test_fwd_03_of_several_pins_those_count_that_are_usable(
    keystore: Keystore, make_keystore: KeystoreFactory
) -> None:
    one, two = learn(keystore, make_keystore, ADMIN), learn(keystore, make_keystore, "second@example.org")
    pins = (one, Fingerprint("A" * 40), two, one)
    assert pinned(keystore, Target(ADMIN, pins), now()) == Pinned(Scheme.OPENPGP, (one, two))
    with pytest.raises(
        NoUsableCertificate, match=r"A{40}: not in the keystore.*key import FILE; certificate B{40}: not in"
    ):
        pinned(keystore, Target(ADMIN, (Fingerprint("A" * 40), Fingerprint("B" * 40))), now())


def test_pins_of_both_schemes_for_one_address_are_an_error(
    keystore: Keystore, make_keystore: KeystoreFactory, mail_authority: Authority
) -> None:
    one = learn(keystore, make_keystore, ADMIN)
    other = Fingerprint(x509.learn(keystore, mail_authority.person(ADMIN)).fingerprint)
    assert pinned(keystore, Target(ADMIN, (other,)), now()) == Pinned(Scheme.SMIME, (other,))
    with pytest.raises(ConfigError, match="of OpenPGP and of S/MIME"):
        pinned(keystore, Target(ADMIN, (one, other)), now())


@pytest.mark.parametrize("text", ["a" * 40, "0x" + "A" * 40, "AAAA AAAA " * 5, "b" * 64])
def test_fingerprints_as_people_write_them(text: str) -> None:
    assert fingerprint_of(text) in ("A" * 40, "B" * 64)


@pytest.mark.parametrize("text", ["", "A" * 16, "A" * 39, "G" * 40, "A" * 41, "\u0661" * 40])
def test_short_fingerprints_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        fingerprint_of(text)
