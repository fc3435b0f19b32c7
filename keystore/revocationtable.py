"""Lists of revoked certificates on disk, one for each address, with what became of the last try."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keystore.store import Store, stored_moment, stored_time

MAX_OCTETS = 10 * 1024 * 1024
"""Of one list: some hundred thousand entries. Longer ones are not kept."""
_ALL = """
    SELECT address, tried, failure, authority, this_update, next_update, length(octets)
    FROM revocations ORDER BY address
"""
_PUT = """
    INSERT INTO revocations (address, tried, failure, octets, authority, this_update, next_update)
    VALUES (?, ?, '', ?, ?, ?, ?) ON CONFLICT (address) DO UPDATE SET
        tried = excluded.tried, failure = '', octets = excluded.octets, authority = excluded.authority,
        this_update = excluded.this_update, next_update = excluded.next_update
"""
_FAILED = """
    INSERT INTO revocations (address, tried, failure) VALUES (?, ?, ?)
    ON CONFLICT (address) DO UPDATE SET tried = excluded.tried, failure = excluded.failure
"""


@dataclass(frozen=True, slots=True)
class StoredList:
    """What is known of an address, without the list itself."""

    address: str
    tried: datetime
    failure: str = ""
    """Why the last try brought no list, for people; "" when it did."""
    authority: str | None = None
    """Whose list it is, as `keystore.revocations` names authorities; None where there is none yet."""
    this_update: datetime | None = None
    next_update: datetime | None = None
    size: int = 0
    """Octets of the list."""


@dataclass(frozen=True, slots=True)
class WantedList:
    """A list that would tell something of certificates in the store."""

    address: str
    authority: bytes
    """DER, of whoever issued a certificate that names the address."""
    known: StoredList | None = None
    """What became of it last time."""


class RevocationTable:
    """The table `revocations` of one store. Errors as in `Store`."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def all(self) -> list[StoredList]:
        """Return what is known of each address."""
        return [
            StoredList(
                address,
                stored_moment(tried),
                failure,
                authority,
                stored_moment(this_update) if this_update else None,
                stored_moment(next_update) if next_update else None,
                size or 0,
            )
            for address, tried, failure, authority, this_update, next_update, size in self.store.rows(_ALL)
        ]

    def octets(self, address: str) -> bytes | None:
        """Return the list (DER) that was last had from an address."""
        found = self.store.rows("SELECT octets FROM revocations WHERE address = ?", address)
        return found[0][0] if found else None

    def put(
        self,
        address: str,
        octets: bytes,
        authority: str,
        updates: tuple[datetime, datetime],
        now: datetime,
    ) -> None:
        """Add or replace a list (DER); `updates` are its own and that of the next one."""
        this_update, next_update = map(stored_time, updates)
        self.store.write(_PUT, address, stored_time(now), octets, authority, this_update, next_update)

    def failed(self, address: str, why: str, now: datetime) -> None:
        """Note why no list was had; an older one stays."""
        self.store.write(_FAILED, address, stored_time(now), why)

    def delete(self, address: str) -> None:
        """Forget an address and its list."""
        self.store.write("DELETE FROM revocations WHERE address = ?", address)
