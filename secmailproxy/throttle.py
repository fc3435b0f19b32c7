"""How often is too often: rates by token buckets, and lock-outs after wrong passwords.

PURE: the time is an argument, in seconds of a clock that never goes back.

Security: the tables are bounded, however many addresses or names an attacker makes up, and a flood of names
that are tried once pushes no name out that is locked.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass

COMMANDS_BEFORE_LOGIN = 100
"""On one connection; a client needs about four."""
MISTAKES = 10
"""Unknown or malformed commands on one connection, after which a client is shown the door."""
TABLE_MOST = 4096
"""Entries of each table."""
LOCK_MOST_SECONDS = 900.0
_MEMORY_SECONDS = 24 * 3600.0
"""A wrong password counts for so long."""


class Rates:
    """A token bucket for each key: as many at once as a minute allows, and then evenly."""

    def __init__(self, per_minute: int) -> None:
        """`per_minute` may be changed at any time."""
        self.per_minute = per_minute
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, key: Hashable, now: float) -> bool:
        """Whether this key may do it once more; if so, it is counted."""
        full = float(self.per_minute)
        left, since = self._buckets.pop(key, (full, now))
        left = min(full, left + (now - since) * full / 60)
        may = left >= 1
        self._buckets[key] = (left - 1 if may else left, now)
        if len(self._buckets) > TABLE_MOST:
            self._buckets.popitem(last=False)
        return may


@dataclass(slots=True)
class _Tally:
    guesses: deque[bytes]
    """The last ones. A program that goes on with an old password is guessing nothing."""
    failures: int = 0
    until: float = 0.0
    seen: float = 0.0


class Lockouts:
    """Locks a key after several wrong passwords, longer with each further one, until a right one."""

    def __init__(self, failures: int, seconds: float) -> None:
        """After `failures` different wrong passwords, for `seconds` first. Both may be changed."""
        self.failures = failures
        self.seconds = seconds
        self._suspected: OrderedDict[Hashable, _Tally] = OrderedDict()
        self._locked: OrderedDict[Hashable, _Tally] = OrderedDict()

    def attempt(self, key: Hashable, guess: bytes, now: float) -> float:
        """Whether a password, of which `guess` is a digest, may be tried: 0, or for how long it is locked.

        One that may be tried counts as wrong from now on, until `succeeded`: else many could be tried at
        once.
        """
        tally = self._locked.pop(key, None) or self._suspected.pop(key, None)
        if tally is None or now - tally.seen > _MEMORY_SECONDS:
            tally = _Tally(deque(maxlen=self.failures))
        left = max(0.0, tally.until - now)
        if not left and guess not in tally.guesses:
            tally.seen = now
            tally.guesses.append(guess)
            tally.failures += 1
            beyond = tally.failures - self.failures
            if beyond >= 0:
                tally.until = now + min(self.seconds * 2 ** min(beyond, 30), LOCK_MOST_SECONDS)
        self._keep(key, tally)
        return left

    def withdraw(self, key: Hashable, guess: bytes) -> None:
        """Nobody could judge this password, which `attempt` has counted."""
        tally = self._locked.pop(key, None) or self._suspected.pop(key, None)
        if tally is None:
            return
        if guess in tally.guesses:
            tally.guesses.remove(guess)
            tally.failures -= 1
            tally.until = 0.0
        self._keep(key, tally)

    def succeeded(self, key: Hashable) -> None:
        """A right password: what was wrong before is forgotten."""
        self._locked.pop(key, None)
        self._suspected.pop(key, None)

    def _keep(self, key: Hashable, tally: _Tally) -> None:
        table = self._locked if tally.failures >= self.failures else self._suspected
        table[key] = tally
        if len(table) > TABLE_MOST:
            table.popitem(last=False)
