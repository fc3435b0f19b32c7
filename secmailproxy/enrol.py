"""Take an account in: try both servers, see to a key, keep the password, write the configuration.

Receives: complete answers. Writes: nothing before both logins have succeeded over verified TLS; the
configuration last, so that a failure before leaves the old one in force.
"""

from __future__ import annotations

import asyncio
import secrets as randomness
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from keystore.errors import KeyRefused
from keystore.keystore import Keystore
from keystore.model import Certificate, Fingerprint, Purpose
from keystore.ownkeys import LIFETIME
from keystore.secrets import Secrets, open_secrets
from secmailproxy import config_writer
from secmailproxy.accounts import Credentials, ImapUpstream, local_password_secret, password_secret
from secmailproxy.config import Config
from secmailproxy.config_writer import AccountEntry, ServerEntry
from secmailproxy.errors import LoginRefused, SigningKeyUnusable, UpstreamUnavailable, UsageError
from secmailproxy.folders import Folders
from secmailproxy.localtls import LocalCertificate, LocalTls, read_certificate
from secmailproxy.probe import try_imap
from secmailproxy.smtp.smarthost import Smarthost, SmarthostSettings

KeyWish = Literal["generate", "gnupg", "adopt", "keep", "none"]


@dataclass(frozen=True, slots=True)
class Wish:
    """Everything that `setup` wants to have done."""

    account: AccountEntry
    tables: Mapping[str, Mapping[str, Any]]
    """Other tables of the configuration that change: [listen], [secrets]."""
    key: KeyWish
    adopt: str = ""
    """A fingerprint, where `key` is "adopt"."""
    local_tls: bool = False
    """Whether mail clients are to find TLS here."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done."""

    config: Config
    local_password: str | None
    """Where one was made or changed; shown once."""
    fingerprint: str | None
    key_action: str
    """"generated", "adopted", "kept" or "none"."""
    certificate: LocalCertificate | None
    """That of our own listeners, where mail clients are to find TLS here."""


def now() -> datetime:
    """The clock of key generation."""
    return datetime.now(UTC)


async def try_both(account: AccountEntry, password: str) -> None:
    """Log in at both servers. Raises UpstreamUnavailable or LoginRefused, naming the server."""
    imap, smtp = account.imap, account.smtp
    upstream = ImapUpstream(imap.host, imap.port, imap.tls, imap.ca_file)
    await try_imap(upstream, imap.username or account.address, password)
    await try_smtp(smtp, smtp.username or account.address, password)


async def try_smtp(server: ServerEntry, username: str, password: str) -> None:
    """Log in at a smarthost and leave. Raises UpstreamUnavailable or LoginRefused."""
    settings = SmarthostSettings(
        host=server.host, port=server.port, tls=server.tls, ca_file=server.ca_file, timeout=20
    )
    smarthost = Smarthost(settings)
    try:
        await smarthost.verify_login(Credentials(username, password))
    except LoginRefused as error:
        raise LoginRefused(
            f"The smarthost {server.host} refuses the login: {error.text.rstrip('.')}. Check user name and "
            "password; some providers want a password made for mail programs."
        ) from None
    except UpstreamUnavailable as error:
        raise UpstreamUnavailable(
            f"No login at the smarthost: {error.text.rstrip('.')}. Check host, port and tls: implicit TLS is "
            "usually port 465, STARTTLS port 587."
        ) from None
    finally:
        await smarthost.close()


