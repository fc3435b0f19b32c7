"""PURE but for what `Anchors` looks up: who vouches for an S/MIME certificate, and was allowed to.

Paths are built upwards from the signer's certificate through authorities that came with the message or are in
the store, to a root that the owner believes; then each is judged by the rules of RFC 5280 section 6.1 for
mail. In short:

- Each authority in it may issue certificates (basicConstraints, keyCertSign, path length), and for mail: an
  extended key usage binds all below it, as in NSS. Name constraints bind all addresses and subjects below.
- All of it is in force when the signature was made and now (the shell model, twice), the root as well: of
  what has expired no issuer tells any more that it was stolen, and a thief writes any date.
- No SHA-1 or MD5 under any certificate but the root, whose own signature proves nothing; RSA from 2048 bits.
- Critical extensions that are not understood, and policies that would have to be, refuse the path.
- What is revoked is refused, where a list of its issuer is at hand; nothing is fetched.

Security: what comes with a message are candidates and never roots. The search is bounded by `MOST_STEPS`
signatures, whatever is sent. Nothing of a stranger's certificate is repeated in a reason.

Standards: RFC 5280 sections 4.2, 6.1 and 6.3; RFC 8550 sections 3 and 4; docs/decisions/0019-chains.md.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from functools import lru_cache

from cryptography import x509

from keystore.errors import KeyRefused
from keystore.model import Purpose, RevocationState
from keystore.smime import constraints
from keystore.smime.certificate import facts, issued, load
from keystore.smime.facts import X509Facts
from keystore.smime.policy import authority_refusal, usability

MAX_PATH = 8
"""Certificates in a path, both ends included; real ones have two to four."""
MOST_SENT = 32
"""Certificates of a message that are looked at; real messages have up to five."""
MOST_STEPS = 48
"""Signatures of authorities that are tried for one path."""
_NOBODY = "no authority that is believed here vouches for the signer"
_MOST_PATHS = 4
"""Complete paths that are kept: authorities are cross-signed, and one of several roots may have expired."""


class PathState(Enum):
    """What became of the search."""

    VALID = "valid"
    UNTRUSTED = "untrusted"
    """No path leads to a root that is believed here."""
    REFUSED = "refused"
    """There is one, and it breaks a rule: expired, revoked, not for mail, not for this name."""


@dataclass(frozen=True, slots=True)
class PathResult:
    """Who vouches for a certificate."""

    state: PathState
    reason: str = ""
    """In plain words, why not; "" where it is valid."""
    chain: tuple[bytes, ...] = ()
    """DER, the judged certificate first, the root last; () where no path was found."""
    revocation: RevocationState = RevocationState.NOT_CHECKED

    @property
    def valid(self) -> bool:
        """Whether somebody who is believed vouches for it, and may."""
        return self.state is PathState.VALID


Revoked = Callable[[bytes, bytes, datetime, datetime], RevocationState]
"""What is known of a certificate (DER) of this authority (DER), about what was signed then, as of now."""


def _unknown(certificate: bytes, issuer: bytes, moment: datetime, now: datetime) -> RevocationState:
    return RevocationState.NOT_CHECKED


@dataclass(frozen=True, eq=False)
class Anchors:
    """Whom the owner believes. Everything is DER; one object serves until something of it changes."""

    roots: tuple[bytes, ...] = ()
    """Authorities that are believed for mail."""
    known: tuple[bytes, ...] = ()
    """Authorities that may stand between: they are in the store, and believed only if a root vouches."""
    verified: frozenset[bytes] = frozenset()
    """Certificates of people that the owner has verified: nobody else need vouch for them."""
    rejected: frozenset[bytes] = frozenset()
    """Authorities through which no path may lead, whoever vouches for them."""
    revoked: Revoked = _unknown
    _by_name: dict[x509.Name, list[bytes]] = field(init=False, repr=False)
    _roots: frozenset[bytes] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index them once."""
        object.__setattr__(self, "_by_name", _by_subject((*self.roots, *self.known), self.rejected))
        object.__setattr__(self, "_roots", frozenset(self.roots))

    def named(self, name: x509.Name) -> Sequence[bytes]:
        """The authorities of this name, roots first."""
        return self._by_name.get(name, ())

    def is_root(self, der: bytes) -> bool:
        """Whether this very certificate is believed."""
        return der in self._roots


def judge_path(
    signer: bytes, sent_along: Sequence[bytes], anchors: Anchors, moment: datetime, now: datetime
) -> PathResult:
    """Whether somebody believed vouches for `signer` (DER) as one who signs mail.

    `sent_along` are certificates (DER) of the message, in any order and of any quality. `moment` is when the
    signature was made; what has expired or become known by `now` counts too. Octets that are no certificate
    are refused in `signer` and passed over in `sent_along`. Raises nothing.
    """
    try:
        own = [usability(facts(signer), Purpose.VERIFY, one) for one in (moment, max(moment, now))]
    except KeyRefused as refusal:
        return PathResult(PathState.REFUSED, str(refusal))
    if unusable := [one.explanation for one in own if not one.usable]:
        return PathResult(PathState.REFUSED, f"the signer's certificate: {unusable[0]}")
    paths = _paths(signer, tuple(sent_along[:MOST_SENT]), anchors)
    if signer in anchors.verified:
        return _verified(signer, paths, anchors, moment, now)
    results = [_at(path, anchors, moment, now) for path in paths]
    refused = results[0] if results else PathResult(PathState.UNTRUSTED, _NOBODY)
    return next((one for one in results if one.valid), refused)


@dataclass(frozen=True, slots=True)
class _Path:
    """A path to a root by names and signatures."""

    chain: tuple[bytes, ...]
    refusal: str
    """By which rule it fails at any time; "" by none."""


