"""The proof that ends the making of each message: a product that is not what was decided does not leave."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from secmailproxy.mime import assemble
from secmailproxy.mime.entity import parse
from secmailproxy.mime.protected import ProtectedMessage, Protects, protect_header, show_all
from secmailproxy.preparation import ProofFailed, Stamp
from secmailproxy.sealing import Sealer
from tests.fixtures.keystores import KeystoreFactory, credentials, keystore, make_keystore

__all__ = ["credentials", "keystore", "make_keystore"]

NOW = datetime.now(UTC) + timedelta(days=1)  # keys are made when the tests run, long after this line
STAMP = Stamp(NOW, "boundary", "<1@example.org>")
MESSAGE = parse(b"From: alice@example.org\r\nSubject: s\r\n\r\nbody\r\n")
FIELDS = (b"From: alice@example.org\r\n", b"Subject: s\r\n")
READY = protect_header(FIELDS, b"body\r\n", Protects.CIPHER, show_all)


@pytest.fixture
def people(keystore: Keystore) -> tuple[Fingerprint, Fingerprint]:
    """Two keys of this keystore."""
    return keystore.generate("alice@example.org").fingerprint, keystore.generate(
        "bob@example.org"
    ).fingerprint


def encrypted(
    keystore: Keystore,
    ready: ProtectedMessage,
    recipients: tuple[Fingerprint, ...],
    signer: Fingerprint | None,
) -> bytes:
    return assemble.encrypted(
        ready.outer, keystore.encrypt(ready.payload, recipients, signer, NOW), "boundary"
    )


def test_every_deviation_of_an_encrypted_message_is_found(
    keystore: Keystore, people: tuple[Fingerprint, Fingerprint]
) -> None:
    alice, bob = people
    sealer = Sealer(keystore)
    other = replace(READY, payload=READY.payload.replace(b"body", b"bodY"))
    right = encrypted(keystore, READY, (alice, bob), alice)
    sealer._prove_opened(right, READY, (alice, bob), alice, NOW)
    table = [
        (encrypted(keystore, other, (alice, bob), alice), (alice, bob), "does not decrypt to what it was"),
        (encrypted(keystore, READY, (alice, bob), bob), (alice, bob), f"signature of {alice}"),
        (encrypted(keystore, READY, (alice, bob), None), (alice, bob), f"signature of {alice}"),
        (right, (alice,), "a key that was not asked for"),
        (encrypted(keystore, READY, (alice,), alice), (alice, bob), "not encrypted to every key"),
    ]
    for product, asked, said in table:
        with pytest.raises(ProofFailed, match=said):
            sealer._prove_opened(product, READY, asked, alice, NOW)


def test_every_deviation_of_a_signed_message_is_found(
    keystore: Keystore, people: tuple[Fingerprint, Fingerprint]
) -> None:
    alice, bob = people
    sealer = Sealer(keystore)

    def product(payload: bytes, signed: bytes, signer: Fingerprint, outer: tuple[bytes, ...]) -> bytes:
        return assemble.signed(outer, payload, keystore.sign(signed, signer, NOW), "boundary")

    payload, outer = READY.payload, READY.outer
    sealer._prove_signed(product(payload, payload, alice, outer), READY, alice, NOW)
    table = [
        (product(payload + b"x", payload, alice, outer), "signed octets are not what they were"),
        (product(payload, payload + b"x", alice, outer), f"signature of {alice} does not verify"),
        (product(payload, payload, bob, outer), f"signature of {alice} does not verify"),
        (
            product(payload, payload, alice, (*outer, b"X-More: y\r\n")),
            "outer header is not what was decided",
        ),
        (b"".join(outer) + b"MIME-Version: 1.0\r\n\r\nbody", "signed octets are not what they were"),
    ]
    for made, said in table:
        with pytest.raises(ProofFailed, match=said):
            sealer._prove_signed(made, READY, alice, NOW)


@pytest.mark.parametrize(
    "field", [b"Bcc: x@example.org\r\n", b"Subject: second\r\n", b"Secmail-Verdict-1: x\r\n"]
)
def test_an_outer_header_with_more_than_may_leave_is_found(
    field: bytes, keystore: Keystore, people: tuple[Fingerprint, Fingerprint]
) -> None:
    ready = replace(READY, outer=(*READY.outer, field))
    with pytest.raises(ProofFailed, match="a field that must not leave"):
        Sealer(keystore).sealed(ready, people[:1], people[0], STAMP)


def test_a_boundary_that_occurs_in_the_message_is_found(
    keystore: Keystore, people: tuple[Fingerprint, Fingerprint]
) -> None:
    with pytest.raises(ProofFailed, match="boundary occurs"):
        Sealer(keystore).signed(MESSAGE, people[0], replace(STAMP, boundary="body"))


def test_only_keys_held_here_are_opened_for_the_proof(
    keystore: Keystore, make_keystore: KeystoreFactory
) -> None:
    other = make_keystore("other")
    theirs = other.generate("carol@example.org").fingerprint
    keystore.import_keys(other.export(theirs), source="test")
    product = Sealer(keystore).sealed(READY, (theirs,), None, STAMP)
    ciphertext = assemble.openpgp_ciphertext(parse(product)) or b""
    assert other.decrypt(ciphertext, NOW).octets == READY.payload
