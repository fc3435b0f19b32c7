"""Taking keys and certificates in: each key of a file has a result of its own.

A certificate is merged with what is known of it. It is stored when it can serve for something, and the result
says when it cannot be encrypted to. A secret key is taken only unlocked, so a wrong passphrase refuses that
key and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import groupby
from typing import TypeVar

from keystore import openpgp, policy
from keystore.errors import KeyRefused
from keystore.holding import HeldTable, Judge, Rival, rivals_of
from keystore.model import (
    Certificate,
    Fingerprint,
    Holder,
    ImportAction,
    ImportResult,
    Purpose,
    Reason,
    Trust,
    Usability,
)
from keystore.store import Store, StoredCertificate, StoredSecret
from keystore.vault import Vault

AT_ONCE = 100
"""Certificates in one transaction: tenths of a second, for which other writers wait."""
_UNBOUND = frozenset({Reason.BAD_BINDING, Reason.NO_CERTIFICATE})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the keys of one import come from, and how far they are trusted."""

    source: str
    trust: Trust | None
    """What the owner says of them; None keeps what is known, else it is `level`."""
    now: datetime
    held_by_gnupg: bool = False
    level: Trust = Trust.KNOWN
    """What the word of the source counts for, where nobody has decided (`policy.trust_of_source`)."""
    imported: bool = True
    """Whether the owner brings them in; else they merely come along."""
    added: set[Fingerprint] = field(default_factory=set)
    """The certificates that this import has brought so far; they are no rivals of each other."""


Item = TypeVar("Item")


def _untold(done: int, total: int) -> None:
    """For whoever does not want to know how far it is."""


