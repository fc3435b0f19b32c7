"""Keeping the S/MIME certificates of correspondents that valid signatures have introduced.

What is learned is "known", never "verified", and changes nothing that is in the store: one for an address
that has another certificate is held until the owner settles it, like one that is imported.

Security: whoever has a certificate that is believed here can send any number of messages, so how many are
kept is limited: for one address, for one day, and in all.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from keystore import smime
from keystore.cache import CertificateCache
from keystore.errors import KeyRefused
from keystore.holding import HeldTable, Judge, Rival, rivals_of
from keystore.importing_x509 import renewed_by
from keystore.model import Certificate, Fingerprint, Holder, Introduction, Scheme, Trust
from keystore.store import Store, StoredCertificate, stored_time
from keystore.x509table import X509Table

SOURCE = "signed mail"
MOST_FOR_ADDRESS = 4
MOST_A_DAY = 500
"""A mailbox that is seen for the first time may introduce hundreds of people."""
MOST_IN_ALL = 5000
MOST_OCTETS = 16 * 1024
"""Of one certificate; real ones have two or three KiB."""
MOST_ADDRESSES = 8
"""In one certificate."""

# What was added later than now was added while the clock was wrong.
_COUNT = """
    SELECT count(*), count(CASE WHEN added BETWEEN ? AND ? THEN 1 END) FROM certificates WHERE source = ?
"""
_OF_ADDRESS = """
    SELECT c.fingerprint FROM addresses a JOIN certificates c ON c.fingerprint = a.certificate
    WHERE a.address = ? AND c.source = ? ORDER BY c.added, c.fingerprint
"""


class Learning:
    """Writes to the store. Errors as in `Store`."""

    def __init__(self, store: Store, cache: CertificateCache, judge: Judge) -> None:
        """`judge` is asked whether a certificate serves."""
        self._store = store
        self._table = X509Table(store)
        self._cache = cache
        self._judge = judge

    def at_once(self) -> AbstractContextManager[None]:
        """A transaction that nobody waits for."""
        return self._store.transaction(patient=False)

    def take(self, one: Introduction, now: datetime) -> Certificate | None:
        """Keep what is introduced; the certificate as the store has it, or None where it is not kept.

        Raises StoreLocked at once when another process writes.
        """
        try:
            offered = smime.certificate(one.certificate, source=SOURCE)
        except KeyRefused:
            return None
        if self._cache.get(offered.fingerprint) is None:
            with self.at_once():
                if not _is_fit(offered, one):
                    return None
                # Before room is made: what has ended stands until then, and is not replaced by this.
                rivals = self._rivals(offered, now)
                if not self._has_room(one.address, now):
                    return None
                self._put(offered, rivals, now)
                self._keep_authorities(one, now)
        return self._cache.get(offered.fingerprint)

    def _keep_authorities(self, one: Introduction, now: datetime) -> None:
        """They stand between later, when a message comes without them; they are no roots."""
        for der in one.authorities:
            offered = smime.certificate(der, source=SOURCE)
            is_fit = len(der) <= MOST_OCTETS and smime.facts(der).is_authority
            if is_fit and self._store.certificate(offered.fingerprint) is None and self._has_room("", now):
                self._put(offered, [], now)

    def _has_room(self, address: str, now: datetime) -> bool:
        day = stored_time(now - timedelta(days=1))
        ((in_all, today),) = self._store.rows(_COUNT, day, stored_time(now), SOURCE)
        if in_all >= MOST_IN_ALL or today >= MOST_A_DAY:
            return False
        of_address = [row[0] for row in self._store.rows(_OF_ADDRESS, address, SOURCE)]
        if len(of_address) < MOST_FOR_ADDRESS:
            return True
        # People renew their certificates; the oldest that serves for nothing any more makes room.
        served = next((one for one in of_address if self._is_over(Fingerprint(one), now)), None)
        if served is not None:
            self._store.delete(served)
        return served is not None

    def _is_over(self, fingerprint: Fingerprint, now: datetime) -> bool:
        known = self._cache.get(fingerprint)
        if (
            known is None
            or known.trust not in (Trust.KNOWN, Trust.UNKNOWN)
            or known.holder is not Holder.NONE
        ):
            return False
        return known.expires is not None and known.expires < now

    def _rivals(self, offered: Certificate, now: datetime) -> list[Rival]:
        return rivals_of(
            offered,
            offered.addresses,
            self._store,
            self._judge,
            level=Trust.KNOWN,
            now=now,
            together=renewed_by(offered, self._store),
        )

    def _put(self, offered: Certificate, rivals: list[Rival], now: datetime) -> None:
        """Store it as KNOWN, held for the addresses that have another one."""
        row = StoredCertificate(
            offered.fingerprint, offered.octets, Trust.KNOWN, SOURCE, Holder.NONE, Scheme.SMIME
        )
        self._store.put(row, addresses=offered.addresses, keys=[offered.fingerprint], now=now)
        self._table.add(offered.fingerprint, offered.octets)
        HeldTable(self._store).hold(offered.fingerprint, rivals, SOURCE, now)


def _is_fit(offered: Certificate, one: Introduction) -> bool:
    return (
        len(offered.octets) <= MOST_OCTETS
        and len(offered.addresses) <= MOST_ADDRESSES
        and one.address in offered.addresses
        and not smime.facts(offered.octets).is_authority
    )
