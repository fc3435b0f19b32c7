"""What the sources answered, kept so that none is asked twice for the same: the table `lookups`.

An answer counts until its time is over: one with a certificate for days, "there is nothing" for a day, a
failure for minutes. Then it still tells `secmailproxy key explain` what was last said.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from keystore.discovery.model import SourceKind
from keystore.model import Fingerprint, ImportAction, Scheme, lower_case
from keystore.store import Store, stored_moment, stored_time

MOST_KEPT = timedelta(days=90)
"""After the time of an answer is over."""
_KINDS = frozenset(one.value for one in SourceKind)
_OF_ADDRESS = "SELECT source, asked, until, failure, given FROM lookups WHERE address = ?"
_PUT = """
    INSERT INTO lookups (address, source, asked, until, failure, given) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (address, source) DO UPDATE SET
        asked = excluded.asked, until = excluded.until, failure = excluded.failure, given = excluded.given
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one certificate that a source offered."""

    where: str
    """As in `Offer`."""
    action: ImportAction
    scheme: Scheme = Scheme.OPENPGP
    fingerprint: Fingerprint | None = None
    """None where the octets could not be read so far."""
    reason: str = ""
    """Why it was passed over, or what is to be said of it; "" where there is nothing to say."""

    @property
    def kept(self) -> bool:
        """Whether the store has it now."""
        return self.action is not ImportAction.REFUSED


@dataclass(frozen=True, slots=True)
class Answer:
    """What one source said of one address."""

    kind: SourceKind
    asked: datetime
    until: datetime
    """It is not asked again before."""
    taken: tuple[Taken, ...] = ()
    """() where it has nothing, or failed."""
    failure: str = ""
    """Why it could not answer, for people."""


class Answers:
    """The table of one store. Errors as in `Store`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, address: str) -> dict[SourceKind, Answer]:
        """The last answer of each source about an address, in any case, with those whose time is over."""
        rows = self._store.rows(_OF_ADDRESS, lower_case(address))
        return {one.kind: one for one in map(_answer, rows) if one is not None}

    def at_once(self) -> AbstractContextManager[None]:
        """A transaction of the store that nobody waits for: StoreLocked where another process writes."""
        return self._store.transaction(patient=False)

    def keep(self, address: str, answer: Answer) -> None:
        """Note an answer in place of the source's last one; those of long ago are forgotten."""
        given = [{**asdict(one), "scheme": one.scheme.value} for one in answer.taken]
        with self._store.transaction():
            self._store.note("DELETE FROM lookups WHERE until < ?", stored_time(answer.asked - MOST_KEPT))
            self._store.note(
                _PUT,
                lower_case(address),
                answer.kind.value,
                stored_time(answer.asked),
                stored_time(answer.until),
                answer.failure,
                json.dumps(given),
            )


def _answer(row: tuple[str, str, str, str, str]) -> Answer | None:
    source, asked, until, failure, given = row
    if source not in _KINDS:
        return None  # of another version of this program
    taken = tuple(
        Taken(
            one["where"],
            ImportAction(one["action"]),
            Scheme(one["scheme"]),
            one["fingerprint"],
            one["reason"],
        )
        for one in json.loads(given)
    )
    return Answer(SourceKind(source), stored_moment(asked), stored_moment(until), taken, failure)
