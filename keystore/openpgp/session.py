"""The encryption layer: from a message to the packets inside, with the integrity proven before they are seen.

Encrypting is the engine's work. Decrypting is done here, because the engine inflates whatever a message holds
before it returns (a kilobyte can become gigabytes), and shows the packets inside to nobody. The primitives
are OpenSSL's, which also let other threads run.

Standards: RFC 9580 sections 5.1 (PKESK), 5.13 (SEIPD), 10.3.2.1 (which of them go together); LibrePGP's
packet 20 as GnuPG 2.3 and later write it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from keystore.errors import NotReadable
from keystore.model import key_id
from keystore.openpgp.aead import NONCE_SIZES, TAG_SIZE, Opener, aead_opener
from keystore.openpgp.material import PublicMaterial
from keystore.openpgp.packet import (
    MAX_PACKETS,
    Malformed,
    Packet,
    Reader,
    Tag,
    is_ignored,
    packets,
    sole,
    write,
)
from keystore.openpgp.private import PrivateKey, open_session_key
from keystore.openpgp.secret import CIPHERS

Key = TypeVar("Key")

HIDDEN = "0" * 16
MAX_SESSION_KEY_PACKETS = 1000
MAX_TRIALS = 128
"""How often a private key is used for one message: hidden recipients are tried with every key there is."""
MAX_WRONG_KEYS = 4
"""How many session keys may turn out wrong: each costs a pass over the message, and anybody can make them."""
MAX_OF_ONE_NAME = 8
"""How many session keys for one key, or for nobody named, another program is given to try."""
MAX_WRONG_OCTETS = 16 * 1024 * 1024
"""After so many octets in vain no other is tried: triple DES takes a second for 32 MiB."""
MAX_AEAD_CHUNKS = 400_000
"""64 octets each, the least that RFC 9580 allows, in 24 MiB; what programs write has many times as much."""

DAMAGED = "the message is damaged or was changed on its way"
NO_KEY = "none of the keys here can open this message"
SYMMETRIC = "the message is encrypted with a passphrase only"
UNKNOWN_WAY = "the message is encrypted in a way that we cannot read"

_TOGETHER = frozenset({(3, Tag.SEIPD, 1), (3, Tag.GNUPG_AEAD, 1), (6, Tag.SEIPD, 2)})
"""Which version of PKESK may stand before which packet of which version (RFC 9580 section 10.3.2.1)."""


class BeyondUs(NotReadable):
    """The session key was found, but not the means to use it."""

    def __init__(self) -> None:
        super().__init__(UNKNOWN_WAY, reason="unsupported")


@dataclass(frozen=True, slots=True)
class Recipient:
    """A PKESK packet: a session key encrypted to one key."""

    version: int
    key_id: str
    """Zeros when hidden."""
    algorithm_id: int
    fields: bytes
    body: bytes = b""
    """All of the packet."""


@dataclass(frozen=True, slots=True)
class Encrypted:
    """An encrypted message taken apart."""

    recipients: tuple[Recipient, ...]
    tag: int
    body: bytes
    passphrases: int = 0
    """How many session keys there are for passphrases; nobody is asked for one."""

    @property
    def is_ours(self) -> bool:
        """Whether its form is one that the engine decrypts."""
        return (self.tag, self.body[:1]) in {
            (Tag.SEIPD, b"\1"), (Tag.SEIPD, b"\2"), (Tag.GNUPG_AEAD, b"\1")
        }  # fmt: skip

    def without_passphrases(self) -> bytes:
        """The message, binary, as gpg is to see it: it would ask a person for each passphrase.

        Of one name, or none, it gets a few session keys only: a card may take a second for each.
        """
        seen: Counter[str] = Counter()
        named: list[bytes] = []
        for one in self.recipients:
            seen[one.key_id] += 1
            if seen[one.key_id] <= MAX_OF_ONE_NAME:
                named.append(write(Tag.PKESK, one.body))
        return b"".join(named) + write(self.tag, self.body)


def take_apart(ciphertext: bytes) -> Encrypted:
    """Read an encrypted message, armored or binary. Raises NotReadable, also for one without integrity."""
    return taken_apart(unarmored(ciphertext))


def unarmored(octets: bytes) -> bytes:
    """The packets of a message, armored or binary. Raises NotReadable."""
    try:
        return sole(octets, "MESSAGE")
    except Malformed:
        raise NotReadable(DAMAGED) from None


def taken_apart(packed: bytes) -> Encrypted:
    """The same as `take_apart` of the packets, binary."""
    recipients: list[Recipient] = []
    passphrases = 0
    data: Packet | None = None
    try:
        for packet in packets(packed, MAX_PACKETS):
            if is_ignored(packet.tag):
                continue
            if data is not None:
                raise Malformed("packets after the encrypted data")
            if packet.tag == Tag.PKESK and len(recipients) < MAX_SESSION_KEY_PACKETS:
                recipients += _recipient(packet.body)
            elif packet.tag == Tag.SKESK:
                passphrases += 1
            elif packet.tag in (Tag.SEIPD, Tag.SED, Tag.GNUPG_AEAD):
                data = packet
            else:
                raise Malformed("not an encrypted message")
    except Malformed:
        raise NotReadable(DAMAGED) from None
    if data is None:
        raise NotReadable("this is not an encrypted message", reason="damaged")
    if data.tag == Tag.SED:
        # RFC 9580 section 5.7: without integrity protection anybody may have changed it (EFAIL).
        raise NotReadable("the message has no integrity protection", reason="no-integrity")
    return Encrypted(tuple(recipients), data.tag, data.body, passphrases)


def _recipient(body: bytes) -> list[Recipient]:
    reader = Reader(body)
    version = reader.number()
    if version == 3:
        name = reader.take(8).hex().upper()
    elif version == 6:
        named = reader.take(reader.number())
        name = key_id(named[1:].hex().upper()) if named else HIDDEN
    else:
        return []
    return [Recipient(version, name, reader.number(), reader.rest(), body)]


def decrypt(message: Encrypted, keys: Iterable[PrivateKey]) -> bytes:
    """The packets inside, by the first of `keys` that opens it; keys named as recipients come first.

    Raises NotReadable. Expired and revoked keys open mail like others: it was encrypted to them.
    """
    if not message.is_ours:
        raise BeyondUs
    refusal = NotReadable(NO_KEY, reason="no-secret-key")
    if message.passphrases and not message.recipients:
        refusal = NotReadable(SYMMETRIC, reason="passphrase")
    wrong: set[bytes] = set()
    for recipient, session_key in _session_keys(message, keys):
        if session_key is None:
            if recipient.key_id != HIDDEN:
                refusal = NotReadable(DAMAGED)
            continue
        if session_key in wrong:
            continue
        try:
            return decrypt_with(message, session_key)
        except NotReadable as error:
            # One reason for all damage: which step failed must not be seen (RFC 9580 section 13.4).
            refusal = error
            wrong.add(session_key)
            if is_in_vain(len(wrong), len(message.body)):
                break
    raise refusal


def is_in_vain(wrong: int, length: int) -> bool:
    """Whether so many wrong session keys are enough for a message of `length` octets."""
    return wrong >= MAX_WRONG_KEYS or wrong * length > MAX_WRONG_OCTETS


def _session_keys(message: Encrypted, keys: Iterable[PrivateKey]) -> Iterator[tuple[Recipient, bytes | None]]:
    """What each key makes of each session key that may be for it; those for named keys come first."""
    for one, key in _candidates(message, keys, lambda one, key: _meant(one, key.public)):
        yield one, open_session_key(key, one.version, one.algorithm_id, one.fields)


def meant_for(
    message: Encrypted, keys: Iterable[PublicMaterial]
) -> Iterator[tuple[Recipient, PublicMaterial]]:
    """The session keys that may be for one of `keys`, which somebody else holds; a card takes long for each.

    Those for named keys come first, and of one name, or none, only a few.
    """
    seen: Counter[str] = Counter()
    for one, key in _candidates(message, keys, _meant):
        seen[one.key_id] += 1
        if seen[one.key_id] <= MAX_OF_ONE_NAME:
            yield one, key


def _candidates(
    message: Encrypted, keys: Iterable[Key], meant: Callable[[Recipient, Key], bool]
) -> list[tuple[Recipient, Key]]:
    version = message.body[0] if message.body else 0
    together = [one for one in message.recipients if (one.version, message.tag, version) in _TOGETHER]
    candidates = [(one, key) for one in together for key in keys if meant(one, key)]
    candidates.sort(key=lambda pair: pair[0].key_id == HIDDEN)
    return candidates[:MAX_TRIALS]


def session_key_text(message: Encrypted, keys: Iterable[PrivateKey]) -> str | None:
    """The first session key that one of `keys` opens, as gpg takes it; None without any.

    For ciphers that only gpg knows.
    """
    if message.body[:1] != b"\1":
        return None
    found = (key for _, key in _session_keys(message, keys) if key is not None)
    return next(map(for_gnupg, found), None)


def for_gnupg(session_key: bytes) -> str:
    """A session key of version 1, the cipher's octet first, as gpg takes it: "10:5B3C..."."""
    return f"{session_key[0]}:{session_key[1:].hex().upper()}"


