"""PURE. How far a certificate is trusted to belong to its address, as tables.

    unknown    nobody whose word counts has said so; it serves where there is nothing else, and that is said
    known      first use: it came from where its owner puts it, and nothing has contradicted it since
    verified   the owner of this store has compared the fingerprint, or an introducer of theirs vouches for it
    rejected   the owner of this store does not want it used

A known peer's certificate is never replaced by what merely comes along, wherever it comes from: the other
one is held until the owner of this store settles it (`keystore.holding`). Newer octets of the same
certificate are merged, and are no change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from keystore.discovery.model import SourceKind
from keystore.facts import Certification
from keystore.model import Reason, Trust
from keystore.policy.certificates import addresses

CHOSEN = frozenset({Trust.KNOWN, Trust.VERIFIED})
"""What has been taken for its address's, by first use or by the owner."""

_OF_SOURCE = {
    SourceKind.PINNED: Trust.KNOWN,
    SourceKind.LOCAL: Trust.KNOWN,
    SourceKind.GNUPG: Trust.KNOWN,
    SourceKind.AUTOCRYPT: Trust.KNOWN,
    SourceKind.GOSSIP: Trust.UNKNOWN,
    SourceKind.SIGNED_MAIL: Trust.KNOWN,
    SourceKind.WKD: Trust.KNOWN,
    SourceKind.VKS: Trust.KNOWN,
    SourceKind.HKPS: Trust.UNKNOWN,
    SourceKind.DANE: Trust.KNOWN,
    SourceKind.LDAP: Trust.UNKNOWN,
    SourceKind.FOLDER: Trust.KNOWN,
    SourceKind.URL: Trust.KNOWN,
}
_ONLY_WHEN_AUTHENTICATED = frozenset({SourceKind.WKD, SourceKind.VKS, SourceKind.DANE, SourceKind.URL})
"""Their word is that of a server, and counts if it is surely that server's."""

_SERVED = frozenset(
    {
        None,
        Reason.EXPIRED,
        Reason.REVOKED,
        Reason.USER_ID_REVOKED,
        Reason.SUBKEY_EXPIRED,
        Reason.SUBKEY_REVOKED,
        Reason.NOT_YET_VALID,
    }
)
"""Why a certificate does not serve that did serve once, or does as soon as the clock is right."""


def trust_of_source(kind: SourceKind, authenticated: bool) -> Trust:
    """How far the first certificate of an address is trusted that comes from such a source.

    `authenticated` is `Offer.authenticated`. What the owner of this store has decided goes before it, and so
    does a certificate that the address has already (`holds`).
    """
    if kind in _ONLY_WHEN_AUTHENTICATED and not authenticated:
        return Trust.UNKNOWN
    return _OF_SOURCE[kind]


def in_use(trust: Trust, reason: Reason | None) -> bool:
    """Whether a certificate stands for its address, so that another one would be a change.

    `reason` is why mail cannot be encrypted to it now; None when it can. One that has ended still stands: who
    comes after it is to be looked at. One that never could be encrypted to stands only if it was verified.
    """
    if trust is Trust.REJECTED:
        return False
    return trust is Trust.VERIFIED or reason in _SERVED


def holds(offered: Trust, standing: Trust | None) -> bool:
    """Whether a certificate that comes along, to be trusted so far, is held for its address.

    `standing` is the trust of one that is in use there (`in_use`), None when there is none.

        in use      comes unknown   comes known or verified
        nothing     taken           taken
        unknown     held            taken: a better source than the first one
        known       held            held
        verified    held            held
    """
    if standing is None or standing is Trust.REJECTED:
        return False
    return standing in CHOSEN or offered is Trust.UNKNOWN


def vouched(
    statements: Iterable[Certification], user_ids: Iterable[str], domains: Collection[str], now: datetime
) -> frozenset[str]:
    """The addresses of `user_ids`, which are valid `now`, that an introducer vouches for.

    `statements` are the introducer's, verified; of those on one user ID the newest counts. `domains`, in
    lower case, limits whom the introducer may vouch for; empty is everybody. A domain does not mean those
    below it.
    """
    newest: dict[str, Certification] = {}
    for one in statements:
        known = newest.get(one.user_id)
        # Of the same second, the one that takes back counts.
        if one.created <= now and (
            known is None or (one.created, one.revokes) > (known.created, known.revokes)
        ):
            newest[one.user_id] = one
    standing = [
        user_id
        for user_id in user_ids
        if (last := newest.get(user_id)) and not last.revokes and (not last.expires or last.expires > now)
    ]
    return frozenset(
        address for address in addresses(standing) if not domains or address.rpartition("@")[2] in domains
    )


def raised(trust: Trust, *, introduced: bool) -> Trust:
    """The trust of a certificate for an address that an introducer vouches for, or does not."""
    return Trust.VERIFIED if introduced and trust is not Trust.REJECTED else trust
