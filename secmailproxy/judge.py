"""PURE. What may be claimed of a message, from what its layers and signatures turned out to be.

Only layers of the unbroken run from the root get here. A signature outside the encryption says nothing about
who wrote the plaintext, so it gives no verdict. Of several signatures over the same octets the best one
counts; of nested ones every one must be valid, since clients differ in which of them they show. One nest is
read alike by all: opaque signatures in one another, whose outermost speaks. docs/decisions/0020 has the
reasons.

A signing time that is far from the Date shown spoils an S/MIME signature, as Thunderbird has it; of OpenPGP
it is told. An address is bound to a signature when a valid user ID of the signing certificate has it.
Letters' case is ignored in all of it, since certificates are looked up that way too: RFC 5321 section 2.4
permits a case-sensitive local part, but no provider in use tells mailboxes apart by case alone. A domain in
another script and its ASCII form are one name in the DNS, and one here. Letters that look alike are not.

Standards: RFC 9787 section 6, RFC 8550 section 3 (binding to the sender, taken over for OpenPGP).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from keystore.model import Introduction, Scheme, SignatureResult, SignatureState, Trust, lower_case
from secmailproxy.model import (
    CryptoSummary,
    DecryptionState,
    Protection,
    SignatureSummary,
    Verdict,
)

OUTER_SIGNATURE = "a signature outside the encryption says nothing of the author"
SEVERAL_AUTHORS = "From is missing, malformed or names more than one address"
REJECTED = "the signer's certificate is rejected by the user"
OTHER_ADDRESS = "signed by another address than From shows"
BY_SENDER = "signed by the address in Sender, not by that in From"
ON_BEHALF = "Sender names another address than From"
NO_DATE = "Date is missing, malformed or there twice: nothing to compare"
OTHER_TIME = "signed more than an hour before or after the Date that is shown"
UNAUTHENTICATED = "the encryption proves no integrity, and no signature inside does"
DATE_TOLERANCE = timedelta(hours=1)

_STATES = {
    SignatureState.UNACCEPTABLE: Verdict.UNACCEPTABLE,
    SignatureState.UNKNOWN_KEY: Verdict.UNKNOWN_KEY,
    SignatureState.BAD: Verdict.INVALID,
}
_BEST_FIRST = (
    Verdict.VALID,
    Verdict.MISMATCH,
    Verdict.UNACCEPTABLE,
    Verdict.UNKNOWN_KEY,
    Verdict.INVALID,
)
_REASONS = {
    Verdict.INVALID: "the message is not what was signed",
    Verdict.UNKNOWN_KEY: "the signer's certificate is not known here",
    Verdict.UNACCEPTABLE: "the signature is not acceptable",
}
_MOST_AUTHORITIES = 4
"""Between a certificate and its root that are passed on; real paths have one or two."""
_MOST_CAPABILITIES = 4096
"""Octets; what is cut says nothing, and so does what is longer."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One cryptographic layer of the envelope. An encrypting layer may carry signatures itself."""

    scheme: Scheme
    encrypts: bool
    signatures: tuple[SignatureResult, ...] = ()
    authenticated: bool = True
    """Of an encrypting layer: whether it proves that the plaintext is what was encrypted (MDC, AEAD)."""
    opaque: bool = False
    """Of S/MIME: the signed content was inside the signature, and nobody sees the layer."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader sees of who wrote the message, and when."""

    author: str | None
    """The one addr-spec of From, None when there is not exactly one."""
    date: datetime | None
    """Of the one Date field, None when there is not exactly one that can be read."""
    sender: str | None = None
    """The addr-spec of the Sender field, None where there is none."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on one signature."""

    verdict: Verdict
    result: SignatureResult
    reason: str | None


def judge_inbound(
    layers: Sequence[Layer],
    seen: Seen,
    *,
    scheme: Scheme | None,
    decryption_failure: str | None = None,
    errant_layers: int = 0,
) -> CryptoSummary:
    """The summary of a message whose envelope is `layers`, outermost first.

    With `decryption_failure` the encrypting layer is closed, and nothing is claimed of its content.
    """
    if decryption_failure is not None:
        return CryptoSummary(
            scheme=scheme,
            protection=Protection.ENCRYPTED,
            decryption=DecryptionState.FAILED,
            decryption_reason=decryption_failure,
            errant_layers=errant_layers,
            signatures=tuple(_summaries(layers, len(layers), seen)),
        )
    encrypted = any(layer.encrypts for layer in layers)
    first = _first_inside(layers)
    counted = [layer for layer in layers[first:] if layer.signatures]
    authenticated = is_authenticated(layers)
    finding = _combined([_best(layer, seen) for layer in counted], counted)
    if finding is not None and finding.verdict is Verdict.VALID and not authenticated:
        finding = replace(finding, verdict=Verdict.UNACCEPTABLE, reason=UNAUTHENTICATED)
    return CryptoSummary(
        scheme=scheme,
        protection=_protection(encrypted=encrypted, signed=finding is not None),
        decryption=DecryptionState.OK if encrypted else DecryptionState.NOT_NEEDED,
        authenticated=authenticated,
        verdict=Verdict.NONE if finding is None else finding.verdict,
        signer=_signer(finding, seen),
        fingerprint=None if finding is None else finding.result.fingerprint,
        trust=_trust(finding),
        verdict_reason=_reason(finding, layers, seen, authenticated=authenticated),
        errant_layers=errant_layers,
        signatures=tuple(_summaries(layers, first, seen)),
    )


