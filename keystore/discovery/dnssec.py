"""PURE. Whether records of the DNS are signed by the zone that they claim, and its keys by the zone above.

Only what is there is proven, never that something is absent: an answer that somebody suppressed makes a
lookup fail, and no more. So the proofs of absence (NSEC, NSEC3) are not needed, nor read; a record made from
a wildcard would need one, and is not believed.

Times are seconds since the epoch. Names are absolute.

Standards: RFC 4033 to 4035, RFC 6840; the algorithms of RFC 9904 without SHA-1 (RFC 9905).
Security: whoever answers may send any number of keys and signatures that fit each other by number alone, and
each costs a verification; a lookup has so many tries and no more (`Effort`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zonefile
from dns.rdtypes.ANY.DNSKEY import DNSKEY
from dns.rdtypes.ANY.DS import DS
from dns.rdtypes.ANY.RRSIG import RRSIG

ROOT_ANCHORS = (
    ". 0 IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D\n"
    ". 0 IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16\n"
)
"""The keys of the root zone, of 2017 and of 2024, as IANA publishes them (RFC 9718)."""

_ZONE_KEY, _REVOKED, _PROTOCOL = 0x0100, 0x0080, 3
_LEAST_RSA_OCTETS = 128
"""Of a key with its exponent: 1024 bits, which zones of the upper levels still sign with."""

_MOST_VERIFICATIONS = 48
_MOST_LINKS = 16
_Algorithm, _Digest = dns.dnssectypes.Algorithm, dns.dnssectypes.DSDigest
_RSA = (_Algorithm.RSASHA256, _Algorithm.RSASHA512)
_DIGESTS = (_Digest.SHA256, _Digest.SHA384)
_ALGORITHMS = (
    *_RSA,
    _Algorithm.ECDSAP256SHA256,
    _Algorithm.ECDSAP384SHA384,
    _Algorithm.ED25519,
    _Algorithm.ED448,
)


class NotSecure(Exception):
    """The chain of signatures from the root does not reach these records; the text says where it ends."""


@dataclass(slots=True)
class Effort:
    """How many signatures may still be verified for one lookup."""

    left: int = _MOST_VERIFICATIONS

    def spend(self) -> None:
        """Raises NotSecure when nothing is left."""
        self.left -= 1
        if self.left < 0:
            raise NotSecure("it has too many keys and signatures to try them all")


def read_anchors(text: str) -> tuple[DS, ...]:
    """The trust anchors of the root zone, from DS or DNSKEY records in the format of zone files.

    Raises ValueError, with a text for people, where there is none or something else.
    """
    try:
        rrsets = dns.zonefile.read_rrsets(text, rdclass=None, default_ttl=0, relativize=False)
    except (dns.exception.DNSException, ValueError):
        raise ValueError("it is not in the format of zone files, such as: . IN DS 20326 8 2 E06D…") from None
    found: list[DS] = []
    for rrset in rrsets:
        if rrset.name != dns.name.root or rrset.rdtype not in (dns.rdatatype.DS, dns.rdatatype.DNSKEY):
            raise ValueError("it may hold DS and DNSKEY records of the root zone only")
        for record in rrset:
            found.append(record if isinstance(record, DS) else _digest(rrset.name, record, _Digest.SHA256))
    if not found:
        raise ValueError("it holds no DS and no DNSKEY record of the root zone")
    return tuple(found)


def signer(records: dns.rrset.RRset, signatures: dns.rrset.RRset | None) -> dns.name.Name:
    """The zone that says it signed `records`: the zone of their name or one above, for a DS above only.

    Raises NotSecure where there is none, or more than one.
    """
    zones = {signature.signer for signature in _signatures(records, signatures)}
    what = f"{dns.rdatatype.to_text(records.rdtype)} of {records.name}"
    if not zones:
        raise NotSecure(f"{what} came without a signature")
    if len(zones) > 1:
        raise NotSecure(f"{what} claims to be signed by several zones")
    zone = zones.pop()
    if not records.name.is_subdomain(zone) or (records.rdtype == dns.rdatatype.DS and zone == records.name):
        raise NotSecure(f"{what} is signed by {zone}, which is not above it")
    return zone


def verify(
    records: dns.rrset.RRset,
    signatures: dns.rrset.RRset | None,
    zone: dns.name.Name,
    keys: Iterable[DNSKEY],
    now: float,
    effort: Effort,
) -> None:
    """Check that one of `keys`, which are of `zone`, signed `records`. Raises NotSecure.

    One good signature is enough, whatever the others are (RFC 6840 section 5.11).
    """
    keys = [key for key in keys if _is_acceptable(key)]
    why = "no key of the zone fits its signature"
    for signature in _signatures(records, signatures):
        if signature.signer != zone:
            continue
        if signature.labels != len(records.name) - 1:
            why = "it was made from a wildcard"
            continue
        for key in keys:
            if key.algorithm != signature.algorithm or dns.dnssec.key_id(key) != signature.key_tag:
                continue
            effort.spend()
            try:
                dns.dnssec.validate_rrsig(
                    records, signature, {zone: dns.rdataset.from_rdata(0, key)}, now=now, policy=_policy
                )
            except (dns.exception.DNSException, ValueError) as failure:
                why = _words(failure)
            else:
                return
    raise NotSecure(f"{dns.rdatatype.to_text(records.rdtype)} of {records.name}: {why}")


def linked(zone: dns.name.Name, keys: Iterable[DNSKEY], links: Sequence[DS]) -> list[DNSKEY]:
    """Those of `keys` that a record above vouches for. Raises NotSecure where there is none."""
    usable = [link for link in links[:_MOST_LINKS] if link.digest_type in _DIGESTS]
    found = [
        key for key in keys if _is_acceptable(key) and any(_is_linked(zone, key, link) for link in usable)
    ]
    if not found:
        raise NotSecure(f"no key of {zone} is the one that the zone above names")
    return found


def keys_of(records: dns.rrset.RRset) -> list[DNSKEY]:
    """The records of a DNSKEY answer."""
    return [cast("DNSKEY", record) for record in records]


def links_of(records: dns.rrset.RRset) -> list[DS]:
    """The records of a DS answer."""
    return [cast("DS", record) for record in records]


class _Policy(dns.dnssec.Policy):
    """What dnspython asks before it verifies: its own default still takes SHA-1."""

    def __init__(self) -> None:
        """It has no state; dnspython's own is not annotated."""

    def ok_to_validate(self, key: DNSKEY) -> bool:
        return _is_acceptable(key)

    def ok_to_validate_ds(self, algorithm: dns.dnssectypes.DSDigest) -> bool:
        return algorithm in _DIGESTS


