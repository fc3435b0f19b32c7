"""What follows from an attempt: pauses that double, a lifetime, and at most one repetition in the dark."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.forward.attempts import (
    UNKNOWN_TWICE,
    Fate,
    Outcome,
    Patience,
    Progress,
    after,
    postponed,
    resumed,
)

PATIENCE = Patience()
DAY = 86400.0
OK = Fate(Outcome.ACCEPTED, 250, "2.0.0 ok")
LATER = Fate(Outcome.DEFERRED, 451, "4.3.0 later")
NEVER = Fate(Outcome.REFUSED, 550, "5.1.1 who?")
DARK = Fate(Outcome.UNKNOWN, 0, "lost")
A, B = (0, "a@x"), (0, "b@x")


def test_pauses_double_from_a_minute_to_a_day() -> None:
    assert [PATIENCE.pause(tries) for tries in range(1, 14)] == [
        60, 120, 240, 480, 960, 1920, 3840, 7680, 15360, 30720, 61440, 86400, 86400,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fates", "settled", "failed"),
    [
        ({A: OK}, {A}, {}),
        ({A: LATER}, set(), {}),
        ({A: NEVER}, {A}, {A: NEVER}),
        ({A: DARK}, set(), {}),
        ({A: OK, B: LATER}, {A}, {}),
        ({A: NEVER, B: LATER}, {A}, {A: NEVER}),
        ({A: OK, B: NEVER}, {A, B}, {B: NEVER}),
    ],
)
def test_who_is_settled(fates: dict, settled: set, failed: dict) -> None:
    step = after(Progress(), fates, 1000.0, 1000.0, PATIENCE)
    assert (step.progress.settled, dict(step.failed)) == (frozenset(settled), failed)
    assert step.progress.tries == 1
    assert step.progress.again == 1060.0


def test_an_unknown_outcome_is_repeated_once_then_held() -> None:
    first = after(Progress(), {A: DARK}, 0.0, 0.0, PATIENCE).progress
    assert (first.held, first.unknown) == ("", 1)
    assert after(first, {A: LATER}, 0.0, 0.0, PATIENCE).progress.held == ""
    assert after(first, {A: DARK}, 0.0, 0.0, PATIENCE).progress.held == UNKNOWN_TWICE


def test_a_try_that_was_cut_off_counts_as_unknown() -> None:
    cut_off = Progress(tries=1, begun=True)
    assert resumed(cut_off) == Progress(tries=1, unknown=1)
    assert resumed(dataclasses.replace(cut_off, unknown=1)).held == UNKNOWN_TWICE
    assert resumed(Progress(tries=3)) == Progress(tries=3)


def test_after_its_lifetime_a_message_is_given_up() -> None:
    old = Progress(tries=4)
    step = after(old, {A: LATER, B: OK}, 0.0, 7 * DAY, PATIENCE)
    assert step.progress.settled == {A, B}
    assert step.failed[A].text.startswith("4.4.7 ")
    assert "451 4.3.0 later" in step.failed[A].text
    assert not after(old, {A: LATER}, 0.0, 7 * DAY - 1, PATIENCE).failed


def test_a_clock_that_jumps_ends_no_life_and_delays_nothing() -> None:
    """A machine without a clock of its own boots in 1970 and learns the time later."""
    assert not after(Progress(), {A: LATER}, 0.0, 50 * 365 * DAY, PATIENCE).failed
    future = Progress(tries=1, again=50 * 365 * DAY)
    assert future.is_due(1000.0, PATIENCE)


@given(st.lists(st.sampled_from([OK, LATER, NEVER, DARK]), max_size=40))
def test_fwd_06_nobody_is_sent_to_more_than_once_in_the_dark(said: list[Fate]) -> None:
    """FWD-06: whatever a next hop answers, a message is sent at most twice without a no in between."""
    progress, now, sent = Progress(), 0.0, 0
    for fate in said:
        now = max(now, progress.again)
        if progress.settled or not progress.is_due(now, PATIENCE):
            break
        progress = after(progress, {A: fate}, 0.0, now, PATIENCE).progress
        sent += fate.outcome in (Outcome.ACCEPTED, Outcome.UNKNOWN)
    assert sent <= 2


@given(st.integers(1, 60))
def test_every_try_is_later_than_the_one_before(tries: int) -> None:
    progress = Progress()
    for _ in range(tries):
        now = progress.again
        progress = postponed(progress, "down", now, PATIENCE)
        assert now + 60 <= progress.again <= now + DAY
