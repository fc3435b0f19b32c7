"""How system mail stands, for `doctor` and `status`: what it needs, where it goes, what waits.

Reads files alone, but for `way_out`. Nothing is unlocked or changed.
"""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from secmailproxy.config import Config
from secmailproxy.errors import SecMailProxyError
from secmailproxy.forward.alerting import facts_of
from secmailproxy.forward.alerts import Fact
from secmailproxy.forward.model import Collect, Forward
from secmailproxy.forward.queue import Damaged, NotQueued, Queue
from secmailproxy.forward.sender import with_sender

_TIMEOUT = 5.0
"""Seconds until a relay on this machine has answered."""


def is_used(config: Config) -> bool:
    """Whether the configuration says anything of system mail."""
    forward = config.forward
    listen = forward.listen
    return bool(forward.targets or forward.watch or listen.smtp or listen.lmtp)


def needs_serve(config: Config) -> str:
    """What of system mail only `secmailproxy serve` does; "" for nothing."""
    forward = config.forward
    if forward.listen.smtp or forward.listen.lmtp:
        return "system mail is taken at no listener"
    return "no mailbox is watched" if forward.watch else ""


def needs_secrets(config: Config) -> bool:
    """Whether the configuration asks for anything that is impossible without the secrets."""
    settings = config.forward_settings()
    actions = [settings.default, *(action for rule in settings.rules for action in rule.actions)]
    return bool(
        config.accounts
        or not is_used(config)
        or settings.via == "smarthost"
        or needs_serve(config)
        or config.forward.heartbeat_value() is not None
        or any(isinstance(one, Collect) or (isinstance(one, Forward) and one.sign) for one in actions)
    )


def carries(config: Config, address: str) -> bool:
    """Whether system mail leaves through this account, which needs no key for that."""
    settings = config.forward_settings()
    only = config.accounts[0].address if len(config.accounts) == 1 else ""
    return is_used(config) and settings.via == "smarthost" and address == (settings.account or only)


def in_short(config: Config) -> str:
    """To whom, and by whom it is sent; for people."""
    settings = config.forward_settings()
    through = {"sendmail": settings.sendmail, "smtp": settings.relay}.get(settings.via)
    if through is None:
        through = settings.account or next((one.address for one in config.accounts), "no account")
    to = ", ".join(one.address for one in settings.targets) or "nobody yet"
    return f"to {to}; via {settings.via} ({through})"


def facts(config: Config, keystore: Keystore, now: datetime) -> tuple[Fact, ...]:
    """The certificates and keys it is encrypted and signed with."""
    return facts_of(with_sender(config.forward_settings()), keystore, now)


def way_out(config: Config) -> tuple[str, str]:
    """What is wrong with where it goes next, and the remedy; ("", "") where nothing is.

    Connects to an SMTP server on this machine; the servers of accounts are asked elsewhere.
    """
    settings = config.forward_settings()
    if settings.via == "smarthost" and not config.accounts:
        return (
            "there is no account to send through",
            'set forward.via = "sendmail", or run: secmailproxy setup',
        )
    if settings.via == "sendmail" and shutil.which(settings.sendmail) is None:
        return (
            f"there is no program {settings.sendmail}",
            'install a mail server, correct forward.sendmail, or use via = "smarthost"',
        )
    if settings.via == "smtp":
        host, _, port = settings.relay.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT).close()
        except OSError as error:
            return (
                f"{settings.relay} cannot be reached: {error.strerror or error}",
                "start the mail server, or correct forward.relay; until then messages wait where they are",
            )
    return "", ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is in the queue of system mail."""

    number: int = 0
    held: int = 0
    """Of these, those that wait for a person."""
    failed: int = 0
    """Of these, those that were tried in vain, or are damaged."""
    oldest: datetime | None = None

    def __str__(self) -> str:
        """For people."""
        since = f", the oldest since {self.oldest:%Y-%m-%d %H:%M} UTC" if self.oldest else ""
        parts = [f"{self.number} in the queue{since}"]
        parts += [f"{self.failed} tried in vain"] if self.failed else []
        parts += [f"{self.held} held"] if self.held else []
        return "; ".join(parts)


def waiting(spool: Path) -> Waiting:
    """Look at the queue. Raises OSError when it cannot be read."""
    queue = Queue(spool)
    number = held = failed = 0
    arrived: list[float] = []
    for name in queue.names():
        with suppress(NotQueued):
            try:
                queued, progress = queue.look(name)
                arrived.append(queued.arrived)
                held += bool(progress.held)
                failed += bool(progress.tries and not progress.held)
            except Damaged:
                failed += 1
            number += 1
    oldest = datetime.fromtimestamp(min(arrived), UTC) if arrived else None
    return Waiting(number, held, failed, oldest)


@dataclass(frozen=True, slots=True)
class NoSecrets:
    """Stands for secrets that cannot be had: certificates can be looked at nevertheless."""

    error: KeystoreError | SecMailProxyError

    def get(self, name: str) -> str | None:
        """Raises the reason."""
        self._refuse()

    def set(self, name: str, value: str) -> None:
        """Raises the reason."""
        self._refuse()

    def delete(self, name: str) -> None:
        """Raises the reason."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise self.error
