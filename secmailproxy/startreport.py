"""What is being served, and how each account stands: told at the start, and to whoever waits for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from keystore.keystore import Keystore
from keystore.model import Identity, Scheme
from keystore.selection import how_to_serve_again
from secmailproxy.config_accounts import AccountSection


@dataclass(frozen=True, slots=True)
class AccountReport:
    """One account, for the start-up report."""

    address: str
    login: str
    imap: str
    smtp: str
    fingerprint: str | None
    key_state: str
    """For people: "usable until 2027-01-02", "no key: mail leaves unprotected"."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is being served."""

    listeners: dict[str, str]
    """The name of each listener, such as "imap", and where it listens."""
    starttls: bool
    """Whether there is a certificate, so that submission offers STARTTLS."""
    accounts: tuple[AccountReport, ...]
    watched: tuple[str, ...] = ()
    """Mailboxes, for people."""

    def ready_line(self) -> str:
        """What `--ready-fd` and systemd are told."""
        return " ".join(["READY", *(f"{name}={bound}" for name, bound in self.listeners.items())])


def account_report(account: AccountSection, keystore: Keystore, now: datetime) -> AccountReport:
    """How one account stands. Reads the keystore (blocks)."""
    openpgp = keystore.identity(account.address, now)
    smime = keystore.identity(account.address, now, scheme=Scheme.SMIME)
    identity = openpgp or smime
    state = _key_state(account.address, identity, keystore, now)
    if openpgp and smime:
        state += f"; S/MIME {_until(smime)}"
    return AccountReport(
        account.address,
        account.login,
        f"{account.imap.host}:{account.imap.port}",
        f"{account.smtp.host}:{account.smtp.port}",
        identity.certificate.fingerprint if identity else None,
        state,
    )


def _key_state(address: str, identity: Identity | None, keystore: Keystore, now: datetime) -> str:
    if identity is not None:
        only = "" if identity.certificate.scheme is Scheme.OPENPGP else "S/MIME only, "
        return only + _until(identity)
    for scheme in Scheme:
        if unusable := keystore.unusable_own(address, now, scheme=scheme):
            fingerprint, usability = unusable
            helps = how_to_serve_again(address, fingerprint, scheme, usability.reason)
            return f"key {fingerprint} is not usable: {usability.explanation}; see: {helps}"
    return "no key: mail leaves unprotected and encrypted mail stays unreadable"


def _until(identity: Identity) -> str:
    expires = identity.certificate.expires
    return f"usable until {expires:%Y-%m-%d}" if expires else "usable, never expires"
