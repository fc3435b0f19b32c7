"""Signature packets: what they say, and the engine's answer whether they are mathematically right.

The engine shows no reason for revocation, no primary user ID mark, and not whether key flags are absent, so
the subpackets are read here; only the hashed ones count, since nobody vouches for the others. All
mathematics is the engine's. Two of its questions need a detour:

- A certification can only be verified as part of a certificate, so one is made of the primary key, the user
  ID and this single signature (about 60 microseconds).
- A signature over data takes a primary key packet, so a signing subkey is framed as one; the fingerprint and
  the mathematics of a key do not depend on the tag.

Standards: RFC 9580 sections 5.2.3 (subpackets) and 5.2.4 (what is hashed).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import cast

from openpgp import composed as engine
from openpgp import packet as engine_packet

from keystore.facts import KeyFlags, Revocation, RevocationKind, SelfSignature
from keystore.model import key_id
from keystore.openpgp.engine import holds
from keystore.openpgp.packet import Malformed, Packet, Reader, Tag, packets, read_length, write

HASHES = {1: "MD5", 2: "SHA-1", 3: "RIPEMD-160", 8: "SHA-256", 9: "SHA-384", 10: "SHA-512", 11: "SHA-224",
          12: "SHA3-256", 14: "SHA3-512"}  # fmt: skip
"""Hash algorithm IDs (RFC 9580 section 9.5)."""


def hash_name(number: int) -> str:
    """The name of a hash algorithm, for people; of an unknown one too."""
    return HASHES.get(number, f"hash {number}")


MAX_SUBPACKETS = 1000
"""Of one area; real signatures have some ten, and a version 6 area may have four gigabytes."""

BINARY, TEXT = 0x00, 0x01
POSITIVE_CERTIFICATION = 0x13
CERTIFICATIONS = frozenset({0x10, 0x11, 0x12, POSITIVE_CERTIFICATION})
SUBKEY_BINDING, PRIMARY_KEY_BINDING, DIRECT_KEY = 0x18, 0x19, 0x1F
KEY_REVOCATION, SUBKEY_REVOCATION, CERTIFICATION_REVOCATION = 0x20, 0x28, 0x30

_CREATED, _EXPIRES, _KEY_LIFETIME, _ISSUER, _NOTATION = 2, 3, 9, 16, 20
_PRIMARY_USER_ID, _KEY_FLAGS, _REASON, _EMBEDDED, _ISSUER_FINGERPRINT = 25, 27, 29, 32, 33
UNDERSTOOD = frozenset(
    {2, 3, 4, 5, 6, 7, 9, 11, 12, 16, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 39}
)
"""Subpackets that may be critical without making the signature void. Notations (20) are not among them: we
understand none, and RFC 9580 section 5.2.3.7 voids a signature whose critical notation is not understood."""

_INTEGERS = {1: 1, 3: 1, 17: 2, 19: 2, 22: 2}
"""How many multiprecision integers a signature has: RSA (also 3), DSA, ECDSA, EdDSA."""

_SOFT = {1: "superseded", 3: "retired", 32: "user ID no longer valid"}


@dataclass(frozen=True, slots=True)
class SignaturePacket:
    """The fields of a signature packet, unverified. Times are aware UTC."""

    body: bytes
    version: int
    kind: int
    key_algorithm: int
    hash_algorithm: str
    created: datetime | None
    issuer_fingerprints: tuple[str, ...] = ()
    """Upper-case hexadecimal."""
    issuer_key_ids: tuple[str, ...] = ()
    critical_unknown: bool = False
    salt: bytes = b""
    """Of version 6."""
    result: bytes = b""
    """The signature proper: multiprecision integers or plain octets, by algorithm."""
    hashed: dict[int, bytes] = field(default_factory=dict, repr=False)
    unhashed: dict[int, bytes] = field(default_factory=dict, repr=False)

    @property
    def expires(self) -> datetime | None:
        """When the signature expires."""
        seconds = self._seconds(_EXPIRES)
        return self.created + seconds if seconds and self.created else None

    @property
    def flags(self) -> KeyFlags | None:
        """Key flags, or None without such a subpacket."""
        octets = self.hashed.get(_KEY_FLAGS)
        return None if octets is None else KeyFlags((octets[0] if octets else 0) & 0x2F)

    def _seconds(self, kind: int) -> timedelta | None:
        octets = self.hashed.get(kind)
        if octets is None or not any(octets):
            return None
        return timedelta(seconds=int.from_bytes(octets[:4], "big"))

    def claims(self, fingerprint: str) -> bool:
        """Whether it names this key as its issuer and no other, or names nobody."""
        short = key_id(fingerprint)
        return all(named == fingerprint for named in self.issuer_fingerprints) and all(
            named == short for named in self.issuer_key_ids
        )

    def as_self_signature(self, back: SignaturePacket | None) -> SelfSignature | None:
        """The fact that this (verified) signature states; None without a creation time."""
        if self.created is None or self.critical_unknown:
            return None
        return SelfSignature(
            created=self.created,
            hash_algorithm=self.hash_algorithm,
            expires=self.expires,
            key_lifetime=self._seconds(_KEY_LIFETIME),
            flags=self.flags,
            primary_user_id=any(self.hashed.get(_PRIMARY_USER_ID, b"")),
            back_signature=back.as_self_signature(None) if back else None,
        )

    def as_revocation(self) -> Revocation:
        """The fact that this (verified) revocation states.

        One that we do not understand in full is still a revocation, and a hard one: to doubt it would be lax.
        """
        code = self.hashed.get(_REASON, b"")[:1]
        soft = _SOFT.get(code[0]) if code and not self.critical_unknown else None
        return Revocation(
            created=self.created or datetime.fromtimestamp(0, UTC),
            hash_algorithm=self.hash_algorithm,
            kind=RevocationKind.SOFT if soft else RevocationKind.HARD,
            reason=soft or ("compromised" if code == b"\x02" else "no reason stated"),
        )

    @property
    def stated(self) -> tuple[tuple[int, bool, bytes], ...]:
        """Every hashed subpacket in its order: the type, whether it is critical, the octets."""
        if self.version == 3:
            return ()
        width = 2 if self.version == 4 else 4
        reader = Reader(self.body[4:])
        return tuple(_subpackets(reader.take(reader.number(width))))

    @property
    def signed(self) -> bytes:
        """Its octets as far as they are signed: by these, one signature is told from another."""
        if self.version == 3:
            return self.body[:17]
        width = 2 if self.version == 4 else 4
        return self.body[: 4 + width + int.from_bytes(self.body[4 : 4 + width], "big")]

    @property
    def embedded(self) -> SignaturePacket | None:
        """The signature inside, from either area: it proves itself (RFC 9580 section 5.2.3.34)."""
        body = self.hashed.get(_EMBEDDED) or self.unhashed.get(_EMBEDDED)
        try:
            return parse_signature(body) if body else None
        except Malformed:
            return None


def parse_signature(body: bytes) -> SignaturePacket:
    """Read a signature packet of version 3, 4 or 6. Raises Malformed on others."""
    reader = Reader(body)
    version = reader.number()
    if version == 3:
        return _version_3(reader)
    if version not in (4, 6):
        raise Malformed("signature version")
    kind, key_algorithm, hash_algorithm = reader.take(3)
    width = 2 if version == 4 else 4
    hashed_list = _subpackets(reader.take(reader.number(width)))
    unhashed_list = _subpackets(reader.take(reader.number(width)))
    hashed = {number: octets for number, _critical, octets in hashed_list}
    # RFC 9580 section 5.2.3.35: issuers are hints, found by trying; both areas may give them.
    hints = [(number, octets) for number, _critical, octets in hashed_list + unhashed_list]
    reader.take(2)
    salt = reader.take(reader.number()) if version == 6 else b""
    return SignaturePacket(
        body=body,
        version=version,
        kind=kind,
        key_algorithm=key_algorithm,
        hash_algorithm=hash_name(hash_algorithm),
        created=_time(hashed.get(_CREATED)),
        issuer_fingerprints=tuple(o[1:].hex().upper() for n, o in hints if n == _ISSUER_FINGERPRINT),
        issuer_key_ids=tuple(o.hex().upper() for n, o in hints if n == _ISSUER),
        critical_unknown=any(critical and number not in UNDERSTOOD for number, critical, _ in hashed_list),
        salt=salt,
        result=reader.rest(),
        hashed=hashed,
        unhashed={number: octets for number, _critical, octets in unhashed_list},
    )


def _version_3(reader: Reader) -> SignaturePacket:
    if reader.number() != 5:
        raise Malformed("version 3 signature")
    kind = reader.number()
    created = _time(reader.take(4))
    issuer = reader.take(8).hex().upper()
    key_algorithm, hash_algorithm = reader.take(2)
    reader.take(2)
    return SignaturePacket(
        body=reader.octets,
        version=3,
        kind=kind,
        key_algorithm=key_algorithm,
        hash_algorithm=hash_name(hash_algorithm),
        created=created,
        issuer_key_ids=(issuer,),
        result=reader.rest(),
    )


def _subpackets(area: bytes) -> list[tuple[int, bool, bytes]]:
    """The type, whether it is critical, and the octets of each subpacket of an area. Raises Malformed."""
    found: list[tuple[int, bool, bytes]] = []
    at = 0
    while at < len(area):
        if len(found) == MAX_SUBPACKETS:
            raise Malformed("too many subpackets")
        length, at = read_length(area, at)
        if not length or at + length > len(area):
            raise Malformed("subpacket")
        found.append((area[at] & 0x7F, bool(area[at] & 0x80), area[at + 1 : at + length]))
        at += length
    return found


def _time(octets: bytes | None) -> datetime | None:
    if octets is None or len(octets) != 4:
        return None
    return datetime.fromtimestamp(int.from_bytes(octets, "big"), UTC)


def _read(tag: Tag, body: bytes) -> object:
    """The engine's object of a packet. Raises Malformed unless it is exactly these octets.

    The engine hashes what it made of a packet, not the packet: where it corrects something on reading, it
    would verify other octets than those that are judged here.
    """
    packet = engine_packet.Packet.from_bytes(write(tag, body))
    written = next(packets(packet.to_bytes()))
    if written != Packet(tag, body):
        raise Malformed("not written as it was read")
    return packet.value


@lru_cache(maxsize=4096)
def _public_key(body: bytes) -> engine_packet.PublicKey:
    return cast(engine_packet.PublicKey, _read(Tag.PUBLIC_KEY, body))


@lru_cache(maxsize=4096)
def _public_subkey(body: bytes) -> engine_packet.PublicSubkey:
    return cast(engine_packet.PublicSubkey, _read(Tag.PUBLIC_SUBKEY, body))


def _signature(packet: SignaturePacket) -> engine_packet.Signature:
    return cast(engine_packet.Signature, _read(Tag.SIGNATURE, packet.body))


def covers_key(packet: SignaturePacket, key: bytes) -> bool:
    """Whether `key` (a key packet's body) made this direct-key signature or revocation over itself."""
    return holds(lambda: _signature(packet).verify_key(_public_key(key)))


def covers_subkey(packet: SignaturePacket, primary: bytes, subkey: bytes) -> bool:
    """Whether the primary key made this subkey binding or subkey revocation."""
    return holds(
        lambda: _signature(packet).verify_subkey_binding(_public_key(primary), _public_subkey(subkey))
    )


def covers_primary(packet: SignaturePacket, subkey: bytes, primary: bytes) -> bool:
    """Whether the subkey made this primary key binding (back-signature)."""
    return holds(
        lambda: _signature(packet).verify_primary_key_binding(_public_subkey(subkey), _public_key(primary))
    )


def covers_user_id(packet: SignaturePacket, primary: bytes, user_id: Packet) -> bool:
    """Whether the primary key made this certification, or revocation of one, over a user ID."""

    def question() -> None:
        _public_key(primary), _signature(packet)
        octets = write(Tag.PUBLIC_KEY, primary) + user_id.octets + write(Tag.SIGNATURE, packet.body)
        certificate = engine.SignedPublicKey.from_bytes(octets)
        certificate.verify_bindings()
        # verify_bindings() is content with nothing to verify; make sure that our signature was looked at.
        seen = [len(one.signatures) for one in certificate.details.users]
        if seen != [1]:
            raise Malformed("not verified")

    return holds(question)


def _exact(packet: SignaturePacket) -> bool:
    """Whether the signature's integers are written in the only right way (RFC 9580 section 3.2).

    The engine takes them with other lengths in bits; then one signature could be written in several ways.
    """
    reader = Reader(packet.result)
    try:
        for _ in range(_INTEGERS.get(packet.key_algorithm, 0)):
            bits = reader.number(2)
            if int.from_bytes(reader.take((bits + 7) // 8), "big").bit_length() != bits:
                return False
    except Malformed:
        return False
    return packet.key_algorithm not in _INTEGERS or reader.at == len(packet.result)


def covers_data(packet: SignaturePacket, key: bytes, octets: bytes) -> bool:
    """Whether the key, primary or subkey, made this binary or text signature over `octets`.

    The engine brings line endings to CRLF before it verifies a text signature, as gpg does.
    """
    if not _exact(packet):
        return False
    return holds(lambda: _signature(packet).verify(_public_key(key), octets))
