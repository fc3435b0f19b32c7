"""Messages to keys that stand by themselves: who can read them is looked at before anybody gets them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Purpose, key_id
from keystore.openpgp.encrypting import RecipientKey, encrypt_to
from keystore.openpgp.message import recipient_key
from tests.fixtures.keystores import NOW, credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]


def prepared(keystore: Keystore, address: str) -> RecipientKey:
    """The key of a new certificate to encrypt to."""
    certificate = keystore.generate(address)
    later = NOW + timedelta(days=1)
    (key, *_) = keystore.usability(certificate.fingerprint, Purpose.ENCRYPT, later).keys
    return recipient_key(certificate.octets, key)


def test_it_names_the_keys_in_their_order_and_opens(keystore: Keystore) -> None:
    keys = [prepared(keystore, f"{name}@example.org") for name in ("one", "two", "three")]
    made = encrypt_to(b"treasure", keys)
    assert openpgp.key_ids(made) == tuple(key_id(key.fingerprint) for key in keys)
    assert keystore.decrypt(made, NOW).octets == b"treasure"


def test_octets_of_another_key_are_found_out(keystore: Keystore) -> None:
    one, two = prepared(keystore, "one@example.org"), prepared(keystore, "two@example.org")
    with pytest.raises(KeyRefused, match="other keys than those chosen"):
        encrypt_to(b"treasure", [RecipientKey(one.octets, two.fingerprint)])


@pytest.mark.parametrize("octets", [b"", b"no key", bytes(100)])
def test_what_is_no_key_is_refused(octets: bytes) -> None:
    with pytest.raises(KeyRefused, match=r"cannot encrypt to the key A{40}"):
        encrypt_to(b"treasure", [RecipientKey(octets, Fingerprint("A" * 40))])


def test_nobody_is_refused() -> None:
    with pytest.raises(KeyRefused, match="nobody"):
        encrypt_to(b"treasure", [])
