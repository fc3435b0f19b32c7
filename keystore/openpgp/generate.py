"""New keys: version 4, readable by gpg 2.2, with every self-signature made here.

The engine can generate keys too, but not with a time of expiry. What is made here is verified by the engine
before it is handed out.

Standards: RFC 9580 sections 5.2.3, 5.5.2, 10.1; RFC 4880 for what older readers expect (features,
preferences).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils, x25519
from cryptography.hazmat.primitives.hashes import SHA512

from keystore import policy
from keystore.errors import KeyRefused
from keystore.facts import KeyFlags
from keystore.model import Purpose
from keystore.openpgp import material as m
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import facts
from keystore.openpgp.key import SecretKey
from keystore.openpgp.material import public_material
from keystore.openpgp.packet import Tag, length_octets, write
from keystore.openpgp.private import PrivateKey, private_key
from keystore.openpgp.secret import parse_secret

KeyKind = Literal["ed25519", "rsa3072"]

_SHA512 = 10
_PREFERENCES = (
    (11, bytes([9, 8, 7])),  # AES-256, AES-192, AES-128
    (21, bytes([10, 9, 8])),  # SHA-512, SHA-384, SHA-256
    (22, bytes([0])),  # no compression
    (30, bytes([0x01])),  # features: SEIPD version 1 only; gpg 2.2 cannot read version 2
)
_OID_ED25519 = bytes.fromhex("092b06010401da470f01")
_OID_CURVE25519 = bytes.fromhex("0a2b060104019755010501")
_KDF = bytes([3, 1, 8, 7])  # SHA-256, AES-128, as gpg writes it for this curve


class _Half(NamedTuple):
    """A new key: the bodies of its public packet and of its unprotected secret packet."""

    public: bytes
    secret: bytes


def generate(
    address: str,
    *,
    name: str = "",
    kind: KeyKind = "ed25519",
    now: datetime,
    expires: timedelta | None = None,
) -> SecretKey:
    """A new key for an address: a primary key that certifies and signs, a subkey that encrypts.

    The user ID is "Name <address>", or the address alone. Raises KeyRefused when address or name would make a
    user ID that does not say what it should.
    """
    user_id = f"{name} <{address}>" if name else address
    if policy.addresses([user_id]) != (address.lower(),) or not user_id.isprintable():
        raise KeyRefused(
            f"cannot make a user ID of name {name!r} and address {address!r}: give an address such as "
            "alice@example.org, and a name of one line without angle brackets"
        )
    created = int(now.timestamp())
    primary, subkey = (make(created) for make in _MAKERS[kind])
    lifetime = [(9, int(expires.total_seconds()).to_bytes(4, "big"))] if expires else []
    certified = _flags(KeyFlags.CERTIFY | KeyFlags.SIGN)
    preferences = [certified, *lifetime, *_PREFERENCES]
    uid = user_id.encode()
    over_primary = b"\x99" + len(primary.public).to_bytes(2, "big") + primary.public
    over_subkey = b"\x99" + len(subkey.public).to_bytes(2, "big") + subkey.public
    over_uid = b"\xb4" + len(uid).to_bytes(4, "big") + uid
    certification = signature_packet(
        primary.secret, 0x13, over_primary + over_uid, created, [*preferences, (25, b"\1")]
    )
    binding = signature_packet(
        primary.secret,
        sig.SUBKEY_BINDING,
        over_primary + over_subkey,
        created,
        [_flags(KeyFlags.ENCRYPT), *lifetime],
    )
    octets = (
        write(Tag.PUBLIC_KEY, primary.public)
        + write(Tag.USER_ID, uid)
        + write(Tag.SIGNATURE, certification)
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


def _flags(flags: KeyFlags) -> tuple[int, bytes]:
    return 27, bytes([flags.value])


def signature_packet(
    secret: bytes, kind: int, content: bytes, created: int, subpackets: Sequence[tuple[int, bytes]]
) -> bytes:
    """The body of a version 4 signature packet over `content`, with SHA-512 (RFC 9580 section 5.2.4).

    `secret` is the body of an unprotected secret key packet, Ed25519 or RSA; `subpackets` are hashed, besides
    the issuer and the time of creation. Raises KeyRefused for other keys.
    """
    public = parse_secret(secret).public
    key = private_key(public, secret)
    if key is None:
        raise KeyRefused(f"key {public.fingerprint} cannot sign here")
    issuer = bytes.fromhex(public.fingerprint)
    area = b"".join(
        length_octets(1 + len(octets)) + bytes([number]) + octets
        for number, octets in [(33, b"\4" + issuer), (2, created.to_bytes(4, "big")), *subpackets]
    )
    head = bytes([4, kind, public.algorithm_id, _SHA512]) + len(area).to_bytes(2, "big") + area
    digest = hashlib.sha512(content + head + b"\x04\xff" + len(head).to_bytes(4, "big")).digest()
    unhashed = b"\x09\x10" + issuer[-8:]
    return head + len(unhashed).to_bytes(2, "big") + unhashed + digest[:2] + _sign(key, digest)


def _sign(key: PrivateKey, digest: bytes) -> bytes:
    """A signature over a SHA-512 digest, as multiprecision integers (RFC 9580 section 5.2.3)."""
    if isinstance(key.private, ed25519.Ed25519PrivateKey):
        made = key.private.sign(digest)
        return _integer(made[:32]) + _integer(made[32:])
    if isinstance(key.private, rsa.RSAPrivateKey):
        return _integer(key.private.sign(digest, padding.PKCS1v15(), utils.Prehashed(SHA512())))
    raise KeyRefused(f"key {key.public.fingerprint} cannot sign here")


def _integer(octets: bytes) -> bytes:
    """A multiprecision integer with its length in bits (RFC 9580 section 3.2)."""
    stripped = octets.lstrip(b"\0")
    return int.from_bytes(stripped, "big").bit_length().to_bytes(2, "big") + stripped


def _number(value: int) -> bytes:
    return _integer(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def _half(created: int, algorithm: int, public: bytes, secret: bytes) -> _Half:
    body = b"\x04" + created.to_bytes(4, "big") + bytes([algorithm]) + public
    return _Half(body, body + b"\0" + secret + (sum(secret) & 0xFFFF).to_bytes(2, "big"))


def _ed25519(created: int) -> _Half:
    private = ed25519.Ed25519PrivateKey.generate()
    public = _OID_ED25519 + _integer(b"\x40" + private.public_key().public_bytes_raw())
    return _half(created, m.EDDSA, public, _integer(private.private_bytes_raw()))


def _cv25519(created: int) -> _Half:
    private = x25519.X25519PrivateKey.generate()
    scalar = bytearray(private.private_bytes_raw())
    # Older gpg wants the scalar as the curve's arithmetic will see it anyway (RFC 7748 section 5).
    scalar[0] &= 248
    scalar[31] = (scalar[31] & 127) | 64
    public = _OID_CURVE25519 + _integer(b"\x40" + private.public_key().public_bytes_raw()) + _KDF
    return _half(created, m.ECDH, public, _integer(bytes(scalar[::-1])))


def _rsa3072(created: int) -> _Half:
    numbers = rsa.generate_private_key(65537, 3072).private_numbers()
    p, q = sorted((numbers.p, numbers.q))  # OpenPGP wants p < q (RFC 9580 section 5.5.5.1)
    secret = b"".join(map(_number, (numbers.d, p, q, pow(p, -1, q))))
    public = _number(numbers.public_numbers.n) + _number(numbers.public_numbers.e)
    return _half(created, m.RSA, public, secret)


_MAKERS: dict[KeyKind, tuple[Callable[[int], _Half], Callable[[int], _Half]]] = {
    "ed25519": (_ed25519, _cv25519),
    "rsa3072": (_rsa3072, _rsa3072),
}
"""How the primary key and the subkey are made of the time of creation."""
