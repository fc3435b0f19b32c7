"""PURE. The public half of key packets: version, creation, fingerprint, algorithm and size.

Standards: RFC 9580 sections 5.5.2 to 5.5.4 and 9.1, 9.2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from keystore.edwards import has_small_order
from keystore.facts import Algorithm
from keystore.model import Fingerprint
from keystore.openpgp.packet import Malformed, Reader

RSA, RSA_ENCRYPT, RSA_SIGN, ELGAMAL, DSA, ECDH, ECDSA, EDDSA = 1, 2, 3, 16, 17, 18, 19, 22
X25519, X448, ED25519, ED448 = 25, 26, 27, 28

CURVES = {
    bytes.fromhex("2a8648ce3d030107"): ("NIST P-256", 256),
    bytes.fromhex("2b81040022"): ("NIST P-384", 384),
    bytes.fromhex("2b81040023"): ("NIST P-521", 521),
    bytes.fromhex("2b2403030208010107"): ("Brainpool P-256", 256),
    bytes.fromhex("2b240303020801010b"): ("Brainpool P-384", 384),
    bytes.fromhex("2b240303020801010d"): ("Brainpool P-512", 512),
    bytes.fromhex("2b8104000a"): ("secp256k1", 256),
    bytes.fromhex("2b06010401da470f01"): ("Ed25519", 256),
    bytes.fromhex("2b060104019755010501"): ("Curve25519", 256),
}
"""Object identifiers of curves (RFC 9580 section 9.2)."""

_FIXED = {
    X25519: ("X25519", 256, 32),
    X448: ("X448", 448, 56),
    ED25519: ("Ed25519", 256, 32),
    ED448: ("Ed448", 448, 57),
}
"""Algorithms whose public part is a number of plain octets."""

_INTEGERS = {RSA: 2, RSA_ENCRYPT: 2, RSA_SIGN: 2, ELGAMAL: 3, DSA: 4}
"""Algorithms whose public part is that many multiprecision integers, the first of which gives the size."""

_NAMES = {RSA: "RSA", RSA_ENCRYPT: "RSA", RSA_SIGN: "RSA", ELGAMAL: "ElGamal", DSA: "DSA"}
_UNSUPPORTED = frozenset(
    {"ElGamal", "Brainpool P-256", "Brainpool P-384", "Brainpool P-512", "secp256k1"},
)
"""The engine neither encrypts to these nor verifies with them. We open mail to them."""

_SIGN = frozenset({RSA, RSA_SIGN, DSA, ECDSA, EDDSA, ED25519, ED448})
_ENCRYPT = frozenset({RSA, RSA_ENCRYPT, ELGAMAL, ECDH, X25519, X448})


@dataclass(frozen=True, slots=True)
class PublicMaterial:
    """A public key packet, or the public half of a secret one."""

    version: int
    created: datetime
    fingerprint: Fingerprint
    algorithm_id: int
    algorithm: Algorithm
    body: bytes
    """The body of the public key packet."""
    integers: tuple[bytes, ...] = ()
    """Multiprecision integers (without lengths) or the one plain octet string."""
    curve: str = ""
    kdf: bytes = b""
    """ECDH only: the KDF parameters with their length (RFC 9580 section 11.5.1)."""
    curve_oid: bytes = b""


def public_part(body: bytes) -> bytes:
    """The public half of a secret key packet. Raises Malformed.

    Cut before anything is cached by octets: a secret half must never become part of a cache's key.
    """
    return body[: _read(body)[0].at]


def _read(body: bytes) -> tuple[Reader, int, datetime, int, bytes, tuple[bytes, ...], bytes]:
    reader = Reader(body)
    version = reader.number()
    if version not in (4, 6):
        raise Malformed("key version")
    created = datetime.fromtimestamp(reader.number(4), UTC)
    algorithm_id = reader.number()
    if version == 6:
        reader.take(4)
    curve_oid = reader.take(reader.number()) if algorithm_id in (ECDH, ECDSA, EDDSA) else b""
    integers, kdf = _parts(reader, algorithm_id)
    return reader, version, created, algorithm_id, curve_oid, integers, kdf


@lru_cache(maxsize=4096)
def public_material(body: bytes) -> PublicMaterial:
    """Read a public key packet. Raises Malformed."""
    reader, version, created, algorithm_id, curve_oid, integers, kdf = _read(body)
    if reader.at != len(body):
        raise Malformed("octets after the key")
    curve, bits = CURVES.get(curve_oid, (f"curve {curve_oid.hex()}", 0))
    return PublicMaterial(
        version=version,
        created=created,
        fingerprint=_fingerprint(version, body),
        algorithm_id=algorithm_id,
        algorithm=_algorithm(algorithm_id, curve, bits, integers),
        body=body,
        integers=integers,
        curve=curve if curve_oid else "",
        kdf=kdf,
        curve_oid=curve_oid,
    )


def _parts(reader: Reader, algorithm_id: int) -> tuple[tuple[bytes, ...], bytes]:
    if algorithm_id in _INTEGERS:
        return tuple(reader.integer() for _ in range(_INTEGERS[algorithm_id])), b""
    if algorithm_id in _FIXED:
        return (reader.take(_FIXED[algorithm_id][2]),), b""
    if algorithm_id in (ECDSA, EDDSA):
        return (reader.integer(),), b""
    if algorithm_id == ECDH:
        point = reader.integer()
        length = reader.number()
        return (point,), bytes([length]) + reader.take(length)
    raise Malformed("key algorithm")


def _algorithm(algorithm_id: int, curve: str, bits: int, integers: tuple[bytes, ...]) -> Algorithm:
    if algorithm_id in _NAMES:
        name, bits = _NAMES[algorithm_id], int.from_bytes(integers[0], "big").bit_length()
    elif algorithm_id in _FIXED:
        name, bits, _ = _FIXED[algorithm_id]
    else:
        name = curve
    # With its prefix, where it is written as one integer.
    is_none = name == "Ed25519" and has_small_order(integers[0][-32:])
    return Algorithm(
        name,
        bits,
        signs=algorithm_id in _SIGN,
        encrypts=algorithm_id in _ENCRYPT,
        supported=name not in _UNSUPPORTED and bits > 0 and not is_none,
    )


def _fingerprint(version: int, public: bytes) -> Fingerprint:
    if version == 6:
        return Fingerprint(
            hashlib.sha256(b"\x9b" + len(public).to_bytes(4, "big") + public).hexdigest().upper()
        )
    # RFC 9580 section 5.5.4.2: v4 fingerprints are SHA-1 by definition; no security rests on collisions here.
    digest = hashlib.sha1(b"\x99" + len(public).to_bytes(2, "big") + public, usedforsecurity=False)
    return Fingerprint(digest.hexdigest().upper())
