"""PURE. What a web server's answer offers for an address.

Security: an answer may hold anything. What is no certificate is refused as a whole; certificates of others
are left out; an answer with a secret key in it is nobody's to keep.

Standards: RFC 9580 section 10.1.
"""

from __future__ import annotations

from keystore import openpgp
from keystore.discovery.model import Offer, SourceFailed
from keystore.errors import KeyRefused
from keystore.model import lower_case

MOST = 16
"""Certificates of one address, old and revoked ones included."""


def offers_for(address: str, octets: bytes, where: str, who: str) -> list[Offer]:
    """The certificates in `octets`, binary or armored, that name `address`; `who` answered.

    Raises SourceFailed where something else was sent.
    """
    wanted = lower_case(address)
    return [
        Offer(one, where)
        for one in _certificates(octets, who)
        if wanted in openpgp.certificate(one).addresses
    ][:MOST]


def _certificates(octets: bytes, who: str) -> list[bytes]:
    try:
        found = openpgp.parse_keys(octets)
    except KeyRefused:
        raise SourceFailed(f"{who} sends what is no OpenPGP certificate", temporary=False) from None
    if any(one.secret_octets is not None for one in found):
        raise SourceFailed(f"{who} sends a secret key, which is for nobody to have", temporary=False)
    return [one.certificate_octets for one in found]
