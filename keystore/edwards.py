"""PURE. Ed25519 keys that are none: points of small order, with which one signature fits any text.

Standards: RFC 8032 section 5.1 (the curve and its encoding); neither it nor libraries refuse such keys.
"""

from __future__ import annotations

_FIELD = 2**255 - 19
_OF_ORDER_8 = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, _OF_ORDER_8, _FIELD - _OF_ORDER_8})
"""The y of the eight points of edwards25519 whose order divides 8."""


def has_small_order(point: bytes) -> bool:
    """Whether the public key (32 octets) is such a point, however it is written."""
    return int.from_bytes(point, "little") % 2**255 % _FIELD in _SMALL_ORDER
