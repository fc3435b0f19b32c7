"""Files with X.509 certificates and keys, as people have them: PEM, DER, PKCS #12 and PKCS #7.

What a file holds is told by its octets, never by its name. A file of several certificates is taken apart;
a private key is paired with its certificate later (`keystore.importing_x509`), which may come from another
file.

Standards: RFC 7468 (PEM), RFC 9216 (PKCS #12 in PEM), RFC 5652 section 5 (certificates in a
SignedData), RFC 5958.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from asn1crypto import cms
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key

from keystore.errors import KeyRefused
from keystore.forms import Label, PemBlock, is_der, pem_blocks
from keystore.smime import pfx
from keystore.smime.key import PrivateKey, supported

MAX_CERTIFICATES_IN_FILE = 1000
Passphrase = Callable[[], str]
"""Asked when something is protected; may raise KeyRefused."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds, in its order and without repeats; private keys unlocked, in memory only."""

    certificates: list[bytes] = field(default_factory=list)
    """DER, each; not parsed yet."""
    keys: list[PrivateKey] = field(default_factory=list, repr=False)
    refusals: list[str] = field(default_factory=list)
    """Of each private key beside them that cannot be taken, why."""

    def add(self, certificate: bytes) -> None:
        """Note a certificate once."""
        if certificate not in self.certificates:
            self.certificates.append(certificate)


def read(octets: bytes, passphrase: Passphrase) -> Contents:
    """All certificates and private keys of a file. `passphrase` is asked once, and only when it is needed.

    Raises KeyRefused: nothing there, damaged, or a passphrase that does not open it.
    """
    contents = Contents()
    if is_der(octets):
        _read_der(octets, passphrase, contents)
    else:
        blocks = islice(pem_blocks(octets), MAX_CERTIFICATES_IN_FILE + 1)
        for block in blocks:
            _read_block(block, passphrase, contents)
    if len(contents.certificates) > MAX_CERTIFICATES_IN_FILE:
        raise KeyRefused(f"there are more than {MAX_CERTIFICATES_IN_FILE} certificates in this file")
    if not contents.certificates and not contents.keys:
        raise KeyRefused("there is no certificate and no key in this file")
    return contents


def _read_block(block: PemBlock, passphrase: Passphrase, contents: Contents) -> None:
    kind = block.label
    if kind in Label.KEYS:
        contents.keys.append(_pem_key(block.whole + b"\n", passphrase))
    elif kind in Label.CERTIFICATES:
        contents.add(_decoded(block.digits))
    elif kind in Label.BUNDLES:
        _read_bundle(_decoded(block.digits), contents)
    elif kind in Label.PKCS12:
        _read_pkcs12(_decoded(block.digits), passphrase, contents)


def _decoded(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise KeyRefused("a PEM block in this file is damaged") from None


def _read_der(octets: bytes, passphrase: Passphrase, contents: Contents) -> None:
    """By the shape of the outermost sequence: each of the four kinds begins in a way of its own."""
    try:
        first = _first_inside(octets)
    except ValueError:
        raise KeyRefused("this is not an X.509 certificate or key file, or it is damaged") from None
    if first == b"\x06":  # an object identifier: ContentInfo
        _read_bundle(octets, contents)
    elif first == b"\x30":  # TBSCertificate, or the algorithm of an encrypted private key
        _read_certificate_or_protected_key(octets, passphrase, contents)
    elif _is_pkcs12(octets):
        _read_pkcs12(octets, passphrase, contents)
    else:
        contents.keys.append(_der_key(octets, None))


def _first_inside(octets: bytes) -> bytes:
    """The tag octet of the first thing in a sequence, whatever the form of the sequence's length."""
    length = octets[1:2]
    if not length:
        raise ValueError("no length")
    more = length[0] & 0x7F if length[0] > 0x80 else 0
    found = octets[2 + more : 3 + more]
    if not found:
        raise ValueError("nothing inside")
    return found


def _is_pkcs12(octets: bytes) -> bool:
    """PFX starts with version 3 and a ContentInfo; private keys have version 0 or 1 and something else."""
    start = octets.find(b"\x02\x01\x03\x30", 0, 16)
    return start > 0


def _read_certificate_or_protected_key(octets: bytes, passphrase: Passphrase, contents: Contents) -> None:
    from keystore.smime.certificate import load

    try:
        load(octets)
    except KeyRefused as refusal:
        try:
            key = _der_key(octets, passphrase)
        except _NotAKey:
            raise refusal from None
        contents.keys.append(key)
    else:
        contents.add(octets)


def _read_bundle(octets: bytes, contents: Contents) -> None:
    try:
        content = cms.ContentInfo.load(octets, strict=True)
        if content["content_type"].native != "signed_data":
            raise KeyRefused("this PKCS #7 file holds no certificates")
        for one in content["content"]["certificates"]:
            if one.name == "certificate":
                contents.add(one.chosen.dump())
    except KeyRefused:
        raise
    except Exception:  # noqa: BLE001  a parser of strangers' octets: whatever it raises, it is not readable
        raise KeyRefused("this PKCS #7 file is damaged") from None


def _read_pkcs12(octets: bytes, passphrase: Passphrase, contents: Contents) -> None:
    opened = pfx.read(octets, passphrase)
    refusals = ["one more private key is damaged, or encrypted in a way not supported"] * opened.unread
    for one in opened.keys:
        try:
            contents.keys.append(supported(one))
        except KeyRefused as refusal:
            refusals.append(str(refusal))
    if refusals and not contents.keys:
        raise KeyRefused(refusals[-1])
    contents.refusals.extend(refusals)
    for certificate in opened.certificates:
        contents.add(certificate)


class _NotAKey(KeyRefused):
    """No private key of any form."""


def _der_key(octets: bytes, passphrase: Passphrase | None) -> PrivateKey:
    try:
        return supported(load_der_private_key(octets, None))
    except TypeError:  # it is protected
        if passphrase is None:
            raise KeyRefused("this private key is protected by a passphrase") from None
    except ValueError:
        raise _NotAKey("this is not a private key, or it is damaged") from None
    except Exception as error:  # noqa: BLE001  see `_opened`
        raise _unsupported(error) from None
    return _opened(lambda secret: load_der_private_key(octets, secret), passphrase)


def _pem_key(octets: bytes, passphrase: Passphrase) -> PrivateKey:
    try:
        return supported(load_pem_private_key(octets, None))
    except TypeError:  # it is protected
        pass
    except Exception as error:  # noqa: BLE001  see `_opened`
        raise _unsupported(error) from None
    return _opened(lambda secret: load_pem_private_key(octets, secret), passphrase)


def _opened(load: Callable[[bytes], object], passphrase: Passphrase) -> PrivateKey:
    secret = passphrase().encode()
    try:
        return supported(load(secret))
    except KeyRefused:
        raise
    except Exception:  # noqa: BLE001  the library tells a wrong passphrase from damage in no certain way
        raise KeyRefused("the passphrase does not open this private key, or the key is damaged") from None


def _unsupported(error: Exception) -> KeyRefused:
    """KeyRefused passes; whatever else a parser raises never shows its text."""
    return (
        error if isinstance(error, KeyRefused) else KeyRefused("this private key is damaged or not supported")
    )
