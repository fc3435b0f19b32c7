"""How `secmailproxy key revocations` shows the lists of revoked S/MIME certificates (docs/keys.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from keystore.revocationtable import StoredList

NONE = "There are no lists of revoked certificates. --fetch asks the authorities for theirs."
NONE_NAMED = (
    "There are no lists of revoked certificates: no certificate here for which a believed authority vouches "
    "names one."
)


def values(one: StoredList) -> dict[str, Any]:
    """One list, for JSON."""
    return {
        "address": one.address,
        "tried": _iso(one.tried),
        "failure": one.failure,
        "this_update": _iso(one.this_update),
        "next_update": _iso(one.next_update),
        "octets": one.size,
    }


def text(one: StoredList, now: datetime) -> str:
    """One list, for people."""
    if one.next_update is None or one.this_update is None:
        state = "no list"
    elif one.next_update < now:
        state = f"out of date since {one.next_update:%Y-%m-%d}"
    else:
        state = f"of {one.this_update:%Y-%m-%d %H:%M}, counts until {one.next_update:%Y-%m-%d %H:%M}"
    why = f"; not fetched on {one.tried:%Y-%m-%d %H:%M}: {one.failure}" if one.failure else ""
    return f"{one.address}\n    {state}{why}"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
