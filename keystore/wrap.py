"""Secrets at rest: authenticated encryption, and keys from passphrases.

A *wrap* is `version (1 octet) | nonce (12) | AES-256-GCM ciphertext and tag`; a *seal* has a fresh salt of 16
octets in place of the nonce, from which HKDF derives a key that is used once, so that any number of messages
may be sealed. The caller's context is authenticated with both: a wrap moved to another row does not open.

Standards: NIST SP 800-38D (GCM), RFC 5869 (HKDF), RFC 9106 (Argon2id, second recommended option).
Security: whatever does not open raises `StoreDamaged`; the cause is never told apart.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keystore.errors import StoreDamaged

KEY_LENGTH = 32
_NONCE_LENGTH = 12
_SALT_LENGTH = 16
_TAG_LENGTH = 16
_WRAP_VERSION = b"\x01"
_SEAL_VERSION = b"\x02"
_ARGON2ID = "argon2id"


def new_key() -> bytes:
    """Return 32 random octets."""
    return secrets.token_bytes(KEY_LENGTH)


def derive(key: bytes, label: str, salt: bytes = b"", length: int = KEY_LENGTH) -> bytes:
    """Return a key for the purpose `label` (RFC 5869); without knowledge of `key` it tells nothing of it."""
    return HKDF(SHA256(), length, salt or None, label.encode()).derive(key)


def wrap(key: bytes, octets: bytes, context: bytes) -> bytes:
    """Encrypt `octets` under `key` (32 octets), bound to `context`."""
    nonce = secrets.token_bytes(_NONCE_LENGTH)
    return _WRAP_VERSION + nonce + AESGCM(key).encrypt(nonce, octets, _WRAP_VERSION + context)


def unwrap(key: bytes, wrapped: bytes, context: bytes) -> bytes:
    """Return what `wrap` was given; StoreDamaged for another key or context, or changed octets."""
    nonce = wrapped[1 : 1 + _NONCE_LENGTH]
    ciphertext = wrapped[1 + _NONCE_LENGTH :]
    if wrapped[:1] != _WRAP_VERSION or len(ciphertext) < _TAG_LENGTH:
        raise StoreDamaged("a stored secret has an unknown form")
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, _WRAP_VERSION + context)
    except InvalidTag:
        raise StoreDamaged("a stored secret does not open: wrong key or damaged") from None


def seal(key: bytes, octets: bytes, context: bytes) -> bytes:
    """Like `wrap`, with a key of its own for each call."""
    salt = secrets.token_bytes(_SALT_LENGTH)
    return _SEAL_VERSION + salt + _seal_cipher(key, salt).encrypt(bytes(_NONCE_LENGTH), octets, context)


def unseal(key: bytes, sealed: bytes, context: bytes) -> bytes:
    """Return what `seal` was given; StoreDamaged for another key or context, or changed octets."""
    salt = sealed[1 : 1 + _SALT_LENGTH]
    ciphertext = sealed[1 + _SALT_LENGTH :]
    if sealed[:1] != _SEAL_VERSION or len(ciphertext) < _TAG_LENGTH:
        raise StoreDamaged("sealed octets have an unknown form")
    try:
        return _seal_cipher(key, salt).decrypt(bytes(_NONCE_LENGTH), ciphertext, context)
    except InvalidTag:
        raise StoreDamaged("sealed octets do not open: wrong key or damaged") from None


def _seal_cipher(key: bytes, salt: bytes) -> AESGCM:
    # The salt makes the key unique, so the constant nonce is used once with it.
    return AESGCM(derive(key, "secmailproxy sealing one message", salt))


@dataclass(frozen=True, slots=True)
class PassphraseKdf:
    """The parameters of Argon2id, stored in clear beside what they protect."""

    salt: bytes
    iterations: int = 3
    lanes: int = 4
    memory_kib: int = 64 * 1024

    @classmethod
    def fresh(cls) -> PassphraseKdf:
        """Today's parameters with a new salt."""
        return cls(salt=secrets.token_bytes(_SALT_LENGTH))

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> PassphraseKdf:
        """What `values` was made of. Raises ValueError, KeyError or TypeError for anything else."""
        if values["name"] != _ARGON2ID:
            raise ValueError("another key derivation")
        try:
            numbers = [int(values[name]) for name in ("iterations", "lanes", "memory_kib")]
        except OverflowError:  # JSON, as Python reads it, has infinity
            raise ValueError("no number") from None
        return cls(base64.b64decode(values["salt"], validate=True), *numbers)

    def values(self) -> dict[str, str | int]:
        """The parameters as JSON has them in a file."""
        return {
            "name": _ARGON2ID,
            "salt": base64.b64encode(self.salt).decode("ascii"),
            "iterations": self.iterations,
            "lanes": self.lanes,
            "memory_kib": self.memory_kib,
        }

    def key(self, passphrase: str) -> bytes:
        """Return the 32 octets for `passphrase`; StoreDamaged for parameters that we never write."""
        # A changed file must not make us fill the memory or compute for hours.
        sane = (
            8 <= len(self.salt) <= 64
            and 1 <= self.iterations <= 32
            and 1 <= self.lanes <= 64
            and 8 * self.lanes <= self.memory_kib <= 1024 * 1024
        )
        if not sane:
            raise StoreDamaged("the parameters of the passphrase's key derivation are out of range")
        kdf = Argon2id(
            salt=self.salt,
            length=KEY_LENGTH,
            iterations=self.iterations,
            lanes=self.lanes,
            memory_cost=self.memory_kib,
        )
        # A terminal may give octets that are no UTF-8, as such escapes.
        return kdf.derive(passphrase.encode("utf-8", "surrogateescape"))
