"""Everything that the proxy needs to work, checked one by one: the substance of `secmailproxy doctor`.

Each check ends as ok, warn or fail; one that does not end well says what to do. Nothing is changed, except
that an empty keystore is made where there was none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Literal

from keystore.errors import KeystoreError, StoreDamaged
from keystore.keystore import Keystore
from keystore.model import Certificate, Scheme, SignatureState
from keystore.secrets import Secrets, open_secrets
from keystore.selection import how_to_serve_again
from secmailproxy import systemmail
from secmailproxy.accounts import Account, Credentials, Login, local_password_secret, password_secret
from secmailproxy.config import Config
from secmailproxy.errands.spool import waiting
from secmailproxy.errors import ConfigError, LoginRefused, SecMailProxyError, UpstreamUnavailable
from secmailproxy.forward.alerts import ENDED
from secmailproxy.forward.aliasfile import mistakes
from secmailproxy.localtls import LocalTls, read_certificate
from secmailproxy.probe import try_imap
from secmailproxy.renewals import ends_of
from secmailproxy.smtp.smarthost import Smarthost

State = Literal["ok", "warn", "fail"]
WARN_BEFORE = timedelta(days=30)
_WANTED_IMAP = {
    "UIDPLUS": "a mail client cannot learn which UID a stored message got",
    "IDLE": "new mail shows only when the mail client asks for it",
}
_PROBE = b"Subject: secmailproxy doctor\r\n\r\nround trip\r\n"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `account` is "" for what concerns all; `remedy` is "" where all is well."""

    name: str
    account: str
    state: State
    text: str
    remedy: str = ""


def check_all(config: Config, passphrase: Callable[[], str], now: datetime) -> Iterator[Check]:
    """All checks of a configuration that has been read, as they end. Blocks; goes to the network."""
    yield from _accounts_present(config)
    yield from _notifications(config)
    try:
        secrets = open_secrets(config.secrets_settings(passphrase))
        secrets.get("keystore-key")
    except (KeystoreError, SecMailProxyError) as error:
        yield _without_secrets(config, error)
        yield from _system_mail(config, systemmail.NoSecrets(error), now)
        return
    yield Check("secrets", "", "ok", f"the {config.secrets.backend} backend can be read")
    config.folders.prepare()
    try:
        keystore = Keystore.open(config.keystore_settings(), secrets)
    except (KeystoreError, SecMailProxyError) as error:
        yield _unusable(error)
        return
    yield from _certificate(config, secrets, now)
    with closing(keystore):
        yield from _keystore(keystore)
        yield _roots(keystore)
        yield from _system_mail(config, secrets, now)
        for account, section in zip(config.account_values(), config.accounts, strict=True):
            for check in _key(keystore, account.address, now):
                is_spared = check.name == "key" and systemmail.carries(config, account.address)
                yield _spared(check) if is_spared else check
            password, finding = _password(secrets, account)
            yield finding
            yield _imap(account, password)
            yield _smtp(Smarthost(config.smarthost_settings(section)), account, password)


def worst(checks: list[Check]) -> State:
    """The state of the whole."""
    states = {check.state for check in checks}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"


def _accounts_present(config: Config) -> Iterator[Check]:
    count, file = len(config.accounts), config.folders.config_file
    if count:
        yield Check("config", "", "ok", f"{file}: {count} account(s)")
    elif systemmail.is_used(config):
        yield Check("config", "", "ok", f"{file}: system mail alone, no account")
    else:
        remedy = "run: secmailproxy setup you@your.domain; or, for system mail, write [[forward.targets]]"
        yield Check("config", "", "warn", "there is no account", remedy)


def _without_secrets(config: Config, error: KeystoreError | SecMailProxyError) -> Check:
    if systemmail.needs_secrets(config):
        return Check("secrets", "", "fail", str(error), f"see [secrets] in {config.folders.config_file}")
    return Check("secrets", "", "ok", "none can be had, and as it is configured system mail needs none")


