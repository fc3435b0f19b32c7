"""X.509 certificates: octets (DER) to facts, and to what the store hands out. Parsing is `cryptography`'s.

Standards: RFC 5280; RFC 9598 (SmtpUTF8Mailbox), RFC 4055 (RSA-PSS keys), RFC 5480 (elliptic curves).
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier

from keystore.edwards import has_small_order
from keystore.errors import KeyRefused
from keystore.facts import Algorithm
from keystore.model import Certificate, Fingerprint, Holder, Scheme, Trust, lower_case
from keystore.smime.facts import KeyKind, KeyUsage, X509Facts

MAX_CERTIFICATE_OCTETS = 256 * 1024
MAX_MODULUS_BITS = 16384

_SMTP_UTF8_MAILBOX = ObjectIdentifier("1.3.6.1.5.5.7.8.9")
_CAPABILITIES = ObjectIdentifier("1.2.840.113549.1.9.15")
_RSA = ObjectIdentifier("1.2.840.113549.1.1.1")
_RSA_PSS = ObjectIdentifier("1.2.840.113549.1.1.10")
_ADDRESS = re.compile(r"[^<>\s@\"(),:;\x00-\x1f\x7f]+@[^<>\s@\"(),:;\x00-\x1f\x7f]+")
_CURVES: dict[type[ec.EllipticCurve], str] = {
    ec.SECP256R1: "NIST P-256",
    ec.SECP384R1: "NIST P-384",
    ec.SECP521R1: "NIST P-521",
    ec.BrainpoolP256R1: "brainpoolP256r1",
    ec.BrainpoolP384R1: "brainpoolP384r1",
    ec.BrainpoolP512R1: "brainpoolP512r1",
}
_HASH_NAMES = {"md5": "MD5", "sha1": "SHA-1"}
_UTF8_STRING = 0x0C
_UNDERSTOOD: tuple[type[x509.ExtensionType], ...] = (
    x509.AuthorityKeyIdentifier,
    x509.BasicConstraints,
    x509.CertificatePolicies,
    x509.CRLDistributionPoints,
    x509.ExtendedKeyUsage,
    x509.InhibitAnyPolicy,
    x509.IssuerAlternativeName,
    x509.KeyUsage,
    x509.NameConstraints,
    x509.SubjectAlternativeName,
    x509.SubjectKeyIdentifier,
)
"""Extensions that are heeded, or that ask for nothing of one who wants no particular policy."""

Extension = TypeVar("Extension", bound=x509.ExtensionType)


@lru_cache(maxsize=1024)
def load(der: bytes) -> x509.Certificate:
    """The parsed certificate. Raises KeyRefused unless `der` is one whole certificate whose parts parse."""
    if len(der) > MAX_CERTIFICATE_OCTETS:
        raise KeyRefused("this X.509 certificate is too large to be a person's")
    try:
        with warnings.catch_warnings():
            # Serial numbers and the like that RFC 5280 forbids, and authorities issued all the same.
            warnings.simplefilter("ignore")
            certificate = x509.load_der_x509_certificate(der)
            # Parsed when first asked for; what fails must fail here.
            for parts in (certificate.extensions, certificate.subject, certificate.issuer):
                list(parts)
    except Exception:  # noqa: BLE001  a parser of strangers' octets: whatever it raises, it is not readable
        raise KeyRefused("this is not an X.509 certificate, or it is damaged") from None
    return certificate


def fingerprint_of(der: bytes) -> Fingerprint:
    """The SHA-256 of the certificate's DER, as everybody names certificates today."""
    return Fingerprint(hashlib.sha256(der).hexdigest().upper())


@lru_cache(maxsize=1024)
def facts(der: bytes) -> X509Facts:
    """What the certificate says of itself. Raises KeyRefused."""
    certificate = load(der)
    kind, algorithm = _key(certificate)
    constraints = _extension(certificate, x509.BasicConstraints)
    usage = _extension(certificate, x509.KeyUsage)
    extended = _extension(certificate, x509.ExtendedKeyUsage)
    return X509Facts(
        fingerprint=fingerprint_of(der),
        subject=certificate.subject.rfc4514_string(),
        issuer=certificate.issuer.rfc4514_string(),
        common_name=_first(certificate.subject, NameOID.COMMON_NAME),
        addresses=tuple(dict.fromkeys(_addresses(certificate))),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        kind=kind,
        algorithm=algorithm,
        signature_hash=hash_name(certificate),
        is_authority=bool(constraints and constraints.ca),
        path_length=constraints.path_length if constraints and constraints.ca else None,
        version=certificate.version.value + 1,
        key_hash=_key_hash(certificate),
        key_usage=_key_usage(usage) if usage is not None else None,
        extended_usages=frozenset(one.dotted_string for one in extended) if extended is not None else None,
        unknown_critical=tuple(
            one.oid.dotted_string
            for one in certificate.extensions
            if one.critical and not _is_understood(one.value)
        ),
    )


def certificate(
    der: bytes, *, source: str = "", trust: Trust = Trust.KNOWN, holder: Holder = Holder.NONE
) -> Certificate:
    """The certificate as the store hands it out. Raises KeyRefused."""
    found = facts(der)
    return Certificate(
        fingerprint=found.fingerprint,
        octets=der,
        user_ids=found.user_ids,
        addresses=found.addresses,
        created=found.not_before,
        expires=found.not_after,
        algorithm=str(found.algorithm),
        holder=holder,
        trust=trust,
        source=source,
        scheme=Scheme.SMIME,
    )


