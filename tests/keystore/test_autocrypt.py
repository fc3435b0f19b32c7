"""The rules of Autocrypt as tables (Level 1 sections 2.3, 2.4 and 3.2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keystore.autocrypt import (
    STALE,
    PeerState,
    Recommendation,
    after_gossip,
    after_message,
    effective_date,
    recommendation,
)
from keystore.model import Fingerprint

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
DAY = timedelta(days=1)
ONE, TWO = Fingerprint("1" * 40), Fingerprint("2" * 40)
WHO = "alice@example.org"
TOLD = PeerState(WHO, NOW, NOW, ONE, mutual=True)


def test_no_date_lies_in_the_future() -> None:
    """Or one message with a date far ahead would keep every later one from counting."""
    assert effective_date(NOW + 1000 * DAY, NOW) == NOW
    assert effective_date(NOW - DAY, NOW) == NOW - DAY


@pytest.mark.parametrize(
    ("before", "date", "certificate", "mutual", "after"),
    [
        (PeerState(WHO), NOW, ONE, True, TOLD),
        (PeerState(WHO), NOW, None, False, PeerState(WHO, NOW)),
        (TOLD, NOW - DAY, TWO, False, TOLD),
        (TOLD, NOW - DAY, None, False, TOLD),
        (TOLD, NOW, TWO, False, PeerState(WHO, NOW, NOW, TWO)),
        (TOLD, NOW + DAY, TWO, False, PeerState(WHO, NOW + DAY, NOW + DAY, TWO)),
        (TOLD, NOW + DAY, None, False, PeerState(WHO, NOW + DAY, NOW, ONE, mutual=True)),
        # Mail without a field was seen last; what comes between still tells.
        (
            PeerState(WHO, NOW, NOW - 9 * DAY, ONE),
            NOW - DAY,
            TWO,
            True,
            PeerState(WHO, NOW, NOW - DAY, TWO, True),
        ),
    ],
)
def test_after_a_message(
    before: PeerState, date: datetime, certificate: Fingerprint | None, mutual: bool, after: PeerState
) -> None:
    assert after_message(before, date, certificate, mutual=mutual) == after


def test_gossip_touches_nothing_but_its_own() -> None:
    first = after_gossip(TOLD, NOW, TWO)
    assert first == PeerState(WHO, NOW, NOW, ONE, mutual=True, gossip_timestamp=NOW, gossip_certificate=TWO)
    assert after_gossip(first, NOW - DAY, ONE) == first
    assert after_gossip(first, NOW + DAY, ONE).gossip_certificate == ONE


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from([ONE, TWO, None])), max_size=8))
def test_the_newest_field_decides_in_whatever_order_mail_is_read(
    messages: list[tuple[int, Fingerprint | None]],
) -> None:
    days = {day: certificate for day, certificate in messages}
    states = []
    for order in (sorted(days), sorted(days, reverse=True)):
        state = PeerState(WHO)
        for day in order:
            state = after_message(state, NOW + day * DAY, days[day], mutual=False)
        states.append((state.certificate, state.autocrypt_timestamp))
    assert states[0] == states[1]


STALE_STATE = PeerState(WHO, NOW, NOW - STALE - DAY, ONE, mutual=True)
GOSSIPED = PeerState(WHO, gossip_timestamp=NOW, gossip_certificate=TWO)


@pytest.mark.parametrize(
    ("state", "usable", "own_mutual", "answers", "expected"),
    [
        (None, {ONE}, True, True, Recommendation.DISABLE),
        (PeerState(WHO, NOW), {ONE}, True, False, Recommendation.DISABLE),
        (TOLD, set(), True, True, Recommendation.DISABLE),
        (TOLD, {TWO}, True, True, Recommendation.DISABLE),
        (GOSSIPED, {TWO}, True, False, Recommendation.DISCOURAGE),
        (GOSSIPED, {TWO}, False, True, Recommendation.ENCRYPT),
        (STALE_STATE, {ONE}, True, False, Recommendation.DISCOURAGE),
        (STALE_STATE, {ONE}, False, True, Recommendation.ENCRYPT),
        (TOLD, {ONE}, True, False, Recommendation.ENCRYPT),
        (TOLD, {ONE}, False, False, Recommendation.AVAILABLE),
        (PeerState(WHO, NOW, NOW, ONE), {ONE}, True, False, Recommendation.AVAILABLE),
        (PeerState(WHO, NOW, NOW, ONE), {ONE}, True, True, Recommendation.ENCRYPT),
        (PeerState(WHO, NOW, NOW - STALE, ONE), {ONE}, True, False, Recommendation.AVAILABLE),
    ],
)
def test_what_is_recommended(
    state: PeerState | None,
    usable: set[Fingerprint],
    own_mutual: bool,
    answers: bool,
    expected: Recommendation,
) -> None:
    found = recommendation(state, frozenset(usable), own_mutual=own_mutual, answers_encrypted=answers)
    assert found is expected
