"""Authenticated encryption with AES: OCB and GCM by OpenSSL, EAX made of its CTR and CMAC.

Only opening: we write OCB by the engine. EAX is what GnuPG 2.3 wrote in its first versions, and RFC 9580
demands no less of a reader.

Standards: RFC 9580 section 9.6; EAX: Bellare, Rogaway, Wagner, "The EAX Mode of Operation" (2004).
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESOCB3
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.cmac import CMAC

EAX, OCB, GCM = 1, 2, 3
NONCE_SIZES = {EAX: 16, OCB: 15, GCM: 12}
"""Octets of a nonce, by AEAD algorithm ID."""
TAG_SIZE = 16


class Opener(Protocol):
    """A key in one of these modes."""

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """The plaintext of `data`, which ends in the tag. Raises InvalidTag."""


def aead_opener(aead_id: int, key: bytes) -> Opener:
    """AES in the AEAD mode of this ID, one of `NONCE_SIZES`. Raises ValueError for a key of a wrong size."""
    if aead_id == EAX:
        return _Eax(key)
    return AESOCB3(key) if aead_id == OCB else AESGCM(key)


class _Eax:
    def __init__(self, key: bytes) -> None:
        self._cipher = AES(key)

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes) -> bytes:
        """The tag is compared before anything is decrypted."""
        packed, tag = data[:-TAG_SIZE], data[-TAG_SIZE:]
        start = self._omac(0, nonce)
        sums = (start, self._omac(1, associated_data), self._omac(2, packed))
        expected = bytes(one ^ two ^ three for one, two, three in zip(*sums, strict=True))
        if not hmac.compare_digest(expected, tag):
            raise InvalidTag
        opener = Cipher(self._cipher, CTR(start)).decryptor()
        return opener.update(packed) + opener.finalize()

    def _omac(self, number: int, octets: bytes) -> bytes:
        maker = CMAC(self._cipher)
        maker.update(bytes(15) + bytes([number]))
        maker.update(octets)
        return maker.finalize()
