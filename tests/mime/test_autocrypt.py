"""Autocrypt fields as Level 1 has them, and a key as an attachment."""

from __future__ import annotations

import base64
import re

import pytest

from secmailproxy.mime import header, transfer
from secmailproxy.mime.autocrypt import FIELD_MOST, certificate_field, gossip_addresses, key_part
from secmailproxy.mime.canonical import is_safe
from secmailproxy.mime.entity import parse

CERTIFICATE = bytes(range(256)) * 3


@pytest.mark.parametrize("length", [1, 56, 57, 58, 700])
@pytest.mark.parametrize(("mutual", "preference"), [(False, None), (True, "mutual")])
def test_a_field_tells_the_certificate_and_nothing_else(
    length: int, mutual: bool, preference: str | None
) -> None:
    certificate = CERTIFICATE[:length]
    field = certificate_field("Autocrypt", "alice@example.org", certificate, mutual=mutual)
    assert field is not None
    assert is_safe(field + b"\r\n")
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert not re.search(rb"\r\n(?![ ]|\Z)", field)
    value = header.value(parse(field + b"\r\n"), "Autocrypt")
    assert value is not None
    attributes = dict(one.strip().split("=", 1) for one in value.decode().split(";"))
    assert base64.b64decode(re.sub(r"\s", "", attributes.pop("keydata")), validate=True) == certificate
    assert attributes.pop("addr") == "alice@example.org"
    assert attributes.pop("prefer-encrypt", None) == preference
    assert not attributes


def test_a_field_is_at_most_10_kib() -> None:
    sizes = [
        len(field)
        for size in range(7300, 7600)
        if (field := certificate_field("Autocrypt", "a@example.org", bytes(size))) is not None
    ]
    assert FIELD_MOST - 4 <= max(sizes) <= FIELD_MOST
    assert 0 < len(sizes) < 300


@pytest.mark.parametrize(
    "address",
    ["a;prefer-encrypt=mutual@x.org", '"a b"@x.org', "a\r\nBcc:b@x.org", "\u00fc@x.org", "a", "a@\u00fc"],
)
def test_an_address_that_would_need_quotes_gets_no_field(address: str) -> None:
    assert certificate_field("Autocrypt", address, b"certificate") is None


def test_gossip_is_read_as_others_read_it() -> None:
    fields = [certificate_field("Autocrypt-Gossip", one, b"x") or b"" for one in ("Bob@x.org", "carol@x.org")]
    payload = parse(b"".join(fields) + b"autocrypt-gossip: keydata=eA==; ADDR = dave@x.org ;x=y\r\n\r\n")
    assert gossip_addresses(payload) == {"bob@x.org", "carol@x.org", "dave@x.org"}
    assert gossip_addresses(parse(b"Autocrypt-Gossip: keydata=eA==\r\n\r\n")) == {""}
    assert gossip_addresses(parse(b"Autocrypt: addr=a@x\r\n\r\n")) == frozenset()


def test_an_attached_key_is_what_mail_clients_offer_to_import() -> None:
    armored = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\r\n\r\nAAAA\r\n-----END PGP PUBLIC KEY BLOCK-----\r\n"
    part = key_part(armored, "0123456789ABCDEF" * 2 + "01234567")
    assert is_safe(part)
    entity = parse(part)
    assert entity.content_type.full == "application/pgp-keys"
    assert entity.content_type.param("name") == "OpenPGP_0x0123456789ABCDEF0123456789ABCDEF01234567.asc"
    assert transfer.decoded_body(entity) == armored
