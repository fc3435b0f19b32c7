"""Messages: encrypt, sign, open and verify.

Making messages is the engine's work, and so is the mathematics of every signature. `session` decrypts, and
`content` reads what is inside.

Security: no plaintext leaves before its integrity is proven. Every failure is `NotReadable` with a text of
ours.

Standards: RFC 9580 section 10.3 (composition of messages); RFC 3156.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
from keystore.openpgp.content import is_content, read_content
from keystore.openpgp.encrypting import RecipientKey, encrypt_to
from keystore.openpgp.engine import EngineRefused, ask
from keystore.openpgp.key import SecretKey, SigningKey
from keystore.openpgp.packet import Malformed
from keystore.openpgp.verify import MAX_SIGNATURES, UNANNOUNCED, Lookup, judge_all

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
def recipient_key(certificate: bytes, fingerprint: Fingerprint) -> RecipientKey:
    """The key of `certificate` (binary) with this fingerprint, by itself. Raises KeyRefused."""
    return RecipientKey(single_key(certificate, fingerprint), fingerprint)


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
    if signer is None:
        return encrypt_to(octets, [_chosen(*one) for one in recipients])
    key = signing_key(signer, now)

    def sign(builder: engine.MessageBuilder) -> None:
        try:
            ask(lambda: builder.sign(key, None, "sha512"))
        except EngineRefused:
            raise KeyRefused(f"key {signer.fingerprint} could not sign") from None

    return encrypt_to(octets, [_chosen(*one) for one in recipients], sign)


def _chosen(certificate: bytes, keys: Sequence[Fingerprint]) -> RecipientKey:
    try:
        return recipient_key(certificate, keys[0])
    except (KeyRefused, IndexError):
        raise KeyRefused(f"cannot encrypt to certificate {facts(certificate).fingerprint}") from None


def trial(certificate_octets: bytes, keys: Sequence[Fingerprint]) -> None:
    """Encrypt a few octets to the certificate, to know before the first message that it works.

    Raises KeyRefused.
    """
    for key in keys:
        try:
            encrypt_to(b"trial", [recipient_key(certificate_octets, key)])
        except KeyRefused:
            raise KeyRefused(f"a trial encryption to key {key} failed") from None


def key_ids(ciphertext: bytes) -> tuple[str, ...]:
    """Key IDs (16 digits; zeros when hidden) that a message, armored or binary, is encrypted to.

    Raises NotReadable.
    """
    return tuple(recipient.key_id for recipient in session.take_apart(ciphertext).recipients)


def open_message(
    octets: bytes,
    keys: Iterable[SecretKey],
    lookup: Lookup,
    now: datetime,
    limits: OpenLimits | None = None,
) -> Opened:
    """Decrypt a message, armored or binary, with any (sub)key of `keys`, and judge the signatures inside.

    One that is signed and not encrypted is judged all the same, and says so; `keys` are not looked at then.
    `lookup` gives the certificates for an issuer. Raises NotReadable; its `reason` says which kind.
    """
    packed = session.unarmored(octets)
    if is_content(packed):
        return _signed_only(packed, len(octets), lookup, now, limits)
    message = session.taken_apart(packed)
    private = [one for key in keys for one in key.private_keys]
    return _opened(message, session.decrypt(message, private), len(octets), lookup, now, limits)


def _signed_only(
    packed: bytes, length: int, lookup: Lookup, now: datetime, limits: OpenLimits | None
) -> Opened:
    opened = _judged(packed, length, lookup, now, limits)
    if not opened.signatures:
        raise NotReadable("the message is neither encrypted nor signed", reason="not-encrypted")
    return replace(opened, encrypted=False)


def session_key_text(ciphertext: bytes, keys: Sequence[SecretKey]) -> str | None:
    """The session key that one of `keys` opens, as gpg takes it; None without any. Raises NotReadable."""
    private = [one for key in keys for one in key.private_keys]
    return session.session_key_text(session.take_apart(ciphertext), private)


def for_gnupg(ciphertext: bytes) -> bytes:
    """The message, binary, without what gpg would ask a person about. Raises NotReadable."""
    return session.take_apart(ciphertext).without_passphrases()


def open_with_session_key(
    ciphertext: bytes, session_key: bytes, lookup: Lookup, now: datetime, limits: OpenLimits | None = None
) -> Opened:
    """The same with a session key that somebody else opened: the cipher's octet, then the key.

    Of SEIPD version 2 the key alone. Raises NotReadable; `BeyondUs` where gpg may know what we do not.
    """
    message = session.take_apart(ciphertext)
    plain = session.decrypt_with(message, session_key)
    return _opened(message, plain, len(ciphertext), lookup, now, limits)


def open_unwrapped(
    ciphertext: bytes, plain: bytes, lookup: Lookup, now: datetime, limits: OpenLimits | None = None
) -> Opened:
    """The same with the packets inside, which somebody else decrypted with proof of their integrity.

    Raises NotReadable.
    """
    return _opened(session.take_apart(ciphertext), plain, len(ciphertext), lookup, now, limits)


def _opened(
    message: session.Encrypted,
    plain: bytes,
    length: int,
    lookup: Lookup,
    now: datetime,
    limits: OpenLimits | None,
) -> Opened:
    opened = _judged(plain, length, lookup, now, limits)
    return replace(opened, recipients=tuple(recipient.key_id for recipient in message.recipients))


def _judged(plain: bytes, length: int, lookup: Lookup, now: datetime, limits: OpenLimits | None) -> Opened:
    try:
        content = read_content(plain, (limits or OpenLimits()).for_ciphertext(length))
    except Malformed:
        raise NotReadable(session.DAMAGED) from None
    signatures = judge_all(content.signatures, content.literal, lookup, now)
    if content.unannounced and len(signatures) < MAX_SIGNATURES:
        signatures += (UNANNOUNCED,)
    return Opened(octets=content.literal, signatures=signatures)
