"""New keys: version 4, readable by gpg 2.2, or version 6; with every self-signature made here.

The engine can generate keys too, but not with a time of expiry. What is made here is verified by the engine
before it is handed out.

Standards: RFC 9580 sections 5.2.3, 5.5.2, 10.1; RFC 4880 for what older readers expect (features,
preferences).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from keystore import policy
from keystore.errors import KeyRefused
from keystore.facts import KeyFlags
from keystore.model import Purpose, lower_case
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import facts
from keystore.openpgp.halves import MAKERS, Half, KeyKind
from keystore.openpgp.key import SecretKey
from keystore.openpgp.material import public_material
from keystore.openpgp.packet import Tag, write
from keystore.openpgp.selfsigning import (
    FLAGS,
    LIFETIME,
    PRIMARY_USER_ID,
    Subpacket,
    over_key,
    over_user_id,
    signature_packet,
)

_PREFERENCES = {
    4: (
        (11, bytes([9, 8, 7])),  # AES-256, AES-192, AES-128
        (21, bytes([10, 9, 8])),  # SHA-512, SHA-384, SHA-256
        (22, bytes([0])),  # no compression
        (30, bytes([0x01])),  # features: SEIPD version 1 only; gpg 2.2 cannot read version 2
    ),
    6: (
        (11, bytes([9, 8, 7])),
        (21, bytes([10, 9, 8])),
        (22, bytes([0])),
        (30, bytes([0x09])),  # features: SEIPD versions 1 and 2
        (39, bytes([9, 2, 7, 2])),  # AES-256 and AES-128, in OCB mode
    ),
}
"""By the version of the key (RFC 9580 section 5.2.3)."""


def user_id_of(address: str, name: str) -> str:
    """The user ID "Name <address>", or the address alone.

    Raises KeyRefused when address or name would make one that does not say what it should.
    """
    user_id = f"{name} <{address}>" if name else address
    if policy.addresses([user_id]) != (lower_case(address),) or not user_id.isprintable():
        raise KeyRefused(
            f"cannot make a user ID of name {name!r} and address {address!r}: give an address such as "
            "alice@example.org, and a name of one line without angle brackets"
        )
    return user_id


def generate(
    address: str,
    *,
    name: str = "",
    kind: KeyKind = "ed25519",
    now: datetime,
    expires: timedelta | None = None,
) -> SecretKey:
    """A new key for an address: a primary key that certifies and signs, a subkey that encrypts.

    The user ID is as `user_id_of` makes it. Raises KeyRefused.
    """
    user_id = user_id_of(address, name)
    created = int(now.timestamp())
    primary, subkey = (make(created) for make in MAKERS[kind])
    lifetime = [(LIFETIME, int(expires.total_seconds()).to_bytes(4, "big"))] if expires else []
    binding = signature_packet(
        primary.secret,
        sig.SUBKEY_BINDING,
        over_key(primary.public) + over_key(subkey.public),
        created,
        [flags(KeyFlags.ENCRYPT), *lifetime],
    )
    octets = (
        _certified(primary, user_id.encode(), created, lifetime)
        + write(Tag.PUBLIC_SUBKEY, subkey.public)
        + write(Tag.SIGNATURE, binding)
    )
    key = SecretKey(
        octets, {public_material(half.public).fingerprint: half.secret for half in (primary, subkey)}
    )
    stated = facts(octets)
    if not all(policy.usability(stated, purpose, now, address).usable for purpose in Purpose):
        raise KeyRefused("the engine does not accept the key that was made")
    return key


def _certified(primary: Half, user_id: bytes, created: int, lifetime: list[Subpacket]) -> bytes:
    """The primary key and its user ID. What is said of the key stands beside the user ID in version 4, and
    must stand at the key itself in version 6 (RFC 9580 section 10.1.1)."""
    over_primary = over_key(primary.public)
    version = primary.public[0]
    said = [flags(KeyFlags.CERTIFY | KeyFlags.SIGN), *lifetime, *_PREFERENCES[version]]
    octets = write(Tag.PUBLIC_KEY, primary.public)
    if version == 6:
        octets += write(
            Tag.SIGNATURE, signature_packet(primary.secret, sig.DIRECT_KEY, over_primary, created, said)
        )
        said = []
    certification = signature_packet(
        primary.secret,
        sig.POSITIVE_CERTIFICATION,
        over_primary + over_user_id(user_id),
        created,
        [*said, (PRIMARY_USER_ID, b"\1")],
    )
    return octets + write(Tag.USER_ID, user_id) + write(Tag.SIGNATURE, certification)


def flags(said: KeyFlags) -> Subpacket:
    """The subpacket of key flags."""
    return FLAGS, bytes([said.value])
