"""OpenPGP around numbers that somebody else computes: an agent or card that keeps its keys to itself.

A signature is drafted, its digest signed elsewhere, and the packet completed; what was signed so is encrypted
as it is. Of a session key the numbers are taken out for whoever can open it, and the answer is unwrapped.

Standards: RFC 9580 sections 5.1, 5.2.3, 5.4, 5.13.1, 11.5. Only keys of version 4: GnuPG has no others.
Security: all that is wrong with a session key is None, without a difference (section 13.4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from secrets import token_bytes

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap

from keystore.errors import KeyRefused
from keystore.model import HIDDEN, Fingerprint, key_id
from keystore.openpgp import material as m
from keystore.openpgp.ascii_armor import armor
from keystore.openpgp.certificate import key_bodies
from keystore.openpgp.encrypting import RecipientKey, session_key_packets
from keystore.openpgp.material import PublicMaterial, public_material
from keystore.openpgp.packet import Malformed, Reader, Tag, write
from keystore.openpgp.private import checked_session_key, unwrapped_session_key
from keystore.openpgp.session import Recipient, meant_for, take_apart
from keystore.sexpression import Expression, value

MICALG = "pgp-sha512"
_SHA512, _BINARY = 10, 0
_CREATED, _ISSUER, _ISSUER_FINGERPRINT = 2, 16, 33
_MDC = b"\xd3\x14"
_NUMBERS = {
    m.RSA: (b"rsa", (b"s",)),
    m.RSA_SIGN: (b"rsa", (b"s",)),
    m.DSA: (b"dsa", (b"r", b"s")),
    m.ECDSA: (b"ecdsa", (b"r", b"s")),
    m.EDDSA: (b"eddsa", (b"r", b"s")),
}
"""What a signature is made of, by the algorithm of its key."""


def public_key(certificate: bytes, fingerprint: Fingerprint) -> PublicMaterial:
    """The public half of one key of a certificate. Raises KeyRefused."""
    try:
        return public_material(key_bodies(certificate)[fingerprint])
    except (KeyError, Malformed):
        raise KeyRefused(f"there is no key {fingerprint} in this certificate") from None


def public_number(public: PublicMaterial) -> bytes:
    """The number that is this key's own: the modulus, the point; of ElGamal and DSA the power."""
    return public.integers[-1 if public.algorithm_id in (m.ELGAMAL, m.DSA) else 0]


@dataclass(frozen=True, slots=True)
class Draft:
    """A signature over a message that lacks nothing but its numbers."""

    public: PublicMaterial
    head: bytes
    """What is hashed of the packet."""
    digest: bytes
    """SHA-512, to be signed."""

    def completed(self, numbers: Expression) -> bytes:
        """The body of the signature packet, with the agent's S-expression. Raises KeyRefused."""
        name, wanted = _NUMBERS[self.public.algorithm_id]
        found = [value(numbers, one) for one in wanted]
        if any(one is None for one in found):
            raise KeyRefused(
                f"what was made with key {self.public.fingerprint} is no {name.decode()} signature"
            )
        issuer = _subpacket(_ISSUER, bytes.fromhex(key_id(self.public.fingerprint)))
        unhashed = len(issuer).to_bytes(2) + issuer
        return self.head + unhashed + self.digest[:2] + b"".join(_integer(one or b"") for one in found)


def draft(public: PublicMaterial, octets: bytes, now: datetime) -> Draft:
    """Begin a binary signature of version 4 over `octets`, dated `now`. Raises KeyRefused."""
    if public.version != 4 or public.algorithm_id not in _NUMBERS:
        raise KeyRefused(f"key {public.fingerprint} is of a kind that GnuPG does not sign with for us")
    hashed = _subpacket(_ISSUER_FINGERPRINT, b"\x04" + bytes.fromhex(public.fingerprint))
    hashed += _subpacket(_CREATED, int(now.timestamp()).to_bytes(4))
    head = bytes([4, _BINARY, public.algorithm_id, _SHA512]) + len(hashed).to_bytes(2) + hashed
    hasher = hashlib.sha512(octets)
    hasher.update(head + b"\x04\xff" + len(head).to_bytes(4))
    return Draft(public, head, hasher.digest())


def detached(signature: bytes) -> bytes:
    """A signature packet's body as it stands beside what it signs: armored, CRLF."""
    return armor(write(Tag.SIGNATURE, signature), "SIGNATURE")