def _notifications(config: Config) -> Iterator[Check]:
    """What senders have not been told yet of mail that was delivered in part."""
    for account, group in groupby(
        sorted(waiting(config.folders.notifications), key=lambda one: one.account), lambda one: one.account
    ):
        since = [one.since for one in group]
        yield Check(
            "notifications",
            account,
            "warn",
            f"{len(since)} about mail that was delivered in part not stored in the INBOX yet, the oldest of "
            f"{min(since):%Y-%m-%d %H:%M}",
            "log in with the mail client while secmailproxy serve runs; its log says what stands in the way",
        )


def _system_mail(config: Config, secrets: Secrets, now: datetime) -> Iterator[Check]:
    """Whether system mail can be encrypted, signed, and sent on; what waits."""
    if not systemmail.is_used(config):
        return
    name = "system mail"
    try:
        with closing(Keystore.open(config.keystore_settings(), secrets)) as keystore:
            facts = systemmail.facts(config, keystore, now)
    except (KeystoreError, SecMailProxyError) as error:
        yield _unusable(error)
        return
    for fact in facts:
        stage = fact.stage(now)
        state: State = "ok" if stage is None else "warn" if stage != ENDED else "fail"
        remedy = "import it, or a renewed one, as this user: secmailproxy key import FILE; until then nothing"
        remedy += " is sent to it"
        yield Check(name, "", state, fact.sentence(), "" if stage is None else remedy)
    wrong, remedy = systemmail.way_out(config)
    yield Check("way out", "", "fail" if wrong else "ok", wrong or systemmail.in_short(config), remedy)
    waits = systemmail.waiting(config.folders.spool)
    if waits.held or waits.failed:
        yield Check("queue", "", "warn", str(waits), "see: secmailproxy queue list")
    if config.forward.aliases and Path(config.forward.aliases).exists():
        yield from _aliases(config.forward.aliases)


def _aliases(path: str) -> Iterator[Check]:
    """What the aliases file holds that is no alias."""
    try:
        wrong = mistakes(path)
    except ConfigError as error:
        yield Check("aliases", "", "fail", error.text, "mail for local names is not sent until then")
        return
    if wrong:
        lines = ", ".join(map(str, wrong[:5])) + (" and others" if len(wrong) > 5 else "")
        remedy = "write it as name: destination, ...; until then mail for it goes to the target of local mail"
        yield Check("aliases", "", "warn", f"no alias in {path}, line {lines}", remedy)


def _certificate(config: Config, secrets: Secrets, now: datetime) -> Iterator[Check]:
    """That of the listeners: whether it can be used, and for how long."""
    path = config.folders.certificate
    if not path.exists() and config.listen.imaps is None and config.listen.submissions is None:
        return
    name, remedy = "certificate", "run: secmailproxy certificate renew, and give it to your mail clients"
    try:
        found = read_certificate(path)
        LocalTls(path, secrets).load()
    except ConfigError as error:
        yield Check(name, "", "fail", error.text, "run: secmailproxy certificate create (or renew)")
        return
    until = f"{found.expires:%Y-%m-%d}"
    if found.expires <= now:
        yield Check(name, "", "fail", f"expired {until}: mail clients refuse it", remedy)
    elif found.expires - now <= WARN_BEFORE:
        yield Check(name, "", "warn", f"expires {until}, in {(found.expires - now).days} days", remedy)
    else:
        yield Check(name, "", "ok", f"for {', '.join(found.names)}, expires {until}")


def _unusable(error: KeystoreError | SecMailProxyError) -> Check:
    is_damaged = isinstance(error, StoreDamaged)
    remedy = "restore the keystore's folder from a backup" if is_damaged else "correct this, then try again"
    return Check("keystore", "", "fail", str(error), remedy)


def _keystore(keystore: Keystore) -> Iterator[Check]:
    try:
        locked = keystore.locked
    except KeystoreError as error:
        yield _unusable(error)
        return
    if locked:
        yield Check("keystore", "", "fail", "the keystore is locked", "unlock the keyring; see [secrets]")
    else:
        yield Check("keystore", "", "ok", f"open, {keystore.count()} certificate(s)")


