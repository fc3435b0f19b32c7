"""Points of small order are no keys; all others are (MIME-06)."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ed25519

from keystore.edwards import has_small_order
from keystore.openpgp.material import public_material

POINTS = [
    "00" * 32,
    "00" * 31 + "80",
    "01" + "00" * 31,
    "01" + "00" * 30 + "80",
    "ec" + "ff" * 30 + "7f",
    "ec" + "ff" * 31,
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 31,
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
]
"""Every spelling of every one, the last octet with and without the sign, beyond the field too."""
FORGED = b"\x01" + bytes(31) + bytes(32)


@pytest.mark.parametrize("point", POINTS)
def test_points_of_small_order(point: str) -> None:
    assert has_small_order(bytes.fromhex(point))


def test_they_are_those_for_which_one_signature_fits_many_texts() -> None:
    for point in (POINTS[0], POINTS[2], POINTS[4], POINTS[8], POINTS[10]):
        key = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(point))
        assert any(fits(key, b"%d" % one) for one in range(200))


def fits(key: ed25519.Ed25519PublicKey, text: bytes) -> bool:
    try:
        key.verify(FORGED, text)
    except InvalidSignature:
        return False
    return True


def test_real_keys() -> None:
    for _ in range(50):
        public = ed25519.Ed25519PrivateKey.generate().public_key()
        assert not has_small_order(public.public_bytes_raw())


@pytest.mark.parametrize("algorithm", [22, 27])
def test_openpgp_keys_of_small_order_are_not_supported(algorithm: int) -> None:
    curve = bytes.fromhex("092b06010401da470f01010740")
    for point, supported in ((bytes.fromhex(POINTS[2]), False), (bytes(31) + b"\x09", True)):
        body = b"\x04" + bytes(4) + bytes([algorithm]) + (curve if algorithm == 22 else b"") + point
        assert public_material(body).algorithm.supported is supported
