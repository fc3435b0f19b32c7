"""PURE. Signed attributes that bind a signature to its signer's certificate and to its algorithms.

Without them a signature fits every certificate of the same key, and an algorithm's name beside it can be
exchanged. Whoever states them means them: what they say must be so.

Standards: RFC 5035 (signing certificate, version 1 with SHA-1 and version 2), RFC 6211 (algorithms).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from keystore.smime import ber
from keystore.smime.mathematics import algorithm_identifier, digest_name
from keystore.smime.naming import name_in_messages, same

SIGNING_CERTIFICATE = "1.2.840.113549.1.9.16.2.12"
SIGNING_CERTIFICATE_V2 = "1.2.840.113549.1.9.16.2.47"
ALGORITHM_PROTECTION = "1.2.840.113549.1.9.52"

_SIGNATURE_ALGORITHM = 0xA1
_DIRECTORY_NAME = 0xA4
_NULL = b"\x05\x00"

Attributes = Mapping[str, tuple[bytes, ...]]
"""Values (DER) by dotted identifier."""


def names(attributes: Attributes, certificate: bytes) -> bool:
    """Whether the attributes call no other certificate than this one (DER) the signer's.

    Raises ber.Malformed, Unsupported.
    """
    for kind in (SIGNING_CERTIFICATE, SIGNING_CERTIFICATE_V2):
        for value in attributes.get(kind, ()):
            if not _is_of(value, certificate, "sha1" if kind == SIGNING_CERTIFICATE else "sha256"):
                return False
    return True


def names_algorithms(attributes: Attributes, digest: ber.Element, signature: ber.Element) -> bool:
    """Whether the attributes state no other algorithms than these AlgorithmIdentifiers.

    Raises ber.Malformed.
    """
    for value in attributes.get(ALGORITHM_PROTECTION, ()):
        fields = ber.Fields(ber.only(value, ber.SEQUENCE).inside)
        stated = (_plain(fields.take(ber.SEQUENCE)), _plain(fields.take(_SIGNATURE_ALGORITHM)))
        fields.end()
        if stated != (_plain(digest), _plain(signature)):
            return False
    return True


def _is_of(value: bytes, certificate: bytes, default: str) -> bool:
    """By the first ESSCertID or ESSCertIDv2; the others are of authorities (RFC 5035 section 3)."""
    identifiers = ber.Fields(ber.only(value, ber.SEQUENCE).inside).take(ber.SEQUENCE)
    first = ber.Fields(ber.Fields(identifiers.inside).take(ber.SEQUENCE).inside)
    algorithm = first.optional(ber.SEQUENCE)
    stated = first.take(ber.OCTET_STRING).contents
    name = first.optional(ber.SEQUENCE)
    first.end()
    digest = digest_name(algorithm_identifier(algorithm)[0]) if algorithm else default
    if stated != hashlib.new(digest, certificate).digest():
        return False
    return name is None or same(_as_name(name), name_in_messages(certificate))


def _as_name(found: ber.Element) -> bytes:
    """An IssuerSerial, whose issuer is one directoryName, as messages name signers."""
    fields = ber.Fields(found.inside)
    issuer = ber.only(ber.only(fields.take(ber.SEQUENCE).inside, _DIRECTORY_NAME).inside, ber.SEQUENCE)
    return ber.element(ber.SEQUENCE, issuer.whole + fields.take(ber.INTEGER).whole)


def _plain(algorithm: ber.Element) -> tuple[str, bytes]:
    """Name and parameters; NULL ones are none (RFC 5754 section 2)."""
    name, parameters = algorithm_identifier(algorithm)
    return name, b"" if parameters == _NULL else parameters