def _roots(keystore: Keystore) -> Check:
    """Whom we believe to vouch for S/MIME certificates."""
    name = "S/MIME roots"
    try:
        platform, all_of_them = len(keystore.roots.of_platform), len(keystore.roots.all)
    except KeystoreError as error:
        return Check(name, "", "fail", str(error), "correct [smime] roots, or set platform_roots = false")
    if not all_of_them:
        remedy = "name a file of authorities in [smime] roots, or verify certificates yourself: key trust"
        return Check(name, "", "warn", "no authority is believed to vouch for S/MIME certificates", remedy)
    return Check(name, "", "ok", f"{all_of_them} believed, {platform} of them of this machine")


def _key(keystore: Keystore, address: str, now: datetime) -> Iterator[Check]:
    """Whether the account has a key of either scheme, for how long, and whether it works."""
    identities = {scheme: keystore.identity(address, now, scheme=scheme) for scheme in Scheme}
    if identities[Scheme.OPENPGP] is None and (
        identities[Scheme.SMIME] is None or keystore.unusable_own(address, now)
    ):
        yield _no_key(keystore, address, now)
    ends = {one.fingerprint: one.ends for one in ends_of([address], keystore, now)}
    for scheme, identity in identities.items():
        if identity is not None:
            yield _validity(identity.certificate, ends.get(identity.certificate.fingerprint), address, now)
            works = _round_trip if scheme is Scheme.OPENPGP else _smime_round_trip
            yield works(keystore, identity.certificate, address, now)


def _spared(check: Check) -> Check:
    """Of an account that may be there for system mail alone."""
    if check.state != "fail":
        return check
    text = f"{check.text}; system mail, which leaves through this account, needs no key of it"
    return replace(check, state="warn", text=text)


def _validity(certificate: Certificate, ends: datetime | None, address: str, now: datetime) -> Check:
    """`ends` is when a part of it ends that it cannot do without, where that is soon."""
    is_smime = certificate.scheme is Scheme.SMIME
    name = "S/MIME key" if is_smime else "key"
    end = ends or certificate.expires
    text = f"{certificate.fingerprint} ({certificate.algorithm})"
    if end is None:
        return Check(name, address, "ok", f"{text}, never expires")
    left = end - now
    if left > WARN_BEFORE:
        return Check(name, address, "ok", f"{text}, expires {end:%Y-%m-%d}")
    renewal = f"secmailproxy key extend {certificate.fingerprint}"
    if is_smime:
        renewal = (
            f"get a new one from the authority in time: secmailproxy key request {address}, and import what "
            "it issues: secmailproxy key import FILE"
        )
    text += f" expires {end:%Y-%m-%d}, in {left.days} days"
    return Check(name, address, "warn", text, renewal)


def _no_key(keystore: Keystore, address: str, now: datetime) -> Check:
    text = "there is no key: mail leaves unprotected, encrypted mail stays unreadable"
    made = f"secmailproxy setup {address} --generate-key"
    for scheme in Scheme:
        if unusable := keystore.unusable_own(address, now, scheme=scheme):
            fingerprint, usability = unusable
            text = f"{fingerprint} is not usable: {usability.explanation}"
            made = how_to_serve_again(address, fingerprint, scheme, usability.reason)
            break
    remedy = f"run: {made}, or import yours: secmailproxy key import FILE"
    others = {at for one in keystore.owned() for at in one.addresses}
    if others := others - {address}:
        remedy += f" (keys here are for {', '.join(sorted(others))})"
    return Check("key", address, "fail", text, remedy)


