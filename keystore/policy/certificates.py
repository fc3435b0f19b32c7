"""PURE. Is this certificate usable for this purpose and address at this time, and why not?

Never laxer than gpg, in some points stricter (docs/decisions/0003-openpgp-policy.md). In short:

- A revoked certificate serves no purpose, whenever it was revoked; so does a revoked subkey.
- Of several self-signatures on one thing, the newest that exists at the time in question counts.
- MD5 and RIPEMD-160 count for nothing; SHA-1 only in signatures that are older than 2019-01-19.
- RSA and DSA keys under 2048 bits are not usable; to ElGamal nothing is encrypted.
- A subkey that signs needs its own signature on the binding (RFC 9580 section 5.2.1, type 0x19).
- A signature is judged at the time when it was made, its algorithms and revocations as they are known now.

Standards: RFC 9580 sections 5.2.3 and 10.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from keystore.facts import (
    Algorithm,
    CertificateFacts,
    KeyFacts,
    KeyFlags,
    Revocation,
    RevocationKind,
    SelfSignature,
    UserIdFacts,
)
from keystore.model import Fingerprint, Purpose, Reason, Usability, lower_case

STRONG_HASHES = frozenset({"SHA-224", "SHA-256", "SHA-384", "SHA-512", "SHA3-256", "SHA3-512"})
MIN_MODULUS_BITS = 2048
SHA1_CUTOFF = datetime(2019, 1, 19, tzinfo=UTC)
"""Signatures with SHA-1 count when they are older: the date is gpg's (for certifications) and RNP's.

Collisions with a chosen prefix came later, and who makes one today cannot give it an older date, because the
date is hashed last."""
CLOCK_SKEW = timedelta(minutes=30)
"""How far in the future a signature over a message may lie: the sender's clock is not ours."""

# As numbers: each message asks several times, and sets of an Enum cost ten times as much.
_SIGN, _ENCRYPT = KeyFlags.SIGN.value, KeyFlags.ENCRYPT.value
_ALL = (KeyFlags.CERTIFY | KeyFlags.SIGN | KeyFlags.ENCRYPT | KeyFlags.AUTHENTICATE).value
_NEEDED = {Purpose.ENCRYPT: _ENCRYPT, Purpose.SIGN: _SIGN, Purpose.VERIFY: _SIGN}
_ADDRESS = re.compile(r"^(?:[^<>]*<)?([^<>\s@\"(),:;]+@[^<>\s@\"(),:;]+)>?\s*$")


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: Reason
    detail: str = ""


def usability(
    facts: CertificateFacts, purpose: Purpose, now: datetime, address: str | None = None
) -> Usability:
    """Which keys of the certificate serve `purpose` at `now`, for `address` (any case) when one is given.

    Purpose VERIFY asks whether a signature made at `now` would be acceptable; a signature at hand is judged
    by `signature_usability`.
    """
    refusal = _certificate_refusal(facts, now, now) or _address_refusal(facts, now, now, address)
    if refusal:
        return Usability((), refusal.reason, refusal.detail)
    judged = [(key, _key_refusal(facts, key, purpose, now, now)) for key in facts.keys]
    usable = sorted((key for key, why in judged if why is None), key=lambda key: key.created, reverse=True)
    if usable:
        return Usability(tuple(key.fingerprint for key in usable))
    worst = _most_telling(why for _key, why in judged if why is not None)
    return Usability((), worst.reason, worst.detail)


def signature_usability(
    facts: CertificateFacts,
    signing_key: Fingerprint,
    hash_algorithm: str,
    created: datetime | None,
    now: datetime,
    expires: datetime | None = None,
) -> Usability:
    """Whether a mathematically right signature over a message may be called good.

    `signing_key` made it at `created` with `hash_algorithm` ("SHA-512"); the certificate as it was then
    decides, except for revocations and algorithms, which are judged by what is known `now`.
    """
    refusal = _signature_refusal(facts, signing_key, hash_algorithm, created, expires, now)
    return Usability((), refusal.reason, refusal.detail) if refusal else Usability((signing_key,))


