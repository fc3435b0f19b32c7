"""Keeping what mail says by Autocrypt: the states of `autocrypt`, and the certificates.

A certificate comes in as any other that merely comes along: the first one of an address is "known" when the
address itself has sent it, "unknown" when somebody else has gossiped it; another one for an address that has
one is held. It is cut down to the address that it came for, so it makes no claim on any other.

Standards: Autocrypt Level 1 sections 2.2, 2.3 and 3.2.
Security: anybody can send any number of messages in any name, so how many states and certificates are kept is
limited: for one address, for one day, and in all.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from keystore import autocrypt, openpgp
from keystore.autocrypt import Heard, PeerState, Recommendation
from keystore.cache import CertificateCache
from keystore.discovery.model import Offer, SourceKind
from keystore.discovery.taking import NAMES, Taking
from keystore.errors import KeyRefused
from keystore.holding import Judge
from keystore.model import Fingerprint, Holder, ImportAction, Purpose, Scheme, lower_case
from keystore.peers import Peers, PeerSeen
from keystore.store import Store, stored_moment, stored_time

SOURCE = NAMES[SourceKind.AUTOCRYPT]
GOSSIP = NAMES[SourceKind.GOSSIP]
MOST_FOR_ADDRESS = 4
"""Certificates; what is held counts too."""
MOST_A_DAY = 500
"""A mailbox that is seen for the first time may tell of hundreds of people."""
MOST_IN_ALL = 5000
MOST_OCTETS = 10 * 1024
"""Of one certificate (Level 1 section 2.1.1)."""

_COLUMNS = (
    "address, last_seen, autocrypt_timestamp, certificate, mutual, gossip_timestamp, gossip_certificate"
)
# What was added later than now was added while the clock was wrong.
_COUNT = """
    SELECT count(*), count(CASE WHEN added BETWEEN ? AND ? THEN 1 END) FROM certificates
    WHERE source IN (?, ?)
"""
_OF_ADDRESS = """
    SELECT count(*) FROM addresses a JOIN certificates c ON c.fingerprint = a.certificate
    WHERE a.address = ? AND c.source IN (?, ?)
