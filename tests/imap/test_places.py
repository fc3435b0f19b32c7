"""Sequence numbers while messages come and go, against a list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap.places import Places

STEPS = st.lists(
    st.tuples(st.sampled_from(["expunge", "learn", "drop", "arrive"]), st.integers(0, 1000)), max_size=80
)


@given(STEPS)
def test_numbers_mean_what_they_mean_to_the_server(steps: list[tuple[str, int]]) -> None:
    """Requirement IMAP-11, for keywords."""
    there, known, places = list(range(100, 130)), set(), Places()
    latest = 130
    for step, number in steps:
        at = number % len(there) if there else 0
        if step == "arrive":
            there.append(latest)
            latest += 1
        elif step == "learn" and there:
            places.learn(at + 1, there[at])
            known.add(there[at])
        elif step == "drop" and there:
            places.drop(at + 1)
            known.discard(there[at])
        elif there:
            places.expunge(at + 1)
            del there[at]
        assert [places.uid(n) for n in range(1, len(there) + 1)] == [
            uid if uid in known else None for uid in there
        ]


def test_nothing_is_known_after_messages_have_vanished() -> None:
    places = Places()
    places.learn(3, 30)
    places.expunge(1)
    places.forget()
    assert places.uid(2) is None
    places.learn(2, 30)
    assert places.uid(2) == 30
