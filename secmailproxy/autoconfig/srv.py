"""Find mail servers by DNS SRV records.

Standards: RFC 6186 section 3 (_imap, _imaps, _submission), section 6 (who vouches for the host); RFC 8314
section 5.1 (_submissions); RFC 2782 (priority, and the target "." for "not offered").
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from secmailproxy.accounts import Tls
from secmailproxy.autoconfig.servers import Server, Servers, is_within

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver

_IMAP: tuple[tuple[str, Tls], ...] = (("_imaps", "implicit"), ("_imap", "starttls"))
_SMTP: tuple[tuple[str, Tls], ...] = (("_submissions", "implicit"), ("_submission", "starttls"))


async def look_up(resolver: Resolver, address: str, domain: str) -> Servers:
    """The servers that the SRV records of `domain` (ASCII form) name. No answer is an empty result."""
    imap, smtp = await asyncio.gather(
        _first(resolver, _IMAP, address, domain), _first(resolver, _SMTP, address, domain)
    )
    return Servers(imap, smtp)


async def _first(
    resolver: Resolver, services: tuple[tuple[str, Tls], ...], address: str, domain: str
) -> Server | None:
    found = await asyncio.gather(*(_server(resolver, name, tls, address, domain) for name, tls in services))
    return next((server for server in found if server is not None), None)


async def _server(resolver: Resolver, service: str, tls: Tls, address: str, domain: str) -> Server | None:
    import dns.exception

    try:
        answer = await resolver.resolve(f"{service}._tcp.{domain}", "SRV")
    except (dns.exception.DNSException, OSError):
        # Absent, unanswered or broken: in each case this source knows nothing.
        return None
    records = sorted(answer, key=lambda record: (record.priority, -record.weight))
    for record in records:
        host = record.target.to_text(omit_final_dot=True)
        if host and host != ".":
            vouched = is_within(host, domain)
            return Server(host, record.port, tls, address, f"SRV record of {domain}", is_vouched=vouched)
    return None