def _signature_refusal(
    facts: CertificateFacts,
    signing_key: Fingerprint,
    hash_algorithm: str,
    created: datetime | None,
    expires: datetime | None,
    now: datetime,
) -> _Refusal | None:
    if created is None:
        return _Refusal(Reason.NOT_YET_VALID, "the signature has no creation time")
    if created > now + CLOCK_SKEW:
        return _Refusal(Reason.NOT_YET_VALID, f"signed in the future, {_day(created)}")
    if expires is not None and expires <= now:
        return _Refusal(Reason.EXPIRED, f"the signature expired on {_day(expires)}")
    if not strong_hash(hash_algorithm, created):
        return _Refusal(Reason.WEAK_ALGORITHM, hash_algorithm)
    if refusal := _certificate_refusal(facts, created, now):
        return refusal
    key = next((key for key in facts.keys if key.fingerprint == signing_key), None)
    return _key_refusal(facts, key, Purpose.VERIFY, created, now) if key else _Refusal(Reason.BAD_BINDING)


def certifies(facts: CertificateFacts, created: datetime, now: datetime) -> bool:
    """Whether the primary key may vouch for others' user IDs: when it did, at `created`, and still `now`."""
    return not any(
        _certificate_refusal(facts, at, now) or not _primary_flags(facts, at, now) & KeyFlags.CERTIFY.value
        for at in (created, now)
    )


def strong_hash(name: str, created: datetime) -> bool:
    """Whether a signature of this date may use the hash algorithm of this name ("SHA-512")."""
    return name in STRONG_HASHES or (name == "SHA-1" and created < SHA1_CUTOFF)


def valid_user_ids(facts: CertificateFacts, at: datetime, now: datetime | None = None) -> tuple[str, ...]:
    """User IDs that are bound and not revoked at `at`, the primary one first.

    `now` is the time of judgement, when it differs: a revocation known now counts.
    """
    bound = [
        (user_id, binding)
        for user_id in facts.user_ids
        if (binding := _user_id_binding(facts, user_id, at, now or at)) is not None
    ]
    bound.sort(key=lambda pair: (pair[1].primary_user_id, pair[1].created), reverse=True)
    return tuple(user_id.text for user_id, _binding in bound)


def claimed_user_ids(facts: CertificateFacts) -> tuple[str, ...]:
    """User IDs as the certificate claims them at its newest, for listings."""
    dates = [one.created for user_id in facts.user_ids for one in user_id.certifications]
    dates += [one.created for user_id in facts.user_ids for one in user_id.revocations]
    newest = max(dates, default=facts.primary.created)
    return valid_user_ids(facts, newest)


def addresses(user_ids: Iterable[str]) -> tuple[str, ...]:
    """Addr-specs of user IDs, lower case, without repeats.

    A user ID is an address alone or one in angle brackets at its end; anything that could be read in two ways
    has none, nor has what steers a terminal or is not seen.
    """
    found = (_ADDRESS.match(user_id.strip()) for user_id in user_ids)
    return tuple(dict.fromkeys(lower_case(match[1]) for match in found if match and match[1].isprintable()))


def expiry(facts: CertificateFacts) -> datetime | None:
    """When the certificate expires by its newest self-signatures, for listings; None is never."""
    statements = [one for user_id in facts.user_ids for one in user_id.certifications]
    newest = max(
        (one.created for one in (*statements, *facts.primary.bindings)), default=facts.primary.created
    )
    return _primary_expiry(facts, newest, newest)


# --- the certificate as a whole


def _certificate_refusal(facts: CertificateFacts, at: datetime, now: datetime) -> _Refusal | None:
    primary = facts.primary
    if revocation := _gravest(primary.revocations):
        return _Refusal(Reason.REVOKED, _revoked(revocation))
    if refusal := _refused(primary.algorithm):
        return refusal
    if primary.created > at:
        return _Refusal(Reason.NOT_YET_VALID, f"created on {_day(primary.created)}")
    if refusal := _unbound(facts, at, now):
        return refusal
    expires = _primary_expiry(facts, at, now)
    if expires is not None and expires <= at:
        return _Refusal(Reason.EXPIRED, f"on {_day(expires)}")
    return None


