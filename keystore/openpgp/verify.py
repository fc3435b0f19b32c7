"""Signatures over messages: found, verified by the engine, judged by policy.

Standards: RFC 9580 sections 5.2.4 and 5.2.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache

from keystore import policy
from keystore.errors import KeyRefused, NotReadable
from keystore.model import Certificate, Fingerprint, SignatureResult, SignatureState, Trust, Usability
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import facts, key_bodies
from keystore.openpgp.packet import MAX_PACKETS, Malformed, Tag, binary, packets

Lookup = Callable[[str], Sequence[Certificate]]
"""The certificates that have a key with this fingerprint (40 or 64 digits) or key ID (16), upper case."""

MAX_SIGNATURES = 16
"""More are not looked at: a message could otherwise cost a verification for every few octets."""
MAX_HASHED = 64 * 1024 * 1024
"""Octets that signatures may cover together, except that the first is always looked at: each hashes all."""

UNANNOUNCED = SignatureResult(SignatureState.BAD, reason="the signature is not the one that was announced")
"""Of a signature behind a message without its counterpart in front."""
_UNREADABLE = SignatureResult(SignatureState.BAD, reason="the signature cannot be read")


def verify_detached(
    octets: bytes, signature: bytes, lookup: Lookup, now: datetime
) -> tuple[SignatureResult, ...]:
    """Judge a detached signature (armored or binary; it may hold several) over exactly `octets`.

    Text signatures cover lines ending in CRLF, whatever ends them in `octets`. An empty result says that
    there is no signature in it. Raises NotReadable when it is no OpenPGP signature at all.
    """
    found = []
    try:
        for packet in packets(binary(signature, "SIGNATURE"), MAX_PACKETS):
            if packet.tag == Tag.SIGNATURE:
                found.append(packet.body)
            elif packet.tag not in (Tag.MARKER, Tag.PADDING):
                raise Malformed("not a detached signature")
    except Malformed:
        raise NotReadable("this is not a detached OpenPGP signature, or it is damaged") from None
    return judge_all(found, octets, lookup, now)


def judge_signature(body: bytes, octets: bytes, signer: Certificate, now: datetime) -> SignatureResult:
    """Judge one signature packet over `octets` as if `signer` were the only certificate that there is."""
    return _judge(body, octets, lambda issuer: (signer,), now)


def judge_all(
    bodies: Sequence[bytes], octets: bytes, lookup: Lookup, now: datetime
) -> tuple[SignatureResult, ...]:
    """Judge signature packets over `octets`, the first `MAX_SIGNATURES` of them; of a large text fewer."""
    most = max(1, min(MAX_SIGNATURES, MAX_HASHED // max(1, len(octets))))
    return tuple(_judge(body, octets, lookup, now) for body in bodies[:most])


def _judge(body: bytes, octets: bytes, lookup: Lookup, now: datetime) -> SignatureResult:
    try:
        packet = sig.parse_signature(body)
    except Malformed:
        return _UNREADABLE
    if packet.kind not in (sig.BINARY, sig.TEXT):
        return SignatureResult(SignatureState.BAD, reason="this is no signature over a message")
    candidates = _candidates(packet, lookup)
    if not candidates:
        issuer = next(iter(packet.issuer_fingerprints or packet.issuer_key_ids), None)
        named = Fingerprint(issuer) if issuer else None
        return SignatureResult(
            SignatureState.UNKNOWN_KEY,
            named,
            created=packet.created,
            reason="the key of the signer is not here",
        )
    results = [_verdict(packet, octets, certificate, key, body, now) for certificate, key, body in candidates]
    return min(results, key=lambda one: _BEST.index(one.state))


_BEST = (SignatureState.GOOD, SignatureState.UNACCEPTABLE, SignatureState.BAD)


def _candidates(packet: sig.SignaturePacket, lookup: Lookup) -> list[tuple[Certificate, Fingerprint, bytes]]:
    """The keys that the signature may be by: (certificate, fingerprint of the key, its packet body)."""
    found: dict[tuple[Fingerprint, Fingerprint], tuple[Certificate, Fingerprint, bytes]] = {}
    issuers = set(packet.issuer_fingerprints or packet.issuer_key_ids)
    # One that names several claims none of them; each would cost a search in the store.
    for issuer in issuers if len(issuers) == 1 else ():
        for certificate in lookup(issuer):
            try:
                bodies = key_bodies(certificate.octets)
            except KeyRefused:
                continue
            for fingerprint, body in bodies.items():
                if packet.claims(fingerprint):
                    found[certificate.fingerprint, fingerprint] = (certificate, fingerprint, body)
    return list(found.values())


def _verdict(
    packet: sig.SignaturePacket,
    octets: bytes,
    certificate: Certificate,
    key: Fingerprint,
    key_body: bytes,
    now: datetime,
) -> SignatureResult:
    # OpenPGP counts whole seconds, and what is sent in one is by the same key.
    signer, user_ids, judged = _standing(
        certificate.octets,
        key,
        packet.hash_algorithm,
        packet.created,
        packet.expires,
        now.replace(microsecond=0),
    )
    state, reason = _state(packet, octets, key_body, judged, certificate.trust)
    return SignatureResult(
        state=state,
        fingerprint=signer,
        addresses=policy.addresses(user_ids),
        user_id=user_ids[0] if user_ids else "",
        created=packet.created,
        trust=certificate.trust,
        reason=reason,
    )


@lru_cache(maxsize=64)
def _standing(
    certificate: bytes,
    key: Fingerprint,
    hash_algorithm: str,
    created: datetime | None,
    expires: datetime | None,
    second: datetime,
) -> tuple[Fingerprint, tuple[str, ...], Usability]:
    """The certificate's fingerprint, its user IDs then, and whether its key may have made the signature."""
    stated = facts(certificate)
    user_ids = policy.valid_user_ids(stated, created or second, second)
    judged = policy.signature_usability(stated, key, hash_algorithm, created, second, expires)
    return stated.fingerprint, user_ids, judged


def _state(
    packet: sig.SignaturePacket, octets: bytes, key_body: bytes, judged: Usability, trust: Trust
) -> tuple[SignatureState, str]:
    # The engine refuses the weakest hashes outright, which must not read as "changed on its way".
    verifiable = packet.hash_algorithm in policy.STRONG_HASHES or packet.hash_algorithm == "SHA-1"
    if verifiable and not sig.covers_data(packet, key_body, octets):
        return SignatureState.BAD, "the signature does not fit the message"
    if packet.critical_unknown:
        return SignatureState.UNACCEPTABLE, "the signature has a condition that we do not know"
    if not judged.usable:
        return SignatureState.UNACCEPTABLE, judged.explanation
    if trust is Trust.REJECTED:
        return SignatureState.UNACCEPTABLE, "rejected by the user"
    return SignatureState.GOOD, ""
