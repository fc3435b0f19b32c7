"""What a message says by Autocrypt: which fields count, and whose (Level 1 sections 2.1, 2.3 and 3.1)."""

from __future__ import annotations

import pytest

from keystore.model import Trust
from secmailproxy.hearing import of_header_section
from secmailproxy.mime.autocrypt import certificate_field
from tests.fixtures.desk import (
    ALICE,
    BOB,
    DATE,
    EVE,
    MADE,
    NOW,
    TEXT,
    Desk,
    container,
    desk,
    message,
    protected,
)

__all__ = ["desk"]

CERTIFICATE = b"a certificate, which nobody reads here"


def field(address: str = ALICE, certificate: bytes = CERTIFICATE, *, mutual: bool = False) -> bytes:
    made = certificate_field("Autocrypt", address, certificate, mutual=mutual)
    assert made is not None
    return made


def gossip(address: str, certificate: bytes = CERTIFICATE) -> bytes:
    made = certificate_field("Autocrypt-Gossip", address, certificate)
    assert made is not None
    return made


def section(*fields: bytes, author: bytes = b"Alice <Alice@Example.org>", date: bytes = DATE) -> bytes:
    return b"From: " + author + b"\r\nDate: " + date + b"\r\n" + b"".join(fields) + b"\r\n"


def test_a_plain_header_tells_its_author_s_certificate() -> None:
    found = of_header_section(section(field(mutual=True)))
    assert found is not None
    assert (found.author, found.certificate, found.mutual, found.encrypted) == (
        ALICE,
        CERTIFICATE,
        True,
        False,
    )
    assert found.sent == MADE.replace(microsecond=0)


@pytest.mark.parametrize(
    "fields",
    [
        [field(BOB)],
        [field(), field(certificate=b"another one")],
        [field().replace(b"keydata", b"critical=1; keydata")],
        [field().replace(b"addr=", b"address=")],
        [b"Autocrypt: addr=alice@example.org; keydata=no base64!\r\n"],
        [b"Autocrypt: addr=alice@example.org; addr=alice@example.org; keydata=AAAA\r\n"],
        [b"Autocrypt: addr=alice@example.org; keydata=" + b"A" * 11000 + b"\r\n"],
        [gossip(ALICE)],
        [],
    ],
)
def test_a_field_that_is_not_valid_is_as_none(fields: list[bytes]) -> None:
    found = of_header_section(section(*fields))
    assert found is not None
    assert found.certificate == b""


def test_of_two_fields_the_valid_one_counts_and_unknown_attributes_may_be_optional() -> None:
    found = of_header_section(section(field(BOB), field().replace(b"keydata", b"_new=1; keydata")))
    assert found is not None
    assert found.certificate == CERTIFICATE


@pytest.mark.parametrize(
    "said",
    [
        section(field(), author=b"alice@example.org, bob@example.org"),
        section(field(), b"From: alice@example.org\r\n"),
        section(field(), date=b"yesterday"),
        section(field(), b"Content-Type: multipart/report; boundary=x\r\n"),
        section(field(), b"X-Spam-Flag: YES\r\n"),
        section(field(), b"X-Spam-Status: Yes, score=9\r\n"),
    ],
)
def test_some_messages_say_nothing_at_all(said: bytes) -> None:
    assert of_header_section(said) is None


def test_an_encrypted_message_tells_its_author_its_signer_and_gossip(desk: Desk) -> None:
    """Of those alone whom it names, and not of the author; a field inside goes before one outside."""
    more = (
        field(certificate=b"inside")
        + gossip(EVE)
        + gossip(BOB)
        + gossip("mallory@example.net")
        + gossip(ALICE)
    )
    inside = protected(more=b"Cc: Eve <EVE@example.net>\r\n" + more)
    found = desk.read(field(certificate=b"outside") + message(desk.encrypt(inside, ALICE))).heard
    assert found is not None
    assert (found.author, found.certificate, found.encrypted) == (ALICE, b"inside", True)
    assert found.signer == desk.keys[ALICE]
    assert [(one.address, one.certificate) for one in found.gossip] == [
        (EVE, CERTIFICATE),
        (BOB, CERTIFICATE),
    ]


def test_gossip_in_clear_counts_for_nothing(desk: Desk) -> None:
    inside = gossip(BOB) + TEXT
    found = desk.read(gossip(BOB) + message(desk.sign(inside))).heard
    assert found is not None
    assert (found.gossip, found.encrypted, found.signer) == ((), False, desk.keys[ALICE])


def test_what_could_not_be_opened_tells_what_stands_outside(desk: Desk) -> None:
    armored = desk.keystore.encrypt(TEXT, [desk.keys[BOB]], None, NOW)
    broken = message(container(armored[:-60] + armored[-30:]))
    found = desk.read(field() + broken).heard
    assert found is not None
    assert (found.certificate, found.encrypted, found.signer) == (CERTIFICATE, False, None)
    assert desk.keystore.trust(desk.keys[ALICE]) is Trust.VERIFIED
