"""S/MIME signatures judged: by mathematics, by the signer's certificate, by the path above it.

Security: whatever the message says of its signer only finds certificates; what is told of the signer comes
from the certificate that made the signature, and only when all three hold is a signature GOOD.

Standards: RFC 8551 section 2, RFC 8550 (certificates), RFC 5652 section 5.6.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from keystore import smime
from keystore.authorities import Authorities
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
from keystore.smime.path import PathState, judge_path

MAX_CANDIDATES = 8
"""Certificates that one signature may be by; more of one name are not tried."""
MAX_ATTEMPTS = 32
"""Checks of a signature by a certificate, for one message."""
CLOCK_TOLERANCE = timedelta(hours=1)
"""How far a signing time may lie ahead of the clock."""
_BEST = (
    SignatureState.GOOD,
    SignatureState.UNACCEPTABLE,
    SignatureState.UNKNOWN_KEY,
    SignatureState.BAD,
)


class _Message:
    """One message that is judged."""

    def __init__(self, content: bytes, certificates: tuple[bytes, ...], now: datetime) -> None:
        self.content = smime.Content(content)
        self.certificates = certificates
        self.readable = _readable(certificates)
        self.now = now
        self.attempts = 0
        """How often a signature was checked."""


class SmimeSignatures:
    """Judges with the certificates of the store, and those that messages bring along."""

    def __init__(self, cache: CertificateCache, authorities: Authorities) -> None:
        self._cache = cache
        self._authorities = authorities

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
        """By whichever certificate the signature is; one that is right needs no other."""
        results = []
        for one in self._candidates(signer, message):
            message.attempts += 1
            if message.attempts > MAX_ATTEMPTS:
                reason = "there are too many signatures and certificates"
                return SignatureResult(SignatureState.UNACCEPTABLE, created=signer.created, reason=reason)
            results.append(self._verdict(signer, message, one))
            if results[-1].state is SignatureState.GOOD:
                break
        if not results:
            reason = "the signer's certificate is not known, and was not sent along"
            return SignatureResult(SignatureState.UNKNOWN_KEY, created=signer.created, reason=reason)
        return min(results, key=lambda one: _BEST.index(one.state))

    def _candidates(self, signer: smime.SignerInfo, message: _Message) -> list[Certificate]:
        """The certificates that the signature may be by: those of the store first."""
        found = {one.fingerprint: one for one in self._cache.named(signer.name)}
        for one in message.readable:
            if one.fingerprint not in found and smime.names(signer.name, one.octets):
                found[one.fingerprint] = self._cache.get(one.fingerprint) or one
        return list(found.values())[:MAX_CANDIDATES]

    def _verdict(
        self, signer: smime.SignerInfo, message: _Message, certificate: Certificate
    ) -> SignatureResult:
        checked = smime.check(signer, message.content, certificate.octets)
        if checked.finding is smime.Finding.WRONG:
            return SignatureResult(SignatureState.BAD, created=signer.created, reason=checked.reason)
        # Names only where somebody vouches for them: the owner of the store, or the path.
        nameless = SignatureResult(
            SignatureState.UNACCEPTABLE,
            certificate.fingerprint,
            created=signer.created,
            trust=certificate.trust,
            reason=checked.reason,
        )
        by = replace(
            nameless,
            addresses=certificate.addresses,
            user_id=certificate.user_ids[0] if certificate.user_ids else "",
            certificate=certificate.octets,
            capabilities=signer.capabilities,
        )
        is_known = certificate.trust in (Trust.KNOWN, Trust.VERIFIED)
        if checked.finding is smime.Finding.UNSUPPORTED:
            return nameless
        reason = checked.reason or self._refusal(signer, certificate, message.now)
        if reason:
            return replace(by if is_known else nameless, reason=reason)
        return self._vouched(by, message)

    def _vouched(self, by: SignatureResult, message: _Message) -> SignatureResult:
        """The result of a signature that is right, by the path above its certificate."""
        moment = by.created or message.now
        anchors = self._authorities.anchors
        path = judge_path(by.certificate, message.certificates, anchors, moment, message.now)
        if path.state is PathState.UNTRUSTED:
            # An authority that is not trusted says nothing of its subject.
            state = SignatureState.UNKNOWN_KEY
            return replace(by, state=state, addresses=(), user_id="", reason=path.reason)
        found = replace(by, chain=path.chain[1:], revocation=path.revocation, reason=path.reason)
        return replace(found, state=SignatureState.GOOD) if path.valid else found

    def _refusal(self, signer: smime.SignerInfo, certificate: Certificate, now: datetime) -> str:
        """Why the certificate may not have made the signature then; "" when it may."""
        if certificate.trust is Trust.REJECTED:
            return "the signer's certificate is rejected by the user"
        moment = signer.created or now
        if moment > now + CLOCK_TOLERANCE:
            return "signed in the future, by this machine's clock"
        why = smime.usability(smime.facts(certificate.octets), Purpose.VERIFY, moment).explanation
        return f"the signer's certificate: {why}" if why else ""


def _readable(certificates: Iterable[bytes]) -> list[Certificate]:
    found = []
    for der in certificates:
        try:
            found.append(smime.certificate(der, source="a message", trust=Trust.UNKNOWN))
        except KeyRefused:
            continue
    return found