def enrol(
    wish: Wish,
    folders: Folders,
    password: str,
    local_password: str | None,
    secrets_passphrase: Callable[[], str],
) -> Outcome:
    """Do everything, or raise (SecMailProxyError, KeystoreError) with the configuration untouched. Blocks."""
    text = config_writer.changed(config_writer.read_text(folders), wish.tables, wish.account)
    planned = Config.parse(text.encode("utf-8"), folders)
    asyncio.run(try_both(wish.account, password))
    folders.prepare()
    secrets = open_secrets(planned.secrets_settings(secrets_passphrase))
    with closing(Keystore.open(planned.keystore_settings(), secrets)) as keystore:
        fingerprint, action = _key(keystore, wish)
    kept = _Kept(secrets)
    try:
        address = wish.account.address
        kept.set(password_secret(address), password)
        made = _local_password(kept, wish.account, local_password)
        certificate = _certificate(folders, secrets) if wish.local_tls else None
        config = config_writer.save(folders, text)
    except BaseException:
        kept.undo()
        raise
    return Outcome(config, made, fingerprint, action, certificate)


class _Kept:
    """Secrets being stored, with a way back."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._before: list[tuple[str, str | None]] = []

    def get(self, name: str) -> str | None:
        return self._secrets.get(name)

    def set(self, name: str, value: str) -> None:
        before = self._secrets.get(name)
        if before != value:
            self._before.append((name, before))
            self._secrets.set(name, value)

    def undo(self) -> None:
        for name, value in reversed(self._before):
            if value is None:
                self._secrets.delete(name)
            else:
                self._secrets.set(name, value)


def _certificate(folders: Folders, secrets: Secrets) -> LocalCertificate:
    """The one there is, which mail clients may trust already, else a new one."""
    if folders.certificate.exists():
        return read_certificate(folders.certificate)
    return LocalTls(folders.certificate, secrets).make(now())


def _local_password(kept: _Kept, account: AccountEntry, given: str | None) -> str | None:
    """See that there is a local password where the account wants one; what was made or changed."""
    if account.login != "local":
        return None
    name = local_password_secret(account.address)
    if given is None and kept.get(name):
        return None
    chosen = given or randomness.token_urlsafe(18)
    kept.set(name, chosen)
    return chosen


def _key(keystore: Keystore, wish: Wish) -> tuple[str | None, str]:
    """See to the account's key; its fingerprint and what was done."""
    address = wish.account.address
    identity = keystore.identity(address)
    match wish.key:
        case "none":
            return (identity.certificate.fingerprint if identity else None), "none"
        case "keep" if identity is not None:
            return identity.certificate.fingerprint, "kept"
        case "adopt":
            return _adopt(keystore, Fingerprint(wish.adopt), address).fingerprint, "adopted"
        case "gnupg":
            return _from_gnupg(keystore, address), "adopted"
        case "keep" | "generate":
            made = keystore.generate(address, name=wish.account.name, now=now(), expires=LIFETIME)
            return made.fingerprint, "generated"


def _adopt(keystore: Keystore, fingerprint: Fingerprint, address: str) -> Certificate:
    certificate = keystore.certificate(fingerprint)
    if certificate is None:
        raise UsageError(
            f"The keystore has no key {fingerprint}; first run: secmailproxy key import FILE "
            "(or use --key-from-gnupg)"
        )
    usability = keystore.usability(fingerprint, Purpose.SIGN, now(), address)
    identity = keystore.identity(address)
    if not usability.usable:
        raise SigningKeyUnusable(f"Key {fingerprint} cannot serve {address}: {usability.explanation}.")
    if identity is None or identity.certificate.fingerprint != fingerprint:
        chosen = identity.certificate.fingerprint if identity else "none"
        raise UsageError(
            f"Key {fingerprint} does not become the key of {address} (the keystore chooses: {chosen}). Check "
            "that its secret half is here, and delete the other key: secmailproxy key delete"
        )
    return certificate


def _from_gnupg(keystore: Keystore, address: str) -> str:
    results = keystore.holders.take_from_gnupg(address, secret=True)
    identity = keystore.identity(address)
    if identity is not None and any(one.fingerprint == identity.certificate.fingerprint for one in results):
        return identity.certificate.fingerprint
    why = "; ".join(one.reason for one in results if one.reason) or "GnuPG has no secret key for it"
    raise KeyRefused(f"no key for {address} from GnuPG: {why}. Use --generate-key, or see `gpg -K {address}`")
