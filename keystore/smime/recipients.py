"""Recipients of a CMS envelope: whom it names, and the content key out of what is meant for a key of ours.

RSA by PKCS #1 v1.5 and OAEP, elliptic curves by ECDH with an ephemeral key of the sender. Passwords and keys
known beforehand (RFC 5652 sections 6.2.3 and 6.2.4) have no place in mail.

Standards: RFC 5652 section 6.2, RFC 3560 and RFC 4055 section 4 (OAEP), RFC 5753 (ECDH), RFC 3565 and
RFC 3217 (key wrap by AES and triple DES).
Security: what PKCS #1 v1.5 cannot unpad gives a content key all the same, a random one (RFC 3218 section
2.3.2): nobody learns from what follows whether the padding was right.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from secrets import token_bytes

from asn1crypto import algos
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap

from keystore.errors import StoreLocked
from keystore.smime import ber
from keystore.smime.key import PrivateKey
from keystore.smime.mathematics import HASHES, MAX_PARAMETERS, algorithm_identifier, digest_name
from keystore.smime.naming import key_name

MAX_RECIPIENTS = 4096
"""More are not looked at: nobody writes to so many in one message."""

_KEY_AGREEMENT = 0xA1
_KEY_IDENTIFIER, _KEY_IDENTIFIER_PIECES = 0x80, 0xA0
_ORIGINATOR, _ORIGINATOR_KEY, _USER_KEYING = 0xA0, 0xA1, 0xA1
_RECIPIENT_KEY_IDENTIFIER = 0xA0
_RSA = "1.2.840.113549.1.1.1"
_OAEP = "1.2.840.113549.1.1.7"
_SCHEMES: dict[str, type[hashes.HashAlgorithm]] = {
    # dhSinglePass-stdDH (RFC 5753 section 7.1.4)
    "1.3.133.16.840.63.0.2": hashes.SHA1,
    "1.3.132.1.11.0": hashes.SHA224,
    "1.3.132.1.11.1": hashes.SHA256,
    "1.3.132.1.11.2": hashes.SHA384,
    "1.3.132.1.11.3": hashes.SHA512,
    # dhSinglePass-cofactorDH: on the curves that we have, whose cofactor is 1, the same
    "1.3.133.16.840.63.0.3": hashes.SHA1,
    "1.3.132.1.14.0": hashes.SHA224,
    "1.3.132.1.14.1": hashes.SHA256,
    "1.3.132.1.14.2": hashes.SHA384,
    "1.3.132.1.14.3": hashes.SHA512,
}
_TRIPLE_DES_WRAP = "1.2.840.113549.1.9.16.3.6"
_WRAP_VECTOR = bytes.fromhex("4adda22c79e82105")
_WRAPS = {
    _TRIPLE_DES_WRAP: 24,
    "2.16.840.1.101.3.4.1.5": 16,
    "2.16.840.1.101.3.4.1.25": 24,
    "2.16.840.1.101.3.4.1.45": 32,
}
"""Key wraps, by the length of their key in octets. Triple DES is what openssl takes for triple DES."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """What several recipients on elliptic curves have in common."""

    originator: bytes
    """The sender's ephemeral point."""
    keying: bytes | None
    """User keying material (RFC 5753 section 7.2)."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One for whom a message has the content key."""

    name: bytes | None
    """As `names_in_messages` has it; None for one without a certificate."""
    algorithm: str = ""
    parameters: bytes = b""
    encrypted_key: bytes = b""
    agreement: Agreement | None = None

    @property
    def supported(self) -> bool:
        """Whether the content key could come out of this, by the algorithms that it names."""
        if self.agreement is None:
            return self.algorithm in (_RSA, _OAEP)
        return self.algorithm in _SCHEMES and _wrap(self.parameters) in _WRAPS


class NoKey(ValueError):
    """No content key comes out of this; says nothing more."""


def read_recipients(infos: ber.Element) -> tuple[Recipient, ...]:
    """RecipientInfos, out of `ber.definite`. Raises ber.Malformed."""
    found: list[Recipient] = []
    for one in ber.elements(infos.inside):
        if one.tag == ber.SEQUENCE:
            found.append(_transport(one))
        elif one.tag == _KEY_AGREEMENT:
            found += _agreement(one)
        else:
            found.append(Recipient(None))
        if len(found) > MAX_RECIPIENTS:
            raise ber.Malformed("too many recipients")
    return tuple(found)


def content_key(recipient: Recipient, private: PrivateKey, length: int) -> bytes:
    """The content key, of `length` octets. Raises NoKey; with PKCS #1 v1.5 a wrong one comes out instead.

    StoreLocked where the key is on a token that does not answer.
    """
    try:
        if isinstance(private, rsa.RSAPrivateKey):
            key = _by_rsa(recipient, private, length)
        else:
            key = _by_agreement(recipient, private)
    except StoreLocked:  # a token's key that does not answer
        raise
    except Exception:  # noqa: BLE001  whatever a parser or a primitive raises says nothing to anybody
        raise NoKey("no content key") from None
    if len(key) != length:
        raise NoKey("no content key")
    return key


def _transport(found: ber.Element) -> Recipient:
    info = ber.Fields(found.inside)
    info.take(ber.INTEGER)
    rid = info.take(ber.SEQUENCE, _KEY_IDENTIFIER, _KEY_IDENTIFIER_PIECES)
    algorithm, parameters = algorithm_identifier(info.take(ber.SEQUENCE))
    encrypted = info.take(ber.OCTET_STRING).contents
    info.end()
    name = rid.whole if rid.tag == ber.SEQUENCE else key_name(ber.joined(rid, _KEY_IDENTIFIER))
    return Recipient(name, algorithm, parameters, encrypted)