def key_identifier(der: bytes) -> bytes | None:
    """The subject key identifier that a certificate states (RFC 5280 section 4.2.1.2). Raises KeyRefused."""
    stated = _extension(load(der), x509.SubjectKeyIdentifier)
    return None if stated is None else stated.digest


def statement_in(der: bytes) -> bytes:
    """The SMIMECapabilities that a certificate states (RFC 4262); "" for none. Raises KeyRefused."""
    for one in load(der).extensions:
        if one.oid == _CAPABILITIES and isinstance(one.value, x509.UnrecognizedExtension):
            return one.value.value
    return b""


@lru_cache(maxsize=1024)
def issued(authority: bytes, der: bytes) -> bool:
    """Whether `authority` has signed the certificate `der`: by name and mathematics, not whether it may."""
    upper, lower = load(authority), load(der)
    if upper.subject != lower.issuer:
        return False
    try:
        lower.verify_directly_issued_by(upper)
    except Exception:  # noqa: BLE001  a wrong signature, or a key or algorithm that is not supported
        return False
    return True


def subject_names(der: bytes) -> list[x509.GeneralName]:
    """The subject alternative names of a certificate, of every kind. Raises KeyRefused."""
    return list(_extension(load(der), x509.SubjectAlternativeName) or ())


def _key(certificate: x509.Certificate) -> tuple[KeyKind, Algorithm]:
    oid = certificate.public_key_algorithm_oid
    unsupported = Algorithm(oid.dotted_string, 0, False, False, supported=False)
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return KeyKind.OTHER, unsupported
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        # A long exponent makes each signature cost as much as its author likes.
        sound = key.key_size <= MAX_MODULUS_BITS and 3 <= numbers.e < 2**64 and numbers.e % 2 == 1
        kinds = {_RSA: KeyKind.RSA, _RSA_PSS: KeyKind.RSA_PSS}
        kind = kinds.get(oid, KeyKind.OTHER)
        supported = sound and kind is not KeyKind.OTHER
        return kind, Algorithm("RSA", key.key_size, True, kind is KeyKind.RSA, supported)
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = _CURVES.get(type(key.curve))
        return KeyKind.EC, Algorithm(name or key.curve.name, key.key_size, True, True, name is not None)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return KeyKind.ED25519, Algorithm(
            "Ed25519", 256, True, False, supported=not has_small_order(key.public_bytes_raw())
        )
    return KeyKind.OTHER, unsupported


def _key_hash(certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return b""
    return hashlib.sha256(key).digest()


def _is_understood(extension: x509.ExtensionType) -> bool:
    if isinstance(extension, x509.PolicyConstraints):
        # Policies that must be named all the way down would have to be followed.
        return extension.require_explicit_policy is None
    return isinstance(extension, _UNDERSTOOD)


def hash_name(certificate: x509.Certificate | x509.CertificateRevocationList) -> str:
    """The hash under an issuer's signature: "SHA-256"; "" where the algorithm names none (Ed25519)."""
    try:
        used = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return certificate.signature_algorithm_oid.dotted_string
    if used is None:
        return ""
    name = used.name
    return _HASH_NAMES.get(name) or (name.upper() if "-" in name else name.upper().replace("SHA", "SHA-", 1))


def _key_usage(usage: x509.KeyUsage) -> KeyUsage:
    bits = (
        (usage.digital_signature, KeyUsage.DIGITAL_SIGNATURE),
        (usage.content_commitment, KeyUsage.NON_REPUDIATION),
        (usage.key_encipherment, KeyUsage.KEY_ENCIPHERMENT),
        (usage.key_agreement, KeyUsage.KEY_AGREEMENT),
        (usage.key_cert_sign, KeyUsage.CERTIFICATE_SIGN),
        (usage.crl_sign, KeyUsage.CRL_SIGN),
    )
    found = KeyUsage(0)
    for is_set, bit in bits:
        found |= bit if is_set else KeyUsage(0)
    return found


def _addresses(certificate: x509.Certificate) -> Iterator[str]:
    """Every address that the issuer names, lower case. What could be read in two ways is none."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    found = list(names.get_values_for_type(x509.RFC822Name)) if names is not None else []
    found += [utf8_mailbox(one) for one in names or () if isinstance(one, x509.OtherName)]
    found += [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.EMAIL_ADDRESS)]
    for address in found:
        if _ADDRESS.fullmatch(address) and address.isprintable():
            yield lower_case(address)


def utf8_mailbox(name: x509.OtherName) -> str:
    """The address of a SmtpUTF8Mailbox, a UTF8String in DER of at most 255 octets; else ""."""
    value = name.value
    if name.type_id != _SMTP_UTF8_MAILBOX or len(value) < 3 or value[0] != _UTF8_STRING:
        return ""
    head = 2 if value[1] < 0x80 else 3
    length = value[1] if head == 2 else value[2]
    if (head == 3 and value[1] != 0x81) or len(value) != head + length:
        return ""
    try:
        return value[head:].decode("utf-8")
    except UnicodeDecodeError:
        return ""


def _extension(certificate: x509.Certificate, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _first(name: x509.Name, oid: ObjectIdentifier) -> str:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""
