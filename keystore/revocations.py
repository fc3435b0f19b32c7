"""What is known of the revocation of S/MIME certificates: lists of their issuers, kept in the store.

Reading never fetches: lists come by `add`, from whoever goes to the network, apart from mail. A list is kept
until a newer one takes its place; after its time it still names what was revoked, and clears nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

from cryptography import x509

from keystore.errors import KeyRefused
from keystore.model import RevocationState
from keystore.revocationtable import MAX_OCTETS, RevocationTable, StoredList, WantedList
from keystore.smime.certificate import facts, fingerprint_of, load
from keystore.smime.crl import covers, distribution_points, is_revoked, parse_list, read_list
from keystore.store import Store

MOST_LISTS = 64
MOST_OCTETS_IN_ALL = 64 * 1024 * 1024
_MOST_LOOKED_UP = 4096


@dataclass(slots=True)
class _Kept:
    """A list in memory, and what was looked up in it: long ones take long to search."""

    row: StoredList
    parsed: x509.CertificateRevocationList
    looked_up: dict[tuple[bytes, datetime], bool] = field(default_factory=dict)

    def revokes(self, certificate: bytes, moment: datetime) -> bool:
        asked = (certificate, moment)
        if asked not in self.looked_up:
            if len(self.looked_up) >= _MOST_LOOKED_UP:
                self.looked_up.clear()
            try:
                self.looked_up[asked] = is_revoked(self.parsed, certificate, moment)
            except KeyRefused:
                # Whoever issued the certificate has written something of it there.
                self.looked_up[asked] = True
        return self.looked_up[asked]


class Revocations:
    """The lists of one store. Safe for threads."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._table = RevocationTable(store)
        self._lock = threading.Lock()
        self._seen: tuple[int, int] | None = None
        self._rows: dict[str, StoredList] = {}
        self._lists: dict[str, _Kept | None] = {}

    def state(self, certificate: bytes, issuer: bytes, moment: datetime, now: datetime) -> RevocationState:
        """What is known of `certificate`, which `issuer` has issued (DER), for what it signed at `moment`."""
        known = RevocationState.NOT_CHECKED
        for address in distribution_points(certificate):
            kept = self._list(address, issuer)
            if kept is None or not covers(kept.parsed, certificate):
                continue
            if kept.revokes(certificate, moment):
                return RevocationState.REVOKED
            if kept.row.next_update is not None and now <= kept.row.next_update:
                known = RevocationState.GOOD
        return known

    @property
    def any(self) -> bool:
        """Whether there is any list at all."""
        with self._lock:
            self._refresh()
            return any(row.authority for row in self._rows.values())

    def wanted(self, chains: Iterable[Sequence[bytes]]) -> list[WantedList]:
        """The lists that tell of these chains (DER, lowest first), those tried longest ago first."""
        known = {row.address: row for row in self._table.all()}
        found: dict[str, WantedList] = {}
        for chain in chains:
            for lower, upper in pairwise(chain):
                for address in distribution_points(lower):
                    found.setdefault(address, WantedList(address, upper, known.get(address)))
        oldest_first = sorted(found.values(), key=lambda one: one.known.tried.timestamp() if one.known else 0)
        return oldest_first[:MOST_LISTS]

    def all(self) -> list[StoredList]:
        """What is known of each address."""
        return self._table.all()

    def add(self, one: WantedList, octets: bytes, now: datetime) -> str:
        """Keep a fetched list (DER or PEM); why it cannot be kept, "" when it is. Then an older one stays."""
        try:
            if len(octets) > MAX_OCTETS:
                raise KeyRefused(f"it is larger than {MAX_OCTETS // 2**20} MiB")
            found = read_list(octets, one.authority, one.address, now)
            with self._table.store.transaction():
                rows = {row.address: row for row in self._table.all()}
                _demand_newer(rows.pop(one.address, None), found.this_update)
                if sum(row.size for row in rows.values()) + len(found.octets) > MOST_OCTETS_IN_ALL:
                    raise KeyRefused("there is no room for it beside the other lists")
                updates = (found.this_update, found.next_update)
                self._table.put(one.address, found.octets, _mark(one.authority), updates, now)
        except KeyRefused as refusal:
            self.failed(one, str(refusal), now)
            return str(refusal)
        return ""

    def failed(self, one: WantedList, why: str, now: datetime) -> None:
        """Note that no list was had."""
        self._table.failed(one.address, why, now)

    def keep_only(self, wanted: Iterable[WantedList]) -> None:
        """Forget the lists of addresses that no certificate here names any more."""
        named = {one.address for one in wanted}
        for row in self._table.all():
            if row.address not in named:
                self._table.delete(row.address)

    def _list(self, address: str, issuer: bytes) -> _Kept | None:
        """The list of this address, if it is this issuer's."""
        with self._lock:
            self._refresh()
            row = self._rows.get(address)
            if row is None or row.authority != _mark(issuer):
                return None
            if address not in self._lists:
                self._lists[address] = self._read(row)
            return self._lists[address]

    def _refresh(self) -> None:
        version = self._table.store.version()
        if version == self._seen:
            return
        rows = {row.address: row for row in self._table.all()}
        self._lists = {
            address: kept
            for address, kept in self._lists.items()
            if kept is not None
            and (row := rows.get(address))
            and (row.this_update, row.authority, row.size)
            == (kept.row.this_update, kept.row.authority, kept.row.size)
        }
        self._rows, self._seen = rows, version

    def _read(self, row: StoredList) -> _Kept | None:
        octets = self._table.octets(row.address)
        try:
            return _Kept(row, parse_list(octets)) if octets else None
        except KeyRefused:
            return None


def _demand_newer(known: StoredList | None, this_update: datetime) -> None:
    if known is not None and known.this_update is not None and this_update < known.this_update:
        raise KeyRefused("it is older than the one that is here")


def _mark(authority: bytes) -> str:
    """An authority by its key and name, whichever of its certificates stands in a path."""
    return fingerprint_of(facts(authority).key_hash + load(authority).subject.public_bytes())
