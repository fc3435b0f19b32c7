"""Certificates as parsed values, kept in memory until the store changes.

All reading goes through the store's lock, so what was read before a change is never remembered after it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from keystore import openpgp, policy
from keystore.holding import HeldTable
from keystore.introducers import Introducer, Introducers, introduced
from keystore.model import Certificate, Fingerprint, Scheme, Trust, lower_case
from keystore.store import Store, StoredCertificate

if TYPE_CHECKING:
    from keystore.x509table import X509Table

_MOST = 4096
_REPEATED = timedelta(days=1)
_HEXADECIMAL = re.compile(r"(?:0[xX])?([0-9A-Fa-f]{16,64})")


class CertificateCache:
    """Certificates by fingerprint, address and issuer. Safe for threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen = store.version()
        self._certificates: dict[str, Certificate] = {}
        self._by_address: dict[str, list[Fingerprint]] = {}
        self._by_issuer: dict[str, list[Fingerprint]] = {}
        self._stated: dict[str, bytes | None] = {}
        self._held: dict[str, dict[Fingerprint, bool]] = {}
        self._waiting: frozenset[Fingerprint] | None = None
        self._introducers: list[Introducer] | None = None

    def get(self, fingerprint: str) -> Certificate | None:
        """Return the certificate with this primary key."""
        with self._store.lock:
            self._refresh()
            found = self._get(fingerprint)
            return self._raised(found) if found is not None else None

    def by_address(self, address: str) -> list[Certificate]:
        """Return the certificates with a user ID of this address, without regard to case."""
        address = lower_case(address)
        with self._store.lock:
            self._refresh()
            if address not in self._by_address:
                self._by_address[address] = self._store.by_address(address)
            return [self._raised(one, address) for one in self._all(self._by_address[address])]

    def held(self, address: str) -> Mapping[Fingerprint, bool]:
        """Return the certificates that are not used for an address, in any case.

        With True, one is held and waits for the owner's decision; with False, it has been set aside.
        """
        address = lower_case(address)
        with self._store.lock:
            self._refresh()
            if address not in self._held:
                self._held[address] = {
                    one.fingerprint: one.settled is None for one in HeldTable(self._store).all_of(address)
                }
            return self._held[address]

    def by_issuer(self, issuer: str) -> list[Certificate]:
        """Return the OpenPGP certificates with this (sub)key: a fingerprint or a key ID, upper case."""
        return [self._raised(one) for one in self._by_digits(issuer) if one.scheme is Scheme.OPENPGP]

    def authorities(self) -> list[Certificate]:
        """Return the certificates of certificate authorities (X.509)."""
        with self._store.lock:
            self._refresh()
            return self._rows(self._x509.authorities())

    def vouching(self) -> tuple[tuple[Certificate, ...], frozenset[bytes]]:
        """Return the authorities, and the certificates (DER) of people that the owner has verified."""
        with self._store.lock:
            return tuple(self.authorities()), frozenset(self._x509.verified())

    def of_people(self) -> list[bytes]:
        """Return the X.509 certificates (DER) of people that are not rejected."""
        return self._x509.of_people()

    def named(self, name: bytes) -> list[Certificate]:
        """Return the X.509 certificates that S/MIME messages name so (DER, `smime.names_in_messages`).

        Own ones first. Certificates of one key share its identifier.
        """
        from keystore import smime  # its libraries take long to import, and many have no use for them

        with self._store.lock:
            self._refresh()
            if found := self._x509.named(name):
                return self._rows(found)
            serial = smime.serial_number(name)
            alike = self._x509.of_serial(serial) if serial is not None else []
            return self._rows(one for one in alike if smime.names(name, one.octets))

    def stated(self, fingerprint: str) -> bytes | None:
        """Return what the program of an X.509 certificate's owner last said that it reads, if anything."""
        with self._store.lock:
            self._refresh()
            if fingerprint not in self._stated:
                self._stated[fingerprint] = self._store.last_stated(fingerprint)
            return self._stated[fingerprint]

    def learn(self, fingerprint: str, statement: bytes, moment: datetime) -> None:
        """Note what was stated under a certificate at `moment`, unless something newer is known."""
        with self._store.transaction():
            known, since = self._store.stated(fingerprint) or (None, moment)
            # What is repeated in every message is not written each time.
            if moment - since >= (_REPEATED if known == statement else timedelta()):
                self._store.put_stated(fingerprint, statement, moment)

    def search(self, query: str) -> list[Certificate]:
        """Return what `query` names: all (""), a fingerprint or key ID, an address, or words of user IDs."""
        with self._store.lock:
            self._refresh()
            hexadecimal = _HEXADECIMAL.fullmatch(query.replace(" ", "").replace(":", ""))
            if hexadecimal and len(hexadecimal[1]) in {16, 40, 64}:
                return [self._raised(one) for one in self._by_digits(hexadecimal[1].upper())]
            if "@" in query.strip()[1:] and " " not in query.strip():
                return self.by_address(query.strip())
            found = [self._raised(one) for one in self._rows(self._store.certificates())]
        return [one for one in found if matches(query, one.fingerprint, one.user_ids)]

    def owned(self) -> list[Certificate]:
        """Return the certificates whose secret half some holder has; no other is read."""
        with self._store.lock:
            self._refresh()
            return [self._raised(one) for one in self._rows(self._store.owned())]

    @cached_property
    def _x509(self) -> X509Table:
        from keystore.x509table import X509Table  # as in `named`

        return X509Table(self._store)

    def _rows(self, rows: Iterable[StoredCertificate]) -> list[Certificate]:
        return [self._certificates.get(row.fingerprint) or self._remember(row) for row in rows]

    def _by_digits(self, issuer: str) -> list[Certificate]:
        with self._store.lock:
            self._refresh()
            if issuer not in self._by_issuer:
                self._by_issuer[issuer] = self._store.by_key(issuer)
            return self._all(self._by_issuer[issuer])

    def _refresh(self) -> None:
        version = self._store.version()
        if version != self._seen:
            self._certificates.clear()
            self._by_address.clear()
            self._by_issuer.clear()
            self._stated.clear()
            self._held.clear()
            self._waiting = None
            self._introducers = None
            self._seen = version
        # Strangers' mail names any number of addresses and keys.
        for kept in (self._by_address, self._by_issuer, self._certificates, self._held):
            if len(kept) > _MOST:
                kept.clear()

    def _all(self, fingerprints: Iterable[Fingerprint]) -> list[Certificate]:
        return [found for one in fingerprints if (found := self._get(one)) is not None]

    def _raised(self, certificate: Certificate, address: str = "") -> Certificate:
        """As an introducer's word makes it: for one address, or for none in particular, all that it has.

        What is held is not raised before the owner has looked at it.
        """
        if self._introducers is None:
            self._introducers = Introducers(self._store).all()
        if not self._introducers or certificate.fingerprint in self._held_anywhere():
            return certificate
        vouched = introduced(certificate, self._introducers, datetime.now(UTC))
        wanted = {address} if address else set(certificate.addresses)
        trust = policy.raised(certificate.trust, introduced=bool(wanted) and wanted <= vouched)
        return certificate if trust is certificate.trust else replace(certificate, trust=trust)

    def _held_anywhere(self) -> frozenset[Fingerprint]:
        if self._waiting is None:
            self._waiting = HeldTable(self._store).unsettled()
        return self._waiting

    def _get(self, fingerprint: str) -> Certificate | None:
        known = self._certificates.get(fingerprint)
        if known is None and (row := self._store.certificate(fingerprint)) is not None:
            known = self._remember(row)
        return known

    def _remember(self, row: StoredCertificate) -> Certificate:
        certificate = _parsed(self._as_far_as_it_is_not_held(row))
        self._certificates[row.fingerprint] = certificate
        return certificate

    def _as_far_as_it_is_not_held(self, row: StoredCertificate) -> StoredCertificate:
        """Whoever writes another's address into a certificate gets no trust for it until that is settled."""
        is_held = row.trust in policy.CHOSEN and row.fingerprint in self._held_anywhere()
        return replace(row, trust=Trust.UNKNOWN) if is_held else row


def _parsed(row: StoredCertificate) -> Certificate:
    if row.scheme is Scheme.SMIME:
        from keystore import smime  # its libraries take long to import, and many have no use for them

        return smime.certificate(row.octets, source=row.source, trust=row.trust, holder=row.holder)
    return openpgp.certificate(row.octets, source=row.source, trust=row.trust, holder=row.holder)


def matches(query: str, fingerprint: str, user_ids: Iterable[str]) -> bool:
    """Whether every word of `query` is part of the fingerprint or of a user ID, without regard to case."""
    text = "\n".join([fingerprint, *user_ids]).casefold()
    return all(word in text for word in query.casefold().split())
