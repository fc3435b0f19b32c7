"""Mailbox names: text for people, modified UTF-7 for IMAP. PURE.

Standards: RFC 3501 section 5.1.3.
"""

from __future__ import annotations

import binascii
import re

_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NOT_PLAIN = re.compile(r"[^ -~]+|&")


def to_wire(name: str) -> bytes:
    """The name as IMAP has it."""
    return _NOT_PLAIN.sub(_shift, name).encode("ascii")


def from_wire(name: bytes) -> str:
    """The name as text for a terminal; controls, and what is no modified UTF-7, are shown as U+FFFD."""
    return _CONTROLS.sub("\ufffd", _SHIFTED.sub(_unshift, name).decode("utf-8", "replace"))


def _shift(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    encoded = binascii.b2a_base64(match[0].encode("utf-16-be", "surrogatepass"), newline=False)
    return "&" + encoded.rstrip(b"=").replace(b"/", b",").decode("ascii") + "-"


def _unshift(match: re.Match[bytes]) -> bytes:
    if not match[1]:
        return b"&"
    padded = match[1].replace(b",", b"/") + b"=" * (-len(match[1]) % 4)
    try:
        return binascii.a2b_base64(padded).decode("utf-16-be").encode()
    except ValueError:
        return match[0]
