"""Introducers: OpenPGP certificates whose word the owner takes for others', such as an organisation's.

Whom one of them has certified counts as verified for the addresses of the user IDs that it certified, as long
as both last. Nothing of that is stored with the certified ones: it ends when the introducer is no longer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from keystore import openpgp, policy
from keystore.domainnames import registered
from keystore.errors import KeyRefused
from keystore.model import Certificate, Fingerprint, Scheme, Trust
from keystore.store import Store, stored_moment, stored_time

_DOMAIN = re.compile(r"[^\s@.,;]+(\.[^\s@.,;]+)*")


@dataclass(frozen=True, slots=True)
class Introducer:
    """One whose certifications count."""

    fingerprint: Fingerprint
    domains: tuple[str, ...]
    """Lower case; for whom its word counts. Empty: for everybody."""
    since: datetime
    octets: bytes


class Introducers:
    """Reads and writes the table. Errors as in `Store`."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store

    def add(self, certificate: Certificate, domains: Iterable[str], now: datetime) -> None:
        """Take its word from now on, for addresses of `domains` or, without any, of all.

        KeyRefused for S/MIME, whose authorities are other ones, for what is rejected or cannot certify, and
        for what is no domain.
        """
        fingerprint = certificate.fingerprint
        if certificate.scheme is not Scheme.OPENPGP:
            raise KeyRefused(f"{fingerprint} is not of OpenPGP: trust its authority in [smime] instead")
        if certificate.trust is Trust.REJECTED:
            raise KeyRefused(f"{fingerprint} is rejected; first: secmailproxy key trust {fingerprint} known")
        if not policy.certifies(openpgp.facts(certificate.octets), now, now):
            raise KeyRefused(f"{fingerprint} cannot certify others: it has ended, or is not made for that")
        limits = sorted({registered(one.strip().lower().removeprefix("@").strip(".")) for one in domains})
        for one in limits:
            # One that is none must not become "for everybody", nor several.
            if not _DOMAIN.fullmatch(one):
                raise KeyRefused(f"{one!r} is no domain: give one such as example.org")
        self._store.write(
            "INSERT INTO introducers (certificate, domains, since) VALUES (?, ?, ?)"
            " ON CONFLICT (certificate) DO UPDATE SET domains = excluded.domains",
            fingerprint,
            " ".join(limits),
            stored_time(now),
        )

    def remove(self, fingerprint: Fingerprint) -> None:
        """No longer take its word."""
        self._store.write("DELETE FROM introducers WHERE certificate = ?", fingerprint)

    def all(self) -> list[Introducer]:
        """Return all whose word is taken, but for those that were rejected meanwhile."""
        rows = self._store.rows(
            "SELECT i.certificate, i.domains, i.since, c.octets FROM introducers i"
            " JOIN certificates c ON c.fingerprint = i.certificate WHERE c.trust <> 'rejected'"
            " ORDER BY i.since, i.certificate"
        )
        return [
            Introducer(Fingerprint(one), tuple(domains.split()), stored_moment(since), bytes(octets))
            for one, domains, since, octets in rows
        ]


def introduced(certificate: Certificate, introducers: Iterable[Introducer], now: datetime) -> frozenset[str]:
    """The addresses of a certificate that introducers vouch for."""
    if certificate.scheme is not Scheme.OPENPGP:
        return frozenset()
    found: set[str] = set()
    for one in introducers:
        facts = openpgp.facts(one.octets)
        made = openpgp.certifications(certificate.octets, one.octets)
        counting = [made_one for made_one in made if policy.certifies(facts, made_one.created, now)]
        if counting:
            valid = policy.valid_user_ids(openpgp.facts(certificate.octets), now)
            found |= policy.vouched(counting, valid, one.domains, now)
    return frozenset(found)
