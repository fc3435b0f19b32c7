"""How things stand, from what is on the disk: the substance of `secmailproxy status`.

Nothing is asked of the network, of a person, or of a running proxy, so it says the same whether one runs or
not, and disturbs neither. What would need an unlocked keystore is left out where it is locked.
"""

from __future__ import annotations

import fcntl
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from keystore.secrets import Secrets as SecretStore
from keystore.secrets import open_secrets
from keystore.selection import how_to_settle
from secmailproxy import systemmail
from secmailproxy.config import Config, Secrets
from secmailproxy.config_accounts import AccountSection
from secmailproxy.errands.spool import waiting
from secmailproxy.errors import ConfigError, SecMailProxyError
from secmailproxy.keywords import NAMES
from secmailproxy.renewals import ends_of, remedy
from secmailproxy.startreport import account_report
from secmailproxy.supervision import LOCK
from secmailproxy.verdict import field_name
from secmailproxy.views import Views

_UNUSABLE = "cannot be used"


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """One account."""

    address: str
    key: str
    """For people; "" where the keystore cannot be read."""
    waiting: int
    """Notifications, of partial delivery or of keys that end, that have not reached the INBOX."""
    opened: int | None = None
    """Protected messages that were presented; None where that cannot be told."""
    verdicts: dict[str, int] = field(default_factory=dict)
    """Keyword to messages that have it."""


@dataclass(frozen=True, slots=True)
class Status:
    """The whole."""

    process: int | None
    """Of the running proxy; None when none runs."""
    since: datetime | None
    listeners: dict[str, str]
    keystore: str
    """"open", "locked", or "cannot be used"; then `problems` has the reason."""
    verdict_field: str
    """The name of the field that tells what was verified: a field of any other name is the sender's."""
    accounts: tuple[AccountStatus, ...]
    errands: int
    """Mailboxes whose encryption or decryption in place has begun and not ended."""
    problems: tuple[str, ...]
    system_mail: str = ""
    """To whom and by whom it is sent, for people; "" where there is none."""
    queue: str = ""
    """What of it waits, for people."""


def status_of(config: Config, now: datetime) -> Status:
    """Look at the files of this configuration. Blocks; changes nothing."""
    process, since = _process(config.folders.state)
    problems: list[str] = []
    accounts, keystore = _accounts(config, now, problems)
    errands = sum(path.stat().st_size > 0 for path in (config.folders.state / "errands").glob("*.journal"))
    if process is None:
        problems[:0] = _missing(config)
    if errands:
        problems.append(
            f"{errands} mailbox errand(s) not finished: give the same `secmailproxy mailbox` again"
        )
    problems += [
        f"{one.address}: {one.waiting} notification(s) wait for its next login"
        for one in accounts
        if one.waiting
    ]
    listeners = {name: str(address) for name, address in config.listeners.items()}
    name = _verdict_field(config, problems)
    mail = queue = ""
    if systemmail.is_used(config):
        mail, waits = systemmail.in_short(config), systemmail.waiting(config.folders.spool)
        queue = str(waits)
        if waits.held:
            problems.append(f"system mail: {waits.held} held in the queue: see secmailproxy queue list")
    return Status(process, since, listeners, keystore, name, accounts, errands, tuple(problems), mail, queue)


def _missing(config: Config) -> Iterator[str]:
    """What nobody does while no proxy runs."""
    if config.accounts or not systemmail.is_used(config):
        yield "mail clients reach nothing: start secmailproxy serve"
    if lack := systemmail.needs_serve(config):
        yield f"{lack}: start secmailproxy serve"


def _verdict_field(config: Config, problems: list[str]) -> str:
    try:
        return field_name(config.folders.verdict_token())
    except ConfigError as error:
        problems.append(str(error))
        return ""


def _process(state: Path) -> tuple[int | None, datetime | None]:
    """The process that holds the lock of this installation, and since when."""
    path = state / LOCK
    try:
        with path.open("r", encoding="ascii") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                told = lock.read().strip()
                since = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                return int(told) if told.isdigit() else None, since
    except FileNotFoundError:
        pass
    return None, None


