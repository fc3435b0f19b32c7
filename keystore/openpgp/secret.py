"""Secret key packets: unlocking one with its passphrase, and writing it unprotected.

The engine can use a locked key but repeats the passphrase work (120 ms and more) for every operation and
cannot hand out the unlocked key, so unlocking is done here, once per start. What leaves this file goes into
memory, or is wrapped by the keystore; it is never written as it is.

Standards: RFC 9580 sections 3.7 (string-to-key) and 5.5.3 (secret key packets); the GNU stubs of keys that
have no secret primary key are described in GnuPG's doc/DETAILS.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from typing import NamedTuple

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.decrepit.ciphers import algorithms as old_ciphers
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keystore.errors import KeyRefused
from keystore.openpgp.aead import NONCE_SIZES, aead_opener
from keystore.openpgp.material import PublicMaterial, public_material, public_part
from keystore.openpgp.packet import Malformed, Reader

STUB = b"\xff\x00\x65\x00GNU\x01"
"""What gpg writes in place of the secret half of a primary key that is kept elsewhere."""


class CipherKind(NamedTuple):
    """A symmetric cipher: how it is made of its key, and the size of that in octets."""

    make: Callable[[bytes], BlockCipherAlgorithm]
    key_size: int


CIPHERS = {
    2: CipherKind(old_ciphers.TripleDES, 24),
    3: CipherKind(old_ciphers.CAST5, 16),
    4: CipherKind(old_ciphers.Blowfish, 16),
    7: CipherKind(AES, 16),
    8: CipherKind(AES, 24),
    9: CipherKind(AES, 32),
    11: CipherKind(old_ciphers.Camellia, 16),
    12: CipherKind(old_ciphers.Camellia, 24),
    13: CipherKind(old_ciphers.Camellia, 32),
}
"""Symmetric algorithm IDs (RFC 9580 section 9.3). Old ones are for reading what exists, never for writing."""

_S2K_HASHES = {
    1: "md5",
    2: "sha1",
    8: "sha256",
    9: "sha384",
    10: "sha512",
    11: "sha224",
    12: "sha3_256",
    14: "sha3_512",
}
_MAX_ARGON2_MEMORY_EXPONENT = 21
"""2 GiB, the first recommendation of RFC 9580 section 3.7.1.4: what a key file may make us spend."""


class SecretPacket(NamedTuple):
    """A secret key packet taken apart: `usage` 0 is unprotected, and a `stub` has no secret in it."""

    public: PublicMaterial
    usage: int
    stub: bool
    tail: bytes
    """All after the usage octet."""


def parse_secret(body: bytes) -> SecretPacket:
    """Read a secret key packet's body. Raises Malformed."""
    public = public_material(public_part(body))
    reader = Reader(body[len(public.body) :])
    usage = reader.number()
    tail = reader.rest()
    specifier = tail[3:] if public.version == 6 else tail[1:]
    return SecretPacket(public, usage, usage in (254, 255) and specifier[:1] == b"\x65", tail)


def unlocked_body(packet: SecretPacket, tag: int, passphrase: str | None) -> bytes | None:
    """The packet's body without protection, or None for a stub.

    Raises KeyRefused when the passphrase is missing or wrong, or the protection is one that we do not know.
    """
    if packet.stub:
        return None
    try:
        if packet.usage == 0:
            secret = packet.tail if packet.public.version == 6 else _plain_v4(packet.tail)
        else:
            secret = _unlock(packet, tag, passphrase)
    except (Malformed, UnsupportedAlgorithm, InvalidTag, ValueError):
        raise KeyRefused(
            f"key {packet.public.fingerprint} is damaged or its protection is not known here"
        ) from None
    check = b"" if packet.public.version == 6 else _sum(secret)
    return packet.public.body + b"\0" + secret + check


def _plain_v4(tail: bytes) -> bytes:
    if len(tail) < 2 or _sum(tail[:-2]) != tail[-2:]:
        raise Malformed("checksum")
    return tail[:-2]


def _sum(octets: bytes) -> bytes:
    return (sum(octets) & 0xFFFF).to_bytes(2, "big")


