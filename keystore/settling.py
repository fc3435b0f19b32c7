"""What the owner decides about certificates: how far one is trusted, and which of several an address has.

Nothing else takes a certificate out of hold, or puts one in the place of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keystore import policy
from keystore.cache import CertificateCache
from keystore.errors import KeyRefused
from keystore.holding import Held, HeldTable, Judge
from keystore.model import Certificate, Fingerprint, Holder, Purpose, Scheme, Trust, Usability, lower_case
from keystore.selection import standing
from keystore.store import Store


@dataclass(frozen=True, slots=True)
class Claimant:
    """A certificate that claims an address, and what is known of that."""

    certificate: Certificate
    usability: Usability
    """For encryption to the address."""
    held: Held | None
    """Why it is not used for the address, where it is held or set aside."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """The certificates of one scheme that claim an address, of which the owner is to choose."""

    address: str
    scheme: Scheme
    used: Claimant | None
    """The one in use; None where its owner has removed or rejected it, or it is of the other scheme."""
    others: tuple[Claimant, ...]
    """Those that wait, and those that would serve where nothing else did."""


class Settling:
    """Writes to the store. Errors as in `Store`."""

    def __init__(self, store: Store, cache: CertificateCache, judge: Judge) -> None:
        """`judge` is asked whether a certificate serves."""
        self._store = store
        self._cache = cache
        self._judge = judge
        self._held = HeldTable(store)

    def waiting(self, address: str | None = None) -> list[Held]:
        """Return what is to be settled, for `address` (any case) or at all, oldest first."""
        return self._held.waiting(lower_case(address) if address is not None else None)

    def unused(self, address: str) -> frozenset[Fingerprint]:
        """Return the certificates that are not used for `address`, in any case: held, or set aside."""
        return frozenset(self._cache.held(lower_case(address)))

    def is_waiting(self, address: str) -> bool:
        """Return whether there is something to settle for `address`, in any case. Mostly from memory."""
        return any(self._cache.held(lower_case(address)).values())

    def claimants(self, address: str, now: datetime) -> list[Claimant]:
        """Return all certificates that claim `address`, in any case, those in use first, the best first."""
        address = lower_case(address)
        held = {one.fingerprint: one for one in self._held.all_of(address)}
        found = [
            Claimant(one, self._judge(one, Purpose.ENCRYPT, now, address), held.get(one.fingerprint))
            for one in self._cache.by_address(address)
        ]
        return sorted(found, key=_order, reverse=True)

    def conflicts(self, address: str, now: datetime) -> list[Conflict]:
        """Return what is to be settled for `address`, at most one for each scheme."""
        found = self.claimants(address, now)
        conflicts = [_conflict(lower_case(address), scheme, found) for scheme in Scheme]
        return [one for one in conflicts if one is not None]

    def take(self, address: str, fingerprint: Fingerprint, now: datetime) -> None:
        """Use this certificate for `address` from now on; the others of its scheme are set aside for it.

        It is KNOWN from then on, if it was UNKNOWN. KeyRefused where it does not claim the address, or was
        rejected.
        """
        address = lower_case(address)
        with self._store.transaction():
            claiming = {one.fingerprint: one for one in self._cache.by_address(address)}
            chosen = claiming.get(fingerprint)
            if chosen is None:
                raise KeyRefused(
                    f"no certificate {fingerprint} with the address {address} is in this keystore"
                )
            if chosen.trust is Trust.REJECTED:
                raise KeyRefused(
                    f"certificate {fingerprint} is rejected; to use it after all: "
                    f"secmailproxy key trust {fingerprint} known"
                )
            others = [
                one.fingerprint
                for one in claiming.values()
                if one.scheme is chosen.scheme and one.fingerprint != fingerprint
            ]
            self._held.set_aside(address, others, "settled", now)
            self._held.release(fingerprint, address)
            # As the row has it: what is held counts as unknown, whatever it was.
            row = self._store.certificate(fingerprint)
            if row is not None and row.trust is Trust.UNKNOWN:
                self._store.set_trust(fingerprint, Trust.KNOWN)

    def verify(self, address: str, fingerprint: Fingerprint, now: datetime) -> None:
        """The owner has compared the fingerprint: VERIFIED, and used for `address`, whatever else there is.

        KeyRefused as in `take`.
        """
        with self._store.transaction():
            self.take(address, fingerprint, now)
            self._store.set_trust(fingerprint, Trust.VERIFIED)

    def keep(self, address: str, now: datetime) -> list[Fingerprint]:
        """Go on using what `address` has; return what is set aside for it. KeyRefused where it has nothing.

        What was set aside so is no longer trusted, unless it is in use for another address.
        """
        address = lower_case(address)
        with self._store.transaction():
            conflicts = self.conflicts(address, now)
            in_use = any(one.held is None and _stands(one) for one in self.claimants(address, now))
            if conflicts and not in_use:
                raise KeyRefused(
                    f"{address} has no certificate in use that could be kept; take one of those that wait, "
                    "or reject them: secmailproxy key trust FINGERPRINT rejected"
                )
            others = [one.certificate.fingerprint for conflict in conflicts for one in conflict.others]
            self._held.set_aside(address, others, "settled", now)
            for one in others:
                if not self._is_used_elsewhere(one, address):
                    self._store.set_trust(one, Trust.UNKNOWN)
        return others

    def set_trust(self, certificate: Certificate, trust: Trust) -> None:
        """Say how far a certificate is trusted; one that is chosen so is no longer held for any address."""
        with self._store.transaction():
            self._store.set_trust(certificate.fingerprint, trust)
            if trust in policy.CHOSEN:
                self._held.release(certificate.fingerprint)

    def delete(self, certificate: Certificate) -> None:
        """Remove a certificate; those that were set aside for its sake wait for a decision again."""
        with self._store.transaction():
            self._held.reopen(certificate.addresses)
            self._store.delete(certificate.fingerprint)

    def _is_used_elsewhere(self, fingerprint: Fingerprint, address: str) -> bool:
        certificate = self._cache.get(fingerprint)
        if certificate is None or certificate.holder is not Holder.NONE:
            return certificate is not None
        others = (one for one in certificate.addresses if one != address)
        return any(fingerprint not in self._held.of_address(one) for one in others)


def _conflict(address: str, scheme: Scheme, found: list[Claimant]) -> Conflict | None:
    """Of those that claim an address, best first."""
    of_scheme = [one for one in found if one.certificate.scheme is scheme]
    used = next((one for one in of_scheme if one.held is None and _stands(one)), None)
    others = tuple(
        one
        for one in of_scheme
        if one is not used
        and one.certificate.trust is not Trust.REJECTED
        and (
            (one.held is not None and one.held.settled is None)
            or (one.held is None and one.certificate.trust is Trust.UNKNOWN and one.usability.usable)
        )
    )
    if not others or (used is not None and used.usability.usable and all(one.held is None for one in others)):
        return None
    return Conflict(address, scheme, used, others)


def _order(one: Claimant) -> tuple[bool, bool, tuple[int, float, str]]:
    """The greatest is the one in use."""
    return one.held is None, one.usability.usable, standing((one.certificate, one.usability))


def _stands(one: Claimant) -> bool:
    trust = one.certificate.trust
    return trust in policy.CHOSEN and policy.in_use(trust, one.usability.reason)
