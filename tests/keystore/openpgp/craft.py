"""Messages that no honest program writes: any packets, encrypted rightly."""

from __future__ import annotations

import hashlib
import os

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESOCB3
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from openpgp.composed import SignedPublicKey
from openpgp.util import encrypt_session_key_to_recipient

from keystore.openpgp.packet import Tag, write

SESSION_KEY = bytes(range(32))


def literal(octets: bytes, mode: bytes = b"b") -> bytes:
    """A literal data packet."""
    return write(Tag.LITERAL, mode + b"\0" + bytes(4) + octets)


def session_key_packet(certificate: bytes, key: bytes = SESSION_KEY) -> bytes:
    """A PKESK packet: the session key, encrypted to the first subkey by the engine."""
    recipient = SignedPublicKey.from_bytes(certificate).public_subkeys[0]
    made = encrypt_session_key_to_recipient(key, recipient, version="seipd-v1", symmetric_algorithm="aes256")
    return made.to_bytes()


def seipd(plain: bytes, key: bytes = SESSION_KEY) -> bytes:
    """Packets in a SEIPD version 1 packet, AES-256 (RFC 9580 section 5.13.1)."""
    prefix = os.urandom(16)
    octets = prefix + prefix[-2:] + plain + b"\xd3\x14"
    octets += hashlib.sha1(octets).digest()
    maker = Cipher(AES(key), CFB(bytes(16))).encryptor()
    return write(Tag.SEIPD, b"\1" + maker.update(octets) + maker.finalize())


def gnupg_aead(plain: bytes, key: bytes = SESSION_KEY, chunk_exponent: int = 0) -> bytes:
    """Packets in GnuPG's packet 20 with AES-256 in OCB mode (LibrePGP section 5.16)."""
    header = bytes([9, 2, chunk_exponent])
    nonce = os.urandom(15)
    associated = b"\xd4\1" + header
    size = 1 << (chunk_exponent + 6)
    pieces = [plain[at : at + size] for at in range(0, len(plain), size)]
    cipher = AESOCB3(key)

    def number(index: int) -> tuple[bytes, bytes]:
        tail = int.from_bytes(nonce[-8:], "big") ^ index
        return nonce[:-8] + tail.to_bytes(8, "big"), associated + index.to_bytes(8, "big")

    body = []
    for index, piece in enumerate(pieces):
        start, header_octets = number(index)
        body.append(cipher.encrypt(start, piece, header_octets))
    start, header_octets = number(len(pieces))
    body.append(cipher.encrypt(start, b"", header_octets + len(plain).to_bytes(8, "big")))
    return write(Tag.GNUPG_AEAD, b"\1" + header + nonce + b"".join(body))


def encrypted(certificate: bytes, plain: bytes) -> bytes:
    """A whole message whose inside is `plain`, packets of any kind."""
    return session_key_packet(certificate) + seipd(plain)
