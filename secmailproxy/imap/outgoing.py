"""What goes to the client, in order: the server's responses as they come in, and our own between them. PURE.

A response of the server may be long, and comes in parts. Whatever we said in its midst would become a part of
it, and as much of its own end would be taken for responses.
"""

from __future__ import annotations


class Outgoing:
    """Octets for the client until somebody takes them."""

    def __init__(self) -> None:
        self.ours: list[bytes] = []
        """Whole responses of our own, which wait for the end of one that is half-way out."""
        self._out: list[bytes] = []

    def between(self) -> None:
        """No response is half-way out now: what is ours goes first."""
        self._out += self.ours
        self.ours.clear()

    def theirs(self, octets: bytes) -> None:
        """Octets of the server's."""
        self._out.append(octets)

    def take(self, *, half_out: bool) -> bytes:
        """What can go out; `half_out` says that a response of the server's is not complete."""
        if not half_out:
            self.between()
        octets = b"".join(self._out)
        self._out.clear()
        return octets
