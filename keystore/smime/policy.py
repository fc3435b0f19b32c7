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

from keystore.model import Purpose, Reason, Usability, lower_case
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


def authority_refusal(facts: X509Facts, below: int, *, is_root: bool) -> str:
    """Why an authority may not stand above `below` others and a person in a path for mail; "" where it may.

    At any time: its validity period is not looked at. A root of version 1 has nothing but its name, and the
    hash under its own signature says nothing about it.
    """
    refusal = _algorithm_refusal(facts, own_signature=is_root)
    may_sign = facts.key_usage is None or bool(facts.key_usage & KeyUsage.CERTIFICATE_SIGN)
    if refusal is not None:
        return f"an authority above the signer: {refusal.reason.value} ({refusal.detail})"
    if not may_sign or not (facts.is_authority or (is_root and facts.version == 1)):
        return "an authority above the signer may not issue certificates"
    if facts.path_length is not None and below > facts.path_length:
        return "more authorities above the signer than one of them permits"
    if not _is_for_mail(facts):
        return "an authority above the signer is not for certificates of mail"
    if facts.unknown_critical:
        return f"an authority above the signer has the critical extension {facts.unknown_critical[0]}"
    return ""


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


def _algorithm_refusal(facts: X509Facts, *, own_signature: bool = False) -> _Refusal | None:
    if not facts.algorithm.supported:
        return _Refusal(Reason.UNSUPPORTED, str(facts.algorithm))
    if facts.kind in (KeyKind.RSA, KeyKind.RSA_PSS) and facts.algorithm.bits < MIN_MODULUS_BITS:
        return _Refusal(Reason.WEAK_ALGORITHM, str(facts.algorithm))
    if not own_signature and facts.signature_hash and facts.signature_hash not in STRONG_HASHES:
        return _Refusal(Reason.WEAK_ALGORITHM, f"issued with {facts.signature_hash}")
    return None


def _address_refusal(facts: X509Facts, address: str | None) -> _Refusal | None:
    if address is None or lower_case(address) in facts.addresses:
        return None
    return _Refusal(Reason.NOT_FOR_ADDRESS, address)


def _usage_refusal(facts: X509Facts, purpose: Purpose) -> _Refusal | None:
    able = facts.algorithm.encrypts if purpose is Purpose.ENCRYPT else facts.algorithm.signs
    if not able:
        return _Refusal(Reason.NO_CAPABLE_KEY, str(facts.algorithm))
    if facts.kind is KeyKind.ED25519 and purpose is Purpose.SIGN:
        return _Refusal(Reason.UNSUPPORTED, "Ed25519, which most mail programs do not verify")
    if facts.key_usage is not None and not facts.key_usage & _needed(facts.kind, purpose):
        return _Refusal(Reason.NO_CAPABLE_KEY, "key usage")
    if not _is_for_mail(facts):
        return _Refusal(Reason.NO_CAPABLE_KEY, "extended key usage without emailProtection")
    return None


def _is_for_mail(facts: X509Facts) -> bool:
    allowed = facts.extended_usages
    return allowed is None or bool(allowed & {EMAIL_PROTECTION, ANY_EXTENDED_USAGE})


def _needed(kind: KeyKind, purpose: Purpose) -> KeyUsage:
    if purpose is not Purpose.ENCRYPT:
        return KeyUsage.SIGN
    return KeyUsage.KEY_AGREEMENT if kind is KeyKind.EC else KeyUsage.KEY_ENCIPHERMENT


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
