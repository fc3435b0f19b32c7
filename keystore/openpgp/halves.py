"""New keys, bare: the public and the secret half of one packet, without any signature.

Standards: RFC 9580 sections 5.5.2, 5.5.3 and 5.5.5 (key material).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric import ed25519, rsa, x25519

from keystore.openpgp import material as m
from keystore.openpgp.material import PublicMaterial
from keystore.openpgp.selfsigning import integer, number

KeyKind = Literal["ed25519", "rsa3072", "rsa4096", "ed25519-v6"]
"""What keys can be made of. All but the last are version 4, which gpg 2.2 reads."""

_OID_ED25519 = bytes.fromhex("092b06010401da470f01")
_OID_CURVE25519 = bytes.fromhex("0a2b060104019755010501")
_KDF = bytes([3, 1, 8, 7])  # SHA-256, AES-128, as gpg writes it for this curve


class Half(NamedTuple):
    """A new key: the bodies of its public packet and of its unprotected secret packet."""

    public: bytes
    secret: bytes


def _v4(created: int, algorithm: int, public: bytes, secret: bytes) -> Half:
    body = b"\x04" + created.to_bytes(4, "big") + bytes([algorithm]) + public
    return Half(body, body + b"\0" + secret + (sum(secret) & 0xFFFF).to_bytes(2, "big"))


def _v6(created: int, algorithm: int, public: bytes, secret: bytes) -> Half:
    body = b"\x06" + created.to_bytes(4, "big") + bytes([algorithm]) + len(public).to_bytes(4, "big") + public
    return Half(body, body + b"\0" + secret)


def _ed25519(created: int) -> Half:
    private = ed25519.Ed25519PrivateKey.generate()
    public = _OID_ED25519 + integer(b"\x40" + private.public_key().public_bytes_raw())
    return _v4(created, m.EDDSA, public, integer(private.private_bytes_raw()))


def _cv25519(created: int) -> Half:
    private = x25519.X25519PrivateKey.generate()
    scalar = bytearray(private.private_bytes_raw())
    # Older gpg wants the scalar as the curve's arithmetic will see it anyway (RFC 7748 section 5).
    scalar[0] &= 248
    scalar[31] = (scalar[31] & 127) | 64
    public = _OID_CURVE25519 + integer(b"\x40" + private.public_key().public_bytes_raw()) + _KDF
    return _v4(created, m.ECDH, public, integer(bytes(scalar[::-1])))


def _rsa(bits: int, created: int) -> Half:
    numbers = rsa.generate_private_key(65537, bits).private_numbers()
    p, q = sorted((numbers.p, numbers.q))  # OpenPGP wants p < q (RFC 9580 section 5.5.5.1)
    secret = b"".join(map(number, (numbers.d, p, q, pow(p, -1, q))))
    public = number(numbers.public_numbers.n) + number(numbers.public_numbers.e)
    return _v4(created, m.RSA, public, secret)


def _ed25519_v6(created: int) -> Half:
    private = ed25519.Ed25519PrivateKey.generate()
    return _v6(created, m.ED25519, private.public_key().public_bytes_raw(), private.private_bytes_raw())


def _x25519_v6(created: int) -> Half:
    private = x25519.X25519PrivateKey.generate()
    return _v6(created, m.X25519, private.public_key().public_bytes_raw(), private.private_bytes_raw())


MAKERS: dict[KeyKind, tuple[Callable[[int], Half], Callable[[int], Half]]] = {
    "ed25519": (_ed25519, _cv25519),
    "rsa3072": (partial(_rsa, 3072),) * 2,
    "rsa4096": (partial(_rsa, 4096),) * 2,
    "ed25519-v6": (_ed25519_v6, _x25519_v6),
}
"""How the primary key and the subkey are made of the time of creation (seconds since 1970)."""


def encryption_half(primary: PublicMaterial, created: int) -> Half:
    """A new subkey that encrypts, such as programs that read the primary key can read too."""
    if primary.version == 6:
        return _x25519_v6(created)
    if primary.algorithm.name == "RSA":
        return _rsa(4096 if primary.algorithm.bits > 3072 else 3072, created)
    return _cv25519(created)
