"""Keeps the server from writing our verdict field: its name is struck out of all that the server sends. PURE.

The name of the field ends in a token of digits that is random for each installation. Whoever has learnt it
could write the field into mail that passes unchanged, the server itself into any answer. So each occurrence
of the token in the server's octets is overwritten, digit by digit: sizes and structures stay what they are,
and mail without the token, which is all other mail, keeps its octets.
"""

from __future__ import annotations


class Mask:
    """Overwrites one token in a stream, at any segmentation."""

    def __init__(self, token: bytes) -> None:
        """`token` is not empty."""
        self._token = token
        self._mask = b"0" * len(token)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The octets that can go on; the beginning of a token at the end is held until more is there."""
        if self._held:
            data, self._held = self._held + data, b""
        if self._token in data:
            data = self.struck(data)
        if data[-1:] not in self._token:
            return data
        for length in range(min(len(self._token) - 1, len(data)), 0, -1):
            if data.endswith(self._token[:length]):
                self._held = data[-length:]
                return data[:-length]
        return data

    def struck(self, octets: bytes) -> bytes:
        """`octets` without the token."""
        return octets.replace(self._token, self._mask)


def token_of(field_name: bytes) -> bytes:
    """The token in the name of the verdict field: what stands after the last hyphen."""
    return field_name.rpartition(b"-")[2]