def _accounts(config: Config, now: datetime, problems: list[str]) -> tuple[tuple[AccountStatus, ...], str]:
    waits = Counter(one.account for one in waiting(config.folders.notifications))
    try:
        secrets: SecretStore = open_secrets(config.secrets_settings(None))
    except (KeystoreError, SecMailProxyError) as error:
        secrets = systemmail.NoSecrets(error)
    try:
        keystore = Keystore.open(config.keystore_settings(), secrets)
    except (KeystoreError, SecMailProxyError) as error:
        problems.append(f"the keystore cannot be used: {error}")
        unknown = tuple(AccountStatus(one.address, "", waits[one.address]) for one in config.accounts)
        return unknown, _UNUSABLE
    with closing(keystore):
        locked = _locked(keystore, config, problems)
        views = None if locked else _views(config, keystore, problems)
        problems += _changed(keystore)
        problems += _system_mail(config, keystore, now)
        try:
            found = [
                _account(one, keystore, views, waits[one.address], now, problems) for one in config.accounts
            ]
            problems += _keyless(config, keystore, now)
        finally:
            if views is not None:
                views.close()
    return tuple(found), locked or "open"


def _changed(keystore: Keystore) -> Iterator[str]:
    """Certificates that are held until the owner has decided."""
    since = {held.address: held.since for held in reversed(keystore.settling.waiting())}
    for address, day in since.items():
        yield (
            f"{address}: another certificate than before came on {day:%Y-%m-%d} and is not used: "
            f"{how_to_settle(address)}"
        )


def _system_mail(config: Config, keystore: Keystore, now: datetime) -> Iterator[str]:
    """The certificates of system mail that end soon or cannot be used."""
    for fact in systemmail.facts(config, keystore, now):
        if fact.stage(now) is not None:
            yield f"system mail: {fact.sentence()}; `secmailproxy doctor` says what to do"


def _views(config: Config, keystore: Keystore, problems: list[str]) -> Views | None:
    try:
        there = keystore.database.is_shared or config.folders.views.exists()
        return Views.open(config.folders.views, keystore, keystore.database.beside) if there else None
    except SecMailProxyError as error:
        problems.append(str(error))
        return None


def _locked(keystore: Keystore, config: Config, problems: list[str]) -> str:
    """What is wrong with the keystore, or nothing."""
    try:
        if not keystore.locked:
            return ""
        if remedy := _unlocking(config.secrets):
            problems.append(f"the keystore is locked: {remedy}; see [secrets]")
    except KeystoreError as error:
        if not systemmail.needs_secrets(config):
            return "locked, which is enough for this system mail"
        problems.append(f"the keystore cannot be used: {error}")
        return _UNUSABLE
    return "locked"


def _unlocking(secrets: Secrets) -> str:
    """What unlocks it; nothing where only a person could, who is not asked: that is no problem."""
    if secrets.backend == "keyring":
        return "unlock the keyring"
    if secrets.backend == "systemd":
        return "systemd gives its credentials to the service alone"
    return f"{secrets.passphrase_file} does not hold its passphrase" if secrets.passphrase_file else ""


def _expiring(address: str, keystore: Keystore, now: datetime) -> Iterator[str]:
    """Of each scheme's key, since either may be the one that correspondents have."""
    for fact in ends_of([address], keystore, now):
        if fact.ends is not None:
            yield f"{address}: the {fact.role} expires {fact.ends:%Y-%m-%d}; run: {remedy(fact)}"


def _keyless(config: Config, keystore: Keystore, now: datetime) -> Iterator[str]:
    """Accounts without a usable key; one that is there for system mail may do without."""
    for section in config.accounts:
        report = account_report(section, keystore, now)
        if report.fingerprint is None and not systemmail.carries(config, section.address):
            yield f"{section.address}: {report.key_state}"


def _account(
    section: AccountSection,
    keystore: Keystore,
    views: Views | None,
    waits: int,
    now: datetime,
    problems: list[str],
) -> AccountStatus:
    address = section.address
    report = account_report(section, keystore, now)
    problems += _expiring(address, keystore, now)
    if views is None:
        return AccountStatus(address, report.key_state, waits)
    counts: Counter[str] = Counter()
    opened = 0
    for marks in views.marks(address, keystore.trust):
        opened += len(marks.words)
        counts.update(word.decode() for words in marks.words.values() for word in words.split())
    verdicts = {name.decode(): counts[name.decode()] for name in NAMES}
    return AccountStatus(address, report.key_state, waits, opened, verdicts)
