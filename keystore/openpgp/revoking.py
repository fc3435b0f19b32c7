"""The end of an own key: its revocation, made when it is wanted, or beforehand and kept apart.

A revocation certificate is what ends a key without its secret half. gpg takes it as it is.

Standards: RFC 9580 sections 5.2.3.31 (reasons), 10.1.2 (composition); RFC 4880 section 11.1 (of version 4).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from keystore.errors import KeyRefused
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import Component, components, facts, join
from keystore.openpgp.key import SecretKey
from keystore.openpgp.packet import Malformed, Tag, dearmor, is_armored, packets, write
from keystore.openpgp.selfsigning import REASON, over_key, signature_packet

RevocationReason = Literal["none", "superseded", "compromised", "retired"]
REASONS: dict[RevocationReason, int] = {"none": 0, "superseded": 1, "compromised": 2, "retired": 3}
"""RFC 9580 section 5.2.3.31. After "superseded" and "retired", others may believe older signatures."""


def revocation_certificate(key: SecretKey, now: datetime, reason: RevocationReason = "none") -> bytes:
    """What ends this key, binary. Raises KeyRefused where the secret primary key is not here."""
    primary = components(key.certificate_octets)[0].packet
    stated = [(REASON, bytes([REASONS[reason]]))]
    secret = key.secret_of(key.fingerprint)
    body = signature_packet(secret, sig.KEY_REVOCATION, over_key(primary.body), int(now.timestamp()), stated)
    # Of version 6 the key goes with it; gpg 2.2 takes a key without user ID for none.
    made = (primary.octets if primary.body[0] == 6 else b"") + write(Tag.SIGNATURE, body)
    revoked(key.certificate_octets, made)
    return made


def revoked(certificate: bytes, revocation: bytes) -> bytes:
    """The certificate (binary) with a revocation certificate, armored or binary, applied to it.

    Raises KeyRefused where that is none, or another key's.
    """
    parts = components(certificate)
    primary = parts[0]
    found = [body for body in _signatures(revocation) if _ends(body, primary)]
    if not found:
        raise KeyRefused(
            f"there is no revocation certificate of {facts(certificate).fingerprint} in this file"
        )
    primary.signatures = list(dict.fromkeys([*primary.signatures, *found]))
    changed = join(parts)
    if not facts(changed).primary.revocations:
        raise KeyRefused("this revocation certificate is not accepted")
    return changed


def _signatures(octets: bytes) -> list[bytes]:
    try:
        blocks = [block for _, block in dearmor(octets)] if is_armored(octets) else [octets]
        return [one.body for block in blocks for one in packets(block) if one.tag == Tag.SIGNATURE]
    except Malformed:
        raise KeyRefused("this is not a revocation certificate, or it is damaged") from None


def _ends(body: bytes, primary: Component) -> bool:
    try:
        packet = sig.parse_signature(body)
    except Malformed:
        return False
    return packet.kind == sig.KEY_REVOCATION and sig.covers_key(packet, primary.packet.body)
