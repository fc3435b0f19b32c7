"""Rates and lock-outs, without a clock: every time is an argument."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.throttle import LOCK_MOST_SECONDS, TABLE_MOST, Lockouts, Rates

KEY = ("127.0.0.1", b"alice")
OTHER = ("127.0.0.2", b"alice")


def guess(number: int) -> bytes:
    """A digest of a password."""
    return number.to_bytes(8, "big")


def wrong(lockouts: Lockouts, count: int, now: float = 0.0, key: tuple[str, bytes] = KEY) -> list[float]:
    """So many different wrong passwords; what each is told."""
    return [lockouts.attempt(key, guess(number), now) for number in range(count)]


def test_as_many_at_once_as_a_minute_allows_and_then_evenly() -> None:
    rates = Rates(60)
    assert [rates.take("a", 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert rates.take("b", 0.0)
    assert not rates.take("a", 0.9)
    assert rates.take("a", 1.9)
    assert not rates.take("a", 1.9)
    assert sum(rates.take("a", 1000.0) for _ in range(100)) == 60


@given(st.lists(st.floats(0, 30), max_size=200), st.integers(1, 50))
def test_no_minute_has_more_than_twice_its_share(pauses: list[float], per_minute: int) -> None:
    rates, now, taken = Rates(per_minute), 0.0, []
    for pause in pauses:
        now += pause
        if rates.take("a", now):
            taken.append(now)
    for start in taken:
        assert sum(start <= one < start + 60 for one in taken) <= 2 * per_minute


def test_different_wrong_passwords_lock_and_each_further_one_locks_longer() -> None:
    lockouts, now = Lockouts(3, 60.0), 0.0
    assert wrong(lockouts, 3) == [0, 0, 0]
    for number, seconds in enumerate([60.0, 120.0, 240.0, 480.0, LOCK_MOST_SECONDS, LOCK_MOST_SECONDS]):
        assert lockouts.attempt(KEY, guess(100 + number), now) == seconds
        now += seconds - 1
        assert lockouts.attempt(KEY, guess(100 + number), now) == 1.0
        now += 1
        assert lockouts.attempt(KEY, guess(100 + number), now) == 0


def test_nobody_is_locked_out_by_another_address() -> None:
    lockouts = Lockouts(3, 60.0)
    wrong(lockouts, 100)
    assert lockouts.attempt(KEY, guess(7), 0.0) > 0
    assert lockouts.attempt(OTHER, guess(7), 0.0) == 0


def test_an_old_password_locks_nobody_out() -> None:
    """A program that knows but the old one, as often as it likes; the right one is taken in between."""
    lockouts = Lockouts(3, 60.0)
    assert {lockouts.attempt(KEY, guess(1), now) for now in range(10_000)} == {0}
    assert lockouts.attempt(KEY, guess(2), 10_000) == 0


def test_a_right_password_makes_all_forgotten() -> None:
    lockouts = Lockouts(3, 60.0)
    wrong(lockouts, 3)
    assert lockouts.attempt(KEY, guess(9), 60.0) == 0
    lockouts.succeeded(KEY)
    assert wrong(lockouts, 3, 60.0) == [0, 0, 0]


def test_those_that_are_tried_at_once_count_at_once() -> None:
    """Nobody has said yet that they are wrong: else as many could be tried as there are connections."""
    assert [left > 0 for left in wrong(Lockouts(3, 60.0), 100)] == [False] * 3 + [True] * 97


def test_what_nobody_could_judge_does_not_count() -> None:
    """The right password while the server is away; it was counted for as long as it was tried."""
    lockouts = Lockouts(3, 60.0)
    wrong(lockouts, 2)
    for now in range(100):
        assert lockouts.attempt(KEY, guess(9), now) == 0
        assert lockouts.attempt(KEY, guess(8), now) > 0
        lockouts.withdraw(KEY, guess(9))
    lockouts.withdraw(OTHER, guess(9))
    assert lockouts.attempt(KEY, guess(7), 100.0) == 0
    assert lockouts.attempt(KEY, guess(9), 100.0) == 60.0


def test_a_flood_of_names_frees_none_that_is_locked_and_takes_bounded_memory() -> None:
    lockouts = Lockouts(3, 60.0)
    wrong(lockouts, 3)
    for number in range(10 * TABLE_MOST):
        lockouts.attempt(("127.0.0.1", guess(number)), guess(0), 1.0)
    assert lockouts.attempt(KEY, guess(9), 2.0) > 0
    assert len(lockouts._suspected) == TABLE_MOST
    for number in range(2 * TABLE_MOST):
        wrong(lockouts, 3, 1.0, ("127.0.0.3", guess(number)))
    assert len(lockouts._locked) == TABLE_MOST


def test_a_flood_of_addresses_takes_bounded_memory() -> None:
    rates = Rates(10)
    for number in range(3 * TABLE_MOST):
        assert rates.take(number, 0.0)
    assert len(rates._buckets) == TABLE_MOST


@pytest.mark.parametrize("failures", [3, 300])
def test_many_failures_make_no_number_too_large(failures: int) -> None:
    lockouts = Lockouts(failures, 900.0)
    now = 0.0
    for number in range(failures + 1100):
        now += lockouts.attempt(KEY, guess(number), now)
    assert now < sys.float_info.max