def _meant(recipient: Recipient, public: PublicMaterial) -> bool:
    return recipient.algorithm_id == public.algorithm_id and recipient.key_id in (
        HIDDEN,
        key_id(public.fingerprint),
    )


def decrypt_with(message: Encrypted, session_key: bytes) -> bytes:
    """The packets inside. `session_key` starts with the cipher's octet, except for SEIPD version 2.

    Raises NotReadable; `BeyondUs` where gpg may know what we do not.
    """
    if not message.is_ours:
        raise BeyondUs
    try:
        if not session_key:
            raise Malformed("no session key")
        reader = Reader(message.body)
        version = reader.number()
        if message.tag == Tag.GNUPG_AEAD:
            return _gnupg_aead(reader, session_key)
        return _seipd_1(reader.rest(), session_key) if version == 1 else _seipd_2(reader, session_key)
    except (Malformed, InvalidTag, ValueError):
        raise NotReadable(DAMAGED) from None


_AES = (7, 8, 9)
_MAX_CHUNK, _MAX_GNUPG_CHUNK = 16, 56
"""Chunks of 4 MiB (RFC 9580 section 5.13.2); GnuPG writes these too, and reads what it once could write."""


def _seipd_1(octets: bytes, session_key: bytes) -> bytes:
    """RFC 9580 section 5.13.1: CFB, then a SHA-1 over everything as its last packet (MDC)."""
    cipher = CIPHERS.get(session_key[0])
    if cipher is None:
        raise BeyondUs
    if len(session_key) != 1 + cipher.key_size:
        raise Malformed("cipher")
    made = cipher.make(session_key[1:])
    block = made.block_size // 8
    opener = Cipher(made, CFB(bytes(block))).decryptor()
    plain = opener.update(octets) + opener.finalize()
    if len(plain) < block + 2 + 22 or plain[-22:-20] != b"\xd3\x14":
        raise Malformed("MDC")
    digest = hashlib.sha1(memoryview(plain)[:-20], usedforsecurity=False).digest()
    # The repeated octets after the first block are not compared: their answer would be an oracle (section
    # 5.13.1).
    if not hmac.compare_digest(digest, plain[-20:]):
        raise Malformed("MDC")
    return plain[block + 2 : -22]


