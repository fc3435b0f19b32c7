"""Certificates that travel with mail: Autocrypt, Autocrypt-Gossip, and a key as an attachment.

Standards: Autocrypt Level 1 sections 2.1 (Autocrypt), 3.1 (Autocrypt-Gossip), 2.1.1 (at most 10 KiB);
RFC 3156 section 7 (application/pgp-keys).
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from secmailproxy.mime import header, transfer
from secmailproxy.mime.canonical import LINE_MOST
from secmailproxy.mime.entity import Entity

FieldName = Literal["Autocrypt", "Autocrypt-Gossip"]

FIELD_MOST = 10 * 1024
"""Octets of one field; readers need not take a larger one (Level 1 section 2.1.1)."""

_ADDRESS = re.compile(r"[^\s@;=\"<>()\x00-\x20\x7f-\U0010ffff]+@[A-Za-z0-9.-]+")
"""An address that needs no quotes, which this field has not got."""
_ATTRIBUTE = re.compile(rb"\s*([A-Za-z_][A-Za-z0-9_-]*)\s*=([^;]*)(?:;|\Z)", re.DOTALL)
_ADDR_ATTRIBUTE = re.compile(rb"(?:^|;)\s*addr\s*=\s*([^;\s]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ToldCertificate:
    """What one valid field says."""

    address: str
    """As it is written."""
    certificate: bytes = field(repr=False)
    """Binary, and whatever the sender put there: not looked into."""
    mutual: bool


def told(value: bytes) -> ToldCertificate | None:
    """What the value of an Autocrypt or Autocrypt-Gossip field says; None where it is not valid.

    An attribute that is not known makes it so, unless its name begins with "_" (Level 1 section 2.1).
    """
    if len(value) > FIELD_MOST:
        return None
    attributes: dict[bytes, bytes] = {}
    at = 0
    while value[at:].strip():
        match = _ATTRIBUTE.match(value, at)
        if match is None or match[1].lower() in attributes:
            return None
        attributes[match[1].lower()] = match[2].strip()
        at = match.end()
    known = {name: text for name, text in attributes.items() if not name.startswith(b"_")}
    if not {b"addr", b"keydata"} <= known.keys() <= {b"addr", b"keydata", b"prefer-encrypt"}:
        return None
    try:
        certificate = base64.b64decode(b"".join(known[b"keydata"].split()), validate=True)
        address = known[b"addr"].decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return None
    if not certificate or not address:
        return None
    return ToldCertificate(address, certificate, known.get(b"prefer-encrypt") == b"mutual")


@lru_cache(maxsize=1024)
def certificate_field(
    name: FieldName, address: str, certificate: bytes, *, mutual: bool = False
) -> bytes | None:
    """The field that tells the binary `certificate` of `address`, ending in CRLF.

    `mutual`: prefer-encrypt=mutual, which asks correspondents to encrypt whenever both sides ask for it.
    None when the field would be larger than readers must take, or cannot hold the address.
    """
    if not _ADDRESS.fullmatch(address) or len(address) > LINE_MOST // 2:
        return None
    preference = " prefer-encrypt=mutual;" if mutual else ""
    digits = transfer.encode_base64(certificate)[:-2].replace(b"\r\n", b"\r\n ")
    made = f"{name}: addr={address};{preference} keydata=\r\n ".encode("ascii") + digits + b"\r\n"
    return made if len(made) <= FIELD_MOST else None


def gossip_addresses(payload: Entity) -> frozenset[str]:
    """The addresses whose certificates the payload's header tells, in lower case."""
    values = header.values(payload, "Autocrypt-Gossip")
    found = (_ADDR_ATTRIBUTE.search(value) for value in values)
    return frozenset(match[1].decode("latin-1").lower() if match else "" for match in found)


def key_part(armored: bytes, fingerprint: str) -> bytes:
    """A MIME entity that offers a certificate (ASCII armor, CRLF) for import."""
    name = f"OpenPGP_0x{fingerprint}.asc".encode("ascii")
    return b"".join(
        (
            b'Content-Type: application/pgp-keys;\r\n name="%b"\r\n' % name,
            b"Content-Description: OpenPGP public key\r\n",
            b"Content-Transfer-Encoding: 7bit\r\n",
            b'Content-Disposition: attachment;\r\n filename="%b"\r\n\r\n' % name,
            armored,
        )
    )
