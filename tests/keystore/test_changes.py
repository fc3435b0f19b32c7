"""What is a change of a correspondent's certificate, and what is none."""

from __future__ import annotations

import pytest

from keystore import openpgp
from keystore.keystore import Keystore
from keystore.model import Introduction, Scheme
from keystore.openpgp.certificate import components, join
from keystore.openpgp.packet import Tag
from tests.fixtures.keystores import NOW as MOMENT
from tests.fixtures.x509 import NOW, Issued, addresses, key_usage, name, private_key, root
from tests.keystore.test_settling import BOB, DAY, FIRST, bring, certificate, used

CA = root("Changing Root", number=340).authority("Changing Authority", number=341)


def half(bit: str, number: int) -> Issued:
    """A certificate of bob's that serves for one purpose, as companies issue two to each person."""
    return CA.issue(name("Bob"), private_key("p256", number), key_usage(bit), addresses(BOB))


@pytest.mark.parametrize("is_imported", [True, False])
@pytest.mark.parametrize("signs_first", [True, False])
def test_one_certificate_to_sign_and_one_to_encrypt(
    keystore: Keystore, is_imported: bool, signs_first: bool
) -> None:
    """Nobody is asked which is right, for both are; signed mail brings them in any order."""
    signs, encrypts = half("digital_signature", 342), half("key_agreement", 343)
    for one in (signs, encrypts) if signs_first else (encrypts, signs):
        if is_imported:
            keystore.import_keys(one.pem, source="a test", now=NOW)
        else:
            keystore.smime.learn(Introduction(BOB, one.der, (CA.der,), b"", NOW), NOW)
    assert keystore.settling.waiting() == []
    assert [one.fingerprint for one in keystore.select(BOB, NOW, scheme=Scheme.SMIME).certificates] == [
        encrypts.fingerprint
    ]


def test_a_subkey_that_comes_later_puts_nobody_in_anothers_place(keystore: Keystore) -> None:
    """One that only signs stands for nobody; once it encrypts, it is a change like any other."""
    late = certificate(age=DAY)
    parts = components(late.certificate_octets)
    bare = join(one for one in parts if one.packet.tag != Tag.PUBLIC_SUBKEY)
    keystore.import_keys(bare, source="a test", now=MOMENT)
    bring(keystore, FIRST)
    bring(keystore, late)
    assert used(keystore) == FIRST.fingerprint
    assert [one.fingerprint for one in keystore.settling.waiting(BOB)] == [late.fingerprint]


def test_a_subkey_that_takes_the_place_of_an_expired_one_is_no_change(keystore: Keystore) -> None:
    """`key rotate` of the correspondent, seen late."""
    late = certificate(age=DAY)
    parts = components(late.certificate_octets)
    bare = join(one for one in parts if one.packet.tag != Tag.PUBLIC_SUBKEY)
    for octets in (bare, late.certificate_octets):
        keystore.import_keys(octets, source="a test", now=MOMENT)
    assert openpgp.certificate(late.certificate_octets).fingerprint == used(keystore)
    assert keystore.settling.waiting() == []
