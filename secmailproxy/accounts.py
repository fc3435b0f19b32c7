"""Who may log in, and what they log in to upstream.

All accounts share one pair of listeners; the user name of the login chooses the account: its address, or its
user name at the server, without regard to case. With login "mailbox" the password the client gives is the
mailbox's own and is passed on; with login "local" the client gives a local password and the proxy logs in
upstream with the stored one. A user name that several accounts share chooses none of them.

Security: a local password is compared in constant time, and an unknown user name costs the same comparison.
Neither user names nor passwords are in any error text.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from secmailproxy.errors import KeystoreLocked, LoginRefused, NotAllowed
from secmailproxy.model import SearchScope

if TYPE_CHECKING:
    from keystore.secrets import Secrets
    from secmailproxy.smtp.smarthost import Smarthost

Tls = Literal["implicit", "starttls"]
"""How TLS begins: at once, or by STARTTLS, which is then demanded. There is no third way."""


Mechanism = Literal["password", "XOAUTH2", "OAUTHBEARER"]
"""How a login proves itself: by a password, whatever the SASL mechanism, or by an OAuth access token."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What to log in with at a smarthost. An access token is passed on as it was given, and never stored."""

    username: str
    secret: str = field(repr=False)
    mechanism: Mechanism = "password"


class Login(Enum):
    """What password the mail client gives."""

    MAILBOX = "mailbox"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class ImapUpstream:
    """An IMAP server. TLS is always verified, against `ca_file` where it is given."""

    host: str
    port: int
    tls: Tls = "implicit"
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """One mailbox: its address, its servers' user names and how its owner logs in here."""

    address: str
    imap: ImapUpstream
    name: str = ""
    login: Login = Login.MAILBOX
    imap_username: str = ""
    """At the IMAP server; "" means the address."""
    smtp_username: str = ""
    """At the smarthost; "" means the address."""
    aliases: tuple[str, ...] = ()
    """Other addresses that its owner sends from."""
    encrypt_drafts: bool = True
    encrypt_sent: bool = True
    encrypt_other: bool = False
    verdict_keywords: bool = True
    """Whether its messages have IMAP keywords that tell their verdicts."""
    subject_mark: str = field(default="", repr=False)
    """The secret word before the Subject of what is rightly signed; nothing without."""
    search: SearchScope = SearchScope.SERVER
    inline_pgp: bool = False

    @property
    def usernames(self) -> frozenset[str]:
        """The user names at its servers, lower case."""
        return frozenset(name.lower() for name in (self.imap_username, self.smtp_username) if name)


@dataclass(frozen=True, slots=True)
class ImapLogin:
    """What to log in with at the account's IMAP server."""

    account: Account
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SubmissionAccount:
    """What to submit with, for a client that has logged in."""

    address: str
    smarthost: Smarthost
    credentials: Credentials
    others: Callable[[], frozenset[str]] = frozenset
    """Addresses and aliases of the other accounts as they are now, lower case: this login must not speak or
    sign for them. Raises NotAllowed once this account is served no more."""


class AccountDoor(Protocol):
    """What the submission listener needs of the accounts."""

    async def authenticate_submission(
        self, username: str, secret: str, mechanism: Mechanism
    ) -> SubmissionAccount:
        """Raises LoginRefused for a wrong user name or secret, KeystoreLocked or UpstreamUnavailable.

        `secret` is a password, or an access token for the mechanisms of OAuth.
        """

    def known_as(self, username: str) -> str:
        """The address of the account that a login with this user name is for; "" for none."""


def password_secret(address: str) -> str:
    """The name under which the mailbox's password is kept."""
    return f"password:{address.lower()}"


def local_password_secret(address: str) -> str:
    """The name under which the local password is kept."""
    return f"local-password:{address.lower()}"


