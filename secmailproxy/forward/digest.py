"""Which messages a digest shows as one, and how many mails it takes. PURE.

Messages that are alike (`facts.likeness`) become one *group*: shown once, with a count and the first and last
time. Of each group the first message is attached; the others go, whole too, into one archive of the mail. So
each collected message is in exactly one mail of a digest, octet for octet, and 500 reports of one disk do not
bury the one of another.

Security: what is attached stays far below the limits within which mail is read (`mime.entity.Limits`); a
message that would exceed them, such as one of a thousand parts, goes into the archive.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from secmailproxy.errors import LimitExceeded
from secmailproxy.forward.facts import Facts, facts_of, likeness
from secmailproxy.forward.model import SystemMail
from secmailproxy.mime.entity import Entity, parse, parse_or_leaf
from secmailproxy.mime.preview import preview

ATTACHED_MOST = 200
"""Messages attached to one mail: more make a list that nobody scrolls through."""


@dataclass(frozen=True, slots=True)
class CollectedMail:
    """One message that waits for a digest."""

    name: str
    """Of its entry in `collected`; sorts by time."""
    at: datetime
    """When it was collected (aware)."""
    mail: SystemMail


@dataclass(frozen=True, slots=True)
class Size:
    """What a message costs of the limits of a reader."""

    entities: int = 0
    header_octets: int = 0

    def __add__(self, other: Size) -> Size:
        return Size(self.entities + other.entities, self.header_octets + other.header_octets)

    def within(self, most: Size) -> bool:
        """Whether it is no more than `most` in either."""
        return self.entities <= most.entities and self.header_octets <= most.header_octets


_MOST_OF_ONE = Size(200, 96 * 1024)
_MOST_OF_ALL = Size(600, 256 * 1024)
_DEEPEST = 12


@dataclass(frozen=True, slots=True)
class Group:
    """Messages that are alike, the earliest first; at least one."""

    facts: Facts
    preview: str
    """The first words of the first one."""
    messages: tuple[CollectedMail, ...]
    size: Size
    """Of the first one."""
    attachable: bool
    """Whether the first one can be attached; else it is in the archive."""

    @property
    def count(self) -> int:
        """How many messages."""
        return len(self.messages)


@dataclass(frozen=True, slots=True)
class Sheet:
    """What one mail of a digest carries."""

    groups: tuple[Group, ...]
    number: int
    """Of this mail in its digest, from 1."""
    is_last: bool

    @property
    def messages(self) -> Iterator[CollectedMail]:
        """All messages, group by group."""
        return (message for group in self.groups for message in group.messages)

    @property
    def count(self) -> int:
        """How many messages."""
        return sum(group.count for group in self.groups)


def sheets(messages: Iterable[CollectedMail], *, before: int = 0, is_last: bool = True) -> list[Sheet]:
    """The mails that it takes to carry `messages`, which are ordered by host, sender and subject.

    `before` is how many mails of this digest there were already; `is_last` whether no messages follow.
    """
    rows: list[list[Group]] = []
    load = Size()
    for group in collapse(messages):
        cost = group.size if group.attachable else Size()
        if not rows or len(rows[-1]) == ATTACHED_MOST or not (load + cost).within(_MOST_OF_ALL):
            rows.append([])
            load = Size()
        rows[-1].append(group)
        load += cost
    return [
        Sheet(tuple(row), before + number, is_last and number == len(rows))
        for number, row in enumerate(rows, 1)
    ]


def collapse(messages: Iterable[CollectedMail]) -> list[Group]:
    """The groups of `messages`, by host, sender and subject; then by time."""
    alike: dict[bytes, list[CollectedMail]] = {}
    for message in sorted(messages, key=lambda one: (one.at, one.name)):
        root = parse_or_leaf(message.mail.octets)
        alike.setdefault(likeness(root, facts_of(root, message.mail.mail_from)), []).append(message)
    groups = [_group(found) for found in alike.values()]
    return sorted(groups, key=lambda one: (one.facts.host, one.facts.sender, one.facts.subject))


def batches(sizes: Sequence[int], most: int) -> list[slice]:
    """Runs of entries of these sizes in octets, none over `most` but for one entry that is so alone."""
    found: list[slice] = []
    start = total = 0
    for at, size in enumerate(sizes):
        if at > start and total + size > most:
            found.append(slice(start, at))
            start, total = at, 0
        total += size
    return [*found, slice(start, len(sizes))] if sizes else []


def _group(found: list[CollectedMail]) -> Group:
    first = found[0].mail
    try:
        root = parse(first.octets)
    except LimitExceeded:
        root, size, attachable = parse_or_leaf(first.octets), Size(), False
    else:
        size = _size(root)
        attachable = size.within(_MOST_OF_ONE) and _depth(root) <= _DEEPEST
    return Group(facts_of(root, first.mail_from), preview(root), tuple(found), size, attachable)


def _size(entity: Entity) -> Size:
    own = Size(1, entity.body_start - entity.start)
    for part in entity.parts:
        own += _size(part)
    return own


def _depth(entity: Entity) -> int:
    return 1 + max(map(_depth, entity.parts), default=0)
