"""ASCII armor as every reader takes it.

Standards: RFC 9580 sections 6.1 and 6.2.
"""

from __future__ import annotations

import io

from openpgp.armor import BlockType, write

_KINDS = {
    "MESSAGE": BlockType.Message,
    "SIGNATURE": BlockType.Signature,
    "PUBLIC KEY BLOCK": BlockType.PublicKey,
    "PRIVATE KEY BLOCK": BlockType.PrivateKey,
}


def armor(octets: bytes, kind: str, *, checksum: bool = True) -> bytes:
    """Armored octets with CRLF line endings; `kind` is such as "PUBLIC KEY BLOCK".

    RFC 9580 section 6.1 makes the checksum optional, but GnuPG 2.2 fails on armor that has neither a checksum
    nor padding, which is every third message. It forbids one (`checksum=False`) where all is version 6.
    """
    written = io.BytesIO()
    write(octets, _KINDS[kind], written, include_checksum=checksum)
    return written.getvalue().replace(b"\n", b"\r\n")
