"""PURE. Is this X.509 certificate usable for this purpose and address at this time, and why not?

Who issued it is not judged here: whoever imports a certificate vouches for it, as with OpenPGP. In short:

- It serves within its validity period only, and not when it has critical extensions that we do not know.
- A certificate authority's certificate is nobody's to write to, nor does it sign mail.
- Key usage must allow it: digitalSignature or nonRepudiation to sign, keyEncipherment (RSA) or keyAgreement
  (elliptic curves) to encrypt. Extended key usage must be absent, or name emailProtection or any.
- RSA under 2048 bits is weak, and so are certificates signed with MD5 or SHA-1.
- Addresses count from rfc822Name, SmtpUTF8Mailbox and the subject's emailAddress; a common name never does.

Standards: RFC 5280 section 4.2, RFC 8550 sections 3 and 4.4, RFC 8551 section 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keystore.model import Purpose, Reason, Usability
from keystore.policy import MIN_MODULUS_BITS, STRONG_HASHES
from keystore.smime.facts import ANY_EXTENDED_USAGE, EMAIL_PROTECTION, KeyKind, KeyUsage, X509Facts


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: Reason
    detail: str = ""


def usability(facts: X509Facts, purpose: Purpose, now: datetime, address: str | None = None) -> Usability:
    """Whether the certificate serves `purpose` at `now`, for `address` (any case) when one is given.

    Purpose VERIFY asks whether a signature made at `now` would be acceptable.
    """
    refusal = (
        _nature_refusal(facts)
        or _time_refusal(facts, now)
        or _algorithm_refusal(facts)
        or _address_refusal(facts, address)
        or _usage_refusal(facts, purpose)
    )
    return Usability((), refusal.reason, refusal.detail) if refusal else Usability((facts.fingerprint,))


def _nature_refusal(facts: X509Facts) -> _Refusal | None:
    if facts.is_authority:
        return _Refusal(Reason.AUTHORITY)
    if facts.unknown_critical:
        return _Refusal(Reason.UNSUPPORTED, f"critical extension {facts.unknown_critical[0]}")
    return None


def _time_refusal(facts: X509Facts, now: datetime) -> _Refusal | None:
    if now < facts.not_before:
        return _Refusal(Reason.NOT_YET_VALID, f"before {_day(facts.not_before)}")
    # RFC 5280 section 4.1.2.5: the period includes its last second.
    if now.replace(microsecond=0) > facts.not_after:
        return _Refusal(Reason.EXPIRED, f"on {_day(facts.not_after)}")
    return None


def _algorithm_refusal(facts: X509Facts) -> _Refusal | None:
    if not facts.algorithm.supported:
        return _Refusal(Reason.UNSUPPORTED, str(facts.algorithm))
    if facts.kind in (KeyKind.RSA, KeyKind.RSA_PSS) and facts.algorithm.bits < MIN_MODULUS_BITS:
        return _Refusal(Reason.WEAK_ALGORITHM, str(facts.algorithm))
    if facts.signature_hash and facts.signature_hash not in STRONG_HASHES:
        return _Refusal(Reason.WEAK_ALGORITHM, f"issued with {facts.signature_hash}")
    return None


def _address_refusal(facts: X509Facts, address: str | None) -> _Refusal | None:
    if address is None or address.lower() in facts.addresses:
        return None
    return _Refusal(Reason.NOT_FOR_ADDRESS, address)


def _usage_refusal(facts: X509Facts, purpose: Purpose) -> _Refusal | None:
    able = facts.algorithm.encrypts if purpose is Purpose.ENCRYPT else facts.algorithm.signs
    if not able:
        return _Refusal(Reason.NO_CAPABLE_KEY, str(facts.algorithm))
    if facts.key_usage is not None and not facts.key_usage & _needed(facts.kind, purpose):
        return _Refusal(Reason.NO_CAPABLE_KEY, "key usage")
    allowed = facts.extended_usages
    if allowed is not None and not allowed & {EMAIL_PROTECTION, ANY_EXTENDED_USAGE}:
        return _Refusal(Reason.NO_CAPABLE_KEY, "extended key usage without emailProtection")
    return None


def _needed(kind: KeyKind, purpose: Purpose) -> KeyUsage:
    if purpose is not Purpose.ENCRYPT:
        return KeyUsage.SIGN
    return KeyUsage.KEY_AGREEMENT if kind is KeyKind.EC else KeyUsage.KEY_ENCIPHERMENT


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
