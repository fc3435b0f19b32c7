"""Certificates in directories that the owner of this machine configured, mostly an organisation's.

Standards: RFC 4523 section 2.1 and RFC 2798 section 2.8 (userCertificate, userSMIMECertificate), RFC 4524
section 2.16 (mail), RFC 4516 (URLs); the attributes pgpKey and gpgMailbox as GnuPG's schemas have them, and
proxyAddresses, the further addresses of a person, as Active Directory's has it.
Security: what a directory says of an address is the word of who runs it, and no more: its certificates are
used where nobody else has one (`keystore.policy.trust`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from keystore.discovery.model import Offer, SourceFailed, SourceKind
from keystore.errors import KeyRefused
from keystore.model import Scheme

if TYPE_CHECKING:
    import ssl

    from keystore.discovery.ldapclient import Value
    from keystore.discovery.net import Net

MOST_OFFERS = 16
"""For one address, of one directory."""

_ADDRESS = (("mail", ""), ("gpgMailbox", ""), ("proxyAddresses", "smtp:"))
"""The attributes that have an address, and what stands before it there. One that a server does not know is no
error in a search (RFC 4511 section 4.5.1.7)."""
_CERTIFICATES = ("userCertificate;binary", "userCertificate", "userSMIMECertificate", "pgpKey")
"""Some servers know the first only without its option, though RFC 4523 section 2.1 demands it."""
_PORTS = {"ldaps": 636, "ldap": 389}


@dataclass(frozen=True, slots=True)
class LdapServer:
    """A directory, and who may be looked up in it."""

    host: str
    port: int
    implicit: bool
    """Whether TLS begins at once (ldaps); else by StartTLS, or not at all: then nothing is asked."""
    base: str
    """The distinguished name below which entries are searched, such as "dc=example,dc=org"."""
    domains: tuple[str, ...] = ()
    """Lower case. Only addresses of these domains are asked for; (): all."""
    bind_dn: str | None = None
    """Whom to log in as; None: nobody."""
    password_file: Path | None = None
    """Its first line is the password."""

    def __str__(self) -> str:
        """As it is shown: without anything that logs in."""
        return f"{'ldaps' if self.implicit else 'ldap'}://{self.host}:{self.port}"


class Ldap:
    """The source "ldap": all directories that are for the address's domain, at the same time."""

    kind = SourceKind.LDAP

    def __init__(self, servers: Sequence[LdapServer], net: Net) -> None:
        """Nothing is read or asked yet."""
        self._servers = tuple(servers)
        self._net = net

    async def find(self, address: str) -> Sequence[Offer]:
        """Certificates with either scheme. See `keystore.discovery.model.Source`."""
        domain = address.rpartition("@")[2]
        servers = [one for one in self._servers if not one.domains or domain in one.domains]
        if not servers:
            return ()
        if self._net.proxied:
            raise SourceFailed("directories are not asked, since a proxy is configured", temporary=False)
        tls = await asyncio.to_thread(self._net.tls)
        told = await asyncio.gather(*(_told(server, tls, address) for server in servers))
        offers = [offer for answer in told if not isinstance(answer, SourceFailed) for offer in answer]
        failures = [answer for answer in told if isinstance(answer, SourceFailed)]
        if failures and not offers:
            raise next((failure for failure in failures if failure.temporary), failures[0])
        return offers


def read_url(
    url: str,
    *,
    domains: Sequence[str] = (),
    bind_dn: str | None = None,
    password_file: Path | None = None,
) -> LdapServer:
    """The directory of an URL such as `ldaps://ldap.example.org/dc=example,dc=org`.

    `ldap://` is asked over StartTLS. Raises ValueError with a text for people.
    """
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("it must begin with ldaps://HOST/ or ldap://HOST/")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a name and a password do not belong into it: see bind_dn and password_file")
    if parts.query or parts.fragment:
        raise ValueError("after the name of the base nothing may follow, such as ?mail")
    base = unquote(parts.path.removeprefix("/"), errors="strict")
    if "=" not in base:
        raise ValueError("the base of the search is missing, such as /dc=example,dc=org")
    try:
        port = parts.port or _PORTS[parts.scheme]
    except ValueError:
        raise ValueError("its port is no port") from None
    implicit = parts.scheme == "ldaps"
    return LdapServer(parts.hostname, port, implicit, base, tuple(domains), bind_dn, password_file)


async def _told(server: LdapServer, tls: ssl.SSLContext, address: str) -> list[Offer] | SourceFailed:
    """A failure is an answer here: another directory may have what is looked for."""
    from keystore.discovery.ldapclient import search

    try:
        values = await search(
            server, tls, [(name, before + address) for name, before in _ADDRESS], _CERTIFICATES
        )
    except SourceFailed as failure:
        return failure
    # The values are not small, and parsing them is not quick.
    return await asyncio.to_thread(_offers, server, values)


def _offers(server: LdapServer, values: Sequence[Value]) -> list[Offer]:
    """Without repeats; a value that cannot be read is as if it were not there."""
    found: dict[bytes, Offer] = {}
    for value in values:
        try:
            for scheme, octets in _certificates(value):
                found.setdefault(octets, Offer(octets, str(server), scheme))
        except KeyRefused:
            continue
    return list(found.values())[:MOST_OFFERS]


def _certificates(value: Value) -> Iterator[tuple[Scheme, bytes]]:
    """The certificates of a value: DER as it is, those of PKCS #7 and of OpenPGP apart. Raises KeyRefused."""
    if value.attribute == "pgpkey":
        from keystore import openpgp  # its engine is loaded when there is something to read

        for key in openpgp.parse_keys(value.octets):
            yield Scheme.OPENPGP, key.certificate_octets
    else:
        from keystore import smime

        for octets in smime.read(value.octets, _no_passphrase).certificates:
            yield Scheme.SMIME, octets


def _no_passphrase() -> str:
    raise KeyRefused("it is protected by a passphrase")
