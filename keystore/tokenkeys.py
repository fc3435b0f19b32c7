"""Keys on a token in the shape of `cryptography`'s private keys, so that S/MIME uses them like others.

Standards: RFC 8017 (RSA), SEC 1 section 3.3.1 (ECDH).
Security: a message that does not decrypt is no reason to believe that the token is at fault, nor the other
way round; so a token that refuses is asked to open something that was made for it just now.
"""

from __future__ import annotations

import hashlib
from secrets import token_bytes
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import OAEP, PSS, AsymmetricPadding, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from keystore.errors import KeyRefused, StoreLocked
from keystore.smime.certificate import load
from keystore.smime.key import SecretKey, spki_of
from keystore.token import Token, TokenRefused

Buffer = bytes | bytearray | memoryview
_MECHANISMS = {
    "sha1": "SHA_1",
    "sha224": "SHA224",
    "sha256": "SHA256",
    "sha384": "SHA384",
    "sha512": "SHA512",
}
_PREFIXES = {
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}
"""What stands before the digest in DigestInfo (RFC 8017 section 9.2, note 1)."""
_SILENT = "the token does not compute with its key: is it locked, or in use by another program?"
_WRONG = "what the token made is no signature by this key: try again, or see whether it is damaged"


def secret_key(token: Token, certificate: bytes) -> SecretKey:
    """The own key that a token holds for a certificate (DER). Raises StoreLocked and KeyRefused."""
    spki = spki_of(certificate)
    if not token.holds(spki):
        raise StoreLocked("the token that is there does not have this key: is it another one?")
    public = load(certificate).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        return SecretKey(certificate, _RSAKey(token, spki, public))
    if isinstance(public, ec.EllipticCurvePublicKey):
        return SecretKey(certificate, _CurveKey(token, spki, public))
    raise KeyRefused("the token's key is of a kind that is not supported (RSA and elliptic curves are)")


class _Kept:
    """What a key on a token does not do: leave it."""

    def private_numbers(self) -> NoReturn:
        raise KeyRefused("this secret key is in a token, and does not leave it")

    def private_bytes(self, *_: object) -> NoReturn:
        raise KeyRefused("this secret key is in a token, and does not leave it")

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, _: object) -> Any:
        return self


class _RSAKey(_Kept, rsa.RSAPrivateKey):
    def __init__(self, token: Token, spki: bytes, public: rsa.RSAPublicKey) -> None:
        self._token = token
        self._spki = spki
        self._public = public

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> rsa.RSAPublicKey:
        return self._public

    def sign(self, data: Buffer, padding: Any, algorithm: Any) -> bytes:
        """RSASSA-PSS with the salt as long as the digest, or PKCS #1 v1.5."""
        digest = hashlib.new(algorithm.name, data).digest()
        if isinstance(padding, PSS):
            stated = (_mechanism(algorithm), _mask(algorithm), len(digest))
            made = self._signed(digest, ("RSA_PKCS_PSS", stated))
        else:
            made = self._signed(_PREFIXES[algorithm.name] + digest, ("RSA_PKCS", None))
        try:
            self._public.verify(made, bytes(data), padding, algorithm)
        except InvalidSignature:
            raise StoreLocked(_WRONG) from None
        return made

    def _signed(self, octets: bytes, mechanism: tuple[str, Any]) -> bytes:
        try:
            return self._token.sign(self._spki, octets, mechanism)
        except TokenRefused:
            raise StoreLocked(_SILENT) from None

    def decrypt(self, ciphertext: bytes, padding: AsymmetricPadding) -> bytes:
        """PKCS #1 v1.5 or OAEP. Raises ValueError where the ciphertext is at fault."""
        mechanism: tuple[str, Any] = ("RSA_PKCS", None)
        if isinstance(padding, OAEP):
            digest = padding.algorithm
            mechanism = ("RSA_PKCS_OAEP", (_mechanism(digest), _mask(padding.mgf._algorithm), None))
        try:
            return self._token.decrypt(self._spki, ciphertext, mechanism)
        except TokenRefused:
            self._demand_answer()
            raise ValueError("decryption failed") from None

    def _demand_answer(self) -> None:
        sent = token_bytes(32)
        try:
            answer = self._token.decrypt(
                self._spki, self._public.encrypt(sent, PKCS1v15()), ("RSA_PKCS", None)
            )
        except TokenRefused:
            answer = b""
        if answer != sent:
            raise StoreLocked(_SILENT)


class _CurveKey(_Kept, ec.EllipticCurvePrivateKey):
    def __init__(self, token: Token, spki: bytes, public: ec.EllipticCurvePublicKey) -> None:
        self._token = token
        self._spki = spki
        self._public = public

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public.curve

    @property
    def key_size(self) -> int:
        return self._public.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public

    def sign(self, data: Buffer, signature_algorithm: Any) -> bytes:
        """ECDSA, in DER."""
        digest = hashlib.new(signature_algorithm.algorithm.name, data).digest()
        try:
            made = self._token.sign(self._spki, digest, ("ECDSA", None))
        except TokenRefused:
            raise StoreLocked(_SILENT) from None
        half = len(made) // 2
        signature = encode_dss_signature(int.from_bytes(made[:half]), int.from_bytes(made[half:]))
        try:
            self._public.verify(signature, bytes(data), signature_algorithm)
        except InvalidSignature:
            raise StoreLocked(_WRONG) from None
        return signature

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:
        """The shared coordinate. The other point is on the curve, or it could not have been read."""
        point = peer_public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        try:
            return self._token.agree(self._spki, point, (self.key_size + 7) // 8)
        except TokenRefused:
            raise StoreLocked(_SILENT) from None


def _mechanism(algorithm: HashAlgorithm) -> Any:
    from pkcs11 import Mechanism

    return Mechanism[_MECHANISMS[algorithm.name]]


def _mask(algorithm: HashAlgorithm) -> Any:
    from pkcs11 import MGF

    return MGF[_MECHANISMS[algorithm.name].replace("SHA_1", "SHA1")]
