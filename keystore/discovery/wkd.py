"""The Web Key Directory: certificates on the web server of an address's own domain.

First the advanced method, at openpgpkey.DOMAIN; only where that name does not exist the direct one, at DOMAIN
itself. So says section 3.1, and a domain that has the name decides with it who answers.

Standards: draft-koch-openpgp-webkey-service-21 sections 3.1 and 4.5; the policy file is not asked for, it
says nothing to who looks up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from keystore.discovery.directory import Place, places
from keystore.discovery.fetching import HostMissing, fetch
from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.discovery.net import Net
from keystore.discovery.offered import offers_for


class Wkd:
    """Asks the domain of each address."""

    kind = SourceKind.WKD

    def __init__(self, net: Net) -> None:
        """Nothing is asked yet."""
        self._net = net

    async def find(self, address: str) -> Sequence[Offer]:
        """What the domain publishes for `address`. Raises SourceFailed."""
        advanced, direct = places(address)
        try:
            return await self._at(advanced, address)
        except HostMissing:
            pass
        try:
            return await self._at(direct, address)
        except HostMissing as missing:
            if missing.temporary:
                raise
            # A domain may well have mail and no web.
            return ()

    async def _at(self, place: Place, address: str) -> Sequence[Offer]:
        octets = await fetch(
            self._net, place.url, allowed=lambda before, after: may_lead(place, before, after)
        )
        if octets is None:
            return ()
        offers = await asyncio.to_thread(offers_for, address, octets, place.url, place.host)
        if not offers:
            raise SourceFailed(f"{place.host} sends a certificate of another address", temporary=False)
        return offers


def may_lead(place: Place, before: str, after: str) -> bool:
    """Whether a redirection is followed: within the domain, or elsewhere to the same place of a directory.

    A domain that somebody writes to could else have any address on the web asked for, from this machine and
    in its network.
    """
    parts = urlsplit(after)
    if parts.port not in (None, 443):
        return False
    host = parts.hostname or ""
    if host == place.domain or host.endswith(f".{place.domain}"):
        return True
    return parts.path.endswith(place.path) and parts.query in ("", urlsplit(before).query)
