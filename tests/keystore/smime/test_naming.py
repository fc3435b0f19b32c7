"""How messages name certificates, those that authorities have made in odd ways among them."""

from __future__ import annotations

import hashlib

import pytest
from asn1crypto import x509 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keystore import smime
from keystore.smime import ber, naming
from tests.fixtures.x509 import Authority, Issued, addresses, name, private_key, root


def without_identifier(mail_authority: Authority) -> Issued:
    """A certificate that states no key identifier."""
    return mail_authority.issue(name("Alice"), private_key("p256", 1), addresses("alice@example.org"))


def test_a_key_identifier_that_is_not_stated(mail_authority: Authority) -> None:
    """RFC 5280 section 4.2.1.2, method 1: what programs compute for themselves."""
    found = without_identifier(mail_authority)
    point = found.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    assert smime.names(naming.key_name(hashlib.sha1(point).digest()), found.der)
    assert not smime.names(naming.key_name(hashlib.sha1(point + b"x").digest()), found.der)


def resigned(found: Issued, key: ec.EllipticCurvePrivateKey, **changes: object) -> bytes:
    """The certificate with other fields, which the library would not write, signed anew."""
    whole = asn1.Certificate.load(found.der)
    body = whole["tbs_certificate"].copy()
    for field, value in changes.items():
        body[field] = value
    signature = key.sign(body.dump(force=True), ec.ECDSA(hashes.SHA256()))
    made = asn1.Certificate(
        {
            "tbs_certificate": body,
            "signature_algorithm": whole["signature_algorithm"],
            "signature_value": signature,
        }
    )
    return bytes(made.dump())


@pytest.mark.parametrize("serial", [-5, 0, 1, 127, 128, -129, 2**159])
def test_odd_serial_numbers(mail_authority: Authority, serial: int) -> None:
    """RFC 5280 section 4.1.2.2 wants positive ones; authorities have issued others, and they are named so."""
    der = resigned(without_identifier(mail_authority), mail_authority.key, serial_number=serial)
    own = smime.names_in_messages(der)[0]
    assert smime.serial_number(own) == serial
    assert smime.names(own, der)
    assert (
        smime.open_message(
            smime.envelop(b"octets", {der: smime.NOTHING_STATED}).der,
            smime.SecretKey(der, private_key("p256", 1)),
        ).octets
        == b"octets"
    )


def test_names_that_are_none(mail_authority: Authority) -> None:
    """Anything may stand in a message in place of a name."""
    der = without_identifier(mail_authority).der
    own = smime.names_in_messages(der)[0]
    number = ber.elements(ber.only(own, ber.SEQUENCE).inside)[1].whole
    odd = [
        b"",
        b"\0",
        b"0\x80",
        ber.element(ber.SEQUENCE, number),
        ber.element(ber.SEQUENCE, number + number),
    ]
    odd += [ber.element(ber.SEQUENCE, ber.element(ber.SEQUENCE, one) + number) for one in (b"", b"x", own)]
    odd.append(ber.element(ber.SEQUENCE, b"\x0c\x01\xff" + number))
    for one in odd:
        assert not smime.names(one, der)


def test_other_names_with_the_same_number(mail_authority: Authority) -> None:
    der = without_identifier(mail_authority).der
    other = resigned(
        without_identifier(root("Another")),
        private_key("p256", 0),
        serial_number=smime.serial_number(smime.names_in_messages(der)[0]),
    )
    assert not smime.names(smime.names_in_messages(other)[0], der)