def _unbound(facts: CertificateFacts, at: datetime, now: datetime) -> _Refusal | None:
    """Why no self-signature holds the certificate together: a user ID, or with v6 a direct-key signature."""
    if any(_user_id_binding(facts, user_id, at, now) for user_id in facts.user_ids):
        return None
    if facts.version == 6 and _newest(facts.primary.bindings, facts.primary.created, at, now):
        return None
    statements = [one for user_id in facts.user_ids for one in user_id.certifications]
    if any(user_id.revocations for user_id in facts.user_ids) and statements:
        return _Refusal(Reason.USER_ID_REVOKED, "every user ID")
    return _no_binding(statements, at, now)


def _no_binding(
    statements: Sequence[SelfSignature], at: datetime, now: datetime, ended: Reason = Reason.EXPIRED
) -> _Refusal:
    """Why none of these counts. What did count once is told apart: a certificate that served still stands."""
    strong = [one for one in statements if _strong(one)]
    if lapsed := [one.expires for one in strong if one.expires is not None and one.expires <= at]:
        return _Refusal(ended, f"its self-signature, on {_day(max(lapsed))}")
    if coming := [one.created for one in strong if one.created > now]:
        return _Refusal(Reason.NOT_YET_VALID, f"self-signature of {_day(min(coming))}")
    weak = sorted({one.hash_algorithm for one in statements if not _strong(one)})
    if weak:
        return _Refusal(Reason.WEAK_ALGORITHM, f"self-signatures with {', '.join(weak)} only")
    return _Refusal(Reason.BAD_BINDING)


def _address_refusal(
    facts: CertificateFacts, at: datetime, now: datetime, address: str | None
) -> _Refusal | None:
    if address is None or lower_case(address) in addresses(valid_user_ids(facts, at, now)):
        return None
    claiming = [one for one in facts.user_ids if lower_case(address) in addresses([one.text])]
    if any(one.revocations for one in claiming):
        return _Refusal(Reason.USER_ID_REVOKED, address)
    if any(one.certifications for one in claiming):
        return _no_binding([made for one in claiming for made in one.certifications], at, now)
    return _Refusal(Reason.BAD_BINDING if claiming else Reason.NOT_FOR_ADDRESS, address)


def _primary_expiry(facts: CertificateFacts, at: datetime, now: datetime) -> datetime | None:
    """As gpg reads it: a direct-key signature that limits the life counts first, then user IDs."""
    created = facts.primary.created
    direct = _newest(facts.primary.bindings, created, at, now)
    if direct is not None and direct.key_lifetime is not None:
        return created + direct.key_lifetime
    limited = [one for one in _user_id_bindings(facts, at, now) if one.key_lifetime is not None]
    newest = max(limited, key=lambda one: one.created, default=None)
    return None if newest is None or newest.key_lifetime is None else created + newest.key_lifetime


def _user_id_bindings(facts: CertificateFacts, at: datetime, now: datetime) -> list[SelfSignature]:
    bindings = (_user_id_binding(facts, user_id, at, now) for user_id in facts.user_ids)
    return [binding for binding in bindings if binding is not None]


def _user_id_binding(
    facts: CertificateFacts, user_id: UserIdFacts, at: datetime, now: datetime
) -> SelfSignature | None:
    """The certification that counts at `at`, unless revoked by `now`; a newer one restores the user ID."""
    binding = _newest(user_id.certifications, facts.primary.created, at, now)
    if binding is None or any(
        one.created >= binding.created for one in user_id.revocations if one.created <= now
    ):
        return None
    return binding


# --- one key


