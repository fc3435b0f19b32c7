"""Servers of certificates: VKS, which asks owners of addresses first, and HKPS, where anybody uploads.

Standards: the API of Hagrid, /vks/v1 (keys.openpgp.org/about/api); draft-ietf-openpgp-hkp-01 (`op=get`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from urllib.parse import quote, urlencode, urlsplit

from keystore.discovery.fetching import fetch
from keystore.discovery.model import Offer, SourceKind
from keystore.discovery.net import Net
from keystore.discovery.offered import offers_for

VKS_SERVER = "https://keys.openpgp.org"
"""Where most people who use such a server have their certificates."""


def server_url(server: str) -> str:
    """`server` (a host, https://... or hkps://...) as https://HOST[:PORT]. ValueError, for people."""
    scheme, separator, rest = server.partition("://")
    if separator and scheme not in ("https", "hkps"):
        raise ValueError(f"{scheme}:// servers are not asked: write https:// or hkps://")
    parts = urlsplit(f"https://{rest if separator else server}")
    if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("write a host, such as keys.openpgp.org")
    if parts.username is not None:
        raise ValueError("a user name or password is not supported here")
    port = f":{parts.port}" if parts.port not in (None, 443) else ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}{port}"


class Vks:
    """Asks one verifying key server."""

    kind = SourceKind.VKS

    def __init__(self, net: Net, server: str = VKS_SERVER) -> None:
        """`server` as `server_url` takes it; ValueError for another."""
        self._net = net
        self._server = server_url(server)

    async def find(self, address: str) -> Sequence[Offer]:
        """What the owner of `address` has published there. Raises SourceFailed."""
        url = f"{self._server}/vks/v1/by-email/{quote(address, safe='')}"
        return await _asked(self._net, url, address)


class Hkps:
    """Asks one key server that checks nothing; what it says is claimed by whoever uploaded it."""

    kind = SourceKind.HKPS

    def __init__(self, net: Net, server: str) -> None:
        """`server` as `server_url` takes it; ValueError for another."""
        self._net = net
        self._server = server_url(server)

    async def find(self, address: str) -> Sequence[Offer]:
        """What somebody has uploaded for `address`. Raises SourceFailed."""
        words = urlencode({"op": "get", "options": "mr", "exact": "on", "search": address})
        return await _asked(self._net, f"{self._server}/pks/lookup?{words}", address)


async def _asked(net: Net, url: str, address: str) -> Sequence[Offer]:
    octets = await fetch(net, url)
    if octets is None:
        return ()
    return await asyncio.to_thread(offers_for, address, octets, url, urlsplit(url).hostname or "")
