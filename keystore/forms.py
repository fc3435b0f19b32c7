"""PURE. Whether a file holds X.509 certificates and keys, told by its octets and never by its name.

Standards: RFC 7468 (PEM), ITU-T X.690 (DER, BER).
"""

from __future__ import annotations

import re

PEM_BLOCK = re.compile(
    rb"^-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n(.*?)^-----END \1-----", re.DOTALL | re.MULTILINE
)
"""One block of PEM: its label, and its digits with line ends."""


class Block:
    """Labels of PEM blocks, by what they hold."""

    CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")
    BUNDLES = (b"PKCS7", b"CMS")
    KEYS = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")
    ALL = (*CERTIFICATES, *BUNDLES, *KEYS)


def is_der(octets: bytes) -> bool:
    """Whether it is a binary of these kinds: a sequence of over 127 octets, which no text begins like."""
    return octets[:1] == b"\x30" and octets[1:2] >= b"\x80"


def is_x509(octets: bytes) -> bool:
    """Whether a file is of these kinds, whole or in part. OpenPGP data never begins like DER."""
    return is_der(octets) or any(match[1] in Block.ALL for match in PEM_BLOCK.finditer(octets))
