"""Sets of message numbers: sequence-set of RFC 9051 section 9, and arithmetic on it. PURE."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

STAR = 2**32
"""Stands for "*" until it is resolved: greater than any UID or sequence number."""

_RANGE = re.compile(rb"(\d{1,10}|\*)(?::(\d{1,10}|\*))?\Z")
Range = tuple[int, int]


def parse_ranges(octets: bytes) -> tuple[Range, ...] | None:
    """The ranges of a sequence-set as written, each low to high, "*" as `STAR`; None if malformed."""
    out = []
    for part in octets.split(b","):
        match = _RANGE.match(part)
        if match is None:
            return None
        ends = [STAR if end == b"*" else int(end) for end in match.groups() if end is not None]
        if any(not 0 < end < STAR for end, text in zip(ends, match.groups(), strict=False) if text != b"*"):
            return None
        out.append((min(ends), max(ends)))
    return tuple(out)


def _normal(ranges: Iterable[Range]) -> tuple[Range, ...]:
    out: list[Range] = []
    for low, high in sorted(ranges):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], high))
        else:
            out.append((low, high))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Numbers:
    """A set of positive numbers as sorted, disjoint, non-adjacent ranges. Make it with `of`."""

    ranges: tuple[Range, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[Range]) -> Numbers:
        """From ranges in any order."""
        return cls(_normal(ranges))

    @classmethod
    def each(cls, numbers: Iterable[int]) -> Numbers:
        """From single numbers."""
        return cls(_normal((n, n) for n in numbers))

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self.ranges, (number, STAR)) - 1
        return at >= 0 and self.ranges[at][0] <= number <= self.ranges[at][1]

    def __iter__(self) -> Iterator[int]:
        for low, high in self.ranges:
            yield from range(low, high + 1)

    @property
    def highest(self) -> int:
        """The greatest member, 0 when empty."""
        return self.ranges[-1][1] if self.ranges else 0

    def union(self, other: Numbers) -> Numbers:
        """Members of either."""
        return Numbers(_normal(self.ranges + other.ranges))

    def intersection(self, other: Numbers) -> Numbers:
        """Members of both."""
        out, i, j = [], 0, 0
        while i < len(self.ranges) and j < len(other.ranges):
            low = max(self.ranges[i][0], other.ranges[j][0])
            high = min(self.ranges[i][1], other.ranges[j][1])
            if low <= high:
                out.append((low, high))
            if self.ranges[i][1] < other.ranges[j][1]:
                i += 1
            else:
                j += 1
        return Numbers(tuple(out))

    def difference(self, other: Numbers) -> Numbers:
        """Members of self that are not in other."""
        out = []
        j = 0
        for low, high in self.ranges:
            while j < len(other.ranges) and other.ranges[j][1] < low:
                j += 1
            k = j
            while k < len(other.ranges) and other.ranges[k][0] <= high:
                if other.ranges[k][0] > low:
                    out.append((low, other.ranges[k][0] - 1))
                low = max(low, other.ranges[k][1] + 1)
                k += 1
            if low <= high:
                out.append((low, high))
        return Numbers(tuple(out))

    def texts(self, limit: int = 4000) -> Iterator[bytes]:
        """The set as sequence-sets of at most about `limit` octets each; nothing for the empty set.

        Servers bound the length of a line; a long set is asked for in several commands.
        """
        parts: list[bytes] = []
        length = 0
        for low, high in self.ranges:
            part = b"%d" % low if low == high else b"%d:%d" % (low, high)
            if parts and length + len(part) > limit:
                yield b",".join(parts)
                parts, length = [], 0
            parts.append(part)
            length += len(part) + 1
        if parts:
            yield b",".join(parts)

    def __bytes__(self) -> bytes:
        return b",".join(self.texts(limit=2**62))
