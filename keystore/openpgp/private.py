"""Private numbers: from an unprotected secret key packet to a key that can open session keys.

Making the key object proves that both halves belong together: a key file whose public half was exchanged
would otherwise leak the secret when it signs.

Standards: RFC 9580 sections 5.1 (PKESK), 5.5.5 (key material), 11.4 and 11.5 (ECDH).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa, x448, x25519
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

from keystore.openpgp import material as m
from keystore.openpgp.material import PublicMaterial
from keystore.openpgp.packet import Malformed, Reader
from keystore.openpgp.secret import CIPHERS

PrivateObject = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | x25519.X25519PrivateKey
    | x448.X448PrivateKey
    | ed25519.Ed25519PrivateKey
    | ed448.Ed448PrivateKey
)

_CURVES: dict[str, type[ec.EllipticCurve]] = {
    "NIST P-256": ec.SECP256R1,
    "NIST P-384": ec.SECP384R1,
    "NIST P-521": ec.SECP521R1,
    "Brainpool P-256": ec.BrainpoolP256R1,
    "Brainpool P-384": ec.BrainpoolP384R1,
    "Brainpool P-512": ec.BrainpoolP512R1,
    "secp256k1": ec.SECP256K1,
}
_KDF_HASHES = {8: "sha256", 9: "sha384", 10: "sha512"}


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """One unlocked key or subkey."""

    public: PublicMaterial
    private: PrivateObject


def private_key(public: PublicMaterial, body: bytes) -> PrivateKey | None:
    """The key of an unprotected secret key packet; None for algorithms that cannot open session keys here.

    Raises Malformed when the halves do not belong together.
    """
    reader = Reader(body[len(public.body) + 1 :])
    try:
        private = _make(public, reader)
    except (ValueError, UnsupportedAlgorithm):
        raise Malformed("secret key") from None
    return None if private is None else PrivateKey(public, private)


def _make(public: PublicMaterial, reader: Reader) -> PrivateObject | None:
    if public.algorithm_id in (m.RSA, m.RSA_ENCRYPT, m.RSA_SIGN):
        return _rsa(public, reader)
    if public.algorithm_id in (m.X25519, m.X448, m.ED25519, m.ED448):
        return _plain(public, reader)
    if public.curve == "Ed25519":
        seed = reader.integer().rjust(32, b"\0")
        return _matching(ed25519.Ed25519PrivateKey.from_private_bytes(seed), public.integers[0][1:])
    if public.curve == "Curve25519":
        # RFC 9580 section 5.5.5.6.1.1: the legacy form is big-endian, the curve's own is little-endian.
        scalar = reader.integer().rjust(32, b"\0")[::-1]
        return _matching(x25519.X25519PrivateKey.from_private_bytes(scalar), public.integers[0][1:])
    if public.curve in _CURVES:
        curve = _CURVES[public.curve]()
        numbers = ec.EllipticCurvePublicKey.from_encoded_point(curve, public.integers[0]).public_numbers()
        return ec.EllipticCurvePrivateNumbers(_int(reader.integer()), numbers).private_key()
    return None


def _rsa(public: PublicMaterial, reader: Reader) -> rsa.RSAPrivateKey:
    n, e = map(_int, public.integers)
    d, p, q, _ = (_int(reader.integer()) for _ in range(4))
    dmp1, dmq1, iqmp = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, rsa.RSAPublicNumbers(e, n)).private_key()


def _plain(public: PublicMaterial, reader: Reader) -> PrivateObject:
    octets = reader.take(len(public.integers[0]))
    make: dict[int, Callable[[bytes], PrivateObject]] = {
        m.X25519: x25519.X25519PrivateKey.from_private_bytes,
        m.X448: x448.X448PrivateKey.from_private_bytes,
        m.ED25519: ed25519.Ed25519PrivateKey.from_private_bytes,
        m.ED448: ed448.Ed448PrivateKey.from_private_bytes,
    }
    return _matching(make[public.algorithm_id](octets), public.integers[0])


def _matching(private: PrivateObject, expected: bytes) -> PrivateObject:
    if isinstance(private, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        return private
    if private.public_key().public_bytes_raw() != expected:
        raise Malformed("halves do not belong together")
    return private


def _int(octets: bytes) -> int:
    return int.from_bytes(octets, "big")


def open_session_key(key: PrivateKey, version: int, algorithm_id: int, fields: bytes) -> bytes | None:
    """The session key of a PKESK: cipher octet and key (version 3) or key alone (version 6).

    None when it is not for this key.

    Every failure is None: what kind of failure it was must not be seen from outside (RFC 9580 section 13.4).
    """
    if algorithm_id != key.public.algorithm_id:
        return None
    try:
        return _open(key, version, fields)
    except (ValueError, Malformed, InvalidUnwrap, UnsupportedAlgorithm):
        return None


def _open(key: PrivateKey, version: int, fields: bytes) -> bytes | None:
    private, reader = key.private, Reader(fields)
    if isinstance(private, rsa.RSAPrivateKey):
        octets = reader.integer().rjust((private.key_size + 7) // 8, b"\0")
        return checked_session_key(private.decrypt(octets, padding.PKCS1v15()), version)
    if key.public.algorithm_id in (m.X25519, m.X448):
        return _open_plain(key, version, reader)
    point = reader.integer()
    if isinstance(private, x25519.X25519PrivateKey):
        shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(point[1:]))
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        shared = private.exchange(
            ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(private.curve, point)
        )
    else:
        return None
    return unwrapped_session_key(key.public, shared, reader, version)


def unwrapped_session_key(
    public: PublicMaterial, shared: bytes, reader: Reader, version: int
) -> bytes | None:
    """The session key that ECDH wraps (RFC 9580 section 11.5), behind its point; `shared` as agreed on.

    None, Malformed, ValueError or InvalidUnwrap where it does not unwrap.
    """
    wrapped = reader.take(reader.number())
    padded = aes_key_unwrap(_key_for_wrapping(public, shared), wrapped)
    pad = padded[-1]
    if not 1 <= pad <= len(padded) or padded[-pad:] != bytes([pad]) * pad:
        return None
    return checked_session_key(padded[:-pad], version)


def _key_for_wrapping(public: PublicMaterial, shared: bytes) -> bytes:
    """RFC 9580 section 11.5."""
    _, _, hash_id, cipher_id = public.kdf[:4]
    name = _KDF_HASHES.get(hash_id)
    if name is None or cipher_id not in (7, 8, 9):
        raise Malformed("KDF")
    parameters = bytes([len(public.curve_oid)]) + public.curve_oid + bytes([m.ECDH]) + public.kdf
    parameters += b"Anonymous Sender    " + bytes.fromhex(public.fingerprint)
    digest = hashlib.new(name, b"\0\0\0\1" + shared + parameters).digest()
    return digest[: CIPHERS[cipher_id].key_size]


def _open_plain(key: PrivateKey, version: int, reader: Reader) -> bytes:
    """RFC 9580 sections 5.1.6 and 5.1.7."""
    private = key.private
    ephemeral = reader.take(len(key.public.integers[0]))
    hasher: HashAlgorithm
    if isinstance(private, x25519.X25519PrivateKey):
        shared = private.exchange(x25519.X25519PublicKey.from_public_bytes(ephemeral))
        hasher, size, info = SHA256(), 16, b"OpenPGP X25519"
    elif isinstance(private, x448.X448PrivateKey):
        shared = private.exchange(x448.X448PublicKey.from_public_bytes(ephemeral))
        hasher, size, info = SHA512(), 32, b"OpenPGP X448"
    else:
        raise Malformed("algorithm")
    derived = HKDF(hasher, size, salt=None, info=info).derive(ephemeral + key.public.integers[0] + shared)
    field = Reader(reader.take(reader.number()))
    cipher = field.take(1) if version == 3 else b""
    return cipher + aes_key_unwrap(derived, field.rest())


def checked_session_key(octets: bytes, version: int) -> bytes | None:
    """Cut off and compare the checksum over the key (RFC 9580 section 5.1.3)."""
    start = 1 if version == 3 else 0
    key, check = octets[start:-2], octets[-2:]
    if not key or (sum(key) & 0xFFFF).to_bytes(2, "big") != check:
        return None
    return octets[:-2]
