"""Encryption to a key that was prepared: to that key, or not at all."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.keystore import Keystore
from keystore.model import Purpose, key_id
from keystore.openpgp.certificate import single_key
from keystore.quick import encrypted, is_for

PAYLOAD = b"Subject: s\r\n\r\nx\r\n"


def prepared(keystore: Keystore, kind: str) -> tuple[bytes, bytes]:
    """A fresh key for encryption, and its ID."""
    made = keystore.generate("somebody@example.org", kind=kind)  # type: ignore[arg-type]  # from a table
    key = keystore.usability(made.fingerprint, Purpose.ENCRYPT, datetime.now(UTC)).keys[0]
    return single_key(made.octets, key), bytes.fromhex(key_id(key))


@pytest.mark.parametrize("kind", ["ed25519", "rsa3072"])
def test_it_is_encrypted_to_the_prepared_key_alone(kind: str, keystore: Keystore) -> None:
    key, identifier = prepared(keystore, kind)
    armored = encrypted(PAYLOAD, key, identifier)
    assert armored.startswith(b"-----BEGIN PGP MESSAGE-----\r\n")
    assert armored.count(b"\n") == armored.count(b"\r\n")
    assert openpgp.key_ids(armored) == (identifier.hex().upper(),)
    assert keystore.decrypt(armored, datetime.now(UTC)).octets == PAYLOAD


def test_a_key_that_is_not_the_prepared_one_is_refused(keystore: Keystore) -> None:
    key, identifier = prepared(keystore, "ed25519")
    other, _ = prepared(keystore, "ed25519")
    for damaged in (other, b"", key[:60], b"no key"):
        with pytest.raises(KeyRefused, match="prepared key"):
            encrypted(PAYLOAD, damaged, identifier)
    for at in range(len(key)):
        # Wherever an octet is another one: the prepared key, or nothing.
        try:
            armored = encrypted(PAYLOAD, key[:at] + bytes([key[at] ^ 1]) + key[at + 1 :], identifier)
        except KeyRefused:
            continue
        assert keystore.decrypt(armored, datetime.now(UTC)).octets == PAYLOAD


SHORT = b"\xc1\x0c\x03KEYNUMBR\x12xx"
LONG = b"\xc1\xc0\x01\x03KEYNUMBR\x01" + b"x" * 183


@pytest.mark.parametrize(
    ("packets", "right"),
    [
        (SHORT + b"\xd2\x01\x01", True),
        (LONG + b"\xd2\x01\x01", True),
        (SHORT + SHORT + b"\xd2\x01\x01", False),
        (SHORT, False),
        (SHORT.replace(b"KEYNUMBR", bytes(8)) + b"\xd2\x01\x01", False),
        (SHORT.replace(b"\x03K", b"\x06K") + b"\xd2\x01\x01", False),
        (b"\xc3" + SHORT[1:] + b"\xd2\x01\x01", False),
        (b"\xc1\xff\x00\x00\x00\x0c" + SHORT[2:] + b"\xd2\x01\x01", False),
        (b"", False),
    ],
)
def test_whom_a_message_is_for(packets: bytes, right: bool) -> None:
    assert is_for(packets, b"KEYNUMBR") is right
