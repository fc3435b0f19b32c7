"""What became of system mail, in numbers: for a report on the machine, and for the heartbeat. PURE.

Standards: none; the JSON form is described in docs/cli.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, assert_never

from secmailproxy.forward.facts import UNKNOWN, Facts, steady
from secmailproxy.forward.model import Action, Collect, Drop, Forward, Keep, PassOn, Receipt

_ROWS_MOST = 50
"""Lines of one table of counts."""


class Outcome(StrEnum):
    """What became of one message; several may be true of it."""

    FORWARDED = "forwarded"
    HELD = "held"
    COLLECTED = "collected"
    KEPT = "kept"
    PASSED_ON = "passed-on"
    DROPPED = "dropped"
    DEFERRED = "deferred"
    """It could not be dealt with; whoever brought it was told to try again, and each try counts."""


@dataclass(frozen=True, slots=True)
class Record:
    """One message that was dealt with, or one try."""

    at: datetime
    outcomes: tuple[Outcome, ...]
    rule: str
    """"" for the default."""
    why: str = ""
    """The kind of error that deferred it."""
    facts: Facts | None = None
    """None where they cannot be read: they are sealed."""


@dataclass(slots=True)
class Tally:
    """Counts over some time."""

    messages: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(rule, outcome)"""
    failures: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    senders: Counter[str] = field(default_factory=Counter)
    subjects: Counter[str] = field(default_factory=Counter)
    sealed: int = 0
    """Messages of which neither host nor sender nor subject could be read."""

    def add(self, record: Record) -> None:
        """Count one more."""
        self.messages += 1
        for outcome in record.outcomes:
            self.outcomes[outcome.value] += 1
            self.rules[record.rule, outcome.value] += 1
        if record.why:
            self.failures[record.why] += 1
        if record.facts is None:
            self.sealed += 1
            return
        self.hosts[record.facts.host] += 1
        self.senders[record.facts.sender] += 1
        self.subjects[steady(record.facts.subject)] += 1

    def as_json(self) -> dict[str, Any]:
        """Plain values; each table has its largest counts first."""
        rules: dict[str, dict[str, int]] = {}
        for (rule, outcome), count in sorted(self.rules.items()):
            rules.setdefault(rule, {})[outcome] = count
        return {
            "messages": self.messages,
            "outcomes": _ordered(self.outcomes),
            "rules": rules,
            "failures": _ordered(self.failures),
            "hosts": _ordered(self.hosts),
            "senders": _ordered(self.senders),
            "subjects": _ordered(self.subjects),
            "sealed": self.sealed,
        }


def tally(records: Iterable[Record]) -> Tally:
    """All of them counted."""
    counts = Tally()
    for record in records:
        counts.add(record)
    return counts


def outcomes_of(actions: Sequence[Action], receipt: Receipt) -> tuple[Outcome, ...]:
    """What became of a message that these actions were carried out for."""
    found = dict.fromkeys(map(_outcome, actions))
    if receipt.held:
        found[Outcome.HELD] = None
        if receipt.held == receipt.sent:
            found.pop(Outcome.FORWARDED, None)
    return tuple(found)


def counted(rows: Iterable[tuple[str, int]], most: int = _ROWS_MOST) -> Iterator[str]:
    """A table of names with their counts added up, the largest first."""
    counts: dict[str, int] = {}
    for name, count in rows:
        counts[name] = counts.get(name, 0) + count
    ordered = sorted(counts.items(), key=lambda row: (-row[1], row[0]))
    for name, count in ordered[:most]:
        yield f"{count:7d}  {name}"
    if rest := ordered[most:]:
        yield f"{sum(count for _, count in rest):7d}  in {len(rest)} others"


def summary(counts: Tally) -> Iterator[str]:
    """Lines that tell no content: what became of how many, by rule, and what kept others from it."""
    if not counts.messages:
        yield "  nothing"
        return
    yield from counted(counts.outcomes.items())
    if any(rule for rule, _ in counts.rules):
        yield from ("", "By rule", "")
        yield from counted(
            (f"{rule or 'no rule'}: {outcome}", n) for (rule, outcome), n in counts.rules.items()
        )
    if counts.failures:
        yield from ("", "Deferred by", "")
        yield from counted(counts.failures.items())


def tables(counts: Tally) -> Iterator[str]:
    """`summary`, and the counts by host, sender and subject."""
    yield from summary(counts)
    for head, table in (("host", counts.hosts), ("sender", counts.senders), ("subject", counts.subjects)):
        rows = list(table.items())
        if counts.sealed:
            rows.append((f"{UNKNOWN}, sealed", counts.sealed))
        if rows:
            yield from ("", f"By {head}", "")
            yield from counted(rows)


def _outcome(action: Action) -> Outcome:
    match action:
        case Forward():
            return Outcome.FORWARDED
        case Collect():
            return Outcome.COLLECTED
        case Keep():
            return Outcome.KEPT
        case PassOn():
            return Outcome.PASSED_ON
        case Drop():
            return Outcome.DROPPED
        case _:
            assert_never(action)


def _ordered(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda row: (-row[1], row[0])))
