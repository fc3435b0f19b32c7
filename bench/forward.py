"""`secmailproxy forward` against the classic recipe, zeyple and kuvert: from exec to handed over or spooled.

Every way is measured until the last of its processes has ended (`bench.hosts`), alternately. The recipe is
measured by procmail, as it is used, and its pipe alone. The rows of zeyple and kuvert are there when they are
on PATH; kuvert signs too, for it cannot do without.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from bench.hosts import Host, host
from bench.measure import Aim, Row, alternating, cost, faster, seconds
from tests.fixtures.proxy import serving

RUNS = 21
AT_ONCE = 1000
TOGETHER = 50


def rows() -> Iterator[Row]:
    """One row for each way and peer."""
    with host() as made:
        with made.runner():
            spooling = lambda: made.ours(made.spooling)  # noqa: E731  # a name for the table
            yield from _compared(made, "plan", 2.0, made.ours, spooling)
            yield from _beaten(made)
            yield _many("plan, sendmail", made.ours, made.taken)
            yield _many("plan, own spool", spooling, made.spooled)
        times = alternating(RUNS, lambda: seconds(made.sendmail), lambda: seconds(made.recipe))
        yield cost("secmailproxy-sendmail", ("ours", "recipe"), times)
        with serving(made.home), serving(made.spooling):
            made.prove(made.ours)
            yield from _compared(made, "daemon", 1.0, made.ours, spooling)
            yield _many("daemon, sendmail", made.ours, made.taken)
            yield _many("daemon, own spool", spooling, made.spooled)


def _compared(
    made: Host, how: str, aim: float, direct: Callable[[], None], spooling: Callable[[], None]
) -> Iterator[Row]:
    ways = (direct, spooling, made.recipe, made.pipe)
    times = alternating(RUNS, *(lambda way=way: seconds(way) for way in ways))  # type: ignore[misc]
    for at, way in enumerate(("sendmail", "own spool")):
        for other, name in ((2, "recipe"), (3, "its pipe")):
            yield cost(f"forward: {how}, {way}", ("ours", name), [times[at], times[other]], aim)


def _beaten(made: Host) -> Iterator[Row]:
    others: dict[str, Callable[[], None]] = {}
    if zeyple := shutil.which("zeyple"):
        others["zeyple"] = lambda: made.zeyple(zeyple)
    if shutil.which("kuvert"):
        others["kuvert"] = made.kuvert
    for name, other in others.items():
        times = alternating(RUNS, lambda: seconds(made.ours), lambda other=other: seconds(other))  # type: ignore[misc]
        yield faster("forward: plan, sendmail", ("ours", name), times, 5.0)


def _many(how: str, one: Callable[[], None], count: Callable[[], int]) -> Row:
    """AT_ONCE messages by as many processes, TOGETHER at a time; every one is counted where it went."""
    before = count()
    began = time.perf_counter()
    with ThreadPoolExecutor(TOGETHER) as pool:
        for done in [pool.submit(one) for _ in range(AT_ONCE)]:
            done.result()
    each = (time.perf_counter() - began) / AT_ONCE
    taken = count() - before
    return Row(f"{AT_ONCE} messages: {how}", "each", each, "", 0.0, taken, "taken", Aim.AT_LEAST, AT_ONCE)
