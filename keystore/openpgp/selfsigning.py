"""Signatures that an own key makes about itself: over its user IDs, its subkeys, its own end.

The engine makes them too, but not with subpackets of our choice. SHA-512 always.

Standards: RFC 9580 sections 5.2.3 (signature packets) and 5.2.4 (what is hashed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from secrets import token_bytes

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.hashes import SHA512

from keystore.errors import KeyRefused
from keystore.openpgp import material as m
from keystore.openpgp.packet import length_octets
from keystore.openpgp.private import PrivateKey, private_key
from keystore.openpgp.secret import parse_secret

Subpacket = tuple[int, bytes]
"""The type, with 0x80 where it is critical, and the octets."""

CREATED, EXPIRES, LIFETIME, ISSUER, PRIMARY_USER_ID, FLAGS, REASON = 2, 3, 9, 16, 25, 27, 29
EMBEDDED, ISSUER_FINGERPRINT = 32, 33

_SHA512 = 10
_SALT_OCTETS = 32
"""Of a version 6 signature with SHA-512 (RFC 9580 section 9.5)."""


def over_key(public: bytes) -> bytes:
    """What is hashed of a key: the body of its public packet, framed by its version."""
    if public[0] == 6:
        return b"\x9b" + len(public).to_bytes(4, "big") + public
    return b"\x99" + len(public).to_bytes(2, "big") + public


def over_user_id(user_id: bytes) -> bytes:
    """What is hashed of a user ID."""
    return b"\xb4" + len(user_id).to_bytes(4, "big") + user_id


def signature_packet(
    secret: bytes, kind: int, content: bytes, created: int, subpackets: Sequence[Subpacket]
) -> bytes:
    """The body of a signature packet over `content`, of the version of its key (RFC 9580 section 5.2.4).

    `secret` is the body of an unprotected secret key packet; `subpackets` are hashed, besides the issuer and
    the time of creation. Raises KeyRefused for keys that cannot sign here.
    """
    public = parse_secret(secret).public
    key = private_key(public, secret)
    if key is None:
        raise KeyRefused(f"key {public.fingerprint} is of a kind that cannot sign here")
    is_v6 = public.version == 6
    width = 4 if is_v6 else 2
    issuer = bytes.fromhex(public.fingerprint)
    area = b"".join(
        length_octets(1 + len(octets)) + bytes([number]) + octets
        for number, octets in [
            (ISSUER_FINGERPRINT, bytes([public.version]) + issuer),
            (CREATED, created.to_bytes(4, "big")),
            *subpackets,
        ]
    )
    head = bytes([public.version, kind, public.algorithm_id, _SHA512])
    head += len(area).to_bytes(width, "big") + area
    trailer = bytes([public.version, 0xFF]) + len(head).to_bytes(4, "big")
    salt = token_bytes(_SALT_OCTETS) if is_v6 else b""
    digest = hashlib.sha512(salt + content + head + trailer).digest()
    # A key ID in a version 6 signature would make it malformed (RFC 9580 section 5.2.3.12).
    unhashed = b"" if is_v6 else b"\x09\x10" + issuer[-8:]
    body = head + len(unhashed).to_bytes(width, "big") + unhashed + digest[:2]
    return body + (bytes([len(salt)]) + salt if is_v6 else b"") + _sign(key, digest)


def _sign(key: PrivateKey, digest: bytes) -> bytes:
    """A signature over a SHA-512 digest, in the form of its algorithm (RFC 9580 section 5.2.3)."""
    private = key.private
    if key.public.algorithm_id in (m.ED25519, m.ED448):
        assert isinstance(private, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        return private.sign(digest)
    if isinstance(private, ed25519.Ed25519PrivateKey):
        made = private.sign(digest)
        return integer(made[:32]) + integer(made[32:])
    if isinstance(private, rsa.RSAPrivateKey):
        return integer(private.sign(digest, padding.PKCS1v15(), utils.Prehashed(SHA512())))
    if isinstance(private, ec.EllipticCurvePrivateKey) and key.public.algorithm_id == m.ECDSA:
        made = private.sign(digest, ec.ECDSA(utils.Prehashed(SHA512())))
        return b"".join(map(number, utils.decode_dss_signature(made)))
    raise KeyRefused(f"key {key.public.fingerprint} is of a kind that cannot sign here")


def integer(octets: bytes) -> bytes:
    """A multiprecision integer with its length in bits (RFC 9580 section 3.2)."""
    stripped = octets.lstrip(b"\0")
    return int.from_bytes(stripped, "big").bit_length().to_bytes(2, "big") + stripped


def number(value: int) -> bytes:
    """The same of a number."""
    return integer(value.to_bytes((value.bit_length() + 7) // 8, "big"))
