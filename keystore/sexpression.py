"""PURE. Canonical S-expressions, in which GnuPG's agent takes and gives the numbers of keys.

An atom is `bytes`, a list a tuple of expressions: b"(3:rsa(1:n3:abc))" is (b"rsa", (b"n", b"abc")).

Standards: RFC 9804 section 6.1 (canonical representation), without display hints.
"""

from __future__ import annotations

from typing import TypeAlias

Expression: TypeAlias = "bytes | tuple[Expression, ...]"

_MOST_DIGITS = 6


def write(expression: Expression) -> bytes:
    """The canonical form."""
    if isinstance(expression, bytes):
        return b"%d:%b" % (len(expression), expression)
    return b"(%b)" % b"".join(map(write, expression))


def read(octets: bytes) -> Expression:
    """The one expression that `octets` are. Raises ValueError."""
    at = 0
    opened: list[list[Expression]] = [[]]
    while at < len(octets):
        mark = octets[at : at + 1]
        if mark == b"(":
            opened.append([])
            at += 1
        elif mark == b")":
            done = tuple(opened.pop())
            if not opened:
                raise ValueError("a list that was not opened")
            opened[-1].append(done)
            at += 1
        else:
            atom, at = _atom(octets, at)
            opened[-1].append(atom)
    if len(opened) != 1 or len(opened[0]) != 1:
        raise ValueError("not one expression")
    return opened[0][0]


def _atom(octets: bytes, at: int) -> tuple[bytes, int]:
    colon = octets.find(b":", at, at + _MOST_DIGITS + 1)
    digits = octets[at:colon]
    if colon < 0 or not digits.isdigit():
        raise ValueError("an atom without its length")
    start = colon + 1
    end = start + int(digits)
    if end > len(octets):
        raise ValueError("an atom that is cut off")
    return octets[start:end], end


def value(expression: Expression, name: bytes) -> bytes | None:
    """The atom behind `name` in the first list, at any depth, that is these two; None without one."""
    if isinstance(expression, bytes):
        return None
    if len(expression) == 2 and expression[0] == name and isinstance(expression[1], bytes):
        return expression[1]
    found = (value(one, name) for one in expression)
    return next((one for one in found if one is not None), None)
