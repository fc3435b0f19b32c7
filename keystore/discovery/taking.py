"""What becomes of a certificate that a source offers for an address.

Taken is what claims that address, serves for it now, and nothing else of it: user IDs of other addresses are
left out. Newer octets of a certificate that the store has are merged, a revocation among them. How far a new
one is trusted is said by `keystore.policy.trust`, by where it came from; one that would change what is in use
is held.

Security: whatever a source answers, an offer for one address never becomes a certificate for another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from keystore import openpgp, policy
from keystore.discovery.answers import Taken
from keystore.discovery.model import Offer, SourceKind
from keystore.errors import KeyRefused
from keystore.holding import HeldTable, Judge, rivals_of
from keystore.importing import Importer, Origin
from keystore.model import (
    Certificate,
    ImportAction,
    ImportResult,
    Purpose,
    Reason,
    Scheme,
    Trust,
    lower_case,
)
from keystore.policy.trust import trust_of_source
from keystore.store import Store, StoredCertificate
from keystore.vault import Vault

MOST_OCTETS = 256 * 1024
"""Of one certificate, cut down; others' certifications included."""
MOST_ADDRESSES = 8
"""In one certificate of S/MIME, which cannot be cut down."""
NAMES = {
    SourceKind.PINNED: "a rule",
    SourceKind.LOCAL: "this keystore",
    SourceKind.GNUPG: "GnuPG",
    SourceKind.AUTOCRYPT: "Autocrypt",
    SourceKind.GOSSIP: "Autocrypt gossip",
    SourceKind.SIGNED_MAIL: "signed mail",
    SourceKind.WKD: "WKD",
    SourceKind.VKS: "VKS",
    SourceKind.HKPS: "HKPS",
    SourceKind.DANE: "DANE",
    SourceKind.LDAP: "LDAP",
    SourceKind.FOLDER: "folder",
    SourceKind.URL: "URL",
}
"""For people; what `Certificate.source` begins with."""


def source_text(kind: SourceKind, where: str) -> str:
    """What the store keeps as the source of a certificate, for people."""
    where = "".join(one for one in where if one.isprintable())[:200]
    return f"{NAMES[kind]}, {where}" if where and where != NAMES[kind] else NAMES[kind]


def kind_of(source: str) -> SourceKind | None:
    """The kind that `source_text` was given; None for what was imported or generated."""
    return next((kind for kind, name in NAMES.items() if source.split(", ", 1)[0] == name), None)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The question that an offer answers."""

    kind: SourceKind
    address: str
    """Lower case."""
    now: datetime


class Taking:
    """Writes to the store."""

    def __init__(self, store: Store, vault: Vault, judge: Judge) -> None:
        """`judge` is asked whether a certificate serves, trial encryption included."""
        self._store = store
        self._judge = judge
        self._importer = Importer(store, vault, judge)

    def take(self, offer: Offer, kind: SourceKind, address: str, now: datetime) -> Taken:
        """Import what is offered for `address` (any case), if it is fit. Raises StoreLocked, StoreDamaged."""
        asked = _Asked(kind, lower_case(address), now)
        by_scheme: Callable[[Offer, _Asked], Taken]
        by_scheme = self._take_x509 if offer.scheme is Scheme.SMIME else self._take_openpgp
        try:
            return by_scheme(offer, asked)
        except KeyRefused as refusal:
            return Taken(offer.where, ImportAction.REFUSED, offer.scheme, reason=str(refusal))

    def _take_openpgp(self, offer: Offer, asked: _Asked) -> Taken:
        octets = openpgp.about(offer.octets, asked.address)
        if len(octets) > MOST_OCTETS:
            raise KeyRefused(f"larger than {MOST_OCTETS // 1024} KiB")
        offered = openpgp.certificate(octets)
        row = self._store.certificate(offered.fingerprint)
        is_new = row is None or asked.address not in self._store.addresses(row.fingerprint)
        passed_over = self._passed_over(offered, asked)
        # What the store has for this address is renewed, or revoked, whatever user IDs come along.
        if passed_over and is_new:
            return _refused(offer, offered, passed_over)
        if row is not None:
            if is_new and row.trust in policy.CHOSEN and _level(offer, asked) is Trust.UNKNOWN:
                # Trust is the certificate's: for this address too it would be that of a better source.
                return _refused(offer, offered, "known for other addresses, and this source cannot add one")
            others = len(row.octets) + len(octets) <= MOST_OCTETS
            octets = openpgp.about(offer.octets, asked.address, known=row.octets, others=others)
        (result,) = self._importer.take_all(octets, _origin(offer, asked), None)
        return _taken(offer, replace(result, reason=passed_over or result.reason))

    def _take_x509(self, offer: Offer, asked: _Asked) -> Taken:
        # Its libraries take long to import, and many have no use for them.
        from keystore import smime
        from keystore.importing_x509 import renewed_by

        offered = smime.certificate(offer.octets, source=source_text(asked.kind, offer.where))
        if smime.facts(offer.octets).is_authority:
            return _refused(offer, offered, Reason.AUTHORITY.value)
        if len(offer.octets) > MOST_OCTETS or len(offered.addresses) > MOST_ADDRESSES:
            return _refused(offer, offered, "too large, or with too many addresses")
        with self._store.transaction():
            if self._store.certificate(offered.fingerprint) is not None:
                return Taken(offer.where, ImportAction.UNCHANGED, Scheme.SMIME, offered.fingerprint)
            if passed_over := self._passed_over(offered, asked):
                return _refused(offer, offered, passed_over)
            row = StoredCertificate(
                offered.fingerprint,
                offered.octets,
                _level(offer, asked),
                offered.source,
                offered.holder,
                Scheme.SMIME,
            )
            rivals = rivals_of(
                offered,
                (asked.address,),
                self._store,
                self._judge,
                level=row.trust,
                now=asked.now,
                together=renewed_by(offered, self._store),
            )
            self._store.put(row, addresses=[asked.address], keys=[offered.fingerprint], now=asked.now)
            HeldTable(self._store).hold(offered.fingerprint, rivals, offered.source, asked.now)
        reason = "; ".join(one.remark for one in rivals)
        return Taken(offer.where, ImportAction.ADDED, Scheme.SMIME, offered.fingerprint, reason)

    def _passed_over(self, offered: Certificate, asked: _Asked) -> str:
        """Why mail to the address cannot be encrypted to it; "" where it can."""
        if offered.scheme is Scheme.OPENPGP:
            valid = policy.addresses(policy.valid_user_ids(openpgp.facts(offered.octets), asked.now))
            if asked.address not in valid:
                return Reason.NOT_FOR_ADDRESS.value
        judged = self._judge(offered, Purpose.ENCRYPT, asked.now, asked.address)
        return judged.explanation


def _level(offer: Offer, asked: _Asked) -> Trust:
    return trust_of_source(asked.kind, offer.authenticated)


def _origin(offer: Offer, asked: _Asked) -> Origin:
    source = source_text(asked.kind, offer.where)
    return Origin(source, None, asked.now, level=_level(offer, asked), imported=False)


def _refused(offer: Offer, offered: Certificate, reason: str) -> Taken:
    return Taken(offer.where, ImportAction.REFUSED, offer.scheme, offered.fingerprint, reason)


def _taken(offer: Offer, result: ImportResult) -> Taken:
    return Taken(offer.where, result.action, offer.scheme, result.fingerprint, result.reason)
