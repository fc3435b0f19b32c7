"""Whom the owner of this store believes to vouch for S/MIME certificates, as `keystore.smime.path` wants it.

Roots are those of the platform and of the configuration, and authorities in the store whose trust is
VERIFIED: only the owner says so, by `key trust` or `key import --trust`. Authorities that were imported with
a key or along with others are KNOWN: they stand between, and vouch for nobody. REJECTED ones are passed by,
even where the platform believes them. A person's certificate that is VERIFIED needs nobody to vouch for it.
"""

from __future__ import annotations

from datetime import datetime

from keystore.cache import CertificateCache
from keystore.model import Certificate, Trust
from keystore.revocations import Revocations
from keystore.revocationtable import WantedList
from keystore.roots import Roots
from keystore.smime.path import Anchors, chain_above, is_revoked
from keystore.store import Store


class Authorities:
    """The anchors of one store and configuration. Safe for threads."""

    def __init__(self, store: Store, cache: CertificateCache, roots: Roots) -> None:
        """Nothing is read yet."""
        self._store = store
        self._cache = cache
        self._roots = roots
        self.revocations = Revocations(store)
        self._found: tuple[object, object, Anchors] = (None, None, Anchors())

    @property
    def anchors(self) -> Anchors:
        """The same object until something of it changes. Raises KeystoreError when roots cannot be read."""
        version = self._store.version()
        seen, made_of, anchors = self._found
        if version == seen:
            return anchors
        authorities, verified = self._cache.vouching()
        parts = (self._roots.all, authorities, verified)
        if parts != made_of:
            anchors = _anchors(self._roots.all, authorities, verified, self.revocations)
        self._found = (version, parts, anchors)
        return anchors

    def wanted(self) -> list[WantedList]:
        """The lists that tell of the certificates of people in the store, and of those above them.

        Only where a root vouches for them: so it is authorities who say where their lists are.
        """
        anchors = self.anchors
        return self.revocations.wanted(chain_above(one, anchors) for one in self._cache.of_people())

    def revoke(self, der: bytes, now: datetime) -> bool:
        """Whether whoever issued a certificate (DER) is known to have revoked it."""
        return self.revocations.any and is_revoked(der, self.anchors, now)


def _anchors(
    roots: tuple[bytes, ...],
    authorities: tuple[Certificate, ...],
    verified: frozenset[bytes],
    revocations: Revocations,
) -> Anchors:
    rejected = frozenset(one.octets for one in authorities if one.trust is Trust.REJECTED)
    chosen = [one.octets for one in authorities if one.trust is Trust.VERIFIED]
    between = [one.octets for one in authorities if one.trust in (Trust.KNOWN, Trust.UNKNOWN)]
    return Anchors(
        roots=tuple(one for one in dict.fromkeys((*chosen, *roots)) if one not in rejected),
        known=tuple(between),
        verified=verified,
        rejected=rejected,
        revoked=revocations.state,
    )
