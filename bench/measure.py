"""How things are measured: alternating runs, medians, ratios with an aim."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Aim(Enum):
    """What a ratio is compared with."""

    AT_LEAST = "at least"
    AT_MOST = "at most"
    NONE = "no aim"


@dataclass(frozen=True)
class Row:
    """One line of the table. Times are medians, in seconds."""

    what: str
    ours_name: str
    ours: float
    other_name: str
    other: float
    result: float
    """What the aim is about: a ratio, or added milliseconds."""
    unit: str
    """"x", "ms", "s", "/s", or "MB": then `ours` and `other` are megabytes too."""
    aim: Aim = Aim.NONE
    bound: float = 0.0

    @property
    def met(self) -> bool | None:
        """Whether the aim was met; None without an aim."""
        match self.aim:
            case Aim.AT_LEAST:
                return self.result >= self.bound
            case Aim.AT_MOST:
                return self.result <= self.bound
            case Aim.NONE:
                return None


def seconds(action: Callable[[], object], times: int = 1) -> float:
    """Seconds for one call, averaged over `times` calls."""
    began = time.perf_counter()
    for _ in range(times):
        action()
    return (time.perf_counter() - began) / times


def alternating(runs: int, *timed: Callable[[], float]) -> list[float]:
    """Call each of `timed` in turn, `runs` times over, and give the median of each.

    In turn, so that a machine that slows down slows all of them down.
    """
    found: list[list[float]] = [[] for _ in timed]
    for _ in range(runs):
        for times, one in zip(found, timed, strict=True):
            times.append(one())
    return [statistics.median(times) for times in found]


def faster(what: str, names: tuple[str, str], times: list[float], aim: float | None = None) -> Row:
    """How many times faster ours is than the other; `aim` is the least that it should be."""
    ours, other = times
    kind = Aim.NONE if aim is None else Aim.AT_LEAST
    return Row(what, names[0], ours, names[1], other, other / ours, "x faster", kind, aim or 0.0)


def cost(what: str, names: tuple[str, str], times: list[float], aim: float | None = None) -> Row:
    """How many times the other's duration ours takes; `aim` is the most that it should be."""
    ours, other = times
    kind = Aim.NONE if aim is None else Aim.AT_MOST
    return Row(what, names[0], ours, names[1], other, ours / other, "x", kind, aim or 0.0)


def added(what: str, names: tuple[str, str], times: list[float], aim: float | None = None) -> Row:
    """How many milliseconds ours takes more than the other; `aim` is the most that it should be."""
    ours, other = times
    kind = Aim.NONE if aim is None else Aim.AT_MOST
    return Row(what, names[0], ours, names[1], other, (ours - other) * 1000, "ms more", kind, aim or 0.0)


def rate(what: str, names: tuple[str, str], times: list[float], aim: float | None = None) -> Row:
    """How many in a second ours does; `aim` is the least that it should be."""
    ours, other = times
    kind = Aim.NONE if aim is None else Aim.AT_LEAST
    return Row(what, names[0], ours, names[1], other, 1 / ours, "/s", kind, aim or 0.0)


def at_most(what: str, names: tuple[str, str], times: list[float], aim: float) -> Row:
    """How many milliseconds ours takes; `aim` is the most that it should be."""
    ours, other = times
    return Row(what, names[0], ours, names[1], other, ours * 1000, "ms", Aim.AT_MOST, aim)
