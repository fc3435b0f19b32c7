"""CMS envelopes opened: EnvelopedData, AuthEnvelopedData.

AES in CBC and GCM mode and ChaCha20-Poly1305; triple DES and Camellia for mail that is old; what is weaker is
refused.

Standards: RFC 5652 section 6, RFC 5083, RFC 5084 (AES-GCM), RFC 8103 (ChaCha20-Poly1305), RFC 3565, RFC 3370
section 5.1 and RFC 3657 (AES, triple DES and Camellia in CBC mode), RFC 8551 section 2.7.
Security: every failure after a key was found has one text, so that no reply tells what was wrong. With CBC no
integrity is proven: whoever changes ciphertext changes plaintext.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.hazmat.decrepit.ciphers.algorithms import Camellia, TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.padding import PKCS7

from keystore.errors import NotReadable, StoreLocked
from keystore.model import OpenedEnvelope
from keystore.smime import ber
from keystore.smime.key import SecretKey
from keystore.smime.mathematics import algorithm_identifier, dotted
from keystore.smime.naming import names
from keystore.smime.recipients import Recipient, content_key, read_recipients

MAX_ATTEMPTS = 16
"""Computations with secret keys for one message."""
MIN_TAG = 12
"""Octets of a GCM tag (RFC 5084 section 3.2)."""

_ENVELOPED = "1.2.840.113549.1.7.3"
_AUTH_ENVELOPED = "1.2.840.113549.1.9.16.1.23"
_DATA = "1.2.840.113549.1.7.1"
_EXPLICIT = _ORIGINATOR_INFO = 0xA0
_CONTENT = 0x80
_CONTENT_PIECES = 0xA0
_ATTRIBUTES, _MORE_ATTRIBUTES = 0xA1, 0xA2
_TRIPLE_DES = "1.2.840.113549.3.7"
_CAMELLIA = {
    "1.2.392.200011.61.1.1.1.2": 16,
    "1.2.392.200011.61.1.1.1.3": 24,
    "1.2.392.200011.61.1.1.1.4": 32,
}
_CBC = {
    "2.16.840.1.101.3.4.1.2": 16,
    "2.16.840.1.101.3.4.1.22": 24,
    "2.16.840.1.101.3.4.1.42": 32,
    _TRIPLE_DES: 24,
    **_CAMELLIA,
}
"""Octets of a key; so above and below."""
_GCM = {
    "2.16.840.1.101.3.4.1.6": 16,
    "2.16.840.1.101.3.4.1.26": 24,
    "2.16.840.1.101.3.4.1.46": 32,
}
_CHACHA20_POLY1305 = "1.2.840.113549.1.9.16.3.18"
_WEAK = {"1.2.840.113549.3.2": "RC2", "1.3.14.3.2.7": "DES", "1.2.840.113549.3.4": "RC4"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message that is encrypted, as far as it can be told without keys."""

    recipients: tuple[Recipient, ...]
    algorithm: str
    """Of the content, dotted."""
    parameters: bytes
    ciphertext: memoryview
    tag: bytes | None
    """None where nothing is authenticated."""
    attributes: bytes = b""
    """What is authenticated besides: a SET in DER, or nothing."""


def recipients(cms: bytes) -> tuple[bytes | None, ...]:
    """All whom a message names, as `names_in_messages` has it; None: otherwise. Raises NotReadable."""
    return tuple(one.name for one in read_envelope(cms).recipients)


def open_message(cms: bytes, *keys: SecretKey) -> OpenedEnvelope:
    """Open an envelope, BER or DER, with keys of its recipients. Raises NotReadable."""
    envelope = read_envelope(cms)
    pairs = [
        (one, key)
        for one in envelope.recipients
        for key in keys
        if one.name and names(one.name, key.certificate_octets)
    ]
    return open_envelope(envelope, pairs)


def read_envelope(cms: bytes) -> Envelope:
    """An envelope, BER or DER. Raises NotReadable."""
    try:
        return _read(ber.definite(cms))
    except NotReadable:
        raise
    except Exception:  # noqa: BLE001  a parser of strangers' octets: whatever it raises, it is not readable
        raise _damaged() from None


def open_envelope(envelope: Envelope, pairs: Sequence[tuple[Recipient, SecretKey]]) -> OpenedEnvelope:
    """What an envelope holds, by a key of ours for one of its recipients.

    Raises NotReadable, and StoreLocked where a key is on a token that does not answer.
    """
    if not pairs:
        raise NotReadable("there is no secret key for this message", reason="no-secret-key")
    length = _key_length(envelope)
    able = [(one, key) for one, key in pairs if one.supported]
    if not able:
        raise _unsupported("its key is encrypted")
    locked: StoreLocked | None = None
    for recipient, key in able[:MAX_ATTEMPTS]:
        try:
            octets = _decrypted(envelope, content_key(recipient, key.private, length))
        except StoreLocked as error:
            # Another recipient's key may open it all the same.
            locked = error
            continue
        except Exception:  # noqa: BLE001,S112  which step failed, and how, is nobody's to know
            continue
        return OpenedEnvelope(octets, authenticated=envelope.tag is not None)
    raise locked or _damaged()