"""


class AutocryptPeers:
    """Reads and writes the store. Errors as in `Store`."""

    def __init__(
        self, store: Store, cache: CertificateCache, taking: Taking, judge: Judge, peers: Peers
    ) -> None:
        """`taking` imports; `judge` is asked whether a certificate serves."""
        self._store = store
        self._cache = cache
        self._taking = taking
        self._judge = judge
        self._peers = peers

    def at_once(self) -> AbstractContextManager[None]:
        """A transaction that nobody waits for."""
        return self._store.transaction(patient=False)

    def state(self, address: str) -> PeerState | None:
        """What is known of an address, in any case; None for nothing."""
        found = self._store.rows(
            f"SELECT {_COLUMNS} FROM autocrypt WHERE address = ?",  # noqa: S608  of a constant
            lower_case(address),
        )
        if not found:
            return None
        address, seen, stamp, certificate, mutual, gossip_stamp, gossip = found[0]
        return PeerState(
            address,
            _moment(seen),
            _moment(stamp),
            certificate and Fingerprint(certificate),
            bool(mutual),
            _moment(gossip_stamp),
            gossip and Fingerprint(gossip),
        )

    def recommendation(
        self, address: str, now: datetime, *, own_mutual: bool, answers_encrypted: bool = False
    ) -> Recommendation:
        """What Level 1 section 2.4 recommends for a message to `address`; see `autocrypt.recommendation`."""
        claiming = (one for one in self._cache.by_address(address) if one.scheme is Scheme.OPENPGP)
        usable = (
            one.fingerprint
            for one in claiming
            if self._judge(one, Purpose.ENCRYPT, now, lower_case(address)).usable
        )
        return autocrypt.recommendation(
            self.state(address),
            frozenset(usable),
            own_mutual=own_mutual,
            answers_encrypted=answers_encrypted,
        )

    def hear(self, heard: Heard, now: datetime) -> None:
        """Take in what a message says. Raises StoreLocked at once when another process writes."""
        date = autocrypt.effective_date(heard.sent, now)
        if not self._is_own(heard.author):
            self._hear_author(heard, date, now)
        for one in heard.gossip:
            if not self._is_own(one.address):
                self._hear_gossip(one, date, now)

    def seen(self, messages: Iterable[Heard], now: datetime) -> None:
        """Note in the address book whose protected messages these are. Raises StoreLocked as `hear`."""
        self._peers.seen(
            *(
                PeerSeen(one.author, autocrypt.effective_date(one.sent, now), one.signer, one.encrypted)
                for one in messages
                if one.protected and not self._is_own(one.author)
            )
        )

    def _state(self, address: str, now: datetime) -> PeerState | None:
        known = self.state(address)
        return known and autocrypt.believable(known, now)

    def _hear_author(self, heard: Heard, date: datetime, now: datetime) -> None:
        known = self._state(heard.author, now)
        if known is None and not heard.certificate:
            # Without a certificate a state recommends nothing.
            return
        if known is not None and known.autocrypt_timestamp is not None and date < known.autocrypt_timestamp:
            return
        state = known or PeerState(heard.author)
        said = _fingerprint(heard.certificate)
        if autocrypt.after_message(state, date, said, mutual=heard.mutual) == known:
            return
        with self.at_once():
            taken = (
                self._take(heard.certificate, heard.author, SourceKind.AUTOCRYPT, now)
                if heard.certificate
                else None
            )
            after = autocrypt.after_message(state, date, taken, mutual=heard.mutual)
            if known is not None or taken is not None:
                self._put(after)

    def _hear_gossip(self, one: autocrypt.Gossip, date: datetime, now: datetime) -> None:
        known = self._state(one.address, now)
        if known is not None and known.gossip_timestamp is not None and date < known.gossip_timestamp:
            return
        said = _fingerprint(one.certificate)
        if said is None or autocrypt.after_gossip(known or PeerState(one.address), date, said) == known:
            return
        with self.at_once():
            taken = self._take(one.certificate, one.address, SourceKind.GOSSIP, now)
            if taken is not None:
                self._put(autocrypt.after_gossip(known or PeerState(one.address), date, taken))

    def _take(self, certificate: bytes, address: str, kind: SourceKind, now: datetime) -> Fingerprint | None:
        """The certificate's name, once it is in the store; None where it is not fit, or there is no room."""
        fingerprint = _fingerprint(certificate)
        if fingerprint is None:
            return None
        is_known = self._cache.get(fingerprint) is not None
        if is_known and kind is SourceKind.GOSSIP:
            # What somebody else says adds nothing to what is here.
            return fingerprint
        if not is_known and not self._has_room(address, now):
            return None
        result = self._taking.take(Offer(certificate, NAMES[kind]), kind, address, now)
        return None if result.action is ImportAction.REFUSED else result.fingerprint

    def _is_own(self, address: str) -> bool:
        return any(one.holder is not Holder.NONE for one in self._cache.by_address(address))

    def _has_room(self, address: str, now: datetime) -> bool:
        day = stored_time(now - timedelta(days=1))
        ((in_all, today),) = self._store.rows(_COUNT, day, stored_time(now), SOURCE, GOSSIP)
        ((of_address,),) = self._store.rows(_OF_ADDRESS, address, SOURCE, GOSSIP)
        return bool(in_all < MOST_IN_ALL and today < MOST_A_DAY and of_address < MOST_FOR_ADDRESS)

    def _put(self, state: PeerState) -> None:
        self._store.note(
            f"INSERT INTO autocrypt ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (address)"  # noqa: S608  of a constant
            " DO UPDATE SET last_seen = excluded.last_seen, mutual = excluded.mutual,"
            " autocrypt_timestamp = excluded.autocrypt_timestamp, certificate = excluded.certificate,"
            " gossip_timestamp = excluded.gossip_timestamp,"
            " gossip_certificate = excluded.gossip_certificate",
            state.address,
            _stored(state.last_seen),
            _stored(state.autocrypt_timestamp),
            state.certificate,
            int(state.mutual),
            _stored(state.gossip_timestamp),
            state.gossip_certificate,
        )


def _fingerprint(certificate: bytes) -> Fingerprint | None:
    """The name of what is said to be one certificate; None where it is none, or a secret key."""
    if not certificate or len(certificate) > MOST_OCTETS:
        return None
    try:
        parsed = openpgp.parse_keys(certificate)
        return parsed[0].fingerprint if len(parsed) == 1 and parsed[0].secret_octets is None else None
    except KeyRefused:
        return None


def _stored(moment: datetime | None) -> str | None:
    return None if moment is None else stored_time(moment)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else stored_moment(text)
