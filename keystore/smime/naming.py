"""PURE. How CMS messages name certificates: by issuer and serial number, or by key identifier.

A name is octets (DER) here. Programs that write an issuer anew may choose other kinds of strings for it than
the certificate has; `same` compares such names as RFC 5280 has it.

Standards: RFC 5652 section 10.2.4 (issuerAndSerialNumber), RFC 5280 sections 4.2.1.2 and 7.1.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from asn1crypto import core, x509

from keystore.smime import ber
from keystore.smime.certificate import key_identifier

_VERSION = 0xA0
_PUBLIC_KEY = 5
"""Where it stands in a certificate's body that states no version."""
MAX_NAME = 4096
"""Octets of a name that is compared otherwise than octet by octet."""
_BMP_STRING = 0x1E


@lru_cache(maxsize=1024)
def name_in_messages(certificate: bytes) -> bytes:
    """The issuer and serial number (DER) of a certificate (DER), in the very octets of the certificate."""
    body = x509.Certificate.load(certificate)["tbs_certificate"]
    return ber.element(ber.SEQUENCE, body["issuer"].dump() + body["serial_number"].dump())


def key_name(identifier: bytes) -> bytes:
    """How messages name a certificate by its subject key identifier, as DER."""
    return bytes(core.OctetString(identifier).dump())


@lru_cache(maxsize=1024)
def names_in_messages(certificate: bytes) -> tuple[bytes, ...]:
    """All that messages can call a certificate (DER): issuer and serial number, and its key identifier.

    Where it states none, the one that everybody computes (RFC 5280 section 4.2.1.2, method 1).
    """
    identifier = key_identifier(certificate)
    if identifier is None:
        identifier = hashlib.sha1(_key_bits(certificate)).digest()  # noqa: S324  a name, no proof
    return (name_in_messages(certificate), key_name(identifier))


def _key_bits(certificate: bytes) -> bytes:
    """The subjectPublicKey of a certificate; a stranger's algorithm need be none that is known."""
    body = ber.elements(ber.elements(ber.only(certificate, ber.SEQUENCE).inside)[0].inside)
    public_key_info = body[_PUBLIC_KEY + (body[0].tag == _VERSION)]
    return ber.elements(public_key_info.inside)[1].contents[1:]


def serial_number(name: bytes) -> int | None:
    """The serial number in a name; None in one that is a key identifier, or is no name."""
    try:
        parts = ber.elements(ber.only(name, ber.SEQUENCE).inside)
        return int.from_bytes(parts[1].contents, signed=True) if parts[1].tag == ber.INTEGER else None
    except (ber.Malformed, IndexError):
        return None


def names(name: bytes, certificate: bytes) -> bool:
    """Whether a message that says `name` means this certificate (DER)."""
    return any(same(name, own) for own in names_in_messages(certificate))


def same(one: bytes, other: bytes) -> bool:
    """Whether two names mean the same certificate, whatever kinds of strings they are written in."""
    if one == other:
        return True
    serial = serial_number(one)
    if serial is None or serial != serial_number(other) or len(one) + len(other) > 2 * MAX_NAME:
        return False
    try:
        return _issuer(one) == _issuer(other)
    except Exception:  # noqa: BLE001  whatever a parser raises, they are not the same
        return False


@lru_cache(maxsize=256)
def _issuer(name: bytes) -> tuple[tuple[bytes, str], ...]:
    """Types and values of an issuer's name, without regard to case and blanks (RFC 5280 section 7.1)."""
    issuer = ber.elements(ber.only(name, ber.SEQUENCE).inside)[0]
    found = []
    for relative in ber.elements(issuer.inside):
        for attribute in ber.elements(relative.inside):
            kind, value = ber.elements(attribute.inside)
            text = value.contents.decode("utf-16-be" if value.tag == _BMP_STRING else "utf-8")
            found.append((kind.contents, " ".join(text.casefold().split())))
    return tuple(found)