def _read(der: bytes) -> Envelope:
    outer = ber.Fields(ber.only(der, ber.SEQUENCE).inside)
    kind = dotted(outer.take(ber.OID))
    if kind not in (_ENVELOPED, _AUTH_ENVELOPED):
        raise NotReadable("this S/MIME message is of a kind that is not supported", reason="unsupported")
    data = ber.Fields(ber.only(outer.take(_EXPLICIT).inside, ber.SEQUENCE).inside)
    outer.end()
    data.take(ber.INTEGER)
    data.optional(_ORIGINATOR_INFO)
    found = read_recipients(data.take(ber.SET))
    content = ber.Fields(data.take(ber.SEQUENCE).inside)
    if dotted(content.take(ber.OID)) != _DATA:
        raise NotReadable("what this S/MIME message encrypts is no mail", reason="unsupported")
    algorithm, parameters = algorithm_identifier(content.take(ber.SEQUENCE))
    string = content.take(_CONTENT, _CONTENT_PIECES)
    # Large, and not copied where it stands in one piece.
    ciphertext = string.inside if string.tag == _CONTENT else memoryview(ber.joined(string, _CONTENT))
    content.end()
    tag, attributes = None, b""
    if kind == _AUTH_ENVELOPED:
        stated = data.optional(_ATTRIBUTES)
        # Authenticated under the tag of a SET (RFC 5083 section 2.2).
        attributes = bytes((ber.SET,)) + stated.whole[1:] if stated else b""
        tag = data.take(ber.OCTET_STRING).contents
    data.optional(_MORE_ATTRIBUTES if kind == _AUTH_ENVELOPED else _ATTRIBUTES)
    data.end()
    return Envelope(found, algorithm, parameters, ciphertext, tag, attributes)


def _key_length(envelope: Envelope) -> int:
    """Octets of a key for the content. Raises NotReadable where the algorithm is not supported."""
    name = envelope.algorithm
    if envelope.tag is None and name in _CBC:
        return _CBC[name]
    if envelope.tag is not None and name in _GCM:
        return _GCM[name]
    if envelope.tag is not None and name == _CHACHA20_POLY1305:
        return 32
    if name in _WEAK:
        text = f"this S/MIME message is encrypted with {_WEAK[name]}, which is too weak"
        raise NotReadable(text, reason="unsupported")
    raise _unsupported("it is encrypted")


def _decrypted(envelope: Envelope, key: bytes) -> bytes:
    if envelope.tag is None:
        return _by_cbc(envelope, key)
    if envelope.algorithm == _CHACHA20_POLY1305:
        nonce = ber.only(envelope.parameters, ber.OCTET_STRING).contents
        sealed = b"".join((envelope.ciphertext, envelope.tag))
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, envelope.attributes)
    return _by_gcm(envelope, envelope.tag, key)


def _by_cbc(envelope: Envelope, key: bytes) -> bytes:
    algorithm = _block_cipher(envelope.algorithm)(key)
    vector = ber.only(envelope.parameters, ber.OCTET_STRING).contents
    cipher = Cipher(algorithm, modes.CBC(vector)).decryptor()
    padder = PKCS7(algorithm.block_size).unpadder()
    body = padder.update(cipher.update(envelope.ciphertext) + cipher.finalize())
    return body + padder.finalize()


def _block_cipher(name: str) -> type[TripleDES | Camellia | algorithms.AES]:
    if name == _TRIPLE_DES:
        return TripleDES
    return Camellia if name in _CAMELLIA else algorithms.AES


def _by_gcm(envelope: Envelope, tag: bytes, key: bytes) -> bytes:
    fields = ber.Fields(ber.only(envelope.parameters, ber.SEQUENCE).inside)
    nonce = fields.take(ber.OCTET_STRING).contents
    stated = fields.optional(ber.INTEGER)
    fields.end()
    if len(tag) < MIN_TAG or len(tag) != (int.from_bytes(stated.contents) if stated else MIN_TAG):
        raise ValueError("a tag of another length than stated")
    cipher = Cipher(algorithms.AES(key), modes.GCM(nonce, tag, min_tag_length=MIN_TAG)).decryptor()
    cipher.authenticate_additional_data(envelope.attributes)
    return cipher.update(envelope.ciphertext) + cipher.finalize()


def _unsupported(what: str) -> NotReadable:
    return NotReadable(
        f"this S/MIME message cannot be opened: {what} in a way that is not supported", reason="unsupported"
    )


def _damaged() -> NotReadable:
    return NotReadable("this S/MIME message is damaged", reason="damaged")
