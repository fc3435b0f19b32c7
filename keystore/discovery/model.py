"""PURE. What the sources of certificates have in common, and what they hand to the ladder.

A source answers for one address. It neither judges nor stores: whatever it finds it offers, and what becomes
of an offer is decided by `keystore.discovery.taking` with `keystore.policy`.

Security: what a source returns was written by others. Whoever is asked learns that somebody here writes to
this address, so no source is asked by reading mail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from keystore.model import Scheme


class SourceKind(StrEnum):
    """Where a certificate may come from. The values are words of the configuration and of JSON output."""

    PINNED = "pinned"
    """A rule of the owner names its fingerprint."""
    LOCAL = "local"
    """The store has it already."""
    GNUPG = "gnupg"
    """The public ring of the user's GnuPG."""
    AUTOCRYPT = "autocrypt"
    """Header fields of mail from this address (Autocrypt Level 1)."""
    GOSSIP = "gossip"
    """What a third person's encrypted mail said of this address."""
    SIGNED_MAIL = "signed-mail"
    """A certificate of S/MIME that a valid signature introduced."""
    WKD = "wkd"
    """The web server of the address's own domain (Web Key Directory)."""
    VKS = "vks"
    """A server that asks the owner of an address before it gives a certificate out (Hagrid's protocol)."""
    HKPS = "hkps"
    """A server to which anybody may upload anything."""
    DANE = "dane"
    """The DNS of the address's own domain: OPENPGPKEY (RFC 7929), SMIMEA (RFC 8162), with DNSSEC only."""
    LDAP = "ldap"
    """A directory, mostly an organisation's."""
    FOLDER = "folder"
    """A folder of files that the owner configured."""
    URL = "url"
    """A file on a web server that the owner configured."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One certificate that a source found for the address it was asked for, as the source has it."""

    octets: bytes = field(repr=False)
    """OpenPGP: binary, one transferable public key (RFC 9580 section 10.1). S/MIME: DER."""
    where: str
    """For people: the URL, zone or entry that was asked. Without secrets; it is shown and kept."""
    scheme: Scheme = Scheme.OPENPGP
    authenticated: bool = True
    """Whether the answer is surely of whom was asked: TLS verified, DNSSEC validated."""


class SourceFailed(Exception):
    """A source could not answer. The text is for people, without secrets and without octets of the answer."""

    def __init__(self, text: str, *, temporary: bool = True) -> None:
        """`temporary`: asked again soon; else it is kept like the answer that there is nothing."""
        super().__init__(text)
        self.text = text
        self.temporary = temporary


class Source(Protocol):
    """A rung of the ladder."""

    @property
    def kind(self) -> SourceKind:
        """What it is."""
        ...

    async def find(self, address: str) -> Sequence[Offer]:
        """What there is for `address`; () when there is nothing.

        `address` is in normal form: the domain in lower case and ASCII, the local part as it was written.
        Several may be asked at the same time. The ladder cancels what takes too long. Raises SourceFailed.
        """
        ...
