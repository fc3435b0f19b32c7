"""The benchmarks' arithmetic, and how they are called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.measure import Row, added, alternating, at_most, cost, faster, rate

ROOT = Path(__file__).parents[2]
NAMES = ("ours", "other")


@pytest.mark.parametrize(
    ("make", "times", "aim", "result", "met"),
    [
        (faster, [0.1, 2.0], 20.0, 20.0, True),
        (faster, [0.1, 1.9], 20.0, 19.0, False),
        (faster, [0.1, 1.9], None, 19.0, None),
        (cost, [1.15, 1.0], 1.15, 1.15, True),
        (cost, [1.2, 1.0], 1.15, 1.2, False),
        (added, [0.005, 0.002], 3.1, 3.0, True),
        (added, [0.006, 0.002], 3.0, 4.0, False),
        (rate, [0.001, 0.0001], 900.0, 1000.0, True),
        (rate, [0.002, 0.0001], 900.0, 500.0, False),
        (rate, [0.002, 0.0001], None, 500.0, None),
        (at_most, [0.04, 0.001], 50.0, 40.0, True),
        (at_most, [0.06, 0.001], 50.0, 60.0, False),
    ],
)
def test_ratios_and_aims(
    make: Callable[..., Row], times: list[float], aim: float | None, result: float, met: bool | None
) -> None:
    row = make("what", NAMES, times, aim)
    assert row.result == pytest.approx(result)
    assert row.met is met


def test_runs_alternate_and_the_median_counts() -> None:
    order: list[str] = []

    def timed(name: str, times: list[float]) -> Callable[[], float]:
        left = iter(times)

        def run() -> float:
            order.append(name)
            return next(left)

        return run

    assert alternating(3, timed("a", [9.0, 1.0, 2.0]), timed("b", [5.0, 4.0, 3.0])) == [2.0, 4.0]
    assert order == ["a", "b"] * 3


def test_an_unknown_part_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "nonsense"], capture_output=True, check=False, cwd=ROOT, timeout=60
    )
    assert done.returncode == 2
    assert b"no such part: nonsense" in done.stderr
