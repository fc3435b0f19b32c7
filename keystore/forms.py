"""PURE. Whether a file holds X.509 certificates and keys, told by its octets and never by its name.

Standards: RFC 7468 (PEM), ITU-T X.690 (DER, BER).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PEM_LINE = re.compile(rb"^-----(BEGIN|END) ([A-Z0-9 ]{1,40})-----[ \t]*\r?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class PemBlock:
    """One block of PEM."""

    label: bytes
    digits: bytes
    """With line ends, and header lines where there are some."""
    whole: bytes


def pem_blocks(octets: bytes) -> Iterator[PemBlock]:
    """The blocks in a text, each from its first line to the next that ends the same label; in linear time."""
    start: re.Match[bytes] | None = None
    for line in _PEM_LINE.finditer(octets):
        if line[1] == b"BEGIN":
            start = line
        elif start is not None and start[2] == line[2]:
            yield PemBlock(line[2], octets[start.end() : line.start()], octets[start.start() : line.end()])
            start = None


class Label:
    """Labels of PEM blocks, by what they hold."""

    CERTIFICATES = (b"CERTIFICATE", b"X509 CERTIFICATE")
    BUNDLES = (b"PKCS7", b"CMS")
    KEYS = (b"PRIVATE KEY", b"ENCRYPTED PRIVATE KEY", b"RSA PRIVATE KEY", b"EC PRIVATE KEY")
    PKCS12 = (b"PKCS12",)
    """As RFC 9216 prints them."""
    ALL = (*CERTIFICATES, *BUNDLES, *KEYS, *PKCS12)


def is_der(octets: bytes) -> bool:
    """Whether it is a binary of these kinds: a sequence of over 127 octets, which no text begins like."""
    return octets[:1] == b"\x30" and octets[1:2] >= b"\x80"


def is_x509(octets: bytes) -> bool:
    """Whether a file is of these kinds, whole or in part. OpenPGP data never begins like DER."""
    return is_der(octets) or any(block.label in Label.ALL for block in pem_blocks(octets))