class Accounts:
    """The accounts being served. The listeners keep this object while its content may be replaced."""

    def __init__(
        self, accounts: Sequence[Account], smarthosts: Mapping[str, Smarthost], secrets: Secrets
    ) -> None:
        """`smarthosts` by account address, exactly as written; `secrets` holds the stored passwords."""
        self._accounts = tuple(accounts)
        self._smarthosts = dict(smarthosts)
        self._secrets = secrets
        self._heard: Callable[[str, str], None] = lambda address, password: None

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts)

    def smarthosts(self) -> tuple[Smarthost, ...]:
        """Those of all accounts: what they all offer can be offered to a client before its login."""
        return tuple(self._smarthosts.values())

    def replace(self, accounts: Sequence[Account], smarthosts: Mapping[str, Smarthost]) -> None:
        """Serve these from now on. Sessions that have logged in keep their connections and logins, but those
        of an account that is none any more send nothing."""
        self._accounts = tuple(accounts)
        self._smarthosts = dict(smarthosts)

    def tell_of_logins(self, heard: Callable[[str, str], None]) -> None:
        """From now on `heard` gets the address and password of each login that the mailbox's server took."""
        self._heard = heard

    def logged_in(self, login: ImapLogin) -> None:
        """The IMAP server has taken this login."""
        self._heard(login.account.address, login.password)

    def errand_login(self, address: str, password: str) -> ImapLogin | None:
        """The login for an errand of our own: with this password, else the stored one; None without either.

        May block. Raises SecMailProxyError or KeystoreError when the stored password cannot be read.
        """
        account = next((one for one in self._accounts if one.address.lower() == address.lower()), None)
        if account is None:
            return None
        secret = password or self._secrets.get(password_secret(account.address))
        return ImapLogin(account, account.imap_username or account.address, secret) if secret else None

    def imap_login(self, username: str, password: str) -> ImapLogin:
        """The login for the account's IMAP server. May block while a stored secret is read.

        Raises LoginRefused for an unknown user name or a wrong local password, KeystoreLocked when the stored
        password cannot be read. A mailbox password is not judged here: the server does that.
        """
        account = self._account(username, password)
        return ImapLogin(
            account, account.imap_username or account.address, self._upstream_password(account, password)
        )

    def known_as(self, username: str) -> str:
        """The address of the account that a login with this user name is for; "" for none."""
        found = self._named(username)
        return found[0].address if len(found) == 1 else ""

    async def authenticate_submission(
        self, username: str, secret: str, mechanism: Mechanism = "password"
    ) -> SubmissionAccount:
        """The smarthost and the login for it, proven to be right.

        Raises LoginRefused, KeystoreLocked or UpstreamUnavailable. A mailbox password or access token is
        tried at the smarthost first, so that nobody without it learns anything here, such as whose keys we
        have.
        """
        account = self._account(username, secret)
        smarthost = self._smarthosts[account.address]
        if account.login is Login.LOCAL and mechanism != "password":
            raise LoginRefused("This account expects its local password, not an access token.")
        import asyncio  # takes time to import, and pipes only read settings here

        secret = await asyncio.to_thread(self._upstream_password, account, secret)
        credentials = Credentials(account.smtp_username or account.address, secret, mechanism)
        if account.login is Login.MAILBOX:
            await smarthost.verify_login(credentials)
        if mechanism == "password":
            self._heard(account.address, secret)
        return SubmissionAccount(
            account.address, smarthost, credentials, partial(self._others, account.address)
        )

    def _others(self, address: str) -> frozenset[str]:
        """Addresses and aliases of all accounts but this one, lower case. Raises NotAllowed if it is none."""
        others = [one for one in self._accounts if one.address.lower() != address.lower()]
        if len(others) == len(self._accounts):
            # What its owner had decided for it is gone with it, such as that its mail must be encrypted.
            raise NotAllowed(f"<{address}> is no account here any more")
        return frozenset(name.lower() for one in others for name in (one.address, *one.aliases))

    def _named(self, username: str) -> list[Account]:
        """The account with this address, else those with this user name at their servers."""
        wanted = username.lower()
        found = [one for one in self._accounts if one.address.lower() == wanted]
        return found or [one for one in self._accounts if wanted in one.usernames]

    def _account(self, username: str, password: str) -> Account:
        """The account that this user name is for. Raises LoginRefused."""
        found = self._named(username)
        if len(found) == 1:
            return found[0]
        _same(password, "")
        if found:
            raise LoginRefused(
                "Several accounts have this user name; log in with the address of the account."
            )
        raise LoginRefused("No account has this user name; log in with the address of the account.")

    def _upstream_password(self, account: Account, password: str) -> str:
        """The password for the servers, once the one given has been judged."""
        if account.login is Login.MAILBOX:
            return password
        local = self._secrets.get(local_password_secret(account.address))
        if not local or not _same(password, local):
            raise LoginRefused("Wrong password; this account expects its local password.")
        stored = self._secrets.get(password_secret(account.address))
        if not stored:
            raise KeystoreLocked(
                f"The password of {account.address} is not stored; run: secmailproxy setup {account.address}"
            )
        return stored


def _same(given: str, right: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), right.encode("utf-8"))
