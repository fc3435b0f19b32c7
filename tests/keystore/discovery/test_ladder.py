"""The ladder: who is asked, in which order, how often, and for how long."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from keystore import openpgp
from keystore.discovery.ladder import Ladder, LadderSettings, Reach, Rung, Step, Wanted
from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.keystore import Keystore
from keystore.model import Scheme, Trust
from tests.fixtures.keystores import NOW
from tests.fixtures.shelves import Shelf

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
BOB, EVE = "bob@posteo.de", "eve@posteo.de"
WKD, VKS, HKPS, FOLDER, LDAP = (
    SourceKind.WKD,
    SourceKind.VKS,
    SourceKind.HKPS,
    SourceKind.FOLDER,
    SourceKind.LDAP,
)
TAKEN, PASSED_OVER, NOTHING, FAILED, NOT_ASKED = Step


def made(address: str = BOB, **options) -> Offer:
    key = openpgp.generate(address, now=NOW - 30 * DAY, **options)
    return Offer(key.certificate_octets, f"where {address} is")


KEY, OTHER = made(), made()


class Clock:
    """Stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Climbing = Callable[..., Ladder]


@pytest.fixture
async def climbing(keystore: Keystore, clock: Clock) -> AsyncIterator[Climbing]:
    """Makes ladders of some sources; they are closed at the end."""
    ladders = []

    def make(*shelves: Shelf, **settings) -> Ladder:
        ladders.append(Ladder(keystore, shelves, LadderSettings(**settings), clock))
        return ladders[-1]

    yield make
    for one in ladders:
        await one.close()


def steps(rungs: tuple[Rung, ...]) -> list[tuple[SourceKind, Step]]:
    return [(one.kind, one.step) for one in rungs]


async def test_the_first_that_serves_ends_the_search(climbing: Climbing) -> None:
    """No more servers than needed learn to whom somebody writes."""
    first, second, third = Shelf(FOLDER), Shelf(WKD, {BOB: [KEY]}), Shelf(VKS, {BOB: [OTHER]})
    rungs = await climbing(first, second, third).climb(Wanted(BOB))
    assert steps(rungs) == [(FOLDER, NOTHING), (WKD, TAKEN), (VKS, NOT_ASKED)]
    assert [one.asked for one in (first, second, third)] == [[BOB], [BOB], []]
    assert rungs[1].fresh
    assert "serves" in rungs[2].why


async def test_nobody_is_asked_for_what_is_here(climbing: Climbing, keystore: Keystore) -> None:
    keystore.import_keys(KEY.octets, source="the tests", now=NOW)
    shelf = Shelf(WKD, {BOB: [OTHER]})
    assert steps(await climbing(shelf).climb(Wanted(BOB))) == [(WKD, NOT_ASKED)]
    assert shelf.asked == []


async def test_what_only_an_unproven_source_gave_does_not_end_the_search(climbing: Climbing) -> None:
    """And the better source's certificate is then the one in use."""
    shelves = Shelf(HKPS, {BOB: [OTHER]}), Shelf(WKD, {BOB: [KEY]})
    ladder = climbing(*shelves)
    rungs = await ladder.climb(Wanted(BOB))
    assert steps(rungs) == [(HKPS, PASSED_OVER), (WKD, TAKEN)]
    (serving,) = ladder.serving(Wanted(BOB))
    assert (serving.octets, serving.trust) == (KEY.octets, Trust.KNOWN)


