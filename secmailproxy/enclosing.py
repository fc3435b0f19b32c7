"""Chooses the certificates that go along with a message: the sender's own, and those of its recipients.

    Autocrypt           on every message that is protected by OpenPGP, when its author's key signs it
    Autocrypt-Gossip    inside an encrypted message that names several recipients, one for each of them;
                        what a blind recipient gets or has decides nothing
    attached key        where it was asked for, by the account or for this one message

Standards: Autocrypt Level 1 sections 2.1 and 3.1; RFC 3156 section 7.
Security: a certificate whose trust is rejected goes nowhere (SMTP-09: nothing tells of blind recipients).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from secmailproxy.addressees import named_addresses
from secmailproxy.errors import SigningKeyUnusable
from secmailproxy.mime.autocrypt import certificate_field, key_part
from secmailproxy.mime.enclosures import Enclosures
from secmailproxy.mime.entity import Entity
from secmailproxy.mime.shown import author
from secmailproxy.rules import normal_address

GOSSIP_MOST = 32 * 1024
"""Octets of all Autocrypt-Gossip fields of a message; whose certificate finds no room is left out."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """What an account's owner wants to go along."""

    autocrypt: bool = True
    mutual: bool = False
    """Whether correspondents are asked to encrypt whenever they do so too (prefer-encrypt=mutual)."""
    attach_key: bool = False


@dataclass(frozen=True, slots=True)
class Recipients:
    """The recipients of the one copy that all of them read, and the certificates it is encrypted to."""

    addresses: Sequence[str] = ()
    fingerprints: Sequence[Fingerprint] = ()


def enclosures(
    keystore: Keystore,
    message: Entity,
    sender: str,
    signer: Fingerprint,
    sharing: Sharing,
    now: datetime,
    named: Recipients = Recipients(),
) -> Enclosures:
    """What goes along with `message`, which `signer` signs for `sender`.

    `named` are the recipients that the message names when it is encrypted, else none. An own certificate that
    cannot be used to encrypt to its owner is not offered; SigningKeyUnusable where it was to be attached.
    """
    part = _key_part(keystore, sender, signer, now) if sharing.attach_key else b""
    if not sharing.autocrypt:
        return Enclosures(part=part)
    own = _own_field(keystore, message, signer, sharing, now)
    gossip = _within(_gossip(keystore, message, normal_address(sender), named, now))
    return Enclosures((own,) if own else (), tuple(gossip), part)


def _own_field(
    keystore: Keystore, message: Entity, signer: Fingerprint, sharing: Sharing, now: datetime
) -> bytes | None:
    """The Autocrypt field; None unless the signer's certificate is that of the only author."""
    address = author(message)
    certificate = keystore.exports.minimal(signer, address, now, signs=True) if address else None
    if address is None or certificate is None:
        return None
    return certificate_field("Autocrypt", address, certificate, mutual=sharing.mutual)


def _gossip(
    keystore: Keystore, message: Entity, sender: str, named: Recipients, now: datetime
) -> Iterator[bytes]:
    """A field for each named recipient but the sender, when there are two or more."""
    if len(named.addresses) < 2:
        return
    told = named_addresses(message) - {sender}
    others = [one for one in dict.fromkeys(map(normal_address, named.addresses)) if one in told]
    if len(others) < 2:
        return
    known = [one for fingerprint in named.fingerprints if (one := keystore.certificate(fingerprint))]
    for address in others:
        claiming = (one.fingerprint for one in known if address in one.addresses)
        certificates = (keystore.exports.minimal(fingerprint, address, now) for fingerprint in claiming)
        certificate = next((one for one in certificates if one is not None), None)
        field = certificate and certificate_field("Autocrypt-Gossip", address, certificate)
        if field:
            yield field


def _within(fields: Iterator[bytes]) -> Iterator[bytes]:
    """As many of the fields as there is room for, in their order."""
    room = GOSSIP_MOST
    for field in fields:
        if len(field) <= room:
            room -= len(field)
            yield field


def _key_part(keystore: Keystore, sender: str, signer: Fingerprint, now: datetime) -> bytes:
    certificate = keystore.exports.minimal(signer, normal_address(sender), now, signs=True)
    if certificate is None:
        raise SigningKeyUnusable(
            f"the own key {signer} of <{sender}> was to be attached, and nobody could encrypt to it; renew "
            "it, or do without attach_key"
        )
    return key_part(keystore.exports.armored(certificate), signer)
