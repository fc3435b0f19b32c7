"""Which message a sequence number speaks of, as far as that matters and was told. PURE.

A number is kept as the place that it had when the mailbox was opened; messages that are expunged leave gaps
in these places, so that an EXPUNGE costs the same whatever is known.

Standards: RFC 9051 sections 2.3.1.2 and 7.5.1.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass, field


@dataclass(slots=True)
class Places:
    """UIDs by sequence number."""

    _uids: dict[int, int] = field(default_factory=dict)
    """Place to UID."""
    _gaps: list[int] = field(default_factory=list)
    """Places of expunged messages, sorted."""

    def _place(self, number: int) -> int:
        gaps = self._gaps
        return number + bisect_right(range(len(gaps)), number, key=lambda at: gaps[at] - at)

    def learn(self, number: int, uid: int) -> None:
        """Note the UID of the message with this number."""
        self._uids[self._place(number)] = uid

    def uid(self, number: int) -> int | None:
        """The UID of the message with this number, if it is known."""
        return self._uids.get(self._place(number))

    def drop(self, number: int) -> None:
        """The message with this number is none of those that matter."""
        self._uids.pop(self._place(number), None)

    def expunge(self, number: int) -> None:
        """The message with this number is gone; those after it move up."""
        place = self._place(number)
        self._uids.pop(place, None)
        insort(self._gaps, place)

    def forget(self) -> None:
        """Messages are gone, and nobody said which numbers they had."""
        self._uids.clear()
        self._gaps.clear()