def introduction(layers: Sequence[Layer], summary: CryptoSummary) -> Introduction | None:
    """The S/MIME certificate of the author, where `summary` calls the signature valid; None where not."""
    if summary.verdict is not Verdict.VALID or summary.signer is None:
        return None
    for result in (one for layer in layers[_first_inside(layers) :] for one in layer.signatures):
        is_it = result.state is SignatureState.GOOD and result.fingerprint == summary.fingerprint
        if is_it and result.certificate and _is_bound(result, summary.signer):
            return Introduction(
                summary.signer,
                result.certificate,
                result.chain[:-1][:_MOST_AUTHORITIES],
                result.capabilities[:_MOST_CAPABILITIES],
                result.created,
            )
    return None


def is_authenticated(layers: Sequence[Layer]) -> bool:
    """Whether each encryption, or a signature around all of its content, proves what was encrypted.

    Any S/MIME signature serves that is right by mathematics, whoever made it: who cannot read the content
    cannot sign it. It proves nothing else, and need not be acceptable for anything else.
    """
    return all(
        layer.authenticated
        or any(_is_right(one, inner) for inner in layers[at + 1 :] for one in inner.signatures)
        for at, layer in enumerate(layers)
        if layer.encrypts
    )


def _is_right(result: SignatureResult, layer: Layer) -> bool:
    # There are keys of OpenPGP (DSA) with which one signature fits any text, and nobody has it in S/MIME.
    if layer.scheme is not Scheme.SMIME:
        return False
    # The keystore names the X.509 certificate of a result only if its key has made the signature.
    return result.state is SignatureState.GOOD or (
        result.state is not SignatureState.BAD and bool(result.certificate)
    )


def _first_inside(layers: Sequence[Layer]) -> int:
    """From which layer on signatures speak of the payload's author."""
    return max((at for at, layer in enumerate(layers) if layer.encrypts), default=0)


def _best(layer: Layer, seen: Seen) -> Finding:
    """Several signatures over the same octets: the best one counts."""
    findings = [_finding(result, layer.scheme, seen) for result in layer.signatures]
    return min(findings, key=lambda finding: _BEST_FIRST.index(finding.verdict))


def _finding(result: SignatureResult, scheme: Scheme, seen: Seen) -> Finding:
    if result.state is not SignatureState.GOOD:
        verdict = _STATES[result.state]
        return Finding(verdict, result, result.reason or _REASONS[verdict])
    if result.trust is Trust.REJECTED:
        return Finding(Verdict.UNACCEPTABLE, result, REJECTED)
    if seen.author is None:
        return Finding(Verdict.MISMATCH, result, SEVERAL_AUTHORS)
    if not _is_bound(result, seen.author):
        by_sender = seen.sender is not None and _is_bound(result, seen.sender)
        return Finding(Verdict.MISMATCH, result, BY_SENDER if by_sender else OTHER_ADDRESS)
    reason = _time_differs(result.created, seen.date)
    refused = reason is not None and scheme is Scheme.SMIME
    return Finding(Verdict.UNACCEPTABLE if refused else Verdict.VALID, result, reason)


def _time_differs(created: datetime | None, date: datetime | None) -> str | None:
    """How the Date that is shown departs from when it was signed; None if it does not, or nobody says."""
    if created is None:
        return None
    if date is None:
        return NO_DATE
    return OTHER_TIME if abs(created - date) > DATE_TOLERANCE else None


def _is_bound(result: SignatureResult, address: str) -> bool:
    return lower_case(address) in set(map(lower_case, result.addresses))


def _combined(findings: Sequence[Finding], layers: Sequence[Layer]) -> Finding | None:
    """What nested signatures say together; `findings` are those of the signed `layers`, outermost first."""
    broken = [finding for finding in findings if finding.verdict is Verdict.INVALID]
    if broken or not findings:
        return broken[0] if broken else None
    if all(layer.opaque for layer in layers):
        return findings[0]
    # The innermost that is not valid is the nearest to what the author wrote.
    return next((one for one in reversed(findings) if one.verdict is not Verdict.VALID), findings[-1])


def _summaries(layers: Sequence[Layer], first: int, seen: Seen) -> Iterator[SignatureSummary]:
    """All signatures; those of layers before `first` are not counted."""
    for at, layer in enumerate(layers):
        for result in layer.signatures:
            finding = _finding(result, layer.scheme, seen)
            yield SignatureSummary(
                verdict=finding.verdict,
                signer=_signer(finding, seen),
                fingerprint=result.fingerprint,
                trust=_trust(finding),
                created=result.created,
                reason=finding.reason,
                counted=at >= first,
                revocation=result.revocation,
            )


def _reason(
    finding: Finding | None, layers: Sequence[Layer], seen: Seen, *, authenticated: bool
) -> str | None:
    if not authenticated and (finding is None or finding.reason is None):
        return UNAUTHENTICATED
    if finding is None:
        return OUTER_SIGNATURE if any(layer.signatures for layer in layers) else None
    if finding.verdict is Verdict.VALID and seen.sender not in {None, seen.author}:
        return ON_BEHALF
    return finding.reason


def _protection(*, encrypted: bool, signed: bool) -> Protection:
    if encrypted:
        return Protection.SIGNED_AND_ENCRYPTED if signed else Protection.ENCRYPTED
    return Protection.SIGNED if signed else Protection.NONE


def _signer(finding: Finding | None, seen: Seen) -> str | None:
    if finding is None or finding.result.state is not SignatureState.GOOD:
        return None
    if seen.author is not None and _is_bound(finding.result, seen.author):
        return lower_case(seen.author)
    return next(iter(finding.result.addresses), None)


def _trust(finding: Finding | None) -> Trust:
    if finding is None or finding.verdict not in {Verdict.VALID, Verdict.MISMATCH}:
        return Trust.UNKNOWN
    return finding.result.trust
