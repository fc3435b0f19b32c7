"""Certificates in the DNS of the address's own domain: OPENPGPKEY and SMIMEA records.

Taken only when every record on the way is signed, from the root on; what is not is an error with its reason,
and never an answer. All questions of one address are asked at once, so that an address without records, as
nearly all are, costs one round trip.

Standards: RFC 7929 (section 3: the name), RFC 8162 (sections 2, 3). Of SMIMEA records those with a whole
certificate of a person are of use (selector 0, matching type 0; usage 1 or 3); digests and authorities name
nothing to encrypt to.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.model import Scheme, lower_case

if TYPE_CHECKING:
    import dns.asyncresolver
    import dns.name
    import dns.rdatatype
    import dns.rrset
    from dns.rdtypes.ANY.DS import DS
    from dns.rdtypes.ANY.OPENPGPKEY import OPENPGPKEY
    from dns.rdtypes.ANY.SMIMEA import SMIMEA

    from keystore.discovery.chain import Answer, Chain, Unanswered

MOST_RECORDS = 8
"""Of one kind, for one address: more are not looked at."""

_HASH_DIGITS = 56
_LABELS = {Scheme.OPENPGP: "_openpgpkey", Scheme.SMIME: "_smimecert"}
_TYPES = {Scheme.OPENPGP: "OPENPGPKEY", Scheme.SMIME: "SMIMEA"}
_PKIX_EE, _DANE_EE = 1, 3


@dataclass(frozen=True, slots=True)
class DaneSettings:
    """How the DNS is believed."""

    trust_anchor: Path | None = None
    """DS or DNSKEY records of the root zone; None: those that come with the program."""


@dataclass(frozen=True, slots=True)
class _Question:
    scheme: Scheme
    name: dns.name.Name


class Dane:
    """The source "dane"."""

    kind = SourceKind.DANE

    def __init__(
        self,
        resolver: Callable[[], dns.asyncresolver.Resolver] | None,
        settings: DaneSettings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`resolver` makes a new one at each call, and may block; None: no names may be looked up here.

        Nothing is read or asked yet. `clock`: seconds since the epoch, for the times of signatures.
        """
        self._resolver = resolver
        self._settings = settings or DaneSettings()
        self._clock = clock

    async def find(self, address: str) -> Sequence[Offer]:
        """Certificates with either scheme, OpenPGP first. See `keystore.discovery.model.Source`."""
        questions = _questions(address)
        chain = await asyncio.to_thread(self._chain) if questions else None
        if chain is None:
            return ()
        told = await asyncio.gather(*(_told(chain, question) for question in questions))
        return await _offers(chain, dict(zip(questions, told, strict=True)), address.rpartition("@")[2])

    def _chain(self) -> Chain:
        """Blocks: reads files, and imports what most runs of the program have no use for."""
        from keystore.discovery.chain import Chain

        if self._resolver is None:
            raise SourceFailed("DNS is not asked, since a proxy is configured", temporary=False)
        return Chain(self._resolver(), self._anchors(), self._clock())

    def _anchors(self) -> tuple[DS, ...]:
        from keystore.discovery import dnssec

        file = self._settings.trust_anchor
        try:
            return dnssec.read_anchors(dnssec.ROOT_ANCHORS if file is None else file.read_text("utf-8"))
        except OSError as error:
            raise SourceFailed(f"cannot read the trust anchor {file}: {error.strerror}") from None
        except ValueError as error:
            raise SourceFailed(f"the trust anchor {file}: {error}") from None


def record_name(address: str, scheme: Scheme) -> str:
    """The name of the records of an address, such as `c93f…._openpgpkey.example.org`.

    The local part is hashed as it is: without its quotes, in Unicode's form C, in UTF-8.
    """
    local, _, domain = address.rpartition("@")
    if local[:1] == local[-1:] == '"' and len(local) > 1:
        local = "".join(_unquoted(local[1:-1]))
    octets = unicodedata.normalize("NFC", local).encode("utf-8", "surrogateescape")
    return f"{hashlib.sha256(octets).hexdigest()[:_HASH_DIGITS]}.{_LABELS[scheme]}.{domain}"


