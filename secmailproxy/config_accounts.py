"""The accounts of the configuration file: [[accounts]], with their servers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from secmailproxy.accounts import Tls
from secmailproxy.config_rules import refuse_repeated
from secmailproxy.config_values import Address, AuthorityFile, Host, Mark, Port, Section, Switch


class ImapServerSection(Section):
    """accounts.imap"""

    host: Host
    port: Port = 993
    tls: Tls = "implicit"
    username: str = ""
    ca_file: AuthorityFile = None


class SmtpServerSection(ImapServerSection):
    """accounts.smtp: the same options with another port."""

    port: Port = 465


class AccountSection(Section):
    """[[accounts]]"""

    address: Address
    name: str = ""
    aliases: tuple[Address, ...] = ()
    login: Literal["mailbox", "local"] = "mailbox"
    encrypt_drafts: Switch = True
    encrypt_sent: Switch = True
    encrypt_other: Switch = False
    inline_pgp: Switch = False
    verdict_keywords: Switch = True
    subject_mark: Mark = ""
    reply_guard: Switch = True
    autocrypt: Switch = True
    prefer_encrypt: Literal["nopreference", "mutual"] = "nopreference"
    attach_key: Switch = False
    search: Literal["server", "presented", "private"] = "server"
    imap: ImapServerSection
    smtp: SmtpServerSection

    @property
    def imap_username(self) -> str:
        """At the IMAP server."""
        return self.imap.username or self.address

    @property
    def smtp_username(self) -> str:
        """At the smarthost."""
        return self.smtp.username or self.address


def refuse_shared_addresses(accounts: Sequence[AccountSection]) -> None:
    """Raises ValueError for an address or alias that would make it unclear whose a message is."""
    addresses = [one.address.lower() for one in accounts]
    refuse_repeated(addresses, "two accounts have the address")
    aliases = [alias.lower() for one in accounts for alias in one.aliases]
    refuse_repeated(aliases, "two accounts have the alias")
    for alias in aliases:
        if alias in addresses:
            raise ValueError(f"{alias} is an account here and an alias too; remove the alias")
