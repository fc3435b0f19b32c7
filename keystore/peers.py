"""The address book that writes itself: correspondents, by what protected mail was read and written.

Nothing is decided by it. It tells people what they have seen of an address, and since when.

Security: strangers' mail names any number of addresses, so how many are kept is limited; those that the owner
writes to are always kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from keystore.model import Fingerprint, lower_case
from keystore.store import Store, stored_moment, stored_time

MOST_IN_ALL = 50_000
"""Whom nobody here has written to is no longer added beyond this."""

_PEERS = "SELECT address, first_seen, last_seen, count, written, encrypted, signer FROM peers"
# Messages are not read in the order in which they were written.
_SEEN = """
    INSERT INTO peers (address, first_seen, last_seen, count, written, encrypted, signer)
    VALUES (?, ?, ?, 1, ?, ?, ?) ON CONFLICT (address) DO UPDATE SET
        first_seen = CASE WHEN excluded.first_seen < peers.first_seen
            THEN excluded.first_seen ELSE peers.first_seen END,
        signer = CASE WHEN excluded.signer IS NOT NULL
                AND (peers.signer IS NULL OR excluded.last_seen >= peers.last_seen)
            THEN excluded.signer ELSE peers.signer END,
        written = CASE WHEN peers.written IS NULL OR excluded.written > peers.written
            THEN coalesce(excluded.written, peers.written) ELSE peers.written END,
        encrypted = CASE WHEN peers.encrypted IS NULL OR excluded.encrypted > peers.encrypted
            THEN coalesce(excluded.encrypted, peers.encrypted) ELSE peers.encrypted END,
        count = peers.count + 1,
        last_seen = CASE WHEN excluded.last_seen > peers.last_seen
            THEN excluded.last_seen ELSE peers.last_seen END
"""


@dataclass(frozen=True, slots=True)
class PeerSeen:
    """One message from or to a correspondent."""

    address: str
    when: datetime
    """By the date of the message, not later than now."""
    signer: Fingerprint | None = None
    """Who signed it, where the signature is valid for this address."""
    encrypted: bool = False
    """Whether it came encrypted."""
    written: bool = False
    """Whether it went to this address; else it came from there."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What was seen of a correspondent."""

    address: str
    """Lower case."""
    first_seen: datetime
    last_seen: datetime
    count: int
    """Messages, both ways."""
    written: datetime | None = None
    """When mail last went to this address."""
    encrypted: datetime | None = None
    """When encrypted mail last came from this address."""
    signer: Fingerprint | None = None
    """Who made the last signature that was valid for this address."""


class Peers:
    """Reads and writes the table. Errors as in `Store`."""

    def __init__(self, store: Store) -> None:
        """Nothing is read yet."""
        self._store = store

    def seen(self, *messages: PeerSeen) -> None:
        """Note these messages, in one transaction. Raises StoreLocked at once when another process writes."""
        if not messages:
            return
        with self._store.transaction(patient=False):
            for one in messages:
                self._note(one)

    def get(self, address: str) -> Peer | None:
        """Return what was seen of an address, in any case."""
        rows = self._store.rows(f"{_PEERS} WHERE address = ?", lower_case(address))
        return _peer(rows[0]) if rows else None

    def search(self, query: str = "") -> list[Peer]:
        """Return those whose address has all words of `query` in it, in any case; last seen first."""
        rows = self._store.rows(f"{_PEERS} ORDER BY last_seen DESC, address")
        words = query.casefold().split()
        return [_peer(row) for row in rows if all(word in row[0].casefold() for word in words)]

    def _note(self, one: PeerSeen) -> None:
        address, when = lower_case(one.address), stored_time(one.when)
        if not one.written and not self._has_room(address):
            return
        self._store.note(
            _SEEN,
            address,
            when,
            when,
            when if one.written else None,
            when if one.encrypted and not one.written else None,
            None if one.written else one.signer,
        )

    def _has_room(self, address: str) -> bool:
        if self._store.rows("SELECT 1 FROM peers WHERE address = ?", address):
            return True
        ((in_all,),) = self._store.rows("SELECT count(*) FROM peers")
        return bool(in_all < MOST_IN_ALL)


def _peer(row: Iterable[Any]) -> Peer:
    address, first_seen, last_seen, count, written, encrypted, signer = row
    return Peer(
        address,
        stored_moment(first_seen),
        stored_moment(last_seen),
        count,
        stored_moment(written) if written else None,
        stored_moment(encrypted) if encrypted else None,
        Fingerprint(signer) if signer else None,
    )
