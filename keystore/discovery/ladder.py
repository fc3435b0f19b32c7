"""The ladder: the sources are asked in their order until one gives a certificate that serves.

One after the other, so that no more of them than needed learn to whom somebody here writes. What is asked for
twice at a time is asked once; what a source has answered is kept (`answers`). Whoever waits may give up; the
search goes on without them and the next one finds what it brought.

Security: nothing here is called by reading mail. What a source raises beyond SourceFailed is told by its type
alone, for its text could hold what a server wrote.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, StrEnum

from keystore.discovery.answers import Answer, Taken
from keystore.discovery.domains import OUTWARD, refusal
from keystore.discovery.model import Offer, Source, SourceFailed, SourceKind
from keystore.errors import StoreLocked
from keystore.keystore import Keystore
from keystore.model import Certificate, Fingerprint, Scheme, Trust, lower_case

log = logging.getLogger(__name__)

MOST_AT_ONCE = 8
"""Addresses that are looked for at the same time."""
MOST_WAITING = 1000
"""Beyond, nothing new is looked for."""
_MOST_OFFERS = 20
"""Of one source for one address."""
_PAUSE, _TRIES = 0.2, 50
"""While another process writes to the keystore."""


@dataclass(frozen=True, slots=True)
class LadderSettings:
    """How the sources are asked, and how long their answers count."""

    seconds: float = 10.0
    """For one source."""
    found: timedelta = timedelta(days=7)
    nothing: timedelta = timedelta(days=1)
    unfit: timedelta = timedelta(hours=1)
    """Of an answer whose certificates do not serve, or no longer."""
    failed: timedelta = timedelta(minutes=10)
    allowed: frozenset[str] = frozenset()
    """Domains that sources outside are asked about though they are special (`domains.refusal`)."""
    tor: bool = False
    """Whether .onion can be reached."""


class Reach(Enum):
    """How far a search goes."""

    NEEDED = "needed"
    """Until there is a certificate that serves, which may be from the start; as a submission does."""
    RENEWING = "renewing"
    """The same, though there is one: until a source gives what serves."""
    ANEW = "anew"
    """The same, and nobody's last answer is heeded."""
    EVERY = "every"
    """Everybody is asked now."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for."""

    address: str
    """The domain in lower case and ASCII, the local part as it was written."""
    schemes: tuple[Scheme, ...] = (Scheme.OPENPGP, Scheme.SMIME)
    """One of these."""
    pinned: tuple[Fingerprint, ...] = ()
    """A rule takes nothing but these."""
    reach: Reach = Reach.NEEDED


class Step(StrEnum):
    """What became of one source."""

    TAKEN = "taken"
    """It gave what serves now."""
    PASSED_OVER = "passed over"
    """It gave something, which does not serve, or less well."""
    NOTHING = "nothing"
    FAILED = "failed"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Rung:
    """One source in one search."""

    kind: SourceKind
    step: Step
    answer: Answer | None = None
    """What it said, now or before."""
    fresh: bool = False
    """Whether it was asked in this search."""
    why: str = ""
    """Why it was not asked, for people."""