def _smime_round_trip(keystore: Keystore, certificate: Certificate, address: str, now: datetime) -> Check:
    """Sign and verify, encrypt and decrypt a few octets with the account's own S/MIME key."""
    name, own = "S/MIME round trip", certificate.fingerprint
    remedy = f"see `secmailproxy key show {own}`"
    try:
        signature = keystore.smime.sign(_PROBE, own, now)
        reader = keystore.smime.reader(own, now)
        opened = keystore.smime.decrypt(keystore.smime.encrypt(_PROBE, [reader], now).der).octets
    except KeystoreError as error:
        return Check(name, address, "fail", str(error), remedy)
    if opened != _PROBE or not keystore.smime.proves(_PROBE, signature.der, own):
        return Check(name, address, "fail", "what was sealed is not what was opened", remedy)
    return Check(name, address, "ok", "sealed and opened with the own key")


def _round_trip(keystore: Keystore, certificate: Certificate, address: str, now: datetime) -> Check:
    """Sign, encrypt, decrypt and verify a few octets with the account's own key."""
    own = certificate.fingerprint
    remedy = f"see `secmailproxy key show {own}`; for a key held by GnuPG, whether its agent answers"
    try:
        opened = keystore.decrypt(keystore.encrypt(_PROBE, [own], own, now), now)
    except KeystoreError as error:
        return Check("round trip", address, "fail", str(error), remedy)
    good = [one for one in opened.signatures if one.state is SignatureState.GOOD and one.fingerprint == own]
    if opened.octets != _PROBE or not good:
        return Check("round trip", address, "fail", "what was sealed is not what was opened", remedy)
    return Check("round trip", address, "ok", "sealed and opened with the own key")


def _password(secrets: Secrets, account: Account) -> tuple[str | None, Check]:
    address = account.address
    remedy = f"run: secmailproxy setup {address}"
    try:
        password = secrets.get(password_secret(address))
        local = secrets.get(local_password_secret(address)) if account.login is Login.LOCAL else "-"
    except (KeystoreError, SecMailProxyError) as error:
        return None, Check("password", address, "fail", str(error), remedy)
    if password is None:
        state: State = "fail" if account.login is Login.LOCAL else "warn"
        return None, Check("password", address, state, "no password is stored; logins are not tried", remedy)
    if local is None:
        return password, Check("password", address, "fail", "the local password is missing", remedy)
    return password, Check("password", address, "ok", "stored")


def _imap(account: Account, password: str | None) -> Check:
    """Reach, TLS, login and capabilities of the IMAP server; each failure's text says which it was."""
    name = "IMAP server"
    if password is None:
        return Check(name, account.address, "warn", "not tried without a password")
    try:
        seen = asyncio.run(try_imap(account.imap, account.imap_username or account.address, password))
    except (UpstreamUnavailable, LoginRefused) as error:
        return Check(name, account.address, "fail", error.text, f"run: secmailproxy setup {account.address}")
    lacks = [why for capability, why in _WANTED_IMAP.items() if capability not in seen.capabilities]
    text = f"{account.imap.host}:{account.imap.port}, {seen.tls_version}, login ok"
    if "IMAP4REV1" not in seen.capabilities:
        return Check(name, account.address, "fail", f"{text}, but no IMAP4rev1", "ask the provider")
    if lacks:
        return Check(name, account.address, "warn", text, f"the server lacks something: {'; '.join(lacks)}")
    return Check(name, account.address, "ok", text)


def _smtp(smarthost: Smarthost, account: Account, password: str | None) -> Check:
    name = "smarthost"
    settings = smarthost.settings
    if password is None:
        return Check(name, account.address, "warn", "not tried without a password")

    async def visit() -> None:
        try:
            username = account.smtp_username or account.address
            await smarthost.verify_login(Credentials(username, password))
        finally:
            await smarthost.close()

    try:
        asyncio.run(visit())
    except SecMailProxyError as error:
        remedy = "check host, port, tls and password; change them with secmailproxy setup"
        return Check(name, account.address, "fail", error.text, remedy)
    text = f"{settings.host}:{settings.port}, TLS verified"
    if "8BITMIME" not in (smarthost.extensions or {}):
        lack = "the server takes no 8-bit mail: such a message that is not protected will be refused"
        return Check(name, account.address, "warn", f"{text}, login ok", lack)
    return Check(name, account.address, "ok", f"{text}, login ok")
