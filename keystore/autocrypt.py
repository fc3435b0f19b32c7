"""PURE. What mail says of its authors' certificates by Autocrypt, and what follows: the rules as functions.

A state is kept for each address: what its last Autocrypt field said, and what others have gossiped. It says
which certificate the owner of the address would like to be encrypted to; whether that certificate is used is
decided by trust alone. So one departure from the standard: a field with another certificate changes the
state, and never the certificate in use, which is the owner's to change (docs/keystore.md).

Standards: Autocrypt Level 1 sections 2.2 (state), 2.3 (updates), 2.4 (recommendation), 3 (gossip).
Security: anybody can write any From and any Date; a date beyond `now` counts as `now`, so that no message can
stand in the way of all later ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from keystore.model import Fingerprint

STALE = timedelta(days=35)
"""After so long without a field in mail that is seen, the owner may have given Autocrypt up (2.4)."""


@dataclass(frozen=True, slots=True)
class Gossip:
    """One Autocrypt-Gossip field of an encrypted message: somebody else's certificate, OpenPGP, binary."""

    address: str
    """A recipient that the message names, lower case."""
    certificate: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Heard:
    """What one message says. It counts as one of mail that was read; nothing here is proven."""

    author: str
    """The one address in From, lower case."""
    sent: datetime
    """Date, as it is written."""
    certificate: bytes = field(default=b"", repr=False)
    """OpenPGP, binary, from the one valid Autocrypt field; empty where there is none."""
    mutual: bool = False
    """Whether that field asks for encryption wherever the other side does so too."""
    gossip: tuple[Gossip, ...] = ()
    """Of an encrypted message alone."""
    protected: bool = False
    """Whether it came signed or encrypted, and has been opened for the first time."""
    encrypted: bool = False
    signer: Fingerprint | None = None
    """Who made the signature that is valid for the author, if any."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """What is kept for one address. Times are effective dates: none lies in the future of when it was set."""

    address: str
    last_seen: datetime | None = None
    autocrypt_timestamp: datetime | None = None
    """Of the newest message with an Autocrypt field."""
    certificate: Fingerprint | None = None
    """The one of that field."""
    mutual: bool = False
    gossip_timestamp: datetime | None = None
    gossip_certificate: Fingerprint | None = None


class Recommendation(Enum):
    """What the standard recommends for a message to one address (2.4); here it is shown, rules decide."""

    DISABLE = "disable"
    DISCOURAGE = "discourage"
    AVAILABLE = "available"
    ENCRYPT = "encrypt"


def effective_date(sent: datetime, now: datetime) -> datetime:
    """Date, but never later than `now` (2.3), to the second."""
    return min(sent, now).replace(microsecond=0)


def believable(state: PeerState, now: datetime) -> PeerState:
    """The state without moments that are yet to come: they were noted while the clock was wrong.

    What they belong to stays. With them, no message would change it before they have come.
    """

    def past(moment: datetime | None) -> datetime | None:
        return moment if moment is not None and moment <= now else None

    return replace(
        state,
        last_seen=past(state.last_seen),
        autocrypt_timestamp=past(state.autocrypt_timestamp),
        gossip_timestamp=past(state.gossip_timestamp),
    )


def after_message(
    state: PeerState, date: datetime, certificate: Fingerprint | None, *, mutual: bool
) -> PeerState:
    """The state of an author after a message of the effective `date`; `certificate` None: without a field."""
    if state.autocrypt_timestamp is not None and date < state.autocrypt_timestamp:
        return state
    if state.last_seen is None or date > state.last_seen:
        state = replace(state, last_seen=date)
    if certificate is None:
        return state
    return replace(state, autocrypt_timestamp=date, certificate=certificate, mutual=mutual)


def after_gossip(state: PeerState, date: datetime, certificate: Fingerprint) -> PeerState:
    """The state of a recipient after gossip in a message of the effective `date`."""
    if state.gossip_timestamp is not None and date < state.gossip_timestamp:
        return state
    return replace(state, gossip_timestamp=date, gossip_certificate=certificate)


def recommendation(
    state: PeerState | None,
    usable: frozenset[Fingerprint],
    *,
    own_mutual: bool,
    answers_encrypted: bool = False,
) -> Recommendation:
    """What is recommended for a message to the address of `state`.

    `usable` are the certificates of the address that can be encrypted to now. `own_mutual`: whether the
    sender asks for encryption too. `answers_encrypted`: whether the message answers one that was encrypted.
    """
    preliminary = _preliminary(state, usable)
    if preliminary is Recommendation.DISABLE:
        return preliminary
    wished = state is not None and state.mutual and own_mutual and preliminary is Recommendation.AVAILABLE
    return Recommendation.ENCRYPT if answers_encrypted or wished else preliminary


def _preliminary(state: PeerState | None, usable: frozenset[Fingerprint]) -> Recommendation:
    if state is None or not usable & {state.certificate, state.gossip_certificate}:
        return Recommendation.DISABLE
    if state.certificate not in usable or state.autocrypt_timestamp is None:
        return Recommendation.DISCOURAGE
    seen = state.last_seen or state.autocrypt_timestamp
    is_stale = seen - state.autocrypt_timestamp > STALE
    return Recommendation.DISCOURAGE if is_stale else Recommendation.AVAILABLE
