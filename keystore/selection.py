"""PURE. Which certificate to encrypt to, out of those that claim an address.

A pinned certificate is the owner's word and needs no matching user ID. Otherwise one certificate is chosen: a
verified one before a known one before an unknown one, then the newest. One that is held for the address is
never chosen. Display names play no part.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from keystore.model import Certificate, Fingerprint, Reason, Scheme, Selection, Trust, Usability
from keystore.policy import CHOSEN, in_use

Candidate = tuple[Certificate, Usability]
_STANDING = {Trust.VERIFIED: 3, Trust.KNOWN: 2, Trust.UNKNOWN: 1, Trust.REJECTED: 0}


def standing(candidate: Candidate) -> tuple[int, float, str]:
    """The order among certificates for one address; the greatest is the best."""
    certificate, _ = candidate
    return _STANDING[certificate.trust], certificate.created.timestamp(), certificate.fingerprint


def select(
    address: str, claiming: Sequence[Candidate], held: AbstractSet[Fingerprint] = frozenset()
) -> Selection:
    """Choose among the certificates that claim `address`; those in `held` wait for the owner's decision.

    Where the one in use has ended, and only one serves that nobody has decided for, there is none.
    """
    candidates = [one for one in claiming if one[0].fingerprint not in held]
    if not candidates and not claiming:
        return Selection(address, (), Reason.NO_CERTIFICATE, f"no certificate is known for {address}")
    usable = sorted((one for one in candidates if one[1].usable), key=standing, reverse=True)
    chosen = [one for one in usable if one[0].trust in CHOSEN]
    ended = [one for one in candidates if one[0].trust in CHOSEN and in_use(one[0].trust, one[1].reason)]
    waiting = [one for one in claiming if one[1].usable and one not in chosen]
    if waiting and not chosen and (ended or not usable):
        return _changed(address, ended, waiting)
    if not usable:
        best, why = max(candidates or claiming, key=standing)
        return Selection(address, (), why.reason, _refusal(best.fingerprint, why))
    best, _ = usable[0]
    rivals = [one for one, _ in usable[1:] if one.trust is best.trust]
    lesser = [f"{one.fingerprint} ({one.trust.value})" for one, _ in usable[len(rivals) + 1 :]]
    explanation = f"certificate {best.fingerprint}, {best.trust.value}"
    if rivals:
        others = ", ".join(one.fingerprint for one in rivals)
        explanation += f"; the newest of several that claim {address} (also {others})"
    if lesser:
        explanation += f"; chosen before {', '.join(lesser)}"
    return Selection(address, (best,), None, explanation)


def _changed(address: str, ended: Sequence[Candidate], waiting: Sequence[Candidate]) -> Selection:
    """A known peer's certificate is never replaced silently."""
    others = ", ".join(one.fingerprint for one, _ in sorted(waiting, key=standing, reverse=True))
    before = "; ".join(_refusal(one.fingerprint, why) for one, why in ended)
    text = (
        f"{before or 'the certificate in use is gone'}; another one is held for {address}: {others}; "
        f"see both and decide: {how_to_settle(address)}"
    )
    return Selection(address, (), Reason.HELD, text)


def how_to_settle(address: str) -> str:
    """The command that settles which certificate of an address is right, as it can be typed.

    Whoever made a certificate wrote its address: nothing in it may mean anything to a shell or terminal.
    """
    return f"secmailproxy key settle {shlex.quote(''.join(one for one in address if one.isprintable()))}"


def select_pinned(
    address: str, pinned: Sequence[tuple[Fingerprint, Certificate | None, Usability]]
) -> Selection:
    """Take the certificates that a rule pins for `address`: all that are usable, and there must be one."""
    usable = tuple(certificate for _, certificate, why in pinned if certificate and why.usable)
    refused = [(fingerprint, why) for fingerprint, _, why in pinned if not why.usable]
    refusals = "; ".join(_refusal(fingerprint, why) for fingerprint, why in refused)
    if not usable:
        return Selection(address, (), refused[0][1].reason, f"pinned for {address}: {refusals}")
    chosen = ", ".join(certificate.fingerprint for certificate in usable)
    return Selection(
        address, usable, None, f"pinned: {chosen}" + (f"; not used: {refusals}" if refusals else "")
    )


def _refusal(fingerprint: Fingerprint, why: Usability) -> str:
    if why.reason is Reason.NO_CERTIFICATE:
        return f"certificate {fingerprint} is not in the keystore"
    return f"certificate {fingerprint}: {why.explanation}"


def how_to_serve_again(address: str, fingerprint: Fingerprint, scheme: Scheme, reason: Reason | None) -> str:
    """The command that helps where the own key of an address cannot sign, for this reason."""
    ended, revoked = (Reason.EXPIRED, Reason.SUBKEY_EXPIRED), (Reason.REVOKED, Reason.SUBKEY_REVOKED)
    if scheme is Scheme.SMIME and reason in (*ended, *revoked):
        return f"secmailproxy key request {shlex.quote(address)}"
    if reason in ended:
        return f"secmailproxy key extend {fingerprint}"
    if reason in revoked:
        return f"secmailproxy key generate {shlex.quote(address)}"
    return f"secmailproxy key show {fingerprint}"
