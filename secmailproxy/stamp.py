"""What a product has that is not derived from the message: the time, and random values. PURE.

Standards: RFC 5322 sections 3.3 (Date) and 3.6.4 (Message-ID), RFC 2046 section 5.1.1 (boundaries).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

RANDOM_OCTETS = 36
_BOUNDARY_OCTETS = 20
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Stamp:
    """The time, and random values made for one message alone."""

    now: datetime
    boundary: str
    message_id: str
    """With its angle brackets; used when the message has none."""

    @classmethod
    def fresh(cls, now: datetime, domain: str, random: bytes) -> Stamp:
        """From RANDOM_OCTETS of `random`; a `domain` that is not ASCII, or none, is not shown."""
        digits = random[_BOUNDARY_OCTETS:].hex()
        left = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        right = domain if domain.isascii() and domain else "localhost.invalid"
        return cls(now, f"=-{random[:_BOUNDARY_OCTETS].hex()}", f"<{left}@{right}>")

    @property
    def date(self) -> str:
        """`now` as a Date field has it (RFC 5322 section 3.3), whatever the locale."""
        now = self.now
        day, month = _DAYS[now.weekday()], _MONTHS[now.month - 1]
        return f"{day}, {now.day:02} {month} {now.year} {now:%H:%M:%S %z}"

    @property
    def inner_boundary(self) -> str:
        """Another boundary, of which `boundary` is no part."""
        import hashlib  # system mail has no use for it

        return "=_" + hashlib.sha256(self.boundary.encode("ascii")).hexdigest()[:40]
