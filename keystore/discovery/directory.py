"""PURE. Where the certificate of an address lies in a Web Key Directory.

Standards: draft-koch-openpgp-webkey-service-21 section 3.1; z-base-32 as in RFC 6189 section 5.1.6.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import quote

_WELL_KNOWN = ".well-known/openpgpkey"
_DIGITS = "ybndrfg8ejkmcpqxot1uwisza345h769"


@dataclass(frozen=True, slots=True)
class Place:
    """One of the two places of an address."""

    domain: str
    """Of the address."""
    host: str
    path: str
    """Begins with a slash."""
    query: str

    @property
    def url(self) -> str:
        """What is asked for."""
        return f"https://{self.host}{self.path}?{self.query}"


def places(address: str) -> tuple[Place, Place]:
    """By the advanced and by the direct method. The domain is in lower case and ASCII."""
    local, _, domain = address.rpartition("@")
    name = hashed(local)
    query = f"l={quote(local, safe='')}"
    return (
        Place(domain, f"openpgpkey.{domain}", f"/{_WELL_KNOWN}/{domain}/hu/{name}", query),
        Place(domain, domain, f"/{_WELL_KNOWN}/hu/{name}", query),
    )


def hashed(local: str) -> str:
    """The name of a file: the local part, its ASCII letters small, as 32 digits of z-base-32."""
    # SHA-1 makes a name here and proves nothing.
    digest = hashlib.sha1(local.encode().lower(), usedforsecurity=False).digest()
    bits = int.from_bytes(digest, "big")
    return "".join(_DIGITS[bits >> at & 31] for at in range(155, -1, -5))
