"""When a digest or a heartbeat is due. PURE: the time and the zone are arguments.

A schedule is a row of *slots*: moments at which something is to go out. Only the last slot that has passed
counts, so after a day without power there is one digest, not 24.

The wall clock of `zone` decides. A time of day that a change of clocks leaves out is taken an hour later; one
that it brings twice counts the first time. A clock that has run ahead and was set back has left times in the
future behind: they are not believed, and what they belong to is due.

Standards: POSIX time zones as `zoneinfo` reads them; IANA tz database.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from enum import StrEnum

_AT = re.compile(r"(\d\d)?:(\d\d)", re.ASCII)
_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)
_UNSHARP = timedelta(minutes=5)
"""By how much a time may lie in the future without being wrong: clocks are corrected all the time."""


class Every(StrEnum):
    """How often."""

    HOURLY = "hourly"
    DAILY = "daily"


@dataclass(frozen=True, slots=True)
class Schedule:
    """`minute` counts from the full hour (hourly) or from midnight (daily), on the wall clock."""

    every: Every
    minute: int

    @classmethod
    def of(cls, every: str, at: str) -> Schedule:
        """From the words of the configuration: ("daily", "07:30"), ("hourly", ":15").

        Raises ValueError that says what to write.
        """
        found = _AT.fullmatch(at)
        hours, minutes = (int(found[1] or 0), int(found[2])) if found else (24, 0)
        daily = every == Every.DAILY
        if found is None or hours > 23 or minutes > 59 or daily is not bool(found[1]):
            wanted = '"07:30"' if daily else '":15" for a quarter past'
            raise ValueError(f"{at!r} is no time for {every}; write for example {wanted}")
        return cls(Every(every), hours * 60 + minutes)


@dataclass(frozen=True, slots=True)
class DigestPlan:
    """A digest as it is configured."""

    name: str
    """Small letters, digits and hyphens."""
    schedule: Schedule
    rcpt_tos: tuple[str, ...] = ()
    """(): whoever gets what no rule speaks of."""
    max_octets: int = 8 * 1024 * 1024
    """Of the messages in one mail; the digest is several where there are more."""


@dataclass(frozen=True, slots=True)
class HeartbeatPlan:
    """A heartbeat as it is configured."""

    schedule: Schedule
    rcpt_tos: tuple[str, ...] = ()
    by_digest: bool = True
    """Whether a digest to the same recipients, at the slot or after it, serves and says the same."""


def last_slot(schedule: Schedule, now: datetime, zone: tzinfo) -> datetime:
    """The latest slot that is not after `now` (aware); in UTC."""
    return max(slot for slot in _around(schedule, now, zone) if slot <= now)


def next_slot(schedule: Schedule, now: datetime, zone: tzinfo) -> datetime:
    """The first slot after `now` (aware); in UTC."""
    return min(slot for slot in _around(schedule, now, zone) if slot > now)


def digest_is_due(collected: Iterable[datetime], schedule: Schedule, now: datetime, zone: tzinfo) -> bool:
    """Whether one of the messages that were collected at these times has waited for a slot."""
    slot = last_slot(schedule, now, zone)
    return any(at <= slot or at > now + _UNSHARP for at in collected)


def heartbeat_is_due(last: datetime | None, schedule: Schedule, now: datetime, zone: tzinfo) -> bool:
    """Whether a slot has passed since the last sign of life went out; None for none ever."""
    return last is None or last < last_slot(schedule, now, zone) or last > now + _UNSHARP


def _around(schedule: Schedule, now: datetime, zone: tzinfo) -> Iterator[datetime]:
    """Some slots before and after `now`."""
    local = now.astimezone(zone)
    if schedule.every is Every.HOURLY:
        # Zones differ from each other by quarters of an hour: the minute is that of the local clock.
        ahead = timedelta(minutes=(local.minute - schedule.minute) % 60)
        first = now.astimezone(UTC).replace(second=0, microsecond=0) - ahead
        yield from (first + count * _HOUR for count in (-1, 0, 1, 2))
        return
    for count in (-2, -1, 0, 1, 2):
        yield _on(local.date() + count * _DAY, schedule.minute, zone)


def _on(day: date, minute: int, zone: tzinfo) -> datetime:
    # Without fold: a time that comes twice is the first, one that is left out is later by the change.
    return datetime.combine(day, time(minute // 60, minute % 60), zone).astimezone(UTC)