def _seipd_2(reader: Reader, session_key: bytes) -> bytes:
    """RFC 9580 section 5.13.2."""
    header = reader.take(3)
    cipher_id, aead_id, chunk = header
    salt = reader.take(32)
    nonce_size = NONCE_SIZES.get(aead_id, 0)
    cipher = CIPHERS.get(cipher_id)
    if not nonce_size or cipher is None or cipher_id not in _AES:
        raise BeyondUs
    if chunk > _MAX_CHUNK or len(session_key) != cipher.key_size:
        raise Malformed("cipher")
    associated = b"\xd2\x02" + header
    derived = HKDF(SHA256(), cipher.key_size + nonce_size - 8, salt=salt, info=associated).derive(session_key)
    key, prefix = derived[: cipher.key_size], derived[cipher.key_size :]

    def nonce(index: int) -> bytes:
        return prefix + index.to_bytes(8, "big")

    return _chunks(
        aead_opener(aead_id, key), reader.rest(), chunk, nonce, lambda index: associated, associated
    )


def _gnupg_aead(reader: Reader, session_key: bytes) -> bytes:
    """LibrePGP section 5.16: like SEIPD version 2, with an explicit nonce and numbered associated data."""
    header = reader.take(3)
    cipher_id, aead_id, chunk = header
    nonce_size = NONCE_SIZES.get(aead_id, 0)
    if not nonce_size or cipher_id not in _AES:
        raise BeyondUs
    if chunk > _MAX_GNUPG_CHUNK or session_key[:1] != header[:1]:
        raise Malformed("cipher")
    start = reader.take(nonce_size)
    associated = b"\xd4\x01" + header

    def nonce(index: int) -> bytes:
        tail = int.from_bytes(start[-8:], "big") ^ index
        return start[:-8] + tail.to_bytes(8, "big")

    def numbered(index: int) -> bytes:
        return associated + index.to_bytes(8, "big")

    return _chunks(aead_opener(aead_id, session_key[1:]), reader.rest(), chunk, nonce, numbered, None)


def _chunks(
    opener: Opener,
    octets: bytes,
    chunk_exponent: int,
    nonce: Callable[[int], bytes],
    associated: Callable[[int], bytes],
    final: bytes | None,
) -> bytes:
    """All chunks of an AEAD packet; the last tag counts their octets. Raises InvalidTag and Malformed."""
    if len(octets) < 2 * TAG_SIZE:
        raise Malformed("chunks")
    size = (1 << (chunk_exponent + 6)) + TAG_SIZE
    if len(octets) > MAX_AEAD_CHUNKS * size:
        raise NotReadable("the message is cut into more pieces than we read", reason="too-large")
    body, last = octets[:-TAG_SIZE], octets[-TAG_SIZE:]
    plain = [
        opener.decrypt(nonce(index), body[at : at + size], associated(index))
        for index, at in enumerate(range(0, len(body), size))
    ]
    total = sum(map(len, plain)).to_bytes(8, "big")
    opener.decrypt(nonce(len(plain)), last, (associated(len(plain)) if final is None else final) + total)
    return b"".join(plain)