async def test_an_unproven_source_serves_where_there_is_nothing_else(climbing: Climbing) -> None:
    ladder = climbing(Shelf(HKPS, {BOB: [KEY]}), Shelf(WKD))
    assert steps(await ladder.climb(Wanted(BOB))) == [(HKPS, TAKEN), (WKD, NOTHING)]
    assert [one.trust for one in ladder.serving(Wanted(BOB))] == [Trust.UNKNOWN]


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (SourceFailed("the server cannot be reached"), "the server cannot be reached"),
        (SourceFailed("it has no such thing", temporary=False), "it has no such thing"),
        (ValueError("a secret of the answer"), "internal error (ValueError)"),
    ],
)
async def test_a_failure_is_told_and_stops_no_other_source(
    climbing: Climbing, failure: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    rungs = await climbing(Shelf(WKD, fails=failure), Shelf(VKS, {BOB: [KEY]})).climb(Wanted(BOB))
    assert steps(rungs) == [(WKD, FAILED), (VKS, TAKEN)]
    assert rungs[0].answer is not None
    assert rungs[0].answer.failure == told
    assert "a secret" not in caplog.text


async def test_who_does_not_answer_is_given_up(climbing: Climbing) -> None:
    silent = Shelf(WKD)
    silent.open.clear()
    rungs = await climbing(silent, Shelf(VKS, {BOB: [KEY]}), seconds=0.01).climb(Wanted(BOB))
    assert steps(rungs) == [(WKD, FAILED), (VKS, TAKEN)]
    assert rungs[0].answer is not None
    assert "no answer within 0.01 seconds" in rungs[0].answer.failure
    assert silent.given_up == 1


@pytest.mark.parametrize(
    ("shelf", "counts"),
    [
        (Shelf(WKD), DAY),
        (Shelf(WKD, fails=SourceFailed("no server", temporary=True)), 10 * MINUTE),
        (Shelf(WKD, fails=SourceFailed("no such domain", temporary=False)), DAY),
        (Shelf(WKD, {BOB: [made(EVE)]}), 60 * MINUTE),
    ],
    ids=["nothing", "a failure", "a lasting failure", "one that does not serve"],
)
async def test_an_answer_counts_for_a_while(
    climbing: Climbing, clock: Clock, shelf: Shelf, counts: timedelta
) -> None:
    shelf.asked.clear()
    ladder = climbing(shelf)
    first = await ladder.climb(Wanted(BOB))
    clock.now += counts - MINUTE
    second = await ladder.climb(Wanted("Bob@posteo.de"))
    assert (steps(second), [one.fresh for one in second]) == (steps(first), [False])
    assert len(shelf.asked) == 1
    clock.now += MINUTE
    await ladder.climb(Wanted(BOB))
    assert len(shelf.asked) == 2


async def test_an_answer_from_the_future_does_not_count(climbing: Climbing, clock: Clock) -> None:
    """It was noted while the clock was wrong."""
    shelf = Shelf(WKD)
    ladder = climbing(shelf)
    clock.now += 1000 * DAY
    await ladder.climb(Wanted(BOB))
    clock.now -= 1000 * DAY
    await ladder.climb(Wanted(BOB))
    assert len(shelf.asked) == 2


async def test_what_expired_is_looked_for_again(climbing: Climbing, clock: Clock, keystore: Keystore) -> None:
    """Its owner has extended it, or has a new one."""
    shelf = Shelf(WKD, {BOB: [made(expires=31 * DAY)]})
    ladder = climbing(shelf)
    assert steps(await ladder.climb(Wanted(BOB))) == [(WKD, TAKEN)]
    clock.now += DAY + MINUTE
    assert ladder.serving(Wanted(BOB)) == ()
    assert steps(await ladder.climb(Wanted(BOB))) == [(WKD, PASSED_OVER)]
    assert len(shelf.asked) == 2


async def test_renewing_asks_though_there_is_one(
    climbing: Climbing, clock: Clock, keystore: Keystore
) -> None:
    """Not oftener than its answer counts."""
    keystore.import_keys(KEY.octets, source="the tests", now=NOW)
    shelf, last = Shelf(WKD, {BOB: [KEY]}), Shelf(VKS)
    ladder = climbing(shelf, last)
    for _ in range(2):
        rungs = await ladder.climb(Wanted(BOB, reach=Reach.RENEWING))
        assert rungs[0].step is TAKEN
    assert (len(shelf.asked), last.asked) == (1, [])
    clock.now += 8 * DAY
    await ladder.climb(Wanted(BOB, reach=Reach.RENEWING))
    assert len(shelf.asked) == 2


async def test_asking_anew_heeds_no_answer(climbing: Climbing) -> None:
    shelves = Shelf(FOLDER), Shelf(WKD, {BOB: [KEY]}), Shelf(VKS)
    ladder = climbing(*shelves)
    for reach in (Reach.NEEDED, Reach.ANEW):
        await ladder.climb(Wanted(BOB, reach=reach))
    assert [len(one.asked) for one in shelves] == [2, 2, 0]
    assert steps(await ladder.climb(Wanted(BOB, reach=Reach.EVERY)))[2] == (VKS, NOTHING)
    assert [len(one.asked) for one in shelves] == [3, 3, 1]


async def test_what_was_said_can_be_read_without_asking(climbing: Climbing) -> None:
    shelves = Shelf(FOLDER), Shelf(WKD, {BOB: [KEY]}), Shelf(VKS)
    ladder = climbing(*shelves)
    assert [one.step for one in ladder.remembered(Wanted(BOB))] == [NOT_ASKED] * 3
    assert [one.asked for one in shelves] == [[], [], []]
    await ladder.climb(Wanted(BOB))
    assert [one.step for one in ladder.remembered(Wanted(BOB))] == [NOTHING, TAKEN, NOT_ASKED]


async def test_a_special_domain_is_shown_to_nobody_outside(climbing: Climbing) -> None:
    outside, inside = (
        [Shelf(kind) for kind in (WKD, VKS, HKPS, SourceKind.DANE)],
        [Shelf(FOLDER), Shelf(LDAP)],
    )
    ladder = climbing(*outside, *inside)
    rungs = await ladder.climb(Wanted("bob@mail.test"))
    assert [one.step for one in rungs] == [NOT_ASKED] * 4 + [NOTHING] * 2
    assert [one.asked for one in outside] == [[]] * 4
    await climbing(outside[0], allowed=frozenset({"mail.test"})).climb(Wanted("bob@mail.test"))
    assert outside[0].asked == ["bob@mail.test"]


async def test_the_local_part_is_asked_for_as_it_is_written(climbing: Climbing) -> None:
    shelf = Shelf(WKD, {"Bob@posteo.de": [KEY]})
    assert steps(await climbing(shelf).climb(Wanted("Bob@posteo.de"))) == [(WKD, TAKEN)]


async def test_only_the_scheme_that_is_wanted_ends_the_search(climbing: Climbing) -> None:
    rungs = await climbing(Shelf(WKD, {BOB: [KEY]}), Shelf(LDAP)).climb(Wanted(BOB, (Scheme.SMIME,)))
    assert steps(rungs) == [(WKD, PASSED_OVER), (LDAP, NOTHING)]


async def test_a_pinned_certificate_is_the_only_one_that_serves(climbing: Climbing) -> None:
    pinned = openpgp.certificate(OTHER.octets).fingerprint
    shelves = Shelf(WKD, {BOB: [KEY]}), Shelf(VKS, {BOB: [OTHER]})
    rungs = await climbing(*shelves).climb(Wanted(BOB, (Scheme.OPENPGP,), (pinned,)))
    assert steps(rungs) == [(WKD, PASSED_OVER), (VKS, TAKEN)]


async def test_many_who_want_the_same_ask_once(climbing: Climbing) -> None:
    """And one who gives up stops it for nobody."""
    shelf = Shelf(WKD, {BOB: [KEY]})
    shelf.open.clear()
    ladder = climbing(shelf)
    tasks = [ladder.start(Wanted(BOB)) for _ in range(5)]
    assert len(set(tasks)) == 1
    assert tasks[0] is not None
    done, _ = await asyncio.wait([tasks[0]], timeout=0.01)
    assert not done
    shelf.open.set()
    assert steps(await tasks[0]) == [(WKD, TAKEN)]
    assert shelf.asked == [BOB]


async def test_no_more_than_some_are_looked_for_at_once(
    climbing: Climbing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keystore.discovery.ladder.MOST_WAITING", 20)
    shelf = Shelf(FOLDER)
    shelf.open.clear()
    ladder = climbing(shelf)
    tasks = [ladder.start(Wanted(f"p{number}@posteo.de")) for number in range(25)]
    assert [one is None for one in tasks] == [False] * 20 + [True] * 5
    while len(shelf.asked) < 8:
        await asyncio.sleep(0)
    assert len(shelf.asked) == 8
    await ladder.close()
    assert shelf.given_up == 8


async def test_while_another_process_writes_nobody_waits_for_what_was_found(
    climbing: Climbing, keystore: Keystore, tmp_path: Path
) -> None:
    """Reading goes on at once, as submissions do; what was found is kept as soon as that is possible."""
    shelf = Shelf(WKD, {BOB: [KEY]})
    ladder = climbing(shelf)
    with closing(sqlite3.connect(tmp_path / "keystore/keystore.sqlite3", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        task = ladder.start(Wanted(BOB))
        assert task is not None
        await asyncio.wait([task], timeout=0.3)
        assert (shelf.asked, task.done()) == ([BOB], False)
        # Had somebody in this process waited for the other one, this would have waited with them.
        async with asyncio.timeout(5):
            for _ in range(5):
                assert not keystore.select(BOB, NOW).usable
                await asyncio.sleep(0.01)
        assert not task.done()
        other.execute("ROLLBACK")
    assert steps(await task) == [(WKD, TAKEN)]


async def test_a_keystore_that_fails_stops_no_mail(
    climbing: Climbing, keystore: Keystore, caplog: pytest.LogCaptureFixture
) -> None:
    ladder = climbing(Shelf(WKD))
    keystore.close()
    task = ladder.start(Wanted(BOB))
    assert task is not None
    assert await task == ()
    assert "could not be looked for" in caplog.text