def _key_refusal(
    facts: CertificateFacts, key: KeyFacts, purpose: Purpose, at: datetime, now: datetime
) -> _Refusal | None:
    needed = _NEEDED[purpose]
    if key is facts.primary:
        return None if _primary_flags(facts, at, now) & needed else _Refusal(Reason.NO_CAPABLE_KEY)
    binding = _newest(key.bindings, key.created, at, now)
    flags = _flags(binding.flags if binding else None, key.algorithm)
    if not flags & needed:
        return _Refusal(Reason.NO_CAPABLE_KEY)
    if revocation := _gravest(key.revocations):
        return _Refusal(Reason.SUBKEY_REVOKED, _revoked(revocation))
    if refusal := _refused(key.algorithm):
        return refusal
    if key.created > at:
        return _Refusal(Reason.NOT_YET_VALID, f"subkey created on {_day(key.created)}")
    if binding is None:
        return _no_binding(key.bindings, at, now, Reason.SUBKEY_EXPIRED)
    if needed == _SIGN and not (binding.back_signature and _strong(binding.back_signature)):
        return _Refusal(Reason.BAD_BINDING, "the signing subkey does not sign its binding")
    if binding.key_lifetime is not None and key.created + binding.key_lifetime <= at:
        return _Refusal(Reason.SUBKEY_EXPIRED, f"on {_day(key.created + binding.key_lifetime)}")
    return None


def _primary_flags(facts: CertificateFacts, at: datetime, now: datetime) -> int:
    direct = _newest(facts.primary.bindings, facts.primary.created, at, now)
    if direct is not None and direct.flags:
        return _flags(direct.flags, facts.primary.algorithm)
    flagged = [one for one in _user_id_bindings(facts, at, now) if one.flags]
    newest = max(flagged, key=lambda one: one.created, default=None)
    return _flags(newest.flags if newest else None, facts.primary.algorithm)


def _flags(stated: KeyFlags | None, algorithm: Algorithm) -> int:
    """Flags that the algorithm can serve; without a statement all of those, as in gpg and RFC 4880."""
    able = (_ALL & ~_ENCRYPT if algorithm.signs else 0) | (_ENCRYPT if algorithm.encrypts else 0)
    return able if stated is None else able & stated.value


def _refused(algorithm: Algorithm) -> _Refusal | None:
    """Why an algorithm is refused, if it is."""
    if not algorithm.supported:
        return _Refusal(Reason.UNSUPPORTED, algorithm.name)
    if algorithm.name in ("RSA", "DSA") and algorithm.bits < MIN_MODULUS_BITS:
        return _Refusal(Reason.WEAK_ALGORITHM, str(algorithm))
    return None


# --- choosing among signatures


def _newest(
    signatures: Sequence[SelfSignature], key_created: datetime, at: datetime, now: datetime
) -> SelfSignature | None:
    """The newest strong self-signature in force at `at`.

    Certificates are often cut down to their newest self-signature, so mail may be older than all that is
    left. Then the oldest one left speaks for the time before it.
    """
    strong = [
        one
        for one in signatures
        if _strong(one) and key_created <= one.created <= now and not _lapsed(one, at)
    ]
    known = [one for one in strong if one.created <= at]
    if known:
        # Of two copies of one binding, one may have lost what the subkey signed: that is not signed itself.
        return max(known, key=lambda one: (one.created, one.back_signature is not None))
    return min(strong, key=lambda one: one.created, default=None)


def _strong(signature: SelfSignature) -> bool:
    return strong_hash(signature.hash_algorithm, signature.created)


def _lapsed(signature: SelfSignature, at: datetime) -> bool:
    return signature.expires is not None and signature.expires <= at


def _gravest(revocations: Sequence[Revocation]) -> Revocation | None:
    """Any revocation counts, whatever its date or hash: doubt would be lax. A hard one explains best."""
    return min(revocations, key=lambda one: (one.kind is RevocationKind.SOFT, one.created), default=None)


def _revoked(revocation: Revocation) -> str:
    return f"on {_day(revocation.created)}, {revocation.reason}"


_TELLING = (
    Reason.SUBKEY_EXPIRED,
    Reason.SUBKEY_REVOKED,
    Reason.WEAK_ALGORITHM,
    Reason.UNSUPPORTED,
    Reason.BAD_BINDING,
    Reason.NOT_YET_VALID,
    Reason.NO_CAPABLE_KEY,
)


def _most_telling(refusals: Iterable[_Refusal]) -> _Refusal:
    """Of the reasons why single keys do not serve, the one that helps most: first what a renewal cures."""
    return min(refusals, key=lambda one: _TELLING.index(one.reason), default=_Refusal(Reason.NO_CAPABLE_KEY))


def _day(when: datetime) -> str:
    return when.strftime("%Y-%m-%d")
