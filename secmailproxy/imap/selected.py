"""The selected mailbox, and which messages of it a FETCH means, as far as that can be told at once. PURE.

Standards: RFC 9051 sections 6.3.2, 6.4.9, 7.4.1 and 7.5.1; RFC 7162 section 3.2.10 (VANISHED).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from secmailproxy.imap.grammar import FetchCommand
from secmailproxy.imap.numbers import STAR, Numbers, parse_ranges
from secmailproxy.imap.places import Places
from secmailproxy.views import Kind, Mailbox

_FEW = 64


@dataclass(slots=True)
class Selected:
    """The selected mailbox as this session knows it."""

    mailbox: Mailbox
    exists: int | None = None
    """None when no longer sure (VANISHED)."""
    uid_next: int | None = None
    """None when messages have arrived since it was told."""
    inline_pgp: bool = False
    """Whether texts are looked at for inline OpenPGP."""
    opens_signed: bool = False
    """Whether what is only signed is opened like what is encrypted."""
    places: Places = field(default_factory=Places)
    """Of protected messages."""
    untold: set[int] = field(default_factory=set)
    """Messages whose keywords have changed without the client's having heard of it."""
    _changes_read: int = 0
    _covered: tuple[bytes, Numbers] = field(default=(b"", Numbers()))

    @property
    def covered(self) -> Numbers:
        """The UIDs that are classified."""
        text = self.mailbox.covered
        if self._covered[0] is not text:
            self._covered = (text, Numbers.of(parse_ranges(text) or ()) if text else Numbers())
        return self._covered[1]

    @property
    def fully_covered(self) -> bool:
        """Whether every message there is has been classified."""
        if self.uid_next is None:
            return False
        return self.uid_next == 1 or not Numbers(((1, self.uid_next - 1),)).difference(self.covered)

    def news(self) -> set[int]:
        """`untold`, up to now."""
        changes = self.mailbox.marks.changes
        self.untold.update(changes[self._changes_read :])
        self._changes_read = len(changes)
        return self.untold

    def count(self, number: int, *, exists: bool) -> None:
        """Note an EXISTS or EXPUNGE response."""
        if not exists:
            self.places.expunge(number)
        if exists:
            if self.exists is None or number > self.exists:
                self.uid_next = None
            self.exists = number
        elif self.exists is not None:
            self.exists -= 1


@dataclass(slots=True)
class Selecting:
    """What untagged responses tell of a mailbox while it is being selected."""

    exists: int | None = None
    uid_next: int | None = None
    uidvalidity: int = 0

    def number(self, code: bytes, number: int) -> None:
        """Note a response code with a number."""
        if code == b"UIDNEXT":
            self.uid_next = number
        else:
            self.uidvalidity = number

    def count(self, number: int, *, exists: bool) -> None:
        """Note an EXISTS or EXPUNGE response."""
        if exists:
            if self.exists is not None and number > self.exists:
                self.uid_next = None  # told before more mail arrived
            self.exists = number

    def opened(self, mailbox: Mailbox, *, inline_pgp: bool = False) -> Selected:
        """What is known once the mailbox is selected."""
        read = len(mailbox.marks.changes)
        return Selected(mailbox, self.exists, self.uid_next, inline_pgp, _changes_read=read)


def plain_set(selected: Selected, command: FetchCommand) -> bytes | None:
    """The message set to forward at once when only plain messages are meant; None when the task must run.

    "*" is made concrete, so that a message arriving meanwhile cannot slip in unclassified.
    """
    kinds = selected.mailbox.kinds
    if command.numbers == b"$":
        return None
    if not command.uid:
        if kinds or not selected.fully_covered or not selected.exists:
            return None
        concrete = _concrete(command.numbers, selected.exists)
        return concrete if concrete is not None and _highest(concrete) <= selected.exists else None
    text = command.numbers
    if text.isdigit():
        return text if int(text) in selected.covered and int(text) not in kinds else None
    ceiling = selected.uid_next - 1 if selected.uid_next is not None else 0
    if b"*" in text:
        concrete = _concrete(text, ceiling)
        if not ceiling or concrete is None:
            return None
        text = concrete
    ranges = parse_ranges(text)
    if ranges is None:
        return text
    wanted = Numbers.of(ranges)
    if wanted.difference(selected.covered):
        return None
    return None if _meets(wanted, kinds) else text


def only_protected(selected: Selected, command: FetchCommand) -> Numbers | None:
    """The messages meant, when they are a few, by UID, all of them known and none of them plain."""
    if not command.uid or b"*" in command.numbers or b"$" in command.numbers or command.modifiers:
        return None
    wanted = Numbers.of(parse_ranges(command.numbers) or ())
    if not wanted or sum(high - low + 1 for low, high in wanted.ranges) > _FEW:
        return None
    return wanted if all(uid in selected.mailbox.kinds for uid in wanted) else None


def _meets(wanted: Numbers, kinds: Mapping[int, Kind]) -> bool:
    """Whether any of these messages is not plain, by the shorter way."""
    if len(wanted.ranges) == 1 and wanted.ranges[0][1] - wanted.ranges[0][0] < len(kinds):
        return any(uid in kinds for uid in wanted)
    return any(uid in wanted for uid in kinds)


def _concrete(text: bytes, highest: int) -> bytes | None:
    """The set with "*" replaced; None when a number beyond `highest` is paired with it."""
    ranges = parse_ranges(text)
    if ranges is None or any(high == STAR and highest < low < STAR for low, high in ranges):
        return None
    return text.replace(b"*", b"%d" % highest)


def _highest(text: bytes) -> int:
    ranges = parse_ranges(text)
    return max(high for _, high in ranges) if ranges else 0
