"""Room for answers: who has none waits, nobody waits for ever, and nothing is counted twice."""

from __future__ import annotations

import asyncio

from secmailproxy.imap.budget import Budget
from secmailproxy.imap.running import COLLECT_LIMIT


class Wish:
    """What one connection wants to hold."""

    def __init__(self, octets: int = 0) -> None:
        self.octets = octets

    def __call__(self) -> int:
        return self.octets


async def test_who_has_no_room_waits_until_another_gives_back() -> None:
    budget = Budget(100)
    first, second = Wish(60), Wish(60)
    one, two = budget.share(first), budget.share(second)
    assert await one.settled()
    waiting = asyncio.create_task(two.settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    first.octets = 30
    one.lower()
    assert await waiting
    assert budget.held == 90


async def test_a_connection_that_waits_for_itself_goes_on_when_it_wants_less() -> None:
    """What it holds is worked on meanwhile."""
    budget = Budget(100)
    wish = Wish(80)
    share = budget.share(wish)
    assert await share.settled()
    wish.octets = 160
    waiting = asyncio.create_task(share.settled())
    await asyncio.sleep(0)
    assert not waiting.done()
    wish.octets = 80
    share.lower()
    assert await waiting
    assert budget.held == 80


async def test_two_that_wait_for_each_other_do_not_wait_for_ever() -> None:
    budget = Budget(100, patience=0.05)
    wishes = Wish(50), Wish(50)
    shares = [budget.share(wish) for wish in wishes]
    for share in shares:
        assert await share.settled()
    for wish in wishes:
        wish.octets = 80

    async def give_up(share: int) -> bool:
        if await shares[share].settled():
            return True
        wishes[share].octets = 0
        shares[share].lower()
        return False

    assert sorted(await asyncio.gather(give_up(0), give_up(1))) != [True, True]
    assert budget.held <= 100


async def test_what_a_connection_held_is_free_when_it_ends() -> None:
    budget = Budget(100)
    share = budget.share(Wish(100))
    assert await share.settled()
    waiting = asyncio.create_task(budget.share(Wish(100)).settled())
    await asyncio.sleep(0)
    share.close()
    assert await waiting
    assert budget.held == 100


async def test_one_account_leaves_room_for_the_others() -> None:
    budget = Budget(100, each=60)
    wishes = [Wish(30), Wish(30), Wish(30)]
    shares = [budget.share(wish, "one@example.org") for wish in wishes]
    assert await shares[0].settled()
    assert await shares[1].settled()
    third = asyncio.create_task(shares[2].settled())
    await asyncio.sleep(0)
    assert not third.done()
    other = budget.share(Wish(40), "other@example.org")
    assert await other.settled()
    shares[0].close()
    assert await third
    for share in (*shares, other):
        share.close()
    assert (budget.held, budget._held_by.total()) == (0, 0)


def test_the_largest_message_of_another_account_has_room() -> None:
    assert Budget().limit - Budget().each >= COLLECT_LIMIT
