"""Certificates that are held: stored, and not used for an address, because it has another one in use.

A row of the table says for which address a certificate is held, since when and where it came from. Once the
owner has settled which one is right, the others stay set aside for that address, so that they are not asked
about again; for other addresses, and to verify older mail, they are what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from keystore import policy
from keystore.model import (
    Certificate,
    Fingerprint,
    Holder,
    Purpose,
    Reason,
    Scheme,
    Trust,
    Usability,
    lower_case,
)
from keystore.selection import how_to_settle
from keystore.store import Store, stored_moment, stored_time

Judge = Callable[[Certificate, Purpose, datetime, str | None], Usability]

_HELD = (
    "SELECT h.address, h.certificate, h.since, h.source, h.settled, c.scheme"
    " FROM held h JOIN certificates c ON c.fingerprint = h.certificate"
)


@dataclass(frozen=True, slots=True)
class Rival:
    """A certificate that stands for `address` already."""

    address: str
    fingerprint: Fingerprint

    @property
    def remark(self) -> str:
        """What is to be said of the certificate that came later."""
        return (
            f"not used for {self.address}, which has {self.fingerprint} already; "
            f"see both and decide: {how_to_settle(self.address)}"
        )


@dataclass(frozen=True, slots=True)
class Held:
    """A certificate that is held for an address, or has been set aside for it."""

    address: str
    fingerprint: Fingerprint
    since: datetime
    source: str
    """Where it came from, for people."""
    settled: datetime | None
    """When the owner has decided for another one; None while it waits for that."""
    scheme: Scheme = Scheme.OPENPGP


def rivals_of(
    offered: Certificate,
    addresses: Iterable[str],
    store: Store,
    judge: Judge,
    *,
    level: Trust,
    now: datetime,
    together: AbstractSet[Fingerprint] = frozenset(),
    imported: bool = False,
) -> list[Rival]:
    """The certificates in use for `addresses` for whose sake `offered`, to be trusted by `level`, is held.

    One for each address at most. Anybody can write an address into a certificate, and its date. What came
    `together` with it in one import is no rival: the owner's ring may hold several of one person. Where the
    owner has `imported` it, one of the other scheme is none either. What merely comes along could else take
    the place of one that the owner, who has a key of that scheme, uses: OpenPGP is tried before S/MIME. A
    certificate of S/MIME that can only sign is no change: many have one for each purpose, and it stays so.
    """
    held = HeldTable(store)
    found: list[Rival] = []
    reason = judge(offered, Purpose.ENCRYPT, now, None).reason
    if offered.scheme is Scheme.SMIME and reason is Reason.NO_CAPABLE_KEY:
        return found
    for address in addresses:
        there = store.by_address(lower_case(address))
        put_by = held.of_address(address) if there else frozenset()
        for fingerprint in there:
            row = store.certificate(fingerprint)
            if row is None or fingerprint == offered.fingerprint:
                continue
            is_other = row.scheme is not offered.scheme
            if is_other and (imported or row.holder is not Holder.NONE or not _can_use(store, row.scheme)):
                continue
            if fingerprint in together or fingerprint in put_by:
                continue
            known = replace(
                offered, fingerprint=fingerprint, octets=row.octets, trust=row.trust, scheme=row.scheme
            )
            reason = judge(known, Purpose.ENCRYPT, now, address).reason
            standing = row.trust if policy.in_use(row.trust, reason) else None
            if policy.holds(level, standing):
                found.append(Rival(address, fingerprint))
                break
    return found


def _can_use(store: Store, scheme: Scheme) -> bool:
    """Whether the owner has a key of the scheme, without which nothing is encrypted with it."""
    rows = store.rows(
        "SELECT 1 FROM secret_keys s JOIN certificates c ON c.fingerprint = s.certificate"
        " WHERE c.scheme = ? LIMIT 1",
        scheme.value,
    )
    return bool(rows)


class HeldTable:
    """Reads and writes the table. Errors as in `Store`."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store

    def hold(self, fingerprint: Fingerprint, rivals: Sequence[Rival], source: str, now: datetime) -> None:
        """Hold a stored certificate for the addresses of `rivals`; what is held or set aside stays so."""
        for rival in rivals:
            self._store.write(
                "INSERT INTO held (address, certificate, since, source, settled) VALUES (?, ?, ?, ?, NULL)"
                " ON CONFLICT (address, certificate) DO NOTHING",
                lower_case(rival.address),
                fingerprint,
                stored_time(now),
                source,
            )

    def of_address(self, address: str) -> frozenset[Fingerprint]:
        """The certificates that are not used for `address`: held, or set aside."""
        rows = self._store.rows("SELECT certificate FROM held WHERE address = ?", lower_case(address))
        return frozenset(Fingerprint(row[0]) for row in rows)

    def all_of(self, address: str) -> list[Held]:
        """What is held for `address` or set aside for it."""
        return [_held(row) for row in self._store.rows(f"{_HELD} WHERE h.address = ?", lower_case(address))]

    def unsettled(self) -> frozenset[Fingerprint]:
        """The certificates that wait for a decision about any address."""
        rows = self._store.rows("SELECT DISTINCT certificate FROM held WHERE settled IS NULL")
        return frozenset(Fingerprint(row[0]) for row in rows)

    def waiting(self, address: str | None = None) -> list[Held]:
        """What is to be settled, for `address` or at all, oldest first."""
        where = f"{_HELD} WHERE h.settled IS NULL"
        order = "ORDER BY h.since, h.address, h.certificate"
        if address is None:
            return [_held(row) for row in self._store.rows(f"{where} {order}")]
        return [
            _held(row) for row in self._store.rows(f"{where} AND h.address = ? {order}", lower_case(address))
        ]

    def set_aside(
        self, address: str, fingerprints: Iterable[Fingerprint], source: str, now: datetime
    ) -> None:
        """The owner has decided for another one for `address`."""
        for fingerprint in fingerprints:
            self._store.write(
                "INSERT INTO held (address, certificate, since, source, settled) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (address, certificate) DO UPDATE SET settled = excluded.settled",
                lower_case(address),
                fingerprint,
                stored_time(now),
                source,
                stored_time(now),
            )

    def release(self, fingerprint: Fingerprint, address: str | None = None) -> None:
        """The owner has decided for this one: for `address`, or wherever it was held."""
        if address is None:
            self._store.write("DELETE FROM held WHERE certificate = ?", fingerprint)
        else:
            self._store.write(
                "DELETE FROM held WHERE certificate = ? AND address = ?", fingerprint, lower_case(address)
            )

    def reopen(self, addresses: Iterable[str]) -> None:
        """The certificate that was decided for is gone: what was set aside for its sake waits again."""
        for address in addresses:
            self._store.write("UPDATE held SET settled = NULL WHERE address = ?", lower_case(address))


def _held(row: Iterable[Any]) -> Held:
    address, fingerprint, since, source, settled, scheme = row
    return Held(
        address,
        Fingerprint(fingerprint),
        stored_moment(since),
        source,
        stored_moment(settled) if settled else None,
        Scheme(scheme),
    )
