"""A letter box: who has its slot can put letters in; to take them out takes the keystore key.

So a pipe can keep a message without a passphrase, a keyring or an agent, and whoever reads the disk later
finds nothing that opens it. The secret half is derived from the keystore key and never stored; the slot is
public, and belongs to this keystore for as long as its key does.

Standards: RFC 9180 (HPKE, base mode: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM), RFC 7748.
Security: a letter is encrypted with a key of its own and bound to its context. It says nothing of who put it
in: whoever can write where letters are kept can put in others.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from keystore import wrap
from keystore.errors import StoreDamaged

_VERSION = b"secmailproxy-slot-1"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
_KEY_OCTETS = 32
_MARK_OCTETS = 16


@dataclass(frozen=True, slots=True)
class Slot:
    """The public half of a letter box."""

    public: bytes
    """Of X25519, 32 octets."""

    def put(self, octets: bytes, context: bytes) -> bytes:
        """Encrypt `octets`, bound to `context`."""
        return _SUITE.encrypt(octets, X25519PublicKey.from_public_bytes(self.public), info=context)

    def to_octets(self) -> bytes:
        """Return one line that `from_octets` reads."""
        return _VERSION + b" " + base64.b64encode(self.public) + b"\n"

    @classmethod
    def from_octets(cls, line: bytes) -> Slot:
        """Raises StoreDamaged for anything else than `to_octets` writes."""
        version, _, text = line.strip().partition(b" ")
        try:
            public = base64.b64decode(text, validate=True)
        except binascii.Error:
            public = b""
        if version != _VERSION or len(public) != _KEY_OCTETS:
            raise StoreDamaged("the slot of the letter box is damaged")
        return cls(public)


class Letterbox:
    """The secret half. Safe for threads."""

    def __init__(self, private: bytes) -> None:
        """`private` is 32 secret octets."""
        self._key = X25519PrivateKey.from_private_bytes(private)
        self._marking = wrap.derive(private, "secmailproxy letter marks")

    @cached_property
    def slot(self) -> Slot:
        """The public half."""
        return Slot(self._key.public_key().public_bytes_raw())

    def open(self, letter: bytes, context: bytes) -> bytes:
        """Return what `put` was given; StoreDamaged for another slot or context, or changed octets."""
        try:
            return _SUITE.decrypt(letter, self._key, info=context)
        except (InvalidTag, ValueError):
            raise StoreDamaged("a letter does not open: put in for another keystore, or damaged") from None

    def mark(self, octets: bytes) -> bytes:
        """Return 16 octets by which `octets` are known again; without the key they tell nothing of them."""
        return hmac.digest(self._marking, octets, "sha256")[:_MARK_OCTETS]