def _unlock(packet: SecretPacket, tag: int, passphrase: str | None) -> bytes:
    fingerprint = packet.public.fingerprint
    if passphrase is None:
        raise KeyRefused(f"key {fingerprint} is protected by a passphrase, and none was given")
    if packet.usage not in (253, 254, 255):
        raise Malformed("protection")
    reader = Reader(packet.tail)
    if packet.public.version == 6:
        reader.take(1)
    cipher_id = reader.number()
    cipher = CIPHERS.get(cipher_id)
    if cipher is None:
        raise Malformed("cipher")
    aead_id = reader.number() if packet.usage == 253 else 0
    if packet.public.version == 6:
        reader.take(1)
    key = string_to_key(reader, passphrase.encode("utf-8"), cipher.key_size)
    if packet.usage == 253:
        secret = _open_aead(packet, tag, cipher_id, aead_id, key, reader)
    else:
        secret = _open_cfb(packet.usage, cipher, key, reader)
    if secret is None:
        raise KeyRefused(f"wrong passphrase for key {fingerprint}")
    return secret


def _open_cfb(usage: int, cipher: CipherKind, key: bytes, reader: Reader) -> bytes | None:
    made = cipher.make(key)
    iv = reader.take(made.block_size // 8)
    opener = Cipher(made, CFB(iv)).decryptor()
    plain = opener.update(reader.rest()) + opener.finalize()
    if usage == 255:
        return plain[:-2] if len(plain) > 2 and hmac.compare_digest(_sum(plain[:-2]), plain[-2:]) else None
    # RFC 9580 section 5.5.3: SHA-1 here detects a wrong passphrase; it is part of the format.
    digest = hashlib.sha1(plain[:-20], usedforsecurity=False).digest()
    return plain[:-20] if len(plain) > 20 and hmac.compare_digest(digest, plain[-20:]) else None


def _open_aead(
    packet: SecretPacket, tag: int, cipher_id: int, aead_id: int, key: bytes, reader: Reader
) -> bytes | None:
    if aead_id not in NONCE_SIZES or CIPHERS[cipher_id].make is not AES:
        raise Malformed("AEAD algorithm")
    info = bytes([0xC0 | tag, packet.public.version, cipher_id, aead_id])
    derived = HKDF(SHA256(), len(key), salt=None, info=info).derive(key)
    nonce = reader.take(NONCE_SIZES[aead_id])
    try:
        associated = bytes([0xC0 | tag]) + packet.public.body
        return aead_opener(aead_id, derived).decrypt(nonce, reader.rest(), associated)
    except InvalidTag:
        return None


def string_to_key(reader: Reader, passphrase: bytes, size: int) -> bytes:
    """A key of `size` octets (RFC 9580 section 3.7.1)."""
    kind = reader.number()
    if kind == 4:
        salt = reader.take(16)
        passes, lanes, exponent = reader.take(3)
        if exponent > _MAX_ARGON2_MEMORY_EXPONENT:
            raise Malformed("Argon2 memory")
        maker = Argon2id(salt=salt, length=size, iterations=passes, lanes=lanes, memory_cost=1 << exponent)
        return maker.derive(passphrase)
    name = _S2K_HASHES.get(reader.number())
    if name is None or kind not in (0, 1, 3):
        raise Malformed("string-to-key")
    salted = (reader.take(8) if kind else b"") + passphrase
    count = len(salted)
    if kind == 3:
        coded = reader.number()
        count = max(count, (16 + (coded & 15)) << ((coded >> 4) + 6))
    key, zeros = b"", 0
    while len(key) < size:
        key += _repeated_digest(name, b"\0" * zeros, salted, count)
        zeros += 1
    return key[:size]


def _repeated_digest(name: str, prefix: bytes, salted: bytes, count: int) -> bytes:
    """Hash `prefix`, then `count` octets of `salted` over and over."""
    hasher = hashlib.new(name, prefix, usedforsecurity=False)
    block = salted * max(1, 65536 // max(1, len(salted)))
    whole, rest = divmod(count, len(block)) if block else (0, 0)
    for _ in range(whole):
        hasher.update(block)
    hasher.update(block[:rest])
    return hasher.digest()
