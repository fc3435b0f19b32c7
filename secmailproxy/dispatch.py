"""The runner of system mail with all that it needs, made from the configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from keystore.keystore import Keystore
from secmailproxy.accounts import Credentials, password_secret
from secmailproxy.config import Config
from secmailproxy.errors import ConfigError
from secmailproxy.forward.alerting import Alerts
from secmailproxy.forward.deliveries import Deliveries
from secmailproxy.forward.hops import Hop, RelayHop, SendmailHop, SmarthostHop
from secmailproxy.forward.outlets import outlet_of
from secmailproxy.forward.queue import Queue
from secmailproxy.forward.rounds import Due
from secmailproxy.forward.runner import Runner
from secmailproxy.forward.sender import with_sender
from secmailproxy.forward.spool import Route
from secmailproxy.smtp.smarthost import Smarthost, SmarthostSettings

QUEUE_CAUSE = "a message in the queue waits for a person: secmailproxy queue list"
"""One cause for all of them: of an alert that is held itself there must be no other alert on that day."""


class Passwords(Protocol):
    """What is needed of the secrets."""

    def get(self, name: str) -> str | None:
        """Blocks. Raises KeystoreError, SecMailProxyError."""


def alerts_of(config: Callable[[], Config], keystore: Keystore) -> Alerts:
    """What is told of certificates and of what waits for a person; by what `config` gives at that time."""
    folders = config().folders
    return Alerts(
        lambda: with_sender(config().forward_settings()),
        keystore,
        lambda settings: outlet_of(settings, folders.spool),
        folders.state,
    )


class Dispatch:
    """Makes one runner; `close` once it has ended."""

    def __init__(
        self,
        config: Callable[[], Config],
        secrets: Passwords,
        *others: Due,
        alarm: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`config` gives what is in force now; the folders are those of the first one. `others` are done in
        time by the runner; `alarm` hears, without content, what needs a person."""
        self._config = config
        self._secrets = secrets
        self._smarthosts: dict[SmarthostSettings, Smarthost] = {}
        queue = Queue(config().folders.spool)
        deliveries = Deliveries(queue, self._hop, lambda: config().forward.queue.value(), alarm)
        self.runner = Runner(queue, deliveries, *others)

    async def close(self) -> None:
        """Close connections."""
        for smarthost in self._smarthosts.values():
            await smarthost.close()

    def _hop(self, route: Route) -> Hop:
        """Raises ConfigError."""
        if route.via == "sendmail":
            return SendmailHop(Path(route.name))
        if route.via == "smtp":
            return RelayHop(route.name)
        config = self._config()
        account = config.account(route.name)
        if account is None:
            raise ConfigError(f"there is no account {route.name} in the configuration")

        def credentials() -> Credentials:
            password = self._secrets.get(password_secret(account.address))
            if password is None:
                raise ConfigError(
                    f"no password is stored for {account.address}; run: secmailproxy setup {account.address}"
                )
            return Credentials(account.smtp_username, password)

        settings = config.smarthost_settings(account)
        smarthost = self._smarthosts.setdefault(settings, Smarthost(settings))
        return SmarthostHop(smarthost, credentials)
