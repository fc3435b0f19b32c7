"""The certificates of one file of keys, by the addresses they claim. Secret halves are left where they are.

Standards: RFC 9580 section 10.1 (OpenPGP), RFC 7468 (PEM).
"""

from __future__ import annotations

from collections.abc import Iterator

from keystore import forms, openpgp
from keystore.discovery.model import Offer
from keystore.errors import KeyRefused
from keystore.model import Scheme, lower_case

MOST_OCTETS = 16 * 1024 * 1024
"""Of one file."""

Offers = dict[str, list[Offer]]
"""By address, in lower case."""


def offers_in(octets: bytes, where: str) -> Offers:
    """What a file (OpenPGP, X.509, armored or binary) offers; nothing where it is no file of keys."""
    found: Offers = {}
    for address, offer in _offers(octets, where):
        found.setdefault(lower_case(address), []).append(offer)
    return found


def _offers(octets: bytes, where: str) -> Iterator[tuple[str, Offer]]:
    try:
        if forms.is_x509(octets):
            yield from _x509(octets, where)
        else:
            for key in openpgp.parse_keys(octets):
                certificate = openpgp.certificate(key.certificate_octets)
                for address in certificate.addresses:
                    yield address, Offer(certificate.octets, where)
    except KeyRefused:
        return  # a folder may hold other files too


def _x509(octets: bytes, where: str) -> Iterator[tuple[str, Offer]]:
    from keystore import smime  # its libraries take long to import, and many have no use for them

    for der in smime.read(octets, _nobody).certificates:
        for address in smime.certificate(der).addresses:
            yield address, Offer(der, where, Scheme.SMIME)


def _nobody() -> str:
    raise KeyRefused("a file under a passphrase offers nothing")