def _unquoted(quoted: str) -> Iterator[str]:
    characters = iter(quoted)
    for character in characters:
        yield next(characters, "") if character == "\\" else character


def _questions(address: str) -> list[_Question]:
    """First for the address as it is written, then in lower case, which is how most are published."""
    import dns.exception
    import dns.name

    questions = []
    for scheme in (Scheme.OPENPGP, Scheme.SMIME):
        for variant in dict.fromkeys((address, lower_case(address))):
            labels = record_name(variant, scheme).split(".")
            try:
                name = dns.name.Name([label.encode("ascii") for label in (*labels, "")])
            except (dns.exception.DNSException, UnicodeEncodeError):
                return []  # no name of the DNS: an address literal, an empty or overlong label
            questions.append(_Question(scheme, name))
    return questions


def _rdtype(scheme: Scheme) -> dns.rdatatype.RdataType:
    import dns.rdatatype

    return dns.rdatatype.from_text(_TYPES[scheme])


async def _told(chain: Chain, question: _Question) -> Answer | Unanswered | None:
    """A failure is an answer here: a resolver that does not know one kind of record may know the other."""
    from keystore.discovery.chain import Unanswered

    try:
        return await chain.ask(question.name, _rdtype(question.scheme))
    except Unanswered as error:
        return error


async def _offers(
    chain: Chain, told: dict[_Question, Answer | Unanswered | None], domain: str
) -> list[Offer]:
    """What of the answers is proven. Raises SourceFailed where there is something, and none of use."""
    offers: dict[bytes, Offer] = {}
    failures: list[SourceFailed] = []
    for question, answer in told.items():
        try:
            for offer in await _proven(chain, question, answer, domain):
                offers.setdefault(offer.octets, offer)
        except SourceFailed as failure:
            failures.append(failure)
    if failures and not offers:
        # One that may answer later comes first, for such a failure is kept for less long.
        raise next((failure for failure in failures if failure.temporary), failures[0])
    return list(offers.values())


async def _proven(
    chain: Chain, question: _Question, answer: Answer | Unanswered | None, domain: str
) -> list[Offer]:
    from keystore.discovery.chain import Unanswered
    from keystore.discovery.dnssec import NotSecure

    if answer is None:
        return []
    kind = _TYPES[question.scheme]
    if isinstance(answer, Unanswered):
        raise SourceFailed(f"{kind} of {domain}: {answer}")
    try:
        records = await chain.prove(answer, _rdtype(question.scheme))
    except NotSecure as error:
        raise SourceFailed(f"{kind} of {domain} is not secured by DNSSEC: {error}", temporary=False) from None
    except Unanswered as error:
        raise SourceFailed(f"{kind} of {domain} cannot be checked: {error}") from None
    offers = list(_read(question.scheme, records, f"{kind} record of {domain}"))
    if records is not None and not offers:
        raise SourceFailed(f"the {kind} record of {domain} holds no certificate of a person", temporary=False)
    return offers


def _read(scheme: Scheme, records: dns.rrset.RRset | None, where: str) -> Iterator[Offer]:
    for record in list(records or ())[:MOST_RECORDS]:
        if scheme is Scheme.OPENPGP:
            if octets := cast("OPENPGPKEY", record).key:
                yield Offer(octets, where, scheme)
            continue
        association = cast("SMIMEA", record)
        if association.selector == 0 and association.mtype == 0 and association.cert:
            if association.usage == _DANE_EE:
                yield Offer(association.cert, where, scheme)
            elif association.usage == _PKIX_EE:
                # Its domain says that an authority must vouch for it too; whether one does is not known here.
                yield Offer(
                    association.cert, f"{where}, which asks for an authority", scheme, authenticated=False
                )
