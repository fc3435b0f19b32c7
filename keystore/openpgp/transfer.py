"""Keys on their way in and out: the union of two versions, a form under a passphrase, a part for gpg.

Standards: RFC 9580 sections 3.7.1.3 (iterated and salted string-to-key), 5.5.3 (secret key packets), 10.2.
"""

from __future__ import annotations

import hashlib
from secrets import token_bytes

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from keystore.errors import KeyRefused
from keystore.model import Fingerprint
from keystore.openpgp.certificate import merge
from keystore.openpgp.key import SecretKey, unlock
from keystore.openpgp.packet import Reader, Tag, packets, write
from keystore.openpgp.secret import SecretPacket, parse_secret, string_to_key

_SECRET = frozenset({Tag.SECRET_KEY, Tag.SECRET_SUBKEY})
_AES256, _SHA256, _ITERATED_SALTED, _MOST_ITERATIONS = 9, 8, 3, 0xFF
_CHECKED_CFB = 254


def united(one: SecretKey, other: SecretKey) -> SecretKey:
    """Every secret half and signature of either version of one key. Raises KeyRefused for two keys."""
    octets = merge(one.certificate_octets, other.certificate_octets)
    return SecretKey(octets, {**_secrets(other), **_secrets(one)})


def _secrets(key: SecretKey) -> dict[Fingerprint, bytes]:
    opened = [
        (parse_secret(packet.body), packet.body)
        for packet in packets(key.to_octets())
        if packet.tag in _SECRET
    ]
    return {secret.public.fingerprint: body for secret, body in opened if not secret.stub}


def protect(key: SecretKey, passphrase: str | None) -> bytes:
    """The transferable secret key, binary: under `passphrase` as gpg 2.2 reads it, or in clear for None.

    Raises KeyRefused when what was made does not open again.
    """
    clear = key.to_octets()
    if passphrase is None:
        return clear
    made = b"".join(
        write(packet.tag, _protected(parse_secret(packet.body), packet.body, passphrase))
        if packet.tag in _SECRET
        else packet.octets
        for packet in packets(clear)
    )
    if unlock(made, passphrase).to_octets() != clear:
        raise KeyRefused(f"key {key.fingerprint} cannot be put under a passphrase")
    return made


def _protected(secret: SecretPacket, body: bytes, passphrase: str) -> bytes:
    if secret.stub:
        return body
    public = secret.public
    # Without protection, version 4 ends in a checksum of two octets that version 6 does not have.
    plain = secret.tail if public.version == 6 else secret.tail[:-2]
    specifier = bytes([_ITERATED_SALTED, _SHA256]) + token_bytes(8) + bytes([_MOST_ITERATIONS])
    key = string_to_key(Reader(specifier), passphrase.encode(), 32)
    iv = token_bytes(16)
    maker = Cipher(AES(key), CFB(iv)).encryptor()
    # RFC 9580 section 5.5.3: SHA-1 here detects a wrong passphrase; it is part of the format.
    digest = hashlib.sha1(plain, usedforsecurity=False).digest()
    ciphertext = maker.update(plain + digest) + maker.finalize()
    fields = bytes([_AES256]) + specifier + iv
    if public.version == 6:
        fields = bytes([_AES256, len(specifier)]) + specifier + iv
        fields = bytes([len(fields)]) + fields
    return public.body + bytes([_CHECKED_CFB]) + fields + ciphertext
