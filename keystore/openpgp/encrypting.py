"""One message, encrypted to keys that somebody has judged.

`message.encrypt` does so for whole certificates; `keystore.quick` does the same for one key, in a process
that must not import this package.

Standards: RFC 9580 sections 5.1 (PKESK), 10.3 (composition of messages).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

from openpgp import composed as engine

from keystore.errors import KeyRefused
from keystore.model import Fingerprint, key_id
from keystore.openpgp.ascii_armor import armor
from keystore.openpgp.engine import EngineRefused, ask
from keystore.openpgp.packet import Malformed, Packet, Tag, packets


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """One public key to encrypt to."""

    octets: bytes
    """Binary: the primary key alone, or with one subkey and its signatures."""
    fingerprint: Fingerprint
    """Of the key that is encrypted to."""

    @property
    def is_v6(self) -> bool:
        """Whether it is of version 6."""
        return len(self.fingerprint) == 64


def encrypt_to(
    octets: bytes,
    keys: Sequence[RecipientKey],
    sign: Callable[[engine.MessageBuilder], object] = lambda builder: None,
) -> bytes:
    """An armored message (CRLF line endings, not compressed) to all `keys`; `sign` puts a signature inside.

    AES-256 with MDC, which every reader knows; AEAD (SEIPD version 2) only when all keys are version 6. It
    names these keys and no other: that is looked at. Raises KeyRefused naming a key.
    """
    if not keys:
        raise KeyRefused("there is nobody to encrypt to")
    builder = engine.MessageBuilder.from_bytes("", octets)
    all_v6 = all(key.is_v6 for key in keys)
    if all_v6:
        builder.seipd_v2("aes256", "ocb")
    else:
        builder.seipd_v1("aes256")
    sign(builder)
    return armor(_made_for(keys, builder), "MESSAGE", checksum=not all_v6)


def session_key_packets(session_key: bytes, keys: Sequence[RecipientKey]) -> bytes:
    """A session key of AES-256 for each of `keys`, for a message that is encrypted elsewhere; version 3.

    Raises KeyRefused naming a key.
    """
    if not keys:
        raise KeyRefused("there is nobody to encrypt to")
    builder = engine.MessageBuilder.from_bytes("", b"")
    builder.seipd_v1("aes256")
    builder.set_session_key(session_key)
    return b"".join(one.octets for one in islice(packets(_made_for(keys, builder)), len(keys)))


def _made_for(keys: Sequence[RecipientKey], builder: engine.MessageBuilder) -> bytes:
    """The message, binary, encrypted to just these keys. Raises KeyRefused."""
    for key in keys:
        _add(builder, key)
    try:
        made = ask(builder.to_vec)
    except EngineRefused:
        raise KeyRefused("the message could not be encrypted with these keys") from None
    if not _names(made, keys):
        raise KeyRefused("the message would be encrypted to other keys than those chosen")
    return made


def _add(builder: engine.MessageBuilder, key: RecipientKey) -> None:
    try:
        made = _engine_key(key.octets)
        ask(lambda: builder.encrypt_to_key(made))
    except EngineRefused:
        raise KeyRefused(f"cannot encrypt to the key {key.fingerprint}") from None


@lru_cache(maxsize=512)
def _engine_key(octets: bytes) -> engine.SignedPublicKey | engine.SignedPublicSubKey:
    whole = ask(lambda: engine.SignedPublicKey.from_bytes(octets))
    return whole.public_subkeys[0] if whole.public_subkeys else whole


def _names(made: bytes, keys: Sequence[RecipientKey]) -> bool:
    """Whether session keys for `keys`, and for no other, stand before the encrypted data."""
    try:
        *first, data = islice(packets(made), len(keys) + 1)
    except (Malformed, ValueError):
        return False
    named = [_addressee(one) for one in first]
    return named == [key_id(key.fingerprint) for key in keys] and data.tag == Tag.SEIPD


def _addressee(packet: Packet) -> str:
    """The key ID that a session key names; "" of any other packet."""
    if packet.tag != Tag.PKESK:
        return ""
    body = packet.body
    if body[:1] == b"\x03":
        return body[1:9].hex().upper()
    # Version 6: a length, the version of the key, its fingerprint.
    return key_id(body[3 : 2 + body[1]].hex().upper())
