"""When digests and heartbeats are due: time zones, clocks that jump, nights without power."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.forward.schedule import (
    Schedule,
    digest_is_due,
    heartbeat_is_due,
    last_slot,
    next_slot,
)

BERLIN = ZoneInfo("Europe/Berlin")
SEVEN = Schedule.of("daily", "07:00")
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia"]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


SLOTS = [
    # every, at, zone, now, last slot (all times UTC)
    ("daily", "07:00", "Europe/Berlin", "2026-11-21T06:00", "2026-11-21T06:00"),
    ("daily", "07:00", "Europe/Berlin", "2026-11-21T05:59:59", "2026-11-20T06:00"),
    ("daily", "00:00", "America/New_York", "2026-11-21T04:59", "2026-11-20T05:00"),
    ("daily", "02:30", "Europe/Berlin", "2026-03-29T01:29", "2026-03-28T01:30"),  # left out: 03:30 that day
    ("daily", "02:30", "Europe/Berlin", "2026-03-29T01:30", "2026-03-29T01:30"),
    ("daily", "02:30", "Europe/Berlin", "2026-03-30T00:30", "2026-03-30T00:30"),
    ("daily", "02:30", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T00:30"),  # comes twice: the first
    ("daily", "02:30", "Europe/Berlin", "2026-10-25T01:45", "2026-10-25T00:30"),
    ("daily", "07:00", "Pacific/Apia", "2011-12-30T20:00", "2011-12-30T17:00"),  # a day that never was
    ("hourly", ":15", "Europe/Berlin", "2026-11-21T06:14", "2026-11-21T05:15"),
    ("hourly", ":15", "Europe/Berlin", "2026-11-21T06:15", "2026-11-21T06:15"),
    ("hourly", ":00", "Asia/Kathmandu", "2026-11-21T06:20", "2026-11-21T06:15"),  # +05:45
    ("hourly", ":30", "Europe/Berlin", "2026-10-25T01:29", "2026-10-25T00:30"),  # both hours have their slot
    ("hourly", ":30", "Europe/Berlin", "2026-10-25T01:31", "2026-10-25T01:30"),
]


@pytest.mark.parametrize(("every", "at", "zone", "now", "slot"), SLOTS)
def test_slots_are_those_of_the_wall_clock(every: str, at: str, zone: str, now: str, slot: str) -> None:
    assert last_slot(Schedule.of(every, at), utc(now), ZoneInfo(zone)) == utc(slot)


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)),
    st.sampled_from(ZONES),
    st.sampled_from([("daily", "07:00"), ("daily", "02:30"), ("hourly", ":00"), ("hourly", ":59")]),
)
def test_slots_follow_each_other_without_gap(moment: datetime, zone: str, words: tuple[str, str]) -> None:
    now, schedule, there = moment.replace(tzinfo=UTC), Schedule.of(*words), ZoneInfo(zone)
    last, following = last_slot(schedule, now, there), next_slot(schedule, now, there)
    assert last <= now < following
    most = timedelta(hours=25) if words[0] == "daily" else timedelta(minutes=90)
    assert timedelta(0) < following - last <= most
    # Hours of half a zone's change are the only ones that are not seen alike from both sides.
    if zone != "Australia/Lord_Howe":
        assert last_slot(schedule, following, there) == following
        assert next_slot(schedule, last, there) == following


@pytest.mark.parametrize(
    ("every", "at"),
    [
        ("daily", "7:00"),
        ("daily", ":15"),
        ("daily", "24:00"),
        ("hourly", "07:15"),
        ("hourly", ":60"),
        ("daily", ""),
    ],
)
def test_wrong_times_are_told_with_an_example(every: str, at: str) -> None:
    with pytest.raises(ValueError, match="write for example"):
        Schedule.of(every, at)


def test_a_digest_waits_for_its_slot_and_makes_up_for_a_lost_one_once() -> None:
    collected = [utc("2026-11-21T12:00")]
    due = [
        digest_is_due(collected, SEVEN, utc(now), BERLIN) for now in ("2026-11-21T20:00", "2026-11-22T05:59")
    ]
    assert due == [False, False]
    assert digest_is_due(collected, SEVEN, utc("2026-11-22T06:00"), BERLIN)
    assert digest_is_due(collected, SEVEN, utc("2026-12-24T10:00"), BERLIN)  # after a month without power
    assert not digest_is_due([], SEVEN, utc("2026-12-24T10:00"), BERLIN)  # and then it is empty


def test_a_clock_that_was_wrong_keeps_nothing_back() -> None:
    now = utc("2026-11-21T12:00")
    assert digest_is_due([utc("2031-01-01T00:00")], SEVEN, now, BERLIN)
    assert not digest_is_due([now + timedelta(minutes=1)], SEVEN, now, BERLIN)
    assert heartbeat_is_due(utc("2031-01-01T00:00"), SEVEN, now, BERLIN)
    assert digest_is_due([utc("1970-01-01T00:01")], SEVEN, now, BERLIN)


def test_a_heartbeat_is_due_once_for_each_slot() -> None:
    now = utc("2026-11-21T06:00")
    assert heartbeat_is_due(None, SEVEN, now, BERLIN)
    assert heartbeat_is_due(now - timedelta(days=9), SEVEN, now, BERLIN)
    assert not heartbeat_is_due(now, SEVEN, now + timedelta(hours=23), BERLIN)
    assert not heartbeat_is_due(now, SEVEN, now - timedelta(minutes=4), BERLIN)  # set back a little
