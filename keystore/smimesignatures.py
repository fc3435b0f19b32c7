"""S/MIME signatures judged: by mathematics, by the signer's certificate, by the path above it.

Security: whatever the message says of its signer only finds certificates; what is told of the signer comes
from the certificate that made the signature, and only when all three hold is a signature GOOD.

Standards: RFC 8551 section 2, RFC 8550 (certificates), RFC 5652 section 5.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from keystore import smime
from keystore.cache import CertificateCache
from keystore.errors import KeyRefused
from keystore.model import (
    Certificate,
    Purpose,
    SignatureResult,
    SignatureState,
    SignedContent,
    Trust,
)

MAX_CANDIDATES = 8
"""Certificates that one signature may be by; more of one name are not tried."""
CLOCK_TOLERANCE = timedelta(hours=1)
"""How far a signing time may lie ahead of the clock."""
_BEST = (
    SignatureState.GOOD,
    SignatureState.UNACCEPTABLE,
    SignatureState.UNKNOWN_KEY,
    SignatureState.BAD,
)


@dataclass(frozen=True, slots=True)
class _Message:
    """One message that is judged."""

    content: bytes
    certificates: tuple[bytes, ...]
    now: datetime


class SmimeSignatures:
    """Judges with the certificates of the store, and those that messages bring along."""

    def __init__(self, cache: CertificateCache) -> None:
        self._cache = cache

    def verify(self, cms: bytes, octets: bytes | None, now: datetime) -> SignedContent:
        """As `keystore.smimemessages.SmimeMessages.verify`."""
        found = smime.read_signed(cms)
        refusal = ""
        if octets is not None and found.octets is not None:
            refusal = "a detached signature with content of its own"
        elif octets is None and found.octets is None:
            refusal = "there is nothing that is signed"
        if refusal:
            bad = SignatureResult(SignatureState.BAD, reason=refusal)
            return SignedContent(found.octets, tuple(bad for _ in found.signers))
        content = octets if octets is not None else found.octets or b""
        message = _Message(content, found.certificates, now.replace(microsecond=0))
        return SignedContent(found.octets, tuple(self._judged(one, message) for one in found.signers))

    def _judged(self, signer: smime.SignerInfo, message: _Message) -> SignatureResult:
        candidates = self._candidates(signer, message)
        if not candidates:
            reason = "the signer's certificate is not known, and was not sent along"
            return SignatureResult(SignatureState.UNKNOWN_KEY, created=signer.created, reason=reason)
        results = [self._verdict(signer, message, one) for one in candidates]
        return min(results, key=lambda one: _BEST.index(one.state))

    def _candidates(self, signer: smime.SignerInfo, message: _Message) -> list[Certificate]:
        """The certificates that the signature may be by: those of the store first."""
        found = {one.fingerprint: one for one in self._cache.named(signer.name)}
        for one in _readable(message.certificates):
            if smime.names(signer.name, one.octets):
                found.setdefault(one.fingerprint, one)
        return list(found.values())[:MAX_CANDIDATES]

    def _verdict(
        self, signer: smime.SignerInfo, message: _Message, certificate: Certificate
    ) -> SignatureResult:
        checked = smime.check(signer, message.content, certificate.octets)
        if checked.finding is smime.Finding.WRONG:
            return SignatureResult(SignatureState.BAD, created=signer.created, reason=checked.reason)
        by = SignatureResult(
            SignatureState.UNACCEPTABLE,
            certificate.fingerprint,
            certificate.addresses,
            certificate.user_ids[0] if certificate.user_ids else "",
            signer.created,
            certificate.trust,
            checked.reason,
            certificate.octets,
            signer.capabilities,
        )
        if checked.finding is smime.Finding.UNSUPPORTED:
            return replace(by, certificate=b"", capabilities=b"")
        reason = checked.reason or self._refusal(signer, certificate, message.now)
        if reason:
            return replace(by, reason=reason)
        why = self._path_refusal(certificate, message)
        # An authority that is not trusted says nothing of its subject.
        unknown = replace(by, state=SignatureState.UNKNOWN_KEY, addresses=(), user_id="", reason=why)
        return unknown if why else replace(by, state=SignatureState.GOOD)

    def _refusal(self, signer: smime.SignerInfo, certificate: Certificate, now: datetime) -> str:
        """Why the certificate may not have made the signature then; "" when it may."""
        if certificate.trust is Trust.REJECTED:
            return "rejected by the user"
        moment = signer.created or now
        if moment > now + CLOCK_TOLERANCE:
            return "signed in the future, by this machine's clock"
        return smime.usability(smime.facts(certificate.octets), Purpose.VERIFY, moment).explanation

    def _path_refusal(self, certificate: Certificate, message: _Message) -> str:
        """Why no trusted authority stands behind the certificate; "" when one does."""
        if certificate.trust is Trust.VERIFIED:
            return ""
        known = [one.octets for one in self._cache.authorities() if one.trust is not Trust.REJECTED]
        brought = [one.octets for one in _readable(message.certificates)]
        above = [one for one in brought if smime.facts(one).is_authority]
        path = [certificate.octets, *(one for one in above if smime.issued(one, certificate.octets))]
        if any(smime.issued(upper, lower) for upper in known for lower in path):
            return ""
        return "no authority that is trusted has issued the signer's certificate"


def _readable(certificates: Iterable[bytes]) -> list[Certificate]:
    found = []
    for der in certificates:
        try:
            found.append(smime.certificate(der, source="a message", trust=Trust.UNKNOWN))
        except KeyRefused:
            continue
    return found
