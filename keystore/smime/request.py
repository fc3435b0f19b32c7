"""Requests for certificates: what an authority is given to issue one for a new key.

Standards: RFC 2986 (PKCS #10), RFC 5280 section 4.2.1.6 (rfc822Name), RFC 8550 section 4.4 (extensions).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from keystore import policy
from keystore.errors import KeyRefused
from keystore.smime.key import PrivateKey, spki_of, spki_of_key

RequestKind = Literal["rsa3072", "rsa4096", "p256"]
"""What keys can be made of. RSA is what every authority and mail program takes."""

_MAKERS: dict[RequestKind, Callable[[], PrivateKey]] = {
    "rsa3072": partial(rsa.generate_private_key, 65537, 3072),
    "rsa4096": partial(rsa.generate_private_key, 65537, 4096),
    "p256": partial(ec.generate_private_key, ec.SECP256R1()),
}
_MOST_NAME = 64
"""Characters of a common name (RFC 5280 appendix A, ub-common-name)."""


def new_private(kind: RequestKind) -> PrivateKey:
    """A new private key."""
    return _MAKERS[kind]()


def signing_request(private: PrivateKey, addresses: Sequence[str], name: str) -> bytes:
    """The request (DER) for a certificate that names these addresses, signed by the key itself.

    `name` is the common name; the first address where it is "". Raises KeyRefused for what cannot be in one.
    """
    for address in addresses:
        if not address.isascii() or policy.addresses([address]) != (address.lower(),):
            raise KeyRefused(f"{address!r} cannot be in a request: give an address such as alice@example.org")
    common = name or addresses[0]
    if not common.isprintable() or len(common) > _MOST_NAME:
        raise KeyRefused(f"the name {common!r} cannot be in a request: at most {_MOST_NAME} characters")
    names = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    builder = x509.CertificateSigningRequestBuilder(subject_name=x509.Name(names))
    wanted: list[tuple[x509.ExtensionType, bool]] = [
        (x509.SubjectAlternativeName([x509.RFC822Name(one) for one in addresses]), False),
        (_usage(private), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False),
    ]
    for extension, critical in wanted:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(private, SHA256()).public_bytes(Encoding.DER)


def _usage(private: PrivateKey) -> x509.KeyUsage:
    is_rsa = isinstance(private, rsa.RSAPrivateKey)
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=is_rsa,
        data_encipherment=False,
        key_agreement=not is_rsa,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def request_pem(octets: bytes) -> bytes:
    """A request (DER) as authorities take it: PEM, LF."""
    return x509.load_der_x509_csr(octets).public_bytes(Encoding.PEM)


def key_name(private: PrivateKey) -> str:
    """What a key is known by before it has a certificate: the SHA-256 of its public half, hexadecimal."""
    return hashlib.sha256(spki_of_key(private)).hexdigest()


def key_name_in(certificate: bytes) -> str:
    """The same of the key in a certificate (DER); "" where it is of an unknown kind."""
    spki = spki_of(certificate)
    return hashlib.sha256(spki).hexdigest() if spki else ""
