"""Certifications that one certificate's key has made over another's user IDs: found, and verified.

The engine does not verify them apart from their own certificate, so this is done here; what is hashed is as
in `selfsigning`. Signatures of the primary key alone count, and none with SHA-1: its collisions were first
used to forge just these.

Standards: RFC 9580 sections 5.2.1 (types 0x10 to 0x13, and 0x30), 5.2.4 (what is hashed).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, utils

from keystore.errors import KeyRefused
from keystore.facts import Certification
from keystore.model import key_id
from keystore.openpgp import material as m
from keystore.openpgp import signature as sig
from keystore.openpgp.certificate import components
from keystore.openpgp.material import PublicMaterial, public_material
from keystore.openpgp.packet import Malformed, Reader, Tag
from keystore.openpgp.selfsigning import over_key, over_user_id

MOST_SIGNATURES = 64
"""Of one introducer on one user ID; what comes beyond is not looked at."""
_KINDS = sig.CERTIFICATIONS | {sig.CERTIFICATION_REVOCATION}
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "SHA-224": hashes.SHA224(),
    "SHA-256": hashes.SHA256(),
    "SHA-384": hashes.SHA384(),
    "SHA-512": hashes.SHA512(),
    "SHA3-256": hashes.SHA3_256(),
    "SHA3-512": hashes.SHA3_512(),
}
_CURVES: dict[str, ec.EllipticCurve] = {
    "NIST P-256": ec.SECP256R1(),
    "NIST P-384": ec.SECP384R1(),
    "NIST P-521": ec.SECP521R1(),
}


@lru_cache(maxsize=1024)
def certifications(certificate: bytes, introducer: bytes) -> tuple[Certification, ...]:
    """What the primary key of `introducer` states in `certificate` (both binary), verified. Any time.

    Nothing where either cannot be read, or the introducer's key is of a kind that is not verified here.
    """
    try:
        parts, issuer = components(certificate), public_material(components(introducer)[0].packet.body)
    except (Malformed, KeyRefused):
        return ()
    primary = parts[0].packet.body
    if primary == issuer.body:
        return ()
    found = []
    for part in parts:
        if part.packet.tag == Tag.USER_ID:
            text = part.packet.body.decode("utf-8", "replace")
            content = over_key(primary) + over_user_id(part.packet.body)
            for packet in _claimed(part.signatures, issuer):
                if packet.created is not None and _is_right(packet, issuer, content):
                    revokes = packet.kind == sig.CERTIFICATION_REVOCATION
                    found.append(Certification(text, packet.created, packet.expires, revokes))
    return tuple(found)


def _claimed(bodies: list[bytes], issuer: PublicMaterial) -> list[sig.SignaturePacket]:
    """The certifications that name this key as their maker, revocations first: those must not be cut off."""
    short = key_id(issuer.fingerprint)
    found = []
    for body in bodies:
        try:
            packet = sig.parse_signature(body)
        except Malformed:
            continue
        named = issuer.fingerprint in packet.issuer_fingerprints or short in packet.issuer_key_ids
        if packet.kind in _KINDS and named and packet.claims(issuer.fingerprint):
            found.append(packet)
    found.sort(key=lambda packet: packet.kind != sig.CERTIFICATION_REVOCATION)
    return found[:MOST_SIGNATURES]


def _is_right(packet: sig.SignaturePacket, issuer: PublicMaterial, content: bytes) -> bool:
    """Whether the key made this signature over `content`. One that is not understood in full is not right."""
    hasher = _HASHES.get(packet.hash_algorithm)
    # One that takes back counts even where something in it is not understood: to doubt it would be lax.
    if packet.critical_unknown and packet.kind != sig.CERTIFICATION_REVOCATION:
        return False
    if hasher is None or packet.version != issuer.version or packet.key_algorithm != issuer.algorithm_id:
        return False
    trailer = bytes([packet.version, 0xFF]) + len(packet.signed).to_bytes(4, "big")
    digest = hashlib.new(hasher.name, packet.salt + content + packet.signed + trailer).digest()
    try:
        _verify(issuer, packet, digest, hasher)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, Malformed):
        return False
    return True


def _verify(
    issuer: PublicMaterial, packet: sig.SignaturePacket, digest: bytes, hasher: hashes.HashAlgorithm
) -> None:
    """Raises InvalidSignature, Malformed, ValueError or UnsupportedAlgorithm unless it is right."""
    reader, point = Reader(packet.result), issuer.integers[0]
    if issuer.algorithm_id in (m.RSA, m.RSA_SIGN):
        n, e = (int.from_bytes(one, "big") for one in issuer.integers)
        size = (n.bit_length() + 7) // 8
        rsa.RSAPublicNumbers(e, n).public_key().verify(
            reader.integer().rjust(size, b"\0"), digest, padding.PKCS1v15(), utils.Prehashed(hasher)
        )
    elif issuer.algorithm_id == m.ED25519:
        ed25519.Ed25519PublicKey.from_public_bytes(point).verify(packet.result, digest)
    elif issuer.algorithm_id == m.ED448:
        ed448.Ed448PublicKey.from_public_bytes(point).verify(packet.result, digest)
    elif issuer.algorithm_id == m.EDDSA and issuer.curve == "Ed25519":
        halves = b"".join(reader.integer().rjust(32, b"\0") for _ in range(2))
        ed25519.Ed25519PublicKey.from_public_bytes(point[1:]).verify(halves, digest)
    elif issuer.algorithm_id == m.ECDSA and issuer.curve in _CURVES:
        r, s = (int.from_bytes(reader.integer(), "big") for _ in range(2))
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[issuer.curve], point)
        key.verify(utils.encode_dss_signature(r, s), digest, ec.ECDSA(utils.Prehashed(hasher)))
    else:
        raise Malformed("key algorithm")