@lru_cache(maxsize=512)
def _paths(signer: bytes, sent_along: tuple[bytes, ...], anchors: Anchors) -> tuple[_Path, ...]:
    """The first few paths to roots, those that break no rule first, then shortest first."""
    found: list[_Path] = []
    for chain in _chains(signer, sent_along, anchors):
        found.append(_Path(chain, _refusal(chain)))
        if len(found) == _MOST_PATHS:
            break
    return tuple(sorted(found, key=lambda path: path.refusal != ""))


def _chains(signer: bytes, sent_along: tuple[bytes, ...], anchors: Anchors) -> Iterator[tuple[bytes, ...]]:
    """Paths by names and signatures alone, shortest first, within the limits."""
    sent = _by_subject(sent_along, anchors.rejected)
    waiting: deque[tuple[bytes, ...]] = deque([(signer,)])
    steps = 0
    while waiting:
        chain = waiting.popleft()
        above = load(chain[-1]).issuer
        for upper in dict.fromkeys((*anchors.named(above), *sent.get(above, ()))):
            if len(chain) == MAX_PATH or any(_same_authority(upper, one) for one in chain):
                continue
            steps += 1
            if steps > MOST_STEPS:
                return
            if not issued(upper, chain[-1]):
                continue
            if anchors.is_root(upper):
                yield (*chain, upper)
            else:
                waiting.append((*chain, upper))


def _by_subject(found: Iterable[bytes], rejected: frozenset[bytes]) -> dict[x509.Name, list[bytes]]:
    """Authorities among these by their names; the others serve for nothing here."""
    by_name: dict[x509.Name, list[bytes]] = {}
    for der in dict.fromkeys(found):
        try:
            if der not in rejected and _may_issue(facts(der)) and facts(der).algorithm.supported:
                by_name.setdefault(load(der).subject, []).append(der)
        except KeyRefused:
            continue
    return by_name


def _may_issue(found: X509Facts) -> bool:
    """By its nature. Certificates of version 1 cannot say so; as roots they are old, and believed by name."""
    return found.is_authority or found.version == 1


def _same_authority(one: bytes, other: bytes) -> bool:
    """Renewed and cross-signed certificates of one authority: twice in a path it would run in a circle."""
    first, second = facts(one), facts(other)
    return first.key_hash == second.key_hash and load(one).subject == load(other).subject


def _refusal(chain: tuple[bytes, ...]) -> str:
    """The first rule that a path breaks whatever the time; "" where it breaks none."""
    for below, der in enumerate(chain[1:]):
        is_root = below == len(chain) - 2
        if refusal := authority_refusal(facts(der), below, is_root=is_root):
            return refusal
        for lower in chain[: below + 1]:
            if refusal := constraints.violation(der, lower):
                return refusal
    return ""


def _at(path: _Path, anchors: Anchors, moment: datetime, now: datetime) -> PathResult:
    """What a path is worth at `moment`."""
    refusal = path.refusal or _time_refusal(path.chain, moment) or _time_refusal(path.chain, max(moment, now))
    if refusal:
        return PathResult(PathState.REFUSED, refusal, path.chain)
    states = [
        anchors.revoked(lower, upper, moment, now)
        for lower, upper in zip(path.chain, path.chain[1:], strict=False)
    ]
    if RevocationState.REVOKED in states:
        which = states.index(RevocationState.REVOKED)
        return _revoked(path.chain, whose="the signer" if which == 0 else "an authority above the signer")
    known = RevocationState.NOT_CHECKED not in states
    return PathResult(
        PathState.VALID,
        chain=path.chain,
        revocation=RevocationState.GOOD if known else RevocationState.NOT_CHECKED,
    )


def _verified(
    signer: bytes, paths: Sequence[_Path], anchors: Anchors, moment: datetime, now: datetime
) -> PathResult:
    """The owner vouches for it; whoever issued it, where that is known, may have revoked it all the same."""
    uppers = [path.chain[1] for path in paths]
    states = [anchors.revoked(signer, upper, moment, now) for upper in uppers]
    if RevocationState.REVOKED in states:
        return _revoked((signer,), whose="the signer")
    known = RevocationState.GOOD in states
    state = RevocationState.GOOD if known else RevocationState.NOT_CHECKED
    return PathResult(PathState.VALID, chain=(signer,), revocation=state)


def _revoked(chain: tuple[bytes, ...], *, whose: str) -> PathResult:
    reason = f"the certificate of {whose} is revoked"
    return PathResult(PathState.REFUSED, reason, chain, RevocationState.REVOKED)


def _time_refusal(chain: Sequence[bytes], moment: datetime) -> str:
    for found in map(facts, chain):
        if moment < found.not_before:
            return f"an authority above the signer is valid only since {found.not_before:%Y-%m-%d}"
        if moment.replace(microsecond=0) > found.not_after:
            return f"an authority above the signer expired on {found.not_after:%Y-%m-%d}"
    return ""


def chain_above(der: bytes, anchors: Anchors) -> tuple[bytes, ...]:
    """A path from a certificate (DER) to a root, both included, by known authorities; () for none."""
    paths = _paths(der, (), anchors)
    return paths[0].chain if paths else ()


def is_revoked(der: bytes, anchors: Anchors, now: datetime) -> bool:
    """Whether a certificate (DER), or an authority above it that is known, is revoked now. Raises KeyRefused.

    Nobody need be believed for that: whoever issued it may take it back.
    """
    current = der
    for _ in range(MAX_PATH):
        uppers = [one for one in anchors.named(load(current).issuer) if issued(one, current)]
        if any(anchors.revoked(current, one, now, now) is RevocationState.REVOKED for one in uppers):
            return True
        if not uppers or _same_authority(uppers[0], current):
            return False
        current = uppers[0]
    return False