_policy = _Policy()


def _signatures(records: dns.rrset.RRset, signatures: dns.rrset.RRset | None) -> list[RRSIG]:
    return [
        signature
        for signature in (signatures or ())
        if isinstance(signature, RRSIG) and signature.type_covered == records.rdtype
    ]


def _is_acceptable(key: DNSKEY) -> bool:
    return (
        bool(key.flags & _ZONE_KEY)
        and not key.flags & _REVOKED
        and key.protocol == _PROTOCOL
        and key.algorithm in _ALGORITHMS
        and (key.algorithm not in _RSA or len(key.key) > _LEAST_RSA_OCTETS)
    )


def _is_linked(zone: dns.name.Name, key: DNSKEY, link: DS) -> bool:
    return (
        key.algorithm == link.algorithm
        and dns.dnssec.key_id(key) == link.key_tag
        and _digest(zone, key, link.digest_type).digest == link.digest
    )


def _digest(zone: dns.name.Name, key: dns.rdata.Rdata, kind: dns.dnssectypes.DSDigest) -> DS:
    return dns.dnssec.make_ds(zone, key, kind, policy=_policy, validating=True)


def _words(failure: Exception) -> str:
    """What dnspython says in one or two words of its own, or none of it."""
    known = {"expired": "its signature has expired", "not yet valid": "its signature is not yet valid"}
    return known.get(str(failure), "its signature is wrong")
