"""Tells the owners of accounts in time that a key of theirs ends: in the log, and by mail to their INBOX.

30, 7 and 1 days before the end, and when it has come; each once, also after a restart. An end is when the key
cannot be used any more, by whatever part of it ends first. The log line has a stable form: `event="own key
ends" role=... address=... certificate=... days=... remedy=...`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from keystore.keystore import Keystore
from keystore.model import Purpose, Reason, Scheme
from secmailproxy.folders import make_private
from secmailproxy.forward import alerts
from secmailproxy.forward.alerting import end_of, read_memory, write_memory
from secmailproxy.forward.alerts import Fact
from secmailproxy.logs import place

log = logging.getLogger(__name__)

_FILE = "own-keys-told.json"
_PAUSE = 6 * 3600.0
"""Seconds between two looks."""
_ROLES = {Scheme.OPENPGP: "key", Scheme.SMIME: "S/MIME key"}
_ENDED = frozenset({Reason.EXPIRED, Reason.SUBKEY_EXPIRED})

Tell = Callable[[Fact, str], Awaitable[None]]


def ends_of(addresses: Sequence[str], keystore: Keystore, now: datetime) -> Iterator[Fact]:
    """The keys in use for these addresses that end soon, and those that have ended without another one."""
    for address in addresses:
        for scheme, role in _ROLES.items():
            identity = keystore.identity(address, now, scheme=scheme)
            if identity is None:
                told = keystore.unusable_own(address, now, scheme=scheme)
                if told is not None and told[1].reason in _ENDED:
                    yield Fact(role, address, told[0], why=told[1].explanation)
                continue
            fingerprint = identity.certificate.fingerprint
            ends = [
                end_of(keystore, fingerprint, purpose, now)
                for purpose in (Purpose.SIGN, Purpose.ENCRYPT)
                if keystore.usability(fingerprint, purpose, now).usable
            ]
            yield Fact(role, address, fingerprint, min((one for one in ends if one), default=None))


def remedy(fact: Fact) -> str:
    """The command that helps."""
    if fact.role == _ROLES[Scheme.SMIME]:
        return f"secmailproxy key request {fact.address}"
    return f"secmailproxy key extend {fact.fingerprint}"


class Renewals:
    """Looks at the keys of the accounts while `run` runs, and tells of their ends."""

    def __init__(
        self,
        addresses: Callable[[], Sequence[str]],
        keystore: Keystore,
        tell: Tell,
        folder: Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`tell` has kept a reminder (a fact with its remedy) when it returns; `folder` is the state's."""
        self._addresses = addresses
        self._keystore = keystore
        self._tell = tell
        self._folder = folder
        self._clock = clock

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  a keystore that cannot be read now may be later
                log.error("the ends of own keys cannot be told", extra=place(error))
            await asyncio.sleep(_PAUSE)

    async def look(self) -> tuple[Fact, ...]:
        """Tell of what is due now, and return it. Raises KeystoreError, OSError."""
        now = self._clock()
        facts = await asyncio.to_thread(lambda: tuple(ends_of(self._addresses(), self._keystore, now)))
        memory = await asyncio.to_thread(read_memory, self._folder, _FILE)
        due = alerts.due_warnings(facts, memory, now)
        for one in due:
            log.warning(
                "own key ends",
                extra={
                    "role": one.role,
                    "address": one.address,
                    "certificate": one.fingerprint,
                    "days": one.stage(now),
                    "remedy": remedy(one),
                },
            )
            await self._tell(one, remedy(one))
        after = alerts.after_warnings(facts, memory, now)
        if after != memory:
            make_private(self._folder)
            await asyncio.to_thread(write_memory, self._folder, after, _FILE)
        return due
