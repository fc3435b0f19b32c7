"""What is inside an encryption, or stands where one should be: a literal, its signatures, compression.

Standards: RFC 9580 sections 10.3 (composition of messages), 5.9 (literal data), 5.6 (compression), 5.4
(one-pass signatures).
Security: one literal, at most one layer of compression, and no more octets than allowed, since what a
signature covers and what is shown must be the same octets for every reader.
"""

from __future__ import annotations

import bz2
import zlib
from dataclasses import dataclass

from keystore.errors import NotReadable
from keystore.model import key_id
from keystore.openpgp import signature as sig
from keystore.openpgp.packet import MAX_PACKETS, Malformed, Reader, Tag, is_ignored, packets

_CONTENT = frozenset({Tag.LITERAL, Tag.SIGNATURE, Tag.ONE_PASS_SIGNATURE, Tag.COMPRESSED})
_ENCRYPTED = frozenset({Tag.SEIPD, Tag.SED, Tag.GNUPG_AEAD, Tag.PKESK, Tag.SKESK})
_MOST_SIGNATURES = 64
"""More are passed over, announced or not: each is compared with all that were announced."""
_TOO_LARGE = "the message is larger than we open"


@dataclass(frozen=True, slots=True)
class Content:
    """The one literal of a message, and the bodies of the signature packets that belong to it."""

    literal: bytes
    signatures: tuple[bytes, ...]
    unannounced: int = 0
    """Signatures behind the literal that no one-pass signature in front of it announces."""


def is_content(octets: bytes) -> bool:
    """Whether binary `octets` begin like a message that is not encrypted."""
    try:
        return (
            next((one.tag for one in packets(octets, MAX_PACKETS) if not is_ignored(one.tag)), None)
            in _CONTENT
        )
    except Malformed:
        return False


def read_content(octets: bytes, most: int) -> Content:
    """The content of packets whose literal has at most `most` octets. Raises NotReadable and Malformed."""
    reading = _Reading(most)
    reading.read(octets)
    if reading.literal is None:
        raise NotReadable("there is nothing in this message", reason="unsupported")
    return Content(reading.literal, tuple(reading.signatures), reading.unannounced)


class _Reading:
    def __init__(self, most: int) -> None:
        self.most = most
        self.literal: bytes | None = None
        self.signatures: list[bytes] = []
        self.unannounced = 0
        self._announced: list[_OnePass] = []
        self._met = 0
        self._inflated = False

    def read(self, octets: bytes) -> None:
        for packet in packets(octets, MAX_PACKETS):
            match packet.tag:
                case Tag.LITERAL:
                    self._literal(packet.body)
                case Tag.SIGNATURE:
                    self._signature(packet.body)
                case Tag.ONE_PASS_SIGNATURE if self.literal is None:
                    if len(self._announced) < _MOST_SIGNATURES:
                        self._announced.append(_one_pass(packet.body))
                case Tag.COMPRESSED if not self._inflated and self.literal is None:
                    # One alone: several, each as large as may be, would be as many bombs.
                    self._inflated = True
                    self.read(inflate(packet.body, self.most))
                case tag if is_ignored(tag):
                    pass
                case tag if tag in _ENCRYPTED:
                    raise NotReadable("there is another encrypted message inside", reason="unsupported")
                case _:
                    raise Malformed("unexpected packet")

    def _literal(self, body: bytes) -> None:
        if self.literal is not None:
            raise Malformed("two literals")
        reader = Reader(body)
        if reader.take(1) not in (b"b", b"t", b"u", b"m"):
            raise Malformed("literal format")
        reader.take(reader.number())
        reader.take(4)
        self.literal = reader.rest()
        if len(self.literal) > self.most:
            raise NotReadable(_TOO_LARGE, reason="too-large")

    def _signature(self, body: bytes) -> None:
        """In front of the literal it stands alone; behind it, it was announced in front."""
        self._met += 1
        if self._met > _MOST_SIGNATURES:
            return
        if self.literal is not None:
            announced = next((one for one in self._announced if one.announces(body)), None)
            if announced is None:
                self.unannounced += 1
                return
            self._announced.remove(announced)
        self.signatures.append(body)


@dataclass(frozen=True, slots=True)
class _OnePass:
    """A one-pass signature packet: what a reader needs to know of a signature before the literal."""

    kind: int
    hash_algorithm: str
    key_algorithm: int
    salt: bytes
    issuer: str
    """A key ID or a fingerprint."""

    def announces(self, body: bytes) -> bool:
        """Whether it is this signature that it stands for."""
        try:
            packet = sig.parse_signature(body)
        except Malformed:
            return False
        said = (packet.kind, packet.hash_algorithm, packet.key_algorithm, packet.salt)
        issuers = {
            *packet.issuer_fingerprints,
            *packet.issuer_key_ids,
            *map(key_id, packet.issuer_fingerprints),
        }
        return said == (self.kind, self.hash_algorithm, self.key_algorithm, self.salt) and (
            not issuers or self.issuer in issuers
        )


def _one_pass(body: bytes) -> _OnePass:
    reader = Reader(body)
    version, kind, hash_algorithm, key_algorithm = reader.take(4)
    if version not in (3, 6):
        raise Malformed("one-pass signature")
    salt = reader.take(reader.number()) if version == 6 else b""
    issuer = reader.take(8 if version == 3 else 32).hex().upper()
    reader.take(1)
    return _OnePass(kind, sig.hash_name(hash_algorithm), key_algorithm, salt, issuer)


def inflate(body: bytes, most: int) -> bytes:
    """The packets in a compressed data packet's body.

    Raises NotReadable when they exceed `most` octets, and Malformed.
    """
    algorithm, packed = body[:1], body[1:]
    if algorithm == b"\0":
        return packed
    allowed = most + 65536  # framing and signatures come on top of the literal
    try:
        plain, finished = _decompress(algorithm, packed, allowed)
    except (zlib.error, OSError):
        raise Malformed("compression") from None
    if len(plain) >= allowed:
        raise NotReadable(_TOO_LARGE, reason="too-large")
    if not finished:
        raise Malformed("compression")
    return plain


def _decompress(algorithm: bytes, packed: bytes, most: int) -> tuple[bytes, bool]:
    """At most `most` octets, and whether that was all that there is (RFC 9580 section 9.4)."""
    if algorithm in (b"\1", b"\2"):
        deflate = zlib.decompressobj(-15 if algorithm == b"\1" else 15)
        return deflate.decompress(packed, most), deflate.eof and not deflate.unused_data
    if algorithm == b"\3":
        bzip2 = bz2.BZ2Decompressor()
        return bzip2.decompress(packed, most), bzip2.eof and not bzip2.unused_data
    raise NotReadable("the message is compressed in a way that we cannot read", reason="unsupported")
