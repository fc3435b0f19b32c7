"""Fetching lists of revoked S/MIME certificates from the authorities that issued them, apart from all mail.

Only for certificates in the keystore for which a root vouches, so that it is authorities who choose the
addresses. A server that is asked learns that somebody here holds a certificate of its authority; it must not
learn when which message is read, so lists are fetched by the clock, once a day each, in a random order with
random pauses, whatever mail comes.

Security: http is enough, since lists are signed; time and size are limited; nothing is sent but the address.
Whoever is on the way can answer for a server of http, so a redirection leads only to the same host: else we
could be sent to whatever listens on this machine or beside it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from keystore.keystore import Keystore
from keystore.revocationtable import MAX_OCTETS, WantedList
from secmailproxy.logs import place

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)

SECONDS = 20.0
"""For one list, from the first question to the last octet."""
_PORTS = {"http": 80, "https": 443}
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


def fetch_all(keystore: Keystore, now: datetime, proxy: str | None = None) -> Iterator[Fetched]:
    """Fetch every list that tells something of the certificates here, now. Blocks. Raises KeystoreError.

    With `proxy`, as in `keystore.discovery.net`, nobody is asked beside it.
    """
    wanted = keystore.authorities.wanted()
    keystore.authorities.revocations.keep_only(wanted)
    for one in wanted:
        yield asyncio.run(fetch(keystore, one, now, proxy=proxy))


async def fetch(
    keystore: Keystore, one: WantedList, now: datetime, seconds: float = SECONDS, proxy: str | None = None
) -> Fetched:
    """Fetch and keep one list. Raises KeystoreError."""
    revocations = keystore.authorities.revocations
    try:
        octets = await _content(one.address, seconds, proxy)
    except _Unavailable as error:
        await asyncio.to_thread(revocations.failed, one, str(error), now)
        return Fetched(one.address, str(error))
    return Fetched(one.address, await asyncio.to_thread(revocations.add, one, octets, now))


class Fetching:
    """Fetches by the clock, while the proxy serves."""

    def __init__(
        self,
        keystore: Keystore,
        clock: Callable[[], datetime],
        pace: Pace | None = None,
        proxy: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Nothing is fetched yet. `proxy` is asked for each list, as it may change."""
        self._keystore = keystore
        self._clock = clock
        self._pace = pace or Pace()
        self._proxy = proxy

    async def run(self) -> None:
        """Fetch what is due, round by round, until cancelled."""
        await asyncio.sleep(_between(self._pace.first))
        while True:
            try:
                await self._round()
            except Exception as error:  # noqa: BLE001  of the keystore, for a while, or of one odd certificate
                log.error("lists of revoked certificates cannot be fetched or kept", extra=place(error))
            await asyncio.sleep(_between(self._pace.round))

    async def _round(self) -> None:
        due = await asyncio.to_thread(self._due)
        if due:
            # It takes long, and the loop serves others meanwhile.
            await asyncio.to_thread(import_module, "httpx")
        random.shuffle(due)
        failures = 0
        for one in due:
            found = await fetch(self._keystore, one, self._clock(), proxy=self._proxy())
            failures += bool(found.failure)
            await asyncio.sleep(_between(self._pace.list))
        if due:
            log.info("lists of revoked certificates", extra={"asked": len(due), "failed": failures})

    def _due(self) -> list[WantedList]:
        now = self._clock()
        wanted = self._keystore.authorities.wanted()
        self._keystore.authorities.revocations.keep_only(wanted)
        # A try that is yet to come was noted while the clock was wrong.
        return [one for one in wanted if one.known is None or not timedelta() <= now - one.known.tried < _AGE]


class _Unavailable(Exception):
    """Why a list was not had, for people."""


async def _content(address: str, seconds: float, proxy: str | None) -> bytes:
    import httpx  # takes long to import, and many have no use for it

    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(
                timeout=seconds,
                headers={"User-Agent": "secmailproxy", "Accept-Encoding": "identity"},
                proxy=proxy,
            ) as client,
        ):
            for _ in range(1 + _MAX_REDIRECTS):
                async with client.stream("GET", address) as response:
                    if not response.has_redirect_location:
                        return await _body(response)
                    address = _redirected(address, response.headers["Location"])
        raise _Unavailable("the server sends us from one address to the next")
    except TimeoutError:
        raise _Unavailable(f"it took longer than {seconds:.0f} seconds") from None
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        # Their texts may hold what a server wrote.
        raise _Unavailable("the server could not be reached, or did not answer rightly") from None


async def _body(response: httpx.Response) -> bytes:
    if response.status_code != HTTPStatus.OK:
        raise _Unavailable(f"the server answered {response.status_code}")
    octets = bytearray()
    async for piece in response.aiter_raw(65536):
        octets += piece
        if len(octets) > MAX_OCTETS:
            raise _Unavailable(f"it is larger than {MAX_OCTETS // 2**20} MiB")
    return bytes(octets)


def _redirected(address: str, location: str) -> str:
    """Where a redirection leads. Raises ValueError for what is no address."""
    target = urljoin(address, location)
    before, after = urlsplit(address), urlsplit(target)
    usual = _PORTS.get(after.scheme)
    ports = {usual, before.port or usual}
    if usual is None or after.hostname != before.hostname or (after.port or usual) not in ports:
        raise _Unavailable("the server sends us elsewhere")
    return target


def _between(pause: tuple[float, float]) -> float:
    return random.uniform(*pause)  # noqa: S311  only to be unlike the times of mail
