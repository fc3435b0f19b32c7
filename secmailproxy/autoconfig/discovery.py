"""Ask all sources for the servers of an address, at once, and take the first that knows, in a fixed order.

Receives: a mail address. Asks: two HTTPS places of its domain, the DNS, a built-in table.
Security: HTTPS is verified and followed to HTTPS only; answers are limited in size and in time. What was
found is only a proposal: `setup` verifies it by logging in over verified TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from secmailproxy.autoconfig import clientconfig, providers, srv
from secmailproxy.autoconfig.servers import Servers
from secmailproxy.errors import UsageError

if TYPE_CHECKING:
    import httpx

PLACES = (
    "https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={address}",
    "https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml",
)
_LARGEST_ANSWER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Discovery:
    """How to ask. The defaults are right for everybody; organisations and tests name their own places."""

    places: tuple[str, ...] = PLACES
    """Templates with {domain} and {address}; HTTPS only."""
    nameserver: tuple[str, int] | None = None
    """Instead of the system's resolver."""
    ca_file: Path | None = None
    """Instead of the system's authorities."""
    timeout: float = 10.0
    """Seconds for each source."""

    async def find(self, address: str) -> Servers:
        """What is known of `address`; empty where nothing is. Raises UsageError for no address."""
        domain = ascii_domain(address)
        answers = await asyncio.gather(self._autoconfig(address, domain), self._srv(address, domain))
        found = Servers()
        for answer in (*answers, providers.servers_of(address, domain)):
            found = found.or_else(answer)
        return found

    async def _autoconfig(self, address: str, domain: str) -> Servers:
        """The first place in order that names a server."""
        answers = await asyncio.gather(
            *(asyncio.to_thread(self._fetch, place, address, domain) for place in self.places)
        )
        found = Servers()
        for octets in answers:
            if octets is not None:
                found = found.or_else(clientconfig.read(octets, address, f"autoconfig of {domain}"))
        return found

    def _fetch(self, place: str, address: str, domain: str) -> bytes | None:
        """The document, or None when it cannot be had. Blocks.

        Not httpx's asynchronous client: cancelled during a TLS handshake it leaves its socket open.
        """
        import httpx  # here and not above: only `setup` needs it

        url = place.format(domain=domain, address=quote(address, safe="@"))
        context = ssl.create_default_context(cafile=self.ca_file)
        deadline = time.monotonic() + self.timeout
        try:
            with (
                httpx.Client(
                    verify=context,
                    timeout=self.timeout,
                    follow_redirects=True,
                    trust_env=False,
                    event_hooks={"request": [_https_only]},
                ) as client,
                client.stream("GET", url) as answer,
            ):
                return _content(answer, deadline) if answer.status_code == 200 else None
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            # No such host, no TLS, no answer: this place knows nothing, another may.
            return None

    async def _srv(self, address: str, domain: str) -> Servers:
        import dns.asyncresolver
        import dns.resolver

        try:
            resolver = dns.asyncresolver.Resolver(configure=self.nameserver is None)
        except dns.resolver.NoResolverConfiguration:
            return Servers()
        if self.nameserver is not None:
            host, resolver.port = self.nameserver
            resolver.nameservers = [host]
        resolver.lifetime = self.timeout
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.timeout + 1):
                return await srv.look_up(resolver, address, domain)
        return Servers()


def ascii_domain(address: str) -> str:
    """The domain of an address as the DNS writes it (RFC 5890). Raises UsageError."""
    local, at, domain = address.rpartition("@")
    try:
        if not (local and at):
            raise UnicodeError
        name = domain.encode("idna").decode("ascii").lower()
        if not name or any(not one for one in name.split(".")):
            raise UnicodeError
    except UnicodeError:
        raise UsageError(f"{address!r} is not a mail address; write it as alice@example.org.") from None
    return name


def _https_only(request: httpx.Request) -> None:
    """Stop a redirection to clear text before it is followed."""
    import httpx

    if request.url.scheme != "https":
        raise httpx.UnsupportedProtocol("autoconfig is read over HTTPS only", request=request)


def _content(answer: httpx.Response, deadline: float) -> bytes | None:
    """The body, or None when it is larger or slower than any honest one."""
    octets = b""
    for piece in answer.iter_bytes():
        octets += piece
        if len(octets) > _LARGEST_ANSWER or time.monotonic() > deadline:
            return None
    return octets
