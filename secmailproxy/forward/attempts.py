"""How the delivery of a queued message goes on: what an attempt has led to, and when the next one is. PURE.

A recipient is settled when the next hop has accepted or for ever refused the message for them; the others are
tried again, after a pause that doubles, until the lifetime is over. What nobody can know is whether a message
has arrived whose reply was not heard: it is sent once more, so that it is not lost, and if that ends so too,
it is held for a person to decide. So nobody gets it more than twice.

Standards: RFC 5321 sections 4.2.1 (4yz and 5yz) and 4.5.4.1 (retries), RFC 3463 (4.4.7: time expired).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

_LEAST_TRIES = 5
"""Whatever the clock says: one that was set right meanwhile ends no message's life."""
UNKNOWN_TWICE = "it is not known, for the second time, whether it has arrived"
BY_HAND = "held by hand"
TOLD_NOBODY = "cannot be delivered, and nobody is to be told"

Recipient = tuple[int, str]
"""Which message of the file, and the address."""


class Outcome(Enum):
    """What became of a message for one recipient."""

    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Fate:
    """The outcome, and what the next hop said: a reply code (0 for none) and one line of text."""

    outcome: Outcome
    code: int = 0
    text: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds."""

    first: float = 60.0
    """From the first try to the second; doubled for each one."""
    longest: float = 24 * 3600.0
    lifetime: float = 7 * 24 * 3600.0

    def pause(self, tries: int) -> float:
        """After so many tries, until the next one."""
        return min(self.longest, self.first * 2.0 ** min(max(0, tries - 1), 30))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far delivery is. Times are seconds since 1970."""

    tries: int = 0
    again: float = 0.0
    """Not before."""
    why: str = ""
    """What kept the last try from success, for people."""
    held: str = ""
    """Why it is not tried any more until it is released; "" when it is."""
    settled: frozenset[Recipient] = frozenset()
    begun: bool = False
    """The message itself is being sent: if this is found at the start of a try, nobody knows what became of
    the last one."""
    unknown: int = 0
    """How often an outcome was unknown."""

    def is_due(self, now: float, patience: Patience) -> bool:
        """Whether it is to be tried now. A time beyond any pause is one of a clock that was wrong."""
        return not self.held and not now < self.again <= now + patience.longest


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from an attempt."""

    progress: Progress
    failed: Mapping[Recipient, Fate]
    """Whose message is given up now; they are settled in `progress`."""


def resumed(progress: Progress) -> Progress:
    """At the start of a try: one that was cut off in the middle has an unknown outcome."""
    return unknown(replace(progress, begun=False), progress.why) if progress.begun else progress


def unknown(progress: Progress, why: str) -> Progress:
    """Nobody knows what became of the last try."""
    count = progress.unknown + 1
    held = UNKNOWN_TWICE if count > 1 else progress.held
    return replace(progress, begun=False, unknown=count, held=held, why=why)


def postponed(progress: Progress, why: str, now: float, patience: Patience) -> Progress:
    """The next hop could not be asked at all."""
    tries = progress.tries + 1
    return replace(progress, tries=tries, why=why, again=now + patience.pause(tries), begun=False)


def is_over(progress: Progress, arrived: float, now: float, patience: Patience) -> bool:
    """Whether its lifetime has ended."""
    return now - arrived >= patience.lifetime and progress.tries >= _LEAST_TRIES


def after(
    progress: Progress, fates: Mapping[Recipient, Fate], arrived: float, now: float, patience: Patience
) -> Step:
    """What follows from a try that led to these fates of all recipients who were not settled."""
    worst = next((one for one in fates.values() if one.outcome is not Outcome.ACCEPTED), None)
    next_ = postponed(progress, worst.text if worst else "", now, patience)
    if any(one.outcome is Outcome.UNKNOWN for one in fates.values()):
        next_ = unknown(next_, next_.why)
    failed = {to: one for to, one in fates.items() if one.outcome is Outcome.REFUSED}
    if is_over(next_, arrived, now, patience) and not next_.held:
        left = {Outcome.DEFERRED, Outcome.UNKNOWN}
        failed |= {to: _expired(one) for to, one in fates.items() if one.outcome in left}
    accepted = {to for to, one in fates.items() if one.outcome is Outcome.ACCEPTED}
    return Step(replace(next_, settled=progress.settled | accepted | failed.keys()), failed)


def _expired(last: Fate) -> Fate:
    return Fate(
        Outcome.REFUSED, 0, f"4.4.7 not delivered in time; the last answer: {last.code or ''} {last.text}"
    )
