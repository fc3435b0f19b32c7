"""PURE. What may be claimed of a message, from what its layers and signatures turned out to be.

Only layers of the unbroken run from the root get here. A signature outside the encryption says nothing about
who wrote the plaintext, so it gives no verdict. Of nested signatures the innermost names the author, and a
broken one around it spoils the verdict. An address is bound to a signature when a valid user ID of the
signing certificate has it. Letters' case is ignored in all of it, since certificates are looked up that way
too: RFC 5321 section 2.4 permits a case-sensitive local part, but no provider in use tells mailboxes apart by
case alone.

Standards: RFC 9787 section 6, RFC 8550 section 3 (binding to the sender, taken over for OpenPGP).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keystore.model import Scheme, SignatureResult, SignatureState, Trust
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict

OUTER_SIGNATURE = "the signature is outside the encryption and says nothing about the author"
SEVERAL_AUTHORS = "From is missing, malformed or names more than one address"
REJECTED = "the signer's certificate is rejected by the user"

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


@dataclass(frozen=True, slots=True)
class Layer:
    """One cryptographic layer of the envelope. An encrypting layer may carry signatures itself."""

    encrypts: bool
    signatures: tuple[SignatureResult, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict on one signature."""

    verdict: Verdict
    result: SignatureResult
    reason: str | None


def judge_inbound(
    layers: Sequence[Layer],
    author: str | None,
    *,
    scheme: Scheme | None,
    decryption_failure: str | None = None,
    errant_layers: int = 0,
) -> CryptoSummary:
    """The summary of a message whose envelope is `layers`, outermost first.

    `author` is the one addr-spec of the From that is shown, None when there is not exactly one. With
    `decryption_failure` the encrypting layer is closed, and nothing is claimed of its content.
    """
    if decryption_failure is not None:
        return CryptoSummary(
            scheme=scheme,
            protection=Protection.ENCRYPTED,
            decryption=DecryptionState.FAILED,
            decryption_reason=decryption_failure,
            errant_layers=errant_layers,
        )
    encrypted = any(layer.encrypts for layer in layers)
    counted = _inside_encryption(layers)
    findings = [_best(layer.signatures, author) for layer in counted if layer.signatures]
    finding = _combined(findings)
    outer_only = encrypted and finding is None and any(layer.signatures for layer in layers)
    return CryptoSummary(
        scheme=scheme,
        protection=_protection(encrypted=encrypted, signed=finding is not None),
        decryption=DecryptionState.OK if encrypted else DecryptionState.NOT_NEEDED,
        verdict=Verdict.NONE if finding is None else finding.verdict,
        signer=_signer(finding, author),
        fingerprint=None if finding is None else finding.result.fingerprint,
        trust=_trust(finding),
        verdict_reason=OUTER_SIGNATURE if outer_only else finding.reason if finding else None,
        errant_layers=errant_layers,
    )


def _inside_encryption(layers: Sequence[Layer]) -> Sequence[Layer]:
    """The layers whose signatures speak of the payload's author."""
    first = max((at for at, layer in enumerate(layers) if layer.encrypts), default=0)
    return layers[first:]


def _best(signatures: Sequence[SignatureResult], author: str | None) -> Finding:
    """Several signatures over the same octets: the best one counts."""
    findings = [_finding(result, author) for result in signatures]
    return min(findings, key=lambda finding: _BEST_FIRST.index(finding.verdict))


def _finding(result: SignatureResult, author: str | None) -> Finding:
    if result.state is not SignatureState.GOOD:
        verdict = _STATES[result.state]
        return Finding(verdict, result, result.reason or _REASONS[verdict])
    if result.trust is Trust.REJECTED:
        return Finding(Verdict.UNACCEPTABLE, result, REJECTED)
    if author is None:
        return Finding(Verdict.MISMATCH, result, SEVERAL_AUTHORS)
    if author.lower() not in {address.lower() for address in result.addresses}:
        return Finding(Verdict.MISMATCH, result, "signed by another address than From shows")
    return Finding(Verdict.VALID, result, None)


def _combined(findings: Sequence[Finding]) -> Finding | None:
    """The finding of the innermost signature, unless one around it is broken."""
    broken = [finding for finding in findings if finding.verdict is Verdict.INVALID]
    return broken[0] if broken else findings[-1] if findings else None


def _protection(*, encrypted: bool, signed: bool) -> Protection:
    if encrypted:
        return Protection.SIGNED_AND_ENCRYPTED if signed else Protection.ENCRYPTED
    return Protection.SIGNED if signed else Protection.NONE


def _signer(finding: Finding | None, author: str | None) -> str | None:
    if finding is None or finding.result.state is not SignatureState.GOOD:
        return None
    if finding.verdict is Verdict.VALID and author is not None:
        return author.lower()
    return next(iter(finding.result.addresses), None)


def _trust(finding: Finding | None) -> Trust:
    if finding is None or finding.verdict not in {Verdict.VALID, Verdict.MISMATCH}:
        return Trust.UNKNOWN
    return finding.result.trust
