"""Messages: encrypt, sign, open and verify.

Making messages is the engine's work, and so is the mathematics of every signature. `session` decrypts.

Security: no plaintext leaves before its integrity is proven. Every failure is `NotReadable` with a text of
ours.

Standards: RFC 9580 sections 10.3 (composition of messages), 5.9 (literal data), 5.6 (compression); RFC 3156.
"""

from __future__ import annotations

import bz2
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from secrets import token_bytes

from openpgp import composed as engine

from keystore import policy
from keystore.errors import KeyRefused, NotReadable
from keystore.model import DetachedSignature, Fingerprint, Opened, Purpose, Usability
from keystore.openpgp import session
from keystore.openpgp.ascii_armor import armor
from keystore.openpgp.certificate import facts, single_key
from keystore.openpgp.engine import EngineRefused, ask
from keystore.openpgp.key import SecretKey, SigningKey
from keystore.openpgp.packet import Malformed, Reader, Tag, packets
from keystore.openpgp.verify import Lookup, judge_all

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class OpenLimits:
    """How much a ciphertext may become: `octets` at most, and at most `ratio` times its size plus `slack`."""

    octets: int = 100 * MIB
    ratio: int = 100
    slack: int = MIB

    def for_ciphertext(self, length: int) -> int:
        """The most octets that a ciphertext of `length` octets may hold."""
        return min(self.octets, self.ratio * length + self.slack)


def signing_key(key: SecretKey, now: datetime) -> SigningKey:
    """The engine's object for the newest usable signing key whose secret is here. Raises KeyRefused."""
    usable = _usable_to_sign(key.certificate_octets, now.replace(microsecond=0))
    for fingerprint in usable.keys:
        if fingerprint in key.signing_keys:
            return key.signing_keys[fingerprint]
    why = usable.explanation or "its secret signing key is not here"
    raise KeyRefused(f"key {key.fingerprint} cannot sign: {why}")


@lru_cache(maxsize=64)
def _usable_to_sign(certificate_octets: bytes, second: datetime) -> Usability:
    # Times in OpenPGP are whole seconds, and a busy second asks often.
    return policy.usability(facts(certificate_octets), Purpose.SIGN, second)


class _Random:
    """The system's random source in the shape that the engine asks for."""

    @staticmethod
    def randbytes(count: int) -> bytes:
        return token_bytes(count)


def sign_detached(key: SecretKey, octets: bytes, now: datetime) -> DetachedSignature:
    """A detached binary signature over exactly `octets`, with SHA-512. Raises KeyRefused."""
    signer = signing_key(key, now)
    try:
        made = ask(
            lambda: engine.DetachedSignature.sign_binary_data(
                _Random(), signer, None, "sha512", octets
            ).to_bytes()
        )
    except EngineRefused:
        raise KeyRefused(f"key {key.fingerprint} could not sign") from None
    return DetachedSignature(armor(made, "SIGNATURE"), "pgp-sha512")


@lru_cache(maxsize=512)
def _recipient_key(
    certificate_octets: bytes, fingerprint: Fingerprint
) -> engine.SignedPublicKey | engine.SignedPublicSubKey:
    octets = single_key(certificate_octets, fingerprint)
    whole = ask(lambda: engine.SignedPublicKey.from_bytes(octets))
    return whole.public_subkeys[0] if whole.public_subkeys else whole


def encrypt(
    octets: bytes,
    recipients: Sequence[tuple[bytes, Sequence[Fingerprint]]],
    signer: SecretKey | None,
    now: datetime,
) -> bytes:
    """Encrypt, and sign inside when there is a `signer`; armored, CRLF line endings, no compression.

    `recipients` are (certificate octets, fingerprints of usable keys as `Usability.keys` gives them): each is
    encrypted to the first, the newest. AES-256 with MDC, which every reader knows; AEAD (SEIPD version 2)
    only when all certificates are version 6. Raises KeyRefused naming the certificate or the signer.
    """
    if not recipients:
        raise KeyRefused("there is nobody to encrypt to")
    builder = engine.MessageBuilder.from_bytes("", octets)
    all_v6 = all(facts(certificate).version == 6 for certificate, _keys in recipients)
    if all_v6:
        builder.seipd_v2("aes256", "ocb")
    else:
        builder.seipd_v1("aes256")
    if signer is not None:
        chosen = signing_key(signer, now)
        try:
            ask(lambda: builder.sign(chosen, None, "sha512"))
        except EngineRefused:
            raise KeyRefused(f"key {signer.fingerprint} could not sign") from None
    for certificate, keys in recipients:
        _add_recipient(builder, certificate, keys)
    try:
        return armor(ask(builder.to_vec), "MESSAGE", checksum=not all_v6)
    except EngineRefused:
        raise KeyRefused("the message could not be encrypted with these keys") from None


def _add_recipient(builder: engine.MessageBuilder, certificate: bytes, keys: Sequence[Fingerprint]) -> None:
    try:
        key = _recipient_key(certificate, keys[0])
        ask(lambda: builder.encrypt_to_key(key))
    except (EngineRefused, KeyRefused, IndexError):
        raise KeyRefused(f"cannot encrypt to certificate {facts(certificate).fingerprint}") from None


