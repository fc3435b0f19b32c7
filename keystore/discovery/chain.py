"""Records of the DNS with the chain of their signatures up to the root, asked of any resolver.

The resolver is not believed: it may be that of a café, and nobody can know whether its word that it validated
("AD") reaches us as it was said. Everything that is needed is asked of it, and judged here.

Standards: RFC 4035 section 5, RFC 6840 section 5.9 (the question asks for signatures, and for no checking).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import dns.exception
import dns.flags
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS

from keystore.discovery import dnssec
from keystore.discovery.dnssec import Effort, NotSecure

if TYPE_CHECKING:
    import dns.asyncresolver
    from dns.rdtypes.ANY.CNAME import CNAME

_PAYLOAD = 1232
"""Octets of an answer by UDP that no network cuts (RFC 9715); longer ones come by TCP."""

_MOST_QUESTIONS = 64
_MOST_ALIASES = 8


class Unanswered(Exception):
    """The resolver could not be asked, or had no answer; the text says why. Trying later may work."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the resolver said: the records asked for, or an alias in their place, with the signatures."""

    records: dns.rrset.RRset
    signatures: dns.rrset.RRset | None


@dataclass(slots=True)
class Chain:
    """The zones of one lookup, with what was found out about them."""

    resolver: dns.asyncresolver.Resolver
    """Of this lookup alone: how it asks is set here."""
    anchors: Sequence[DS]
    now: float
    _keys: dict[dns.name.Name, list[DNSKEY]] = field(default_factory=dict)
    _effort: Effort = field(default_factory=Effort)
    _questions: int = _MOST_QUESTIONS

    def __post_init__(self) -> None:
        self.resolver.use_edns(0, dns.flags.DO, _PAYLOAD)
        self.resolver.flags = dns.flags.RD | dns.flags.CD

    async def ask(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Answer | None:
        """What there is; None when there is nothing. Not proven yet. Raises Unanswered, NotSecure."""
        self._questions -= 1
        if self._questions < 0:
            raise NotSecure("the chain of signatures has no end")
        try:
            answer = await self.resolver.resolve(name, rdtype, raise_on_no_answer=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return None
        except dns.resolver.LifetimeTimeout:
            raise Unanswered(f"no nameserver answered the question for {name} in time") from None
        except (dns.exception.DNSException, OSError):
            raise Unanswered(f"the nameservers could not answer the question for {name}") from None
        section = answer.response.answer
        for kind in (rdtype, dns.rdatatype.CNAME):
            records = answer.response.get_rrset(section, name, dns.rdataclass.IN, kind)
            if records is not None:
                covering = answer.response.get_rrset(
                    section, name, dns.rdataclass.IN, dns.rdatatype.RRSIG, covers=kind
                )
                return Answer(records, covering)
        return None

    async def prove(self, answer: Answer, rdtype: dns.rdatatype.RdataType) -> dns.rrset.RRset | None:
        """The records of `answer`, or those of `rdtype` that its alias leads to: each signed, up to the root.

        None where an alias leads to nothing. Raises NotSecure, Unanswered.
        """
        for _ in range(_MOST_ALIASES):
            await self._prove(answer)
            if answer.records.rdtype == rdtype:
                return answer.records
            following = await self.ask(cast("CNAME", answer.records[0]).target, rdtype)
            if following is None:
                return None
            answer = following
        raise NotSecure(f"{answer.records.name} is an alias of an alias, without end")

    async def _prove(self, answer: Answer) -> None:
        zone = dnssec.signer(answer.records, answer.signatures)
        keys = await self._keys_of(zone)
        dnssec.verify(answer.records, answer.signatures, zone, keys, self.now, self._effort)

    async def _keys_of(self, zone: dns.name.Name) -> list[DNSKEY]:
        """The keys of a zone, which the zones above vouch for."""
        if zone not in self._keys:
            links = self.anchors if zone == dns.name.root else await self._links_to(zone)
            answer = await self.ask(zone, dns.rdatatype.DNSKEY)
            if answer is None or answer.records.rdtype != dns.rdatatype.DNSKEY:
                raise NotSecure(f"{zone} has no keys")
            keys = dnssec.keys_of(answer.records)
            entrance = dnssec.linked(zone, keys, links)
            dnssec.verify(answer.records, answer.signatures, zone, entrance, self.now, self._effort)
            self._keys[zone] = keys
        return self._keys[zone]

    async def _links_to(self, zone: dns.name.Name) -> list[DS]:
        """What the zone above says of the keys of `zone`. Ends: each step is one zone nearer to the root."""
        answer = await self.ask(zone, dns.rdatatype.DS)
        if answer is None or answer.records.rdtype != dns.rdatatype.DS:
            raise NotSecure(f"the zone above {zone} names no key of it")
        await self._prove(answer)
        return dnssec.links_of(answer.records)
