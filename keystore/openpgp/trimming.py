"""A stranger's certificate cut down to what it says of one address.

What it says of other addresses makes no claim to them, and its pictures are nobody's business. All signatures
on what stays are kept: revocations, and others' certifications of this user ID.

Standards: RFC 9580 section 10.1 (composition).
"""

from __future__ import annotations

from keystore import policy
from keystore.errors import KeyRefused
from keystore.openpgp.certificate import components, join
from keystore.openpgp.packet import Malformed, Tag, packets

_SECRET = frozenset({Tag.SECRET_KEY, Tag.SECRET_SUBKEY})


def about(octets: bytes, address: str) -> bytes:
    """The certificate `octets` (binary) without user IDs of other addresses than `address` (lower case).

    KeyRefused: it is not one certificate, or somebody has published a secret key.
    """
    try:
        if any(packet.tag in _SECRET for packet in packets(octets)):
            raise KeyRefused("a secret key, which must be nobody's but its owner's")
        parts = components(octets)
    except Malformed:
        raise KeyRefused("not one OpenPGP certificate") from None
    return join(
        part
        for part in parts
        if part.packet.tag not in (Tag.USER_ID, Tag.USER_ATTRIBUTE)
        or (
            part.packet.tag == Tag.USER_ID
            and address in policy.addresses([part.packet.body.decode("utf-8", "replace")])
        )
    )