class Ladder:
    """The sources of one keystore, in their order. For one event loop; close it."""

    def __init__(
        self,
        keystore: Keystore,
        sources: Sequence[Source],
        settings: LadderSettings,
        clock: Callable[[], datetime],
    ) -> None:
        """Nothing is asked yet."""
        self._keystore = keystore
        self._sources = tuple(sources)
        self.settings = settings
        self._clock = clock
        self._room = asyncio.Semaphore(MOST_AT_ONCE)
        self._running: dict[Wanted, asyncio.Task[tuple[Rung, ...]]] = {}

    @property
    def kinds(self) -> tuple[SourceKind, ...]:
        """Those that are switched on, in their order."""
        return tuple(one.kind for one in self._sources)

    def start(self, wanted: Wanted) -> asyncio.Task[tuple[Rung, ...]] | None:
        """Look for it in the background, unless that is going on already; None where too much is waiting."""
        task = self._running.get(wanted)
        if task is None and len(self._running) < MOST_WAITING:
            task = self._running[wanted] = asyncio.create_task(self._search(wanted))
            task.add_done_callback(lambda _: self._running.pop(wanted, None))
        return task

    async def close(self) -> None:
        """Give up what is being looked for."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _search(self, wanted: Wanted) -> tuple[Rung, ...]:
        try:
            async with self._room:
                return await self.climb(wanted)
        except Exception as error:  # noqa: BLE001  of the keystore, busy or full; mail goes on without
            log.warning("certificates could not be looked for", extra={"exception": type(error).__name__})
            return ()

    async def climb(self, wanted: Wanted) -> tuple[Rung, ...]:
        """Ask the sources in their order, as far as is wanted; a rung for each. Raises KeystoreError."""
        heeded = await asyncio.to_thread(self._heeded, wanted)
        done = await self._served(wanted) if wanted.reach is Reach.NEEDED else ""
        rungs: list[Rung] = []
        for source in self._sources:
            rung = self._unasked(source.kind, wanted, heeded, done)
            if rung is None:
                rung = Rung(source.kind, Step.NOTHING, await self._ask(source, wanted.address), fresh=True)
            if not done and (answer := rung.answer) is not None:
                rung = replace(rung, step=_step_of(answer))
                done = await self._done(wanted, answer)
            rungs.append(rung)
        chosen = {one.fingerprint for one in await asyncio.to_thread(self.serving, wanted)}
        return tuple(_marked(one, chosen) for one in rungs)

    async def _done(self, wanted: Wanted, answer: Answer) -> str:
        """Why nobody further is asked after this answer; "" where the search goes on."""
        if wanted.reach is Reach.EVERY:
            return ""
        if wanted.reach is Reach.NEEDED:
            return await self._served(wanted)
        chosen = {one.fingerprint for one in await asyncio.to_thread(self.serving, wanted)}
        return _SERVED if _gave(answer, chosen) else ""

    def _heeded(self, wanted: Wanted) -> dict[SourceKind, Answer]:
        """The answers that still count."""
        if wanted.reach in (Reach.ANEW, Reach.EVERY):
            return {}
        now, chosen = self._clock(), {one.fingerprint for one in self.serving(wanted)}
        heeded = {}
        for kind, answer in self._keystore.answers.of(wanted.address).items():
            until = answer.until
            if answer.taken and not _gave(answer, chosen):
                # Expired since, or never fit: its owner may have seen to that.
                until = min(until, answer.asked + self.settings.unfit)
            # An answer that is yet to come was noted while the clock was wrong.
            if answer.asked <= now < until:
                heeded[kind] = answer
        return heeded

    def remembered(self, wanted: Wanted) -> tuple[Rung, ...]:
        """What the sources said when they were last asked; nobody is asked. Raises StoreLocked."""
        answers = self._keystore.answers.of(wanted.address)
        chosen = {one.fingerprint for one in self.serving(wanted)}
        rungs = []
        for kind in self.kinds:
            answer = answers.get(kind)
            step = _step_of(answer) if answer else Step.NOT_ASKED
            rungs.append(_marked(Rung(kind, step, answer, why="" if answer else "not yet"), chosen))
        return tuple(rungs)

    def serving(self, wanted: Wanted) -> tuple[Certificate, ...]:
        """The certificates to which a message would be encrypted now; () for none."""
        now = self._clock()
        for scheme in wanted.schemes:
            address = wanted.address if wanted.pinned else lower_case(wanted.address)
            found = self._keystore.select(address, now, wanted.pinned, scheme=scheme).certificates
            if found:
                return found
        return ()

    async def _served(self, wanted: Wanted) -> str:
        """Why nobody further is asked, where that is so. What is trusted by nobody's word ends no search."""
        found = await asyncio.to_thread(self.serving, wanted)
        trusted = found and (wanted.pinned or all(one.trust is not Trust.UNKNOWN for one in found))
        return _SERVED if trusted else ""

    def _unasked(
        self, kind: SourceKind, wanted: Wanted, heeded: dict[SourceKind, Answer], done: str
    ) -> Rung | None:
        """The rung of a source that is not to be asked now; None where it is."""
        answer = heeded.get(kind)
        if done:
            return Rung(kind, Step.NOT_ASKED, answer, why=done)
        domain = wanted.address.rpartition("@")[2]
        settings = self.settings
        if kind in OUTWARD and (why := refusal(domain, settings.allowed, tor=settings.tor)):
            return Rung(kind, Step.NOT_ASKED, why=why)
        return None if answer is None else Rung(kind, Step.NOTHING, answer)

    async def _ask(self, source: Source, address: str) -> Answer:
        offers: Sequence[Offer] = ()
        failure, temporary = "", False
        try:
            async with asyncio.timeout(self.settings.seconds):
                offers = await source.find(address)
        except TimeoutError:
            failure, temporary = f"no answer within {self.settings.seconds:g} seconds", True
        except SourceFailed as error:
            failure, temporary = error.text, error.temporary
        except Exception as error:  # noqa: BLE001  a bug in a source stops no mail; its text could hold an answer
            failure, temporary = f"internal error ({type(error).__name__})", True
            log.error(
                "a source of certificates failed",
                extra={"source": source.kind.value, "exception": type(error).__name__},
            )
        for _ in range(_TRIES):
            with suppress(StoreLocked):
                return await asyncio.to_thread(self._taken, source.kind, address, offers, failure, temporary)
            await asyncio.sleep(_PAUSE)
        return await asyncio.to_thread(self._taken, source.kind, address, offers, failure, temporary)

    def _taken(
        self, kind: SourceKind, address: str, offers: Sequence[Offer], failure: str, temporary: bool
    ) -> Answer:
        now, settings = self._clock(), self.settings
        # Who waits here for another process would have the submissions of this one wait as well.
        with self._keystore.answers.at_once():
            taken: list[Taken] = [
                self._keystore.import_found(one, kind, address, now) for one in offers[:_MOST_OFFERS]
            ]
            kept = any(one.kept for one in taken)
            lasts = settings.failed if temporary else settings.found if kept else settings.nothing
            answer = Answer(kind, now, now + lasts, tuple(taken), failure)
            self._keystore.answers.keep(address, answer)
        return answer


_SERVED = "not needed: there is a certificate that serves"


def _step_of(answer: Answer) -> Step:
    if answer.failure:
        return Step.FAILED
    return Step.PASSED_OVER if answer.taken else Step.NOTHING


def _gave(answer: Answer, chosen: Collection[Fingerprint]) -> bool:
    return any(one.fingerprint in chosen for one in answer.taken)


def _marked(rung: Rung, chosen: Collection[Fingerprint]) -> Rung:
    """The rung, with the step that says so where it gave what serves."""
    return replace(rung, step=Step.TAKEN) if rung.answer and _gave(rung.answer, chosen) else rung
