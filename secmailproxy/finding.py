"""Certificates of recipients are looked for while their mail is being submitted, and only then.

At RCPT the search begins, and for a rule that demands encryption it is waited for; the others are waited for
before the message is decided on. One submission waits for all its searches together no longer than its
`Patience`; what is found later serves the next message. Certificates that end soon, or came from a source,
are asked for anew without anybody waiting.

Security: nobody is looked for to whom no rule would encrypt, or who has a certificate that serves, or where
the sender has no key to go with it. Reading mail never comes here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from keystore.discovery.ladder import Ladder, Reach, Rung, Wanted
from keystore.discovery.model import SourceKind
from keystore.discovery.taking import kind_of
from keystore.model import Certificate, Trust
from secmailproxy.decision import Decider
from secmailproxy.errors import StillLooking
from secmailproxy.mime.address import is_plain
from secmailproxy.policy import schemes_of
from secmailproxy.rules import Protect, Rule, choose, normal_address

ENDS_SOON = timedelta(days=14)
_ASKED_AGAIN = timedelta(hours=1)
"""How long a certificate that may want renewal is not thought of again; its answers count for longer."""
_MOST_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Search:
    """One that was begun for a recipient who has no certificate that serves."""

    rcpt_to: str
    task: asyncio.Task[tuple[Rung, ...]]
    """It has no rung where it could not be done."""
    demanded: bool
    """Whether a rule demands encryption."""


@dataclass(slots=True)
class Patience:
    """What one submission waits for, and how long it has waited already."""

    searches: list[Search] = field(default_factory=list)
    spent: float = 0.0
    """Seconds."""

    async def wait(self, searches: Collection[Search], most: float) -> None:
        """Wait for `searches`, until `most` seconds are spent in all."""
        began = time.monotonic()
        try:
            await asyncio.wait([one.task for one in searches], timeout=max(0.0, most - self.spent))
        finally:
            self.spent += time.monotonic() - began


class Finding:
    """Starts searches on one ladder, and waits for them."""

    def __init__(self, ladder: Ladder, seconds: float, clock: Callable[[], datetime]) -> None:
        """`seconds` is how long one submission may wait in all."""
        self._ladder = ladder
        self._seconds = seconds
        self._clock = clock
        self._thought_of: dict[str, datetime] = {}

    async def close(self) -> None:
        """Give up what is being looked for."""
        await self._ladder.close()

    async def recipient(
        self, decider: Decider, sender: str, rcpt_to: str, account: str, patience: Patience
    ) -> None:
        """At RCPT. Raises StillLooking where a rule demands encryption and the time is over."""
        search = self._begin(decider, sender, rcpt_to, account)
        if search is not None:
            patience.searches.append(search)
            if search.demanded:
                await self._wait([search], patience)

    async def message(self, rcpt_tos: Collection[str], patience: Patience) -> None:
        """Before a message is decided on, wait for what began at RCPT. Raises StillLooking as above."""
        await self._wait([one for one in patience.searches if one.rcpt_to in rcpt_tos], patience)

    async def _wait(self, searches: list[Search], patience: Patience) -> None:
        if not searches:
            return
        await patience.wait(searches, self._seconds)
        # One that was given up, for sources were configured anew, has found nothing out either.
        late = [one.rcpt_to for one in searches if one.demanded and _is_open(one.task)]
        if late:
            raise StillLooking(
                f"a certificate for <{late[0]}> is still being looked for; send the message again in a "
                f"minute, or see: secmailproxy key explain {late[0]}"
            )

    def _begin(self, decider: Decider, sender: str, rcpt_to: str, account: str) -> Search | None:
        rule = choose(sender, rcpt_to, decider.settings.rules, account).rule
        with decider.keystore.steady():
            wanted = wanted_for(decider, sender, rcpt_to, rule, self._ladder.kinds)
        if wanted is None or (wanted.reach is Reach.RENEWING and not self._is_due(wanted)):
            return None
        task = self._ladder.start(wanted)
        if task is None or wanted.reach is Reach.RENEWING:
            return None
        return Search(rcpt_to, task, rule.protect is Protect.REQUIRE)

    def _is_due(self, wanted: Wanted) -> bool:
        now, before = self._clock(), self._thought_of.get(wanted.address)
        if before is not None and timedelta() <= now - before < _ASKED_AGAIN:
            return False
        if len(self._thought_of) >= _MOST_REMEMBERED:
            self._thought_of.clear()
        self._thought_of[wanted.address] = now
        return True


def _is_open(task: asyncio.Task[tuple[Rung, ...]]) -> bool:
    """Whether nobody knows yet if there is a certificate; also where the keystore could not take it."""
    return task.cancelled() or not task.done() or not task.result()


def wanted_for(
    decider: Decider, sender: str, rcpt_to: str, rule: Rule, kinds: Collection[SourceKind]
) -> Wanted | None:
    """What is to be looked for so that a message can be encrypted to `rcpt_to`; None for nothing.

    `kinds` are the sources that can be asked.
    """
    address = asked_as(rcpt_to)
    if rule.protect in (Protect.NEVER, Protect.SIGN) or not address or decider.is_own(rcpt_to):
        return None
    schemes = tuple(one for one in schemes_of([rule]) if decider.identity(sender, one)[0] is not None)
    if not schemes:
        return None
    for scheme in schemes:
        chosen = decider.select(rcpt_to, rule, scheme).certificates
        if chosen and (rule.fingerprints or all(one.trust is not Trust.UNKNOWN for one in chosen)):
            renewed = any(_wants_renewal(one, decider.now, kinds) for one in chosen)
            return Wanted(address, (scheme,), rule.fingerprints, Reach.RENEWING) if renewed else None
    return Wanted(address, schemes, rule.fingerprints)


def asked_as(rcpt_to: str) -> str:
    """The address as sources are asked for it; "" for one that none can be asked for."""
    domain = normal_address(rcpt_to).rpartition("@")[2]
    address = f"{rcpt_to.rpartition('@')[0]}@{domain}"
    return address if is_plain(address) else ""


def _wants_renewal(certificate: Certificate, now: datetime, kinds: Collection[SourceKind]) -> bool:
    """Whether it ends soon, or came from a source that may have news of it."""
    if kind_of(certificate.source) in kinds:
        return True
    return certificate.expires is not None and certificate.expires - now < ENDS_SOON
