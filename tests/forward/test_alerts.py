"""FWD-03: which certificate is spoken of when, and what an alert says: never anything of a message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.forward.alerts import (
    BARE_TEXT,
    Fact,
    Memory,
    Said,
    after_cause,
    after_warnings,
    bare_alert,
    cause_is_due,
    due_warnings,
    full_alert,
)
from secmailproxy.mime import header
from secmailproxy.mime.canonical import is_safe
from secmailproxy.mime.entity import parse
from secmailproxy.stamp import Stamp

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NOTHING = Memory({}, {})
STAMP = Stamp(NOW, "=-b", "<1@host.example>")


def fact(days: float | None, why: str = "") -> Fact:
    """A target's certificate that ends in so many days."""
    ends = None if days is None else NOW + days * DAY
    return Fact("target", "Admin@example.org", "A" * 40, ends, why)


@pytest.mark.parametrize(
    ("ends_in", "why", "stage"),
    [
        (None, "", None),
        (31, "", None),
        (30, "", 30),
        (29.9, "", 30),
        (7.1, "", 30),
        (7, "", 7),
        (1.1, "", 7),
        (1, "", 1),
        (0.001, "", 1),
        (0, "", 0),
        (-5, "", 0),
        (None, "expired (on 2026-01-02)", 0),
        (None, "revoked", 0),
        (20, "revoked", 0),
    ],
)
def test_fwd_03_the_stage_of_a_certificate(ends_in: float | None, why: str, stage: int | None) -> None:
    assert fact(ends_in, why).stage(NOW) == stage


END = (NOW + 5 * DAY).isoformat()


@pytest.mark.parametrize(
    ("said", "now", "is_due"),
    [
        (None, fact(None), False),
        (None, fact(5), True),
        (Said(30, END), fact(5), True),
        (Said(7, END), fact(5), False),
        (Said(1, END), fact(5), False),
        (Said(7, "another end"), fact(5), True),
        (Said(0, "revoked"), fact(5), True),
        (Said(0, "revoked"), fact(None), False),
        (Said(1, END), fact(None, "expired"), True),
        (Said(0, "expired"), fact(None, "expired"), False),
        (Said(0, "expired"), fact(None, "revoked"), False),
    ],
)
def test_fwd_03_what_was_said_is_not_said_again(said: Said | None, now: Fact, is_due: bool) -> None:
    memory = Memory({} if said is None else {now.key: said}, {})
    assert (due_warnings([now], memory, NOW) == (now,)) is is_due


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=40), st.floats(0, 60))
def test_fwd_03_each_of_30_7_1_and_0_days_is_told_once_however_often_one_looks(
    pauses: list[float], start: float
) -> None:
    """With pauses of less than a stage all of them are told; none is ever told twice, and they only fall."""
    ends, now, memory, told = NOW + start * DAY, NOW, NOTHING, []
    for pause in (*pauses, 120.0):
        one = Fact("target", "a@b", "A" * 40, ends, "expired" if now >= ends else "")
        told += [spoken.stage(now) for spoken in due_warnings([one], memory, now)]
        memory = after_warnings([one], memory, now)
        now += pause * DAY
    assert told == sorted(set(told), reverse=True)
    assert set(told) <= {30, 7, 1, 0}


def test_fwd_03_a_renewed_certificate_begins_anew() -> None:
    memory = after_warnings([fact(1)], NOTHING, NOW)
    assert memory.warnings == {fact(1).key: Said(1, (NOW + DAY).isoformat())}
    well = after_warnings([fact(None)], memory, NOW)
    assert well.warnings == {}
    assert due_warnings([fact(30)], well, NOW) == (fact(30),)


@pytest.mark.parametrize(
    ("ago", "is_due"),
    [(None, True), (0, False), (0.99, False), (1, True), (40, True), (-0.1, True), (-400, True)],
)
def test_fwd_03_a_cause_is_told_once_a_day_and_a_clock_set_back_silences_nobody(
    ago: float | None, is_due: bool
) -> None:
    memory = NOTHING if ago is None else Memory({}, {"no key": NOW - ago * DAY})
    assert cause_is_due("no key", memory, NOW) is is_due
    assert cause_is_due("another", memory, NOW)
    after = after_cause("no key", Memory({}, {"old": NOW - 9 * DAY, **memory.causes}), NOW)
    assert after.causes == {"no key": NOW}
    assert not cause_is_due("no key", after, NOW)


def test_fwd_03_the_bare_alert_is_the_same_for_every_cause() -> None:
    alert = parse(bare_alert("root@host.example", "admin@example.org", STAMP, "mark"))
    assert alert.body == BARE_TEXT.encode()
    assert is_safe(alert.octets)
    assert [field.name for field in alert.fields] == [
        *("X-Loop", "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    ]
    assert header.value(alert, "Auto-Submitted") == b"auto-generated"


def test_the_full_alert_names_what_is_wrong() -> None:
    sentences = [fact(5).sentence(), fact(None, "revoked").sentence()]
    alert = parse(full_alert(sentences, "h\u00f6st", "root@host.example", "admin@example.org", STAMP))
    assert alert.body.decode().count("\r\n* target <Admin@example.org>, certificate " + "A" * 40) == 2
    assert b": can be used until 2026-11-26 12:00 UTC\r\n" in alert.body
    assert b": revoked\r\n" in alert.body
    assert alert.header.isascii()
    assert header.text(alert, "Subject") == "System mail of h\u00f6st needs attention"
