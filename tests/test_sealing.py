"""The proof that ends the making of each message: a product that is not what was decided does not leave."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from secmailproxy.mime import assemble
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.protected import ProtectedMessage, Protects, protect_header, show_all
from secmailproxy.mime.transfer import encode_quoted_printable
from secmailproxy.preparation import ProofFailed, prepared
from secmailproxy.sealing import Sealer
from secmailproxy.stamp import Stamp
from tests.fixtures.awkward_mail import CYRILLIC, HEAD, one, part, several, wrapped
from tests.fixtures.growth import assert_linear
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
    return keystore.encrypt(ready.payload, recipients, signer, NOW)


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
        (product(payload, payload, alice, outer) + b"more\r\n", "something behind the message"),
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


# --- how much a message grows, and what that costs

LARGE = replace(STAMP, boundary="=-0123456789")
GROWING = {
    "Cyrillic in 8bit": one(
        b"text/plain; charset=utf-8", CYRILLIC * 1000, b"Content-Transfer-Encoding: 8bit"
    ),
    "Chinese": one(b"text/plain; charset=gb18030", "\u5b9d\u85cf\r\n".encode("gb18030") * 5_000),
    "UTF-16": one(b"text/plain; charset=utf-16", ("\u0416\n" * 15_000).encode("utf-16")),
    "binary": one(b"application/pdf", bytes(range(256)) * 300, b"Content-Transfer-Encoding: binary"),
    "text of full stops": one(b"text/plain", b".\r\n" * 15_000 + b"\xff"),
    "text of blanks": one(b"text/plain", b" \r\n" * 15_000),
    "text of From lines": one(b"text/plain", b"From \r\n" * 5_000),
    "8-bit octets said to be quoted-printable": one(
        b"text/plain; charset=utf-8", CYRILLIC * 1000, b"Content-Transfer-Encoding: quoted-printable"
    ),
    "attached message that must not change": one(
        b"message/rfc822", b"Subject: \xc3\xbc\r\n\r\n" + CYRILLIC * 1000
    ),
}
READY_FOR_TRANSPORT = {
    "base64 in lines of 998": one(b"a/b", wrapped(bytes(90_000), 998), b"Content-Transfer-Encoding: base64"),
    "base64 in lines of 72": one(b"a/b", wrapped(bytes(90_000), 72), b"Content-Transfer-Encoding: base64"),
    "ASCII": one(b"text/plain", b"nothing but ASCII here\r\n" * 5_000),
    "quoted-printable": one(
        b"text/plain; charset=utf-8",
        encode_quoted_printable(CYRILLIC * 1000),
        b"Content-Transfer-Encoding: quoted-printable",
    ),
}


@pytest.mark.parametrize(
    ("messages", "signed", "encrypted"),
    [(GROWING, 78 / 57, 78 / 57 * 66 / 48), (READY_FOR_TRANSPORT, 1.027, 1.027 * 66 / 48)],
    ids=["not 7bit", "7bit"],
)
def test_mime_01_the_product_grows_by_no_more_than_is_said(
    messages: dict[str, bytes],
    signed: float,
    encrypted: float,
    keystore: Keystore,
    people: tuple[Fingerprint, Fingerprint],
) -> None:
    """docs/decisions/0015-what-leaves.md has these figures."""
    alice, bob = people
    sealer = Sealer(keystore)
    for kind, octets in messages.items():
        message = parse(octets)
        (product,) = sealer.encrypted(message, [(alice, bob)], alice, LARGE, hidden=True)
        assert len(product) <= encrypted * len(octets) + 4096, kind
        assert len(sealer.signed(message, alice, LARGE)) <= signed * len(octets) + 4096, kind


@pytest.mark.parametrize("kind", ["attachment", "binary", "text"])
def test_mime_01_large_messages_cost_what_their_size_says(kind: str) -> None:
    """Time and memory of preparing and proving, without the cryptography."""

    def prepare(size: int) -> Entity:
        if kind == "text":
            line = "Gr\u00fc\u00dfe und so weiter \r\n".encode()
            return parse(one(b"text/plain; charset=utf-8", line * (size // len(line))))
        body = bytes(size) if kind == "binary" else wrapped(bytes(size * 3 // 4), 72)
        encoding = b"8bit" if kind == "binary" else b"base64"
        return parse(HEAD + several(b"mixed", b"m", part(b"text/plain", b"a"), part(b"a/b", body, encoding)))

    def work(message: Entity) -> None:
        prepared(message, Protects.CIPHER, LARGE, hidden=True)

    size = 300_000 if kind == "text" else 1_600_000
    assert_linear(prepare, work, size)
    message = prepare(size)
    tracemalloc.start()
    try:
        work(message)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(message.octets)


def test_mime_01_an_attachment_of_25_mb_stands_its_proof(
    keystore: Keystore, people: tuple[Fingerprint, Fingerprint]
) -> None:
    """Which opens it again and compares every octet; written by a client that has lines of 72."""
    attached = part(b"a/b", (b"A" * 72 + b"\r\n") * (25 * 1024 * 1024 // 74), b"base64")
    message = HEAD + several(b"mixed", b"m", part(b"text/plain", b"the plan"), attached)
    (product,) = Sealer(keystore).encrypted(parse(message), [people], people[0], LARGE, hidden=True)
    assert 0 < len(product) - len(message) < len(message) * 0.376
