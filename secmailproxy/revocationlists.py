"""Fetching lists of revoked S/MIME certificates from the authorities that issued them, apart from all mail.

Only for certificates in the keystore for which a root vouches, so that it is authorities who choose the
addresses. A server that is asked learns that somebody here holds a certificate of its authority; it must not
learn when which message is read, so lists are fetched by the clock, once a day each, in a random order with
random pauses, whatever mail comes.

Security: http is enough, since lists are signed; time and size are limited; nothing is sent but the address.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from keystore.revocationtable import MAX_OCTETS, WantedList
from secmailproxy.logs import place

log = logging.getLogger(__name__)

SECONDS = 20.0
"""For one list."""
_MAX_REDIRECTS = 3
_AGE = timedelta(hours=20)
"""A list is asked for again when the last try is so old."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When lists are fetched, in seconds; each pause is chosen between the two values."""

    first: tuple[float, float] = (300.0, 1800.0)
    """After the start."""
    round: tuple[float, float] = (4 * 3600.0, 8 * 3600.0)
    """Between rounds."""
    list: tuple[float, float] = (1.0, 60.0)
    """Between lists."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What became of one list."""

    address: str
    failure: str
    """"" where it is kept now."""


def fetch_all(keystore: Keystore, now: datetime) -> Iterator[Fetched]:
    """Fetch every list that tells something of the certificates here, now. Blocks. Raises KeystoreError."""
    wanted = keystore.authorities.wanted()
    keystore.authorities.revocations.keep_only(wanted)
    for one in wanted:
        yield fetch(keystore, one, now)


def fetch(keystore: Keystore, one: WantedList, now: datetime) -> Fetched:
    """Fetch and keep one list. Blocks for at most `SECONDS` and some. Raises KeystoreError."""
    revocations = keystore.authorities.revocations
    try:
        octets = _content(one.address)
    except _Unavailable as error:
        revocations.failed(one, str(error), now)
        return Fetched(one.address, str(error))
    return Fetched(one.address, revocations.add(one, octets, now))


class Fetching:
    """Fetches by the clock, while the proxy serves."""

    def __init__(self, keystore: Keystore, clock: Callable[[], datetime], pace: Pace | None = None) -> None:
        """Nothing is fetched yet."""
        self._keystore = keystore
        self._clock = clock
        self._pace = pace or Pace()

    async def run(self) -> None:
        """Fetch what is due, round by round, until cancelled."""
        await asyncio.sleep(_between(self._pace.first))
        while True:
            try:
                await self._round()
            except KeystoreError as error:
                log.error("lists of revoked certificates cannot be kept", extra=place(error))
            await asyncio.sleep(_between(self._pace.round))

    async def _round(self) -> None:
        due = await asyncio.to_thread(self._due)
        random.shuffle(due)
        failures = 0
        for one in due:
            found = await asyncio.to_thread(fetch, self._keystore, one, self._clock())
            failures += bool(found.failure)
            await asyncio.sleep(_between(self._pace.list))
        if due:
            log.info("lists of revoked certificates", extra={"asked": len(due), "failed": failures})

    def _due(self) -> list[WantedList]:
        now = self._clock()
        wanted = self._keystore.authorities.wanted()
        self._keystore.authorities.revocations.keep_only(wanted)
        return [one for one in wanted if one.known is None or now - one.known.tried >= _AGE]


class _Unavailable(Exception):
    """Why a list was not had, for people."""


def _content(address: str) -> bytes:
    import httpx  # takes long to import, and many have no use for it

    deadline = time.monotonic() + SECONDS
    try:
        with (
            httpx.Client(
                timeout=SECONDS / 4,
                follow_redirects=True,
                max_redirects=_MAX_REDIRECTS,
                headers={"User-Agent": "secmailproxy", "Accept-Encoding": "identity"},
            ) as client,
            client.stream("GET", address) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise _Unavailable(f"the server answered {response.status_code}")
            octets = bytearray()
            for piece in response.iter_raw(65536):
                octets += piece
                if len(octets) > MAX_OCTETS:
                    raise _Unavailable(f"it is larger than {MAX_OCTETS // 2**20} MiB")
                if time.monotonic() > deadline:
                    raise _Unavailable(f"it took longer than {SECONDS:.0f} seconds")
            return bytes(octets)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        # Their texts may hold what a server wrote.
        raise _Unavailable("the server could not be reached, or did not answer rightly") from None


def _between(pause: tuple[float, float]) -> float:
    return random.uniform(*pause)  # noqa: S311  only to be unlike the times of mail
