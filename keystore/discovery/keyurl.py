"""The source "url": one file of keys on a web server that the owner has chosen, such as an organisation's.

The file is fetched whole and kept in memory for a while, so that the server does not learn who is looked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from keystore.discovery.fetching import fetch
from keystore.discovery.keyfile import MOST_OCTETS, Offers, offers_in
from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.discovery.net import Net
from keystore.model import lower_case

KEPT_SECONDS = 3600.0


def url_problem(url: str) -> str:
    """Say for people why this cannot be fetched; "" where it can."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "this is no URL"
    if parts.scheme != "https" or not parts.hostname:
        return "write https://HOST/PATH: what comes without TLS could be anybody's"
    if parts.username is not None or parts.password is not None:
        return "a URL with a user name or password in it is not supported"
    return ""


class KeyUrl:
    """One URL, https."""

    kind = SourceKind.URL

    def __init__(self, net: Net, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is fetched yet. `clock` counts seconds."""
        self._net = net
        self._url = url
        self._clock = clock
        self._lock = asyncio.Lock()
        self._offers: Offers = {}
        self._until = float("-inf")

    async def find(self, address: str) -> Sequence[Offer]:
        """As `Source`."""
        async with self._lock:
            if self._clock() >= self._until:
                self._offers = await self._fetched()
                self._until = self._clock() + KEPT_SECONDS
        return self._offers.get(lower_case(address), ())

    async def _fetched(self) -> Offers:
        octets = await fetch(self._net, self._url, octets=MOST_OCTETS)
        # A query may hold what lets the owner in.
        shown = urlsplit(self._url)._replace(query="", fragment="").geturl()
        if octets is None:
            raise SourceFailed(f"there is no file at {shown}")
        return await asyncio.to_thread(offers_in, octets, shown)