def trial(certificate_octets: bytes, keys: Sequence[Fingerprint]) -> None:
    """Encrypt a few octets to the certificate, to know before the first message that it works.

    Raises KeyRefused.
    """
    for key in keys:
        builder = engine.MessageBuilder.from_bytes("", b"trial")
        builder.seipd_v1("aes256")
        _add_recipient(builder, certificate_octets, [key])
        try:
            ask(builder.to_vec)
        except EngineRefused:
            raise KeyRefused(f"a trial encryption to key {key} failed") from None


def key_ids(ciphertext: bytes) -> tuple[str, ...]:
    """Key IDs (16 digits; zeros when hidden) that a message, armored or binary, is encrypted to.

    Raises NotReadable.
    """
    return tuple(recipient.key_id for recipient in session.take_apart(ciphertext).recipients)


def open_message(
    ciphertext: bytes,
    keys: Sequence[SecretKey],
    lookup: Lookup,
    now: datetime,
    limits: OpenLimits | None = None,
) -> Opened:
    """Decrypt a message, armored or binary, with any (sub)key of `keys`, and judge the signatures inside.

    `lookup` gives the certificates for an issuer. Raises NotReadable; its `reason` says which kind.
    """
    message = session.take_apart(ciphertext)
    private = [one for key in keys for one in key.private_keys]
    return _opened(message, session.decrypt(message, private), len(ciphertext), lookup, now, limits)


def open_with_session_key(
    ciphertext: bytes, session_key: bytes, lookup: Lookup, now: datetime, limits: OpenLimits | None = None
) -> Opened:
    """The same with a session key that somebody else opened: the cipher's octet, then the key.

    `session_key_from_text` makes it of what gpg prints. Raises NotReadable.
    """
    message = session.take_apart(ciphertext)
    bare = message.tag == Tag.SEIPD and message.body[:1] == b"\x02"
    plain = session.decrypt_with(message, session_key[1:] if bare else session_key)
    return _opened(message, plain, len(ciphertext), lookup, now, limits)


def open_unwrapped(
    ciphertext: bytes, plain: bytes, lookup: Lookup, now: datetime, limits: OpenLimits | None = None
) -> Opened:
    """The same with the packets inside, which somebody else decrypted with proof of their integrity.

    Raises NotReadable.
    """
    return _opened(session.take_apart(ciphertext), plain, len(ciphertext), lookup, now, limits)


def session_key_from_text(text: str) -> bytes:
    """What `gpg --show-session-key` prints, "9:5B3C...", as octets. Raises NotReadable."""
    cipher, _, key = text.strip().partition(":")
    try:
        return bytes([int(cipher)]) + bytes.fromhex(key)
    except ValueError:
        raise NotReadable(
            "the session key is not of the form that gpg prints", reason="unsupported"
        ) from None


def _opened(
    message: session.Encrypted,
    plain: bytes,
    length: int,
    lookup: Lookup,
    now: datetime,
    limits: OpenLimits | None,
) -> Opened:
    most = (limits or OpenLimits()).for_ciphertext(length)
    try:
        inside = _Inside(most)
        inside.read(plain, compressed=False)
    except Malformed:
        raise NotReadable(session.DAMAGED) from None
    if inside.literal is None:
        raise NotReadable("there is nothing in this message", reason="unsupported")
    return Opened(
        octets=inside.literal,
        signatures=judge_all(inside.signatures, inside.literal, lookup, now),
        recipients=tuple(recipient.key_id for recipient in message.recipients),
    )


class _Inside:
    """Reads the packets inside the encryption: one literal, signatures, at most one layer of compression."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.literal: bytes | None = None
        self.signatures: list[bytes] = []

    def read(self, octets: bytes, *, compressed: bool) -> None:
        for packet in packets(octets):
            match packet.tag:
                case Tag.LITERAL:
                    self._literal(packet.body)
                case Tag.SIGNATURE:
                    self.signatures.append(packet.body)
                case Tag.COMPRESSED if not compressed and self.literal is None:
                    self.read(inflate(packet.body, self.most), compressed=True)
                case Tag.ONE_PASS_SIGNATURE | Tag.MARKER | Tag.PADDING:
                    pass
                case Tag.SEIPD | Tag.SED | Tag.GNUPG_AEAD | Tag.PKESK | Tag.SKESK:
                    raise NotReadable("there is another encrypted message inside", reason="unsupported")
                case _:
                    raise Malformed("unexpected packet")

    def _literal(self, body: bytes) -> None:
        if self.literal is not None:
            # What one signature covers and what is shown must be the same octets.
            raise Malformed("two literals")
        reader = Reader(body)
        if reader.take(1) not in (b"b", b"t", b"u", b"m"):
            raise Malformed("literal format")
        reader.take(reader.number())
        reader.take(4)
        self.literal = reader.rest()
        if len(self.literal) > self.most:
            raise NotReadable("the message is larger than we open", reason="too-large")


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
        raise NotReadable("the message is larger than we open", reason="too-large")
    if not finished:
        raise Malformed("compression")
    return plain


def _decompress(algorithm: bytes, packed: bytes, most: int) -> tuple[bytes, bool]:
    """At most `most` octets, and whether that was all (RFC 9580 section 9.4)."""
    if algorithm in (b"\1", b"\2"):
        deflate = zlib.decompressobj(-15 if algorithm == b"\1" else 15)
        return deflate.decompress(packed, most), deflate.eof
    if algorithm == b"\3":
        bzip2 = bz2.BZ2Decompressor()
        return bzip2.decompress(packed, most), bzip2.eof
    raise NotReadable("the message is compressed in a way that we cannot read", reason="unsupported")
