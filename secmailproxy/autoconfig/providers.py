"""Well-known providers, for when their domains publish nothing that can be read.

Data only. A provider's row serves every domain listed; the user name is the whole address unless said.
Providers that admit OAuth only are not here: a password login would fail there.
"""

from __future__ import annotations

from dataclasses import dataclass

from secmailproxy.accounts import Tls
from secmailproxy.autoconfig.servers import Server, Servers


@dataclass(frozen=True, slots=True)
class Provider:
    """One row."""

    name: str
    domains: tuple[str, ...]
    imap: tuple[str, int, Tls]
    smtp: tuple[str, int, Tls]
    needs_app_password: bool = False
    """Whether the provider wants a password made for one program, not the one for its web site."""


PROVIDERS = (
    Provider(
        "Gmail",
        ("gmail.com", "googlemail.com"),
        ("imap.gmail.com", 993, "implicit"),
        ("smtp.gmail.com", 465, "implicit"),
        needs_app_password=True,
    ),
    Provider(
        "iCloud",
        ("icloud.com", "me.com", "mac.com"),
        ("imap.mail.me.com", 993, "implicit"),
        ("smtp.mail.me.com", 587, "starttls"),
        needs_app_password=True,
    ),
    Provider(
        "Yahoo",
        ("yahoo.com", "yahoo.de", "yahoo.fr", "yahoo.co.uk", "ymail.com"),
        ("imap.mail.yahoo.com", 993, "implicit"),
        ("smtp.mail.yahoo.com", 465, "implicit"),
        needs_app_password=True,
    ),
    Provider(
        "Fastmail",
        ("fastmail.com", "fastmail.fm"),
        ("imap.fastmail.com", 993, "implicit"),
        ("smtp.fastmail.com", 465, "implicit"),
        needs_app_password=True,
    ),
    Provider(
        "GMX",
        ("gmx.de", "gmx.at", "gmx.ch"),
        ("imap.gmx.net", 993, "implicit"),
        ("mail.gmx.net", 465, "implicit"),
    ),
    Provider("GMX", ("gmx.com",), ("imap.gmx.com", 993, "implicit"), ("mail.gmx.com", 465, "implicit")),
    Provider("WEB.DE", ("web.de",), ("imap.web.de", 993, "implicit"), ("smtp.web.de", 587, "starttls")),
    Provider(
        "T-Online",
        ("t-online.de", "magenta.de"),
        ("secureimap.t-online.de", 993, "implicit"),
        ("securesmtp.t-online.de", 465, "implicit"),
        needs_app_password=True,
    ),
    Provider(
        "mailbox.org",
        ("mailbox.org",),
        ("imap.mailbox.org", 993, "implicit"),
        ("smtp.mailbox.org", 465, "implicit"),
    ),
    Provider(
        "Posteo",
        ("posteo.de", "posteo.net"),
        ("posteo.de", 993, "implicit"),
        ("posteo.de", 465, "implicit"),
    ),
    Provider(
        "Zoho",
        ("zoho.com", "zohomail.com"),
        ("imap.zoho.com", 993, "implicit"),
        ("smtp.zoho.com", 465, "implicit"),
    ),
    Provider(
        "Yandex",
        ("yandex.com", "yandex.ru"),
        ("imap.yandex.com", 993, "implicit"),
        ("smtp.yandex.com", 465, "implicit"),
        needs_app_password=True,
    ),
    Provider(
        "Migadu",
        ("migadu.com",),
        ("imap.migadu.com", 993, "implicit"),
        ("smtp.migadu.com", 465, "implicit"),
    ),
)


def provider_of(domain: str) -> Provider | None:
    """The provider of this mail domain, if it is listed."""
    return next((one for one in PROVIDERS if domain.lower() in one.domains), None)


def servers_of(address: str, domain: str) -> Servers:
    """The listed servers for an address of this domain; empty when it is not listed."""
    provider = provider_of(domain)
    if provider is None:
        return Servers()
    source = f"built-in entry for {provider.name}"
    return Servers(Server(*provider.imap, address, source), Server(*provider.smtp, address, source))
