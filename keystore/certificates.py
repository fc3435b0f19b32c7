"""The certificates that the keystore has: what is there, what one serves for, and which serves an address.

Questions only; nothing here changes anything. Answered from memory, which follows the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from keystore.cache import CertificateCache
from keystore.errors import KeyRefused
from keystore.judging import judge
from keystore.model import (
    Certificate,
    Fingerprint,
    Holder,
    Identity,
    Purpose,
    Reason,
    Scheme,
    Selection,
    Trust,
    Usability,
    lower_case,
)
from keystore.roots import Roots
from keystore.selection import select, select_pinned, standing
from keystore.store import Store

if TYPE_CHECKING:
    from keystore.authorities import Authorities


class Certificates:
    """What is asked of the keystore about certificates. Raises StoreLocked, StoreDamaged."""

    def __init__(self, store: Store, roots: Roots) -> None:
        self._store = store
        self._cache = CertificateCache(store)
        self.roots = roots
        """The authorities that are believed for S/MIME unasked."""

    def certificates(self, query: str = "") -> list[Certificate]:
        """Return what `query` names: all (""), an address, a fingerprint or key ID, words of user IDs."""
        return self._cache.search(query)

    def count(self) -> int:
        """Return how many certificates there are; none is read."""
        return self._store.count()

    def owned(self) -> list[Certificate]:
        """Return the own certificates of all addresses and holders; nobody else's is read."""
        return self._cache.owned()

    def beginning(self, text: str, most: int) -> list[Certificate]:
        """Return certificates with an address or a fingerprint that begins so, in any case; `most` each."""
        found = (self._cache.get(one) for one in self._store.beginning(text, most))
        return [one for one in found if one is not None]

    def certificate(self, fingerprint: str) -> Certificate | None:
        """Return the certificate with this primary key, given in upper case."""
        return self._cache.get(fingerprint)

    def demand(self, fingerprint: Fingerprint) -> Certificate:
        """Return the certificate with this primary key; KeyRefused when it is not here."""
        certificate = self._cache.get(fingerprint)
        if certificate is None:
            raise KeyRefused(f"there is no certificate {fingerprint} in this keystore")
        return certificate

    def trust(self, fingerprint: str) -> Trust:
        """Return how far the certificate with this primary key is trusted; UNKNOWN when it is not here."""
        found = self._cache.get(fingerprint)
        return found.trust if found is not None else Trust.UNKNOWN

    def usability(
        self, fingerprint: Fingerprint, purpose: Purpose, now: datetime, address: str | None = None
    ) -> Usability:
        """Say whether a certificate serves `purpose` at `now`, for `address` when given, and why not."""
        certificate = self._cache.get(fingerprint)
        if certificate is None:
            return Usability((), Reason.NO_CERTIFICATE)
        return self._judge(certificate, purpose, now, address)

    def select(
        self,
        address: str,
        now: datetime,
        pinned: Sequence[Fingerprint] = (),
        *,
        scheme: Scheme = Scheme.OPENPGP,
    ) -> Selection:
        """Choose the certificates of `scheme` to encrypt to for `address`, or say why there are none.

        Addresses are compared without regard to case, on every user ID valid at `now` (X.509: on every
        address of the certificate), never by display name. A pinned certificate of the other scheme is not
        usable.
        """
        if pinned:
            found = [(one, self._cache.get(one), self._pinned(one, now, scheme)) for one in pinned]
            return select_pinned(address, found)
        held = self._cache.held(address)
        claiming = [one for one in self._cache.by_address(address) if one.scheme is scheme]
        asked = [one for one in claiming if held.get(one.fingerprint, True)]
        candidates = [(one, self._judge(one, Purpose.ENCRYPT, now, address)) for one in asked]
        return select(address, candidates, held.keys())

    def identity(
        self, address: str, now: datetime | None = None, *, scheme: Scheme = Scheme.OPENPGP
    ) -> Identity | None:
        """Return the own certificate to sign with for an own address; None when there is none that can."""
        now = now or datetime.now(UTC)
        able = [(one, self._judge(one, Purpose.SIGN, now, address)) for one in self.own(address, scheme)]
        usable = [candidate for candidate in able if candidate[1].usable]
        return Identity(lower_case(address), max(usable, key=standing)[0]) if usable else None

    def own(self, address: str, scheme: Scheme | None = None) -> list[Certificate]:
        """Return the certificates of an address, in any case, whose secret half is here or GnuPG holds it.

        Those of both schemes when none is named.
        """
        held = (one for one in self._cache.by_address(address) if one.holder is not Holder.NONE)
        return [one for one in held if scheme is None or one.scheme is scheme]

    def unusable_own(
        self, address: str, now: datetime, *, scheme: Scheme = Scheme.OPENPGP
    ) -> tuple[Fingerprint, Usability] | None:
        """Return the best own key of an address where none can sign, and why; None when there is none at all.

        To be asked when `identity` has answered None.
        """
        unusable = [(one, self._judge(one, Purpose.SIGN, now, address)) for one in self.own(address, scheme)]
        if not unusable:
            return None
        best, why = max(unusable, key=standing)
        return best.fingerprint, why

    @cached_property
    def authorities(self) -> Authorities:
        """Who vouches for certificates of S/MIME, and what they have revoked."""
        from keystore.authorities import Authorities  # its libraries take long to import

        return Authorities(self._store, self._cache, self.roots)

    # -- inside

    def _judge(
        self, certificate: Certificate, purpose: Purpose, now: datetime, address: str | None = None
    ) -> Usability:
        judged = judge(certificate, purpose, now, address)
        is_x509 = certificate.scheme is Scheme.SMIME
        if judged.usable and is_x509 and self.authorities.revoke(certificate.octets, now):
            return Usability((), Reason.REVOKED)
        return judged

    def _pinned(self, fingerprint: Fingerprint, now: datetime, scheme: Scheme) -> Usability:
        certificate = self._cache.get(fingerprint)
        if certificate is not None and certificate.scheme is not scheme:
            return Usability((), Reason.OTHER_SCHEME)
        return self.usability(fingerprint, Purpose.ENCRYPT, now)