def sealed(octets: bytes, signature: bytes, public: PublicMaterial, keys: Sequence[RecipientKey]) -> bytes:
    """An armored message (CRLF) to `keys`: `octets` with the signature that `public` made over them.

    AES-256 with MDC, not compressed, as `encrypting.encrypt_to` makes it. Raises KeyRefused.
    """
    announced = bytes([3, _BINARY, _SHA512, public.algorithm_id]) + bytes.fromhex(key_id(public.fingerprint))
    inside = write(Tag.ONE_PASS_SIGNATURE, announced + b"\x01")
    inside += write(Tag.LITERAL, b"b\0" + bytes(4) + octets) + write(Tag.SIGNATURE, signature)
    session_key = token_bytes(32)
    packets = session_key_packets(session_key, keys)
    prefix = token_bytes(AES.block_size // 8)
    plain = prefix + prefix[-2:] + inside + _MDC
    plain += hashlib.sha1(plain, usedforsecurity=False).digest()
    maker = Cipher(AES(session_key), CFB(bytes(len(prefix)))).encryptor()
    encrypted = write(Tag.SEIPD, b"\x01" + maker.update(plain) + maker.finalize())
    return armor(packets + encrypted, "MESSAGE")


@dataclass(frozen=True, slots=True)
class Question:
    """One session key of a message, for one key that somebody else holds."""

    recipient: Recipient
    public: PublicMaterial

    @property
    def hidden(self) -> bool:
        """Whether the message does not say for whom it is."""
        return self.recipient.key_id == HIDDEN

    @property
    def numbers(self) -> Expression | None:
        """What the holder is to open, such as (rsa (a ...)); None where that makes no sense.

        Numbers of other sizes than those of the key are held back: on some, agents have stumbled.
        """
        try:
            reader = Reader(self.recipient.fields)
            match self.public.algorithm_id:
                case m.RSA | m.RSA_ENCRYPT:
                    return (b"rsa", (b"a", self._number(reader)))
                case m.ELGAMAL:
                    return (b"elg", (b"a", self._number(reader)), (b"b", self._number(reader)))
                case m.ECDH:
                    own, point = self.public.integers[0], reader.integer()
                    if (len(point), point[:1]) == (len(own), own[:1]):
                        return (b"ecdh", (b"s", reader.take(reader.number())), (b"e", point))
        except Malformed:
            pass
        return None

    def _number(self, reader: Reader) -> bytes:
        number = reader.integer()
        if not 1 < int.from_bytes(number) < int.from_bytes(self.public.integers[0]):
            raise Malformed("number")
        return number

    def answered(self, octets: bytes, *, padded: bool) -> bytes | None:
        """The session key, its cipher's octet first, out of what the holder made; None where it is none."""
        try:
            if self.public.algorithm_id == m.ECDH:
                reader = Reader(self.recipient.fields)
                reader.integer()
                return unwrapped_session_key(self.public, _shared(octets), reader, self.recipient.version)
            block = _unpadded(octets) if padded else octets
            return checked_session_key(block, self.recipient.version)
        except (ValueError, Malformed, InvalidUnwrap):
            return None


def questions(ciphertext: bytes, keys: Sequence[PublicMaterial]) -> list[Question]:
    """The session keys of a message, armored or binary, that may be for one of `keys`; limited.

    Those for named keys come first. Raises NotReadable.
    """
    return [Question(one, key) for one, key in meant_for(take_apart(ciphertext), keys)]


def _shared(point: bytes) -> bytes:
    """The coordinate that is shared, of a point as agents and cards give it, with its prefix or without."""
    if point[:1] == b"\x04" and len(point) % 2:
        return point[1 : 1 + len(point) // 2]
    return point[1:] if len(point) % 2 else point


def _unpadded(block: bytes) -> bytes:
    """What PKCS #1 v1.5 has padded (RFC 8017 section 7.2.2); the agent leaves out the leading zero."""
    kind, _, rest = block.lstrip(b"\0").partition(b"\0")
    if kind[:1] != b"\x02" or len(kind) < 9:
        raise Malformed("padding")
    return rest


def _subpacket(kind: int, octets: bytes) -> bytes:
    return bytes([1 + len(octets), kind]) + octets


def _integer(octets: bytes) -> bytes:
    number = int.from_bytes(octets)
    return number.bit_length().to_bytes(2) + number.to_bytes((number.bit_length() + 7) // 8)
