"""System mail in the running proxy: its entrances, its queue, and the desk for all.

The entrances are listeners, a door for pipes, and mailboxes that are watched.

Everything that comes in goes through `Desk.process`, in a thread. The desk is made anew when the
configuration is read again; what is being processed then is finished by the old one.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from keystore.keystore import Keystore
from keystore.secrets import Secrets
from secmailproxy.accounts import Accounts
from secmailproxy.admission import Admission
from secmailproxy.config import Config
from secmailproxy.config_values import ListenAddress
from secmailproxy.dispatch import QUEUE_CAUSE, Dispatch, alerts_of
from secmailproxy.errors import SecMailProxyError
from secmailproxy.forward.acceptance import is_accepted
from secmailproxy.forward.collected import keep_slot
from secmailproxy.forward.door import Door, settings_for
from secmailproxy.forward.message import envelope_sender, from_pipe, return_path
from secmailproxy.forward.model import Entrance, SystemMail
from secmailproxy.forward.outlets import outlet_of
from secmailproxy.forward.processing import Desk, desk_of
from secmailproxy.forward.quick import DOOR
from secmailproxy.forward.sender import with_sender
from secmailproxy.model import Envelope
from secmailproxy.monitoring import digests_of
from secmailproxy.smtp.intake import Intake, IntakeServer, LocalIntake
from secmailproxy.smtp.settings import IntakeSettings

if TYPE_CHECKING:
    from secmailproxy.errands.watch import Watch, WatchSettings

log = logging.getLogger(__name__)

_KINDS: dict[str, tuple[type[Intake], Entrance]] = {
    "smtp": (Intake, Entrance.SMTP),
    "lmtp": (LocalIntake, Entrance.LMTP),
}
LISTENERS = frozenset(_KINDS)
"""The names of the listeners for system mail."""


class Mailroom:
    """Made with the service; `start`, then any number of `replace`, then `stop`."""

    def __init__(self, config: Config, keystore: Keystore, secrets: Secrets, accounts: Accounts) -> None:
        """Nothing runs yet; listeners can be made."""
        self._config = config
        self._keystore = keystore
        self._accounts = accounts
        self._admission = Admission("system", config.listen.limits)
        digests = digests_of(
            lambda: self._config,
            keystore,
            lambda: self._desk.settings.sender,
            lambda mail: self._desk.process(mail),
        )
        alerts = alerts_of(lambda: self._config, keystore)
        self._dispatch = Dispatch(
            lambda: self._config, secrets, digests, alerts, alarm=lambda _: alerts.tell(QUEUE_CAUSE)
        )
        self._desk = self._desk_of(config)
        self._served = _version(config)
        self._door = Door(config.folders.state / DOOR, self._take_piped)
        self._delivering: asyncio.Task[None] | None = None
        self._watches: dict[WatchSettings, Watch] = {}
        self._watching: dict[WatchSettings, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Begin to deliver what is queued, and to watch the mailboxes."""
        with suppress(OSError, SecMailProxyError):
            # So that pipes can collect and count without a secret; else they ask for it themselves.
            await asyncio.to_thread(keep_slot, self._config.folders.slot, self._keystore.letterbox())
        self._delivering = asyncio.create_task(self._dispatch.runner.run())
        await self._watch(self._config)
        try:
            await self._door.start()
        except OSError as error:
            # A path too long for a socket, for one: pipes then do all by themselves.
            log.warning("pipes cannot hand their messages over", extra={"why": error.strerror or str(error)})

    async def replace(self, config: Config) -> None:
        """Go by this configuration from now on, also with the messages that wait for a better one."""
        self._desk = self._desk_of(config)
        self._config, self._served = config, _version(config)
        self._admission.change(config.listen.limits)
        self._dispatch.runner.wake()
        for watch in self._watches.values():
            watch.hurry()
        await self._watch(config)

    async def stop(self, grace: float) -> None:
        """End, within `grace` seconds: what a watch is handing on is finished by its thread in any case."""
        await self._door.stop(grace)
        tasks, self._watching = list(self._watching.values()), {}
        await _end(tasks)
        if self._delivering is not None:
            self._dispatch.runner.close()
            await asyncio.wait({self._delivering}, timeout=grace)
            await _end([self._delivering])
        await self._dispatch.close()

    def listener(self, name: str, address: ListenAddress) -> IntakeServer:
        """The listener of this name, not yet listening."""
        kind, entrance = _KINDS[name]
        settings = IntakeSettings(
            address.host,
            address.port,
            self._accepts,
            self._config.submission.max_octets,
            name=name,
            admission=self._admission,
            socket_mode=0o666 if self._config.forward.listen.everyone else 0o660,
        )
        return IntakeServer(settings, lambda octets, envelope: self._take(octets, envelope, entrance), kind)

    def _accepts(self, rcpt_to: str) -> bool:
        return is_accepted(rcpt_to, self._desk.settings, self._config.forward.listen.recipients)

    def _take(self, octets: bytes, envelope: Envelope, entrance: Entrance) -> None:
        """Blocks; raises as `Desk.process`."""
        mail = SystemMail(
            from_pipe(octets),
            envelope.mail_from,
            envelope.rcpt_tos,
            entrance,
            envelope.mail_options,
            envelope.rcpt_options,
        )
        self._desk.process(mail)

    def _take_piped(self, options: tuple[str, ...], octets: bytes) -> bool:
        """The same for a pipe. False where the pipe must do it by itself.

        That is where its options need more, or the configuration on disk is not the one that is served.
        """
        desk = self._desk
        settings = settings_for(options, desk.settings)
        if settings is None or len(octets) > settings.max_octets or _version(self._config) != self._served:
            return False
        message = from_pipe(octets)
        came_from = envelope_sender(octets)
        mail_from = settings.sender if came_from is None else came_from
        replace(desk, settings=settings).process(SystemMail(message, mail_from, (), Entrance.PIPE))
        return True

    def _take_found(self, octets: bytes) -> None:
        """The same for a message of a watched mailbox."""
        message = from_pipe(octets)
        self._desk.process(SystemMail(message, return_path(message), (), Entrance.IMAP))

    def _desk_of(self, config: Config) -> Desk:
        settings = with_sender(config.forward_settings())
        outlet = outlet_of(settings, config.folders.spool, self._dispatch.runner.wake)
        return desk_of(config.folders, settings, self._keystore, outlet)

    async def _watch(self, config: Config) -> None:
        """Watch what is to be watched, and nothing else."""
        limit = config.submission.max_octets
        wanted = [replace(one.value(), size_limit=limit) for one in config.forward.watch]
        await _end([self._watching.pop(one) for one in list(self._watching) if one not in wanted])
        for one in wanted:
            if one not in self._watching:
                from secmailproxy.errands.watch import Watch  # its library makes every start slower

                self._watches[one] = Watch(one, self._accounts, self._take_found, config.folders.watched)
                self._watching[one] = asyncio.create_task(self._watches[one].run())
        self._watches = {one: self._watches[one] for one in wanted}


def _version(config: Config) -> tuple[int, ...]:
    """Differs after each change of the configuration file, and of who may change it."""
    try:
        found = config.folders.config_file.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