def _agreement(agreed: ber.Element) -> list[Recipient]:
    info = ber.Fields(agreed.inside)
    info.take(ber.INTEGER)
    originator = ber.Fields(info.take(_ORIGINATOR).inside).take()
    keying = info.optional(_USER_KEYING)
    algorithm, parameters = algorithm_identifier(info.take(ber.SEQUENCE))
    keys = ber.elements(info.take(ber.SEQUENCE).inside)
    info.end()
    point = b""
    if originator.tag == _ORIGINATOR_KEY:
        public = ber.Fields(originator.inside)
        public.take(ber.SEQUENCE)
        point = public.take(ber.BIT_STRING).contents[1:]
    shared = Agreement(point, None if keying is None else ber.only(keying.inside, ber.OCTET_STRING).contents)
    found = []
    for one in keys:
        fields = ber.Fields(ber.only(one.view, ber.SEQUENCE).inside)
        rid, encrypted = fields.take(ber.SEQUENCE, _RECIPIENT_KEY_IDENTIFIER), fields.take(ber.OCTET_STRING)
        fields.end()
        found.append(Recipient(_agreed_name(rid), algorithm, parameters, encrypted.contents, shared))
    return found


def _agreed_name(rid: ber.Element) -> bytes:
    if rid.tag == ber.SEQUENCE:
        return rid.whole
    return key_name(ber.Fields(rid.inside).take(ber.OCTET_STRING).contents)


def _by_rsa(recipient: Recipient, private: rsa.RSAPrivateKey, length: int) -> bytes:
    if recipient.algorithm == _OAEP:
        return private.decrypt(recipient.encrypted_key, _oaep(recipient.parameters))
    if recipient.algorithm != _RSA:
        raise NoKey("not for a key of RSA")
    instead = token_bytes(length)
    try:
        # The library itself gives random octets for a wrong padding where it is new enough.
        key = private.decrypt(recipient.encrypted_key, padding.PKCS1v15())
    except ValueError:
        return instead
    return key if len(key) == length else instead


def _oaep(parameters: bytes) -> padding.OAEP:
    """RSAES-OAEP-params (RFC 4055 section 4.1)."""
    if len(parameters) > MAX_PARAMETERS:
        raise NoKey("parameters of OAEP beyond all bounds")
    stated = algos.RSAESOAEPParams.load(parameters or b"\x30\x00", strict=True)
    mask, source = stated["mask_gen_algorithm"], stated["p_source_algorithm"]
    if mask["algorithm"].native != "mgf1" or source["algorithm"].native != "p_specified":
        raise NoKey("other parameters of OAEP")
    digest = _hash(stated["hash_algorithm"]["algorithm"].dotted)
    label = source["parameters"].native
    return padding.OAEP(
        padding.MGF1(_hash(mask["parameters"]["algorithm"].dotted)()), digest(), label or None
    )


def _hash(dotted: str) -> type[hashes.HashAlgorithm]:
    return HASHES[digest_name(dotted)]


def _by_agreement(recipient: Recipient, private: ec.EllipticCurvePrivateKey) -> bytes:
    agreement, scheme = recipient.agreement, _SCHEMES.get(recipient.algorithm)
    if agreement is None or scheme is None:
        raise NoKey("not for a key on an elliptic curve")
    wrap = _wrap(recipient.parameters)
    length = _WRAPS[wrap]
    point = ec.EllipticCurvePublicKey.from_encoded_point(private.curve, agreement.originator)
    info = shared_info(recipient.parameters, agreement.keying, length)
    wrapping = X963KDF(scheme(), length, info).derive(private.exchange(ec.ECDH(), point))
    unwrap = _triple_des_unwrap if wrap == _TRIPLE_DES_WRAP else aes_key_unwrap
    return unwrap(wrapping, recipient.encrypted_key)


def _triple_des_unwrap(wrapping: bytes, wrapped: bytes) -> bytes:
    """RFC 3217 section 3.2."""
    reverse = _by_triple_des(wrapping, _WRAP_VECTOR, wrapped)[::-1]
    opened = _by_triple_des(wrapping, reverse[:8], reverse[8:])
    key, stated = opened[:-8], opened[-8:]
    if not hmac.compare_digest(hashlib.sha1(key, usedforsecurity=False).digest()[:8], stated):
        raise NoKey("not the key that was wrapped")
    return key


def _by_triple_des(key: bytes, vector: bytes, octets: bytes) -> bytes:
    cipher = Cipher(TripleDES(key), modes.CBC(vector)).decryptor()
    return cipher.update(octets) + cipher.finalize()


def _wrap(parameters: bytes) -> str:
    """With what a key that was agreed on wraps the content key."""
    try:
        return algorithm_identifier(ber.only(parameters, ber.SEQUENCE))[0]
    except ber.Malformed:
        return ""


def shared_info(wrap: bytes, keying: bytes | None, length: int) -> bytes:
    """ECC-CMS-SharedInfo (RFC 5753 section 7.2): the wrapping algorithm as it stands in the message."""
    parts = [wrap]
    if keying is not None:
        parts.append(ber.element(0xA0, ber.element(ber.OCTET_STRING, keying)))
    parts.append(ber.element(0xA2, ber.element(ber.OCTET_STRING, (8 * length).to_bytes(4))))
    return ber.element(ber.SEQUENCE, b"".join(parts))