class Importer:
    """Writes to the store."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        judge: Judge,
    ) -> None:
        """`judge` is asked whether a certificate serves, trial encryption included."""
        self._store = store
        self._vault = vault
        self._judge = judge

    def take_all(
        self,
        octets: bytes,
        origin: Origin,
        passphrase: Callable[[], str] | None,
        progress: Callable[[int, int], object] = _untold,
    ) -> list[ImportResult]:
        """Import every key in a file, armored or binary; KeyRefused when it holds none at all.

        `progress` is told how many of how many are done, after each transaction.
        """
        asked = AskedOnce(passphrase)
        found = openpgp.parse_keys(octets)
        if any(parsed.secret_octets is not None for parsed in found):
            self._vault.fetch_key()
        results: list[ImportResult] = []
        for is_secret, keys in groupby(found, key=lambda parsed: parsed.secret_octets is not None):
            # Each transaction waits for the disk. None is open while somebody is asked for a passphrase.
            for together in batches(list(keys), 1 if is_secret else AT_ONCE):
                with nullcontext() if is_secret else self._store.transaction():
                    results += [self._take(parsed, origin, asked) for parsed in together]
                progress(len(results), len(found))
        return results

    def store_own(self, key: openpgp.SecretKey, origin: Origin) -> Certificate:
        """Store a secret key that we have just made."""
        certificate = openpgp.certificate(key.certificate_octets, trust=Trust.VERIFIED, source=origin.source)
        self._vault.fetch_key()
        self._write(certificate, self._vault.wrapped(key), origin)
        return replace(certificate, holder=Holder.OWN)

    def _take(self, parsed: openpgp.ParsedKey, origin: Origin, passphrase: AskedOnce) -> ImportResult:
        offered: Certificate | None = None
        try:
            offered = openpgp.certificate(parsed.certificate_octets)
            key = _unlocked(parsed, passphrase)
            return self._store_merged(offered, key, origin)
        except KeyRefused as refusal:
            return refusal_of(offered, refusal)

    def _store_merged(
        self, offered: Certificate, key: openpgp.SecretKey | None, origin: Origin
    ) -> ImportResult:
        fingerprint = offered.fingerprint
        # One transaction from reading to writing, or another process's update of it could be lost.
        with self._store.transaction():
            old = self._store.certificate(fingerprint)
            octets = merged_versions(old.octets, offered.octets) if old else offered.octets
            merged = openpgp.certificate(octets, source=old.source if old else origin.source)
            trust = trust_given(old, origin, secret=bool(key))
            owned = key is not None or origin.held_by_gnupg or (old and old.holder is not Holder.NONE)
            more: tuple[str, ...] = ()
            rivals: Sequence[Rival] = ()
            if not owned and origin.trust is None and trust is not Trust.REJECTED:
                more = _new_addresses(old, merged)
                trust, rivals = self._trusted(old, offered, replace(merged, trust=trust), origin)
            lowered = old is not None and old.trust is Trust.VERIFIED and trust is Trust.KNOWN
            merged = replace(merged, trust=trust)
            encrypts = self._judge(merged, Purpose.ENCRYPT, origin.now, None)
            if old is None:
                _demand_bound(encrypts, self._judge(merged, Purpose.VERIFY, origin.now, None))
            secret = self._secret_row(merged.fingerprint, key, old, origin)
            if old is None or octets != old.octets or merged.trust is not old.trust or secret is not None:
                self._write(merged, secret, origin, () if owned else self._store.addresses(fingerprint))
                action = ImportAction.UPDATED if old else ImportAction.ADDED
                origin.added.update(() if old else (fingerprint,))
            else:
                action = ImportAction.UNCHANGED
            hold(self._store, fingerprint, rivals, origin, owned=secret is not None)
        return ImportResult(
            action,
            fingerprint,
            merged.addresses,
            merged.user_ids,
            secret=secret is not None or (old is not None and old.holder is not Holder.NONE),
            reason=_remark(encrypts, more if lowered else (), rivals),
        )

    def _trusted(
        self, old: StoredCertificate | None, offered: Certificate, merged: Certificate, origin: Origin
    ) -> tuple[Trust, Sequence[Rival]]:
        """How far a certificate is trusted that nobody has decided about, and for whose sake it is held."""
        more, confirmed = _new_addresses(old, merged), self._is_confirmed(old, offered, merged, origin)
        claimed = merged.addresses
        if old is not None and not confirmed:
            claimed = tuple(dict.fromkeys((*more, *self._newly_standing(old, merged, origin.now))))
        rivals = rivals_of(
            merged,
            claimed,
            self._store,
            self._judge,
            level=origin.level,
            now=origin.now,
            together=origin.added,
            imported=origin.imported,
        )
        lowered = bool(more) and merged.trust is Trust.VERIFIED
        return Trust.KNOWN if lowered or (confirmed and not rivals) else merged.trust, rivals

    def _newly_standing(self, old: StoredCertificate, merged: Certificate, now: datetime) -> Iterable[str]:
        """The addresses for which it could not be encrypted to before, at any time, and now can.

        Else one that only signs, and changes nothing, would be put in another's place by a subkey it gets.
        """
        before = openpgp.certificate(old.octets, trust=merged.trust)
        for address in merged.addresses:
            reasons = [self._judge(one, Purpose.ENCRYPT, now, address).reason for one in (before, merged)]
            if [policy.in_use(Trust.KNOWN, one) for one in reasons] == [False, True]:
                yield address

    def _is_confirmed(
        self, old: StoredCertificate | None, offered: Certificate, merged: Certificate, origin: Origin
    ) -> bool:
        """Whether a source whose word counts now says of all of an unknown certificate what others said."""
        return (
            old is not None
            and old.trust is Trust.UNKNOWN
            and origin.level in policy.CHOSEN
            and set(merged.addresses) <= set(offered.addresses)
            and not any(old.fingerprint in HeldTable(self._store).of_address(one) for one in merged.addresses)
        )

    def _secret_row(
        self,
        fingerprint: Fingerprint,
        key: openpgp.SecretKey | None,
        old: StoredCertificate | None,
        origin: Origin,
    ) -> StoredSecret | None:
        """Return the row to write, or None when the secret half stays as it is."""
        holder = old.holder if old else Holder.NONE
        if key is None:
            if origin.held_by_gnupg and holder is Holder.NONE:
                return StoredSecret(fingerprint, Holder.GNUPG, None)
            return None
        if holder is not Holder.OWN:
            return self._vault.wrapped(key)
        known = self._vault.key(fingerprint)
        union = openpgp.united(known, key)
        return None if union.to_octets() == known.to_octets() else self._vault.wrapped(union)

    def _write(
        self,
        certificate: Certificate,
        secret: StoredSecret | None,
        origin: Origin,
        before: Sequence[str] = (),
    ) -> None:
        """Where a user ID was revoked, the certificate still stands for the address that it had `before`."""
        row = StoredCertificate(
            certificate.fingerprint, certificate.octets, certificate.trust, certificate.source, Holder.NONE
        )
        with self._store.transaction():
            self._store.put(
                row,
                addresses=[*certificate.addresses, *before],
                keys=openpgp.key_fingerprints(certificate.octets),
                now=origin.now,
            )
            if secret is not None:
                self._store.put_secret(secret)


def merged_versions(old: bytes, new: bytes) -> bytes:
    """Both versions of one certificate. What flooded it, in either, must not keep a revocation out."""
    octets = openpgp.merge(old, new)
    try:
        openpgp.facts(octets)
    except KeyRefused:
        octets = openpgp.sound(openpgp.merge(openpgp.sound(old), openpgp.sound(new)))
    return octets


def batches(items: Sequence[Item], length: int) -> Iterator[Sequence[Item]]:
    """Cut a sequence into parts of `length`, the last one as long as it comes."""
    return (items[at : at + length] for at in range(0, len(items), length))


class AskedOnce:
    """A passphrase for a whole file: asked for at the first protected key, tried on each."""

    def __init__(self, ask: Callable[[], str] | None) -> None:
        self._ask = ask
        self._answer: str | None = None

    def __call__(self) -> str:
        if self._ask is None:
            raise KeyRefused("the secret key is protected by a passphrase, and none was given")
        if self._answer is None:
            self._answer = self._ask()
        return self._answer


def refusal_of(offered: Certificate | None, refusal: KeyRefused) -> ImportResult:
    """Of what could not be taken; `offered` is None where it could not even be read."""
    return ImportResult(
        ImportAction.REFUSED,
        offered.fingerprint if offered else None,
        offered.addresses if offered else (),
        offered.user_ids if offered else (),
        reason=str(refusal),
    )


def _unlocked(parsed: openpgp.ParsedKey, passphrase: AskedOnce) -> openpgp.SecretKey | None:
    if parsed.secret_octets is None:
        return None
    return openpgp.unlock(parsed.secret_octets, passphrase() if parsed.protected else None)


def _new_addresses(old: StoredCertificate | None, merged: Certificate) -> tuple[str, ...]:
    """Addresses that the certificate claims now and did not claim before."""
    if old is None:
        return ()
    before = openpgp.certificate(old.octets).addresses
    return tuple(one for one in merged.addresses if one not in before)


def hold(
    store: Store, fingerprint: Fingerprint, rivals: Sequence[Rival], origin: Origin, *, owned: bool
) -> None:
    """Hold a certificate that was just stored for the addresses that others stand for, or take it out."""
    held = HeldTable(store)
    if owned or origin.trust in policy.CHOSEN:
        held.release(fingerprint)
    held.hold(fingerprint, rivals, origin.source, origin.now)


def _remark(encrypts: Usability, unverified: tuple[str, ...], rivals: Sequence[Rival]) -> str:
    """What is to be said of a certificate that was taken."""
    remarks = [one.remark for one in rivals]
    if not encrypts.usable:
        remarks = [f"kept, but not for encryption: {encrypts.explanation}"]
    if unverified:
        # Whoever was verified under one address may write any other into their certificate.
        remarks.append(f"no longer verified, for it now claims {', '.join(unverified)} too")
    return "; ".join(remarks)


def trust_given(old: StoredCertificate | None, origin: Origin, *, secret: bool) -> Trust:
    """How far a certificate is trusted once it has been taken, with its secret half or without."""
    if origin.trust is not None:
        return origin.trust
    # Who owns the secret half needs nobody's word for it; what the owner has decided before stays.
    owned = secret or origin.held_by_gnupg
    if old is None:
        return Trust.VERIFIED if owned else origin.level
    return (
        Trust.VERIFIED
        if owned and old.holder is Holder.NONE and old.trust is not Trust.REJECTED
        else old.trust
    )


def _demand_bound(*answers: Usability) -> None:
    if all(answer.reason in _UNBOUND for answer in answers):
        raise KeyRefused("no user ID of this certificate is bound by a valid self-signature")


def refused(results: Iterable[ImportResult]) -> bool:
    """Whether nothing at all was taken in."""
    return all(result.action is ImportAction.REFUSED for result in results)
