"""The composition root: builds every object of the running proxy, and starts, reloads and stops it.

Receives: the checked configuration and an opened keystore. Listens: IMAP and submission, loopback only, in
clear, and with TLS where that is wanted; SMTP and LMTP for system mail (`mailroom`).
Signals: SIGTERM and SIGINT stop after the submissions in flight (a second one at once); SIGHUP reads the
configuration again, and one that is wrong changes nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from keystore.discovery.ladder import Ladder
from keystore.discovery.sources import sources_of
from keystore.errors import StoreLocked
from keystore.keystore import Keystore
from keystore.secrets import Secrets
from secmailproxy.accounts import Accounts
from secmailproxy.admission import Admission, LoginGuard
from secmailproxy.config import Config
from secmailproxy.config_values import ListenAddress
from secmailproxy.correspondents import Correspondents
from secmailproxy.crew import Crew
from secmailproxy.errands.reports import Reports
from secmailproxy.errands.spool import Spool
from secmailproxy.errors import ConfigError, KeystoreLocked
from secmailproxy.finding import Finding
from secmailproxy.guarding import ReplyGuard
from secmailproxy.harvest import Harvest, HarvestSettings
from secmailproxy.imap.budget import Budget
from secmailproxy.imap.openings import Openings
from secmailproxy.imap.server import ImapServer, ImapSettings
from secmailproxy.imap.suspects import Suspects
from secmailproxy.localtls import LocalTls
from secmailproxy.logs import place, set_level
from secmailproxy.mailroom import LISTENERS, Mailroom
from secmailproxy.outbound import Outbound
from secmailproxy.renewals import Renewals
from secmailproxy.revocationlists import Fetching
from secmailproxy.searchindex import SearchIndex
from secmailproxy.smtp.server import SubmissionServer, SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost
from secmailproxy.startreport import Report, account_report
from secmailproxy.supervision import Supervisor
from secmailproxy.verdict import field_name
from secmailproxy.views import Views
from secmailproxy.workers import Start, Workers, program

log = logging.getLogger(__name__)

_IMPLICIT_TLS = frozenset({"imaps", "submissions"})


class Listener(Protocol):
    """What both servers offer."""

    async def start(self) -> tuple[str, int]:
        """Listen; the address that it became. Raises OSError."""

    async def stop(self, grace: float) -> None:
        """Take no new work, finish what is in flight within `grace` seconds, close."""


def utc_now() -> datetime:
    """The clock of the program."""
    return datetime.now(UTC)


class Service:
    """The proxy of one configuration. `start`, then any number of `reload`, then `stop`."""

    def __init__(self, config: Config, keystore: Keystore, secrets: Secrets) -> None:
        """Nothing listens yet. Raises KeystoreLocked when own keys cannot be unlocked, StoreDamaged."""
        try:
            keystore.unlock()
        except StoreLocked as error:
            # A mailbox shown as ciphertext now and as plaintext later would stay broken in clients' caches.
            raise KeystoreLocked(
                f"Nothing is served while the keystore is locked: {error}. See [secrets] in "
                f"{config.folders.config_file}."
            ) from None
        config.folders.prepare()
        if keystore.database.is_shared:
            config.folders.agree_on_verdict_token(keystore.agreed)
        self._config = config
        self._keystore = keystore
        self._smarthosts = _smarthosts(config, {}, config)
        self._accounts = Accounts(config.account_values(), self._smarthosts, secrets)
        self._workers = Workers(self._worker_start())
        self._views = Views.open(config.folders.views, keystore, keystore.database.beside)
        guard = ReplyGuard(self._views.encrypted_ids)
        crew = Crew(self._workers)
        self._finding = self._finding_of(config)
        self._outbound = Outbound(keystore, config.outbound_settings(), utc_now, crew, guard, self._finding)
        limits = config.listen.limits
        logins = LoginGuard(limits)
        self._admissions = {name: Admission(name, limits, logins) for name in ("imap", "submission")}
        self._index = SearchIndex(config.folders.views, self._views, keystore, keystore.database.beside)
        self._budget = Budget()
        kept = HarvestSettings(config.smime.harvest, config.autocrypt.harvest, config.autocrypt.gossip)
        self._harvest = Harvest(keystore, utc_now, kept)
        self._correspondents = Correspondents(keystore, utc_now)
        self._openings = Openings(self._workers, Suspects(config.folders.opening), self._harvest)
        spool = Spool(config.folders.notifications, keystore)
        self._reports = Reports(spool, self._accounts, self._outbound)
        self._accounts.tell_of_logins(self._reports.logged_in)
        self._fetching = Fetching(keystore, utc_now, proxy=lambda: self._config.discovery.proxy)
        self._renewals = Renewals(
            lambda: [one.address for one in self._config.accounts],
            keystore,
            self._reports.remind,
            config.folders.state,
            utc_now,
        )
        self._mailroom = Mailroom(config, keystore, secrets, self._accounts)
        self._running: list[asyncio.Task[None]] = []
        self._tls = LocalTls(config.folders.certificate, secrets)
        self._listeners: dict[str, Listener] = {}
        self._bound: dict[str, str] = {}

    @property
    def grace(self) -> float:
        """How long submissions in flight may take once we are told to stop, in seconds."""
        return float(self._config.service.grace_seconds)

    async def start(self) -> Report:
        """Listen on all addresses, or on none. Raises ConfigError when an address cannot be had."""
        await asyncio.to_thread(self._views.remember_old_forms)
        try:
            await self._load_certificate(self._config)
            for name in self._config.listeners:
                await self._listen(name, self._config)
        except ConfigError:
            await self.stop(0)
            raise
        await self._mailroom.start()
        self._running.append(asyncio.create_task(self._reports.run()))
        self._running.append(asyncio.create_task(self._renewals.run()))
        if self._config.smime.revocation:
            self._running.append(asyncio.create_task(self._fetching.run()))
        return await self.report()

    async def report(self) -> Report:
        """What is being served now."""
        now = utc_now()
        accounts = await asyncio.to_thread(
            lambda: tuple(account_report(one, self._keystore, now) for one in self._config.accounts)
        )
        watched = tuple(f"{one.mailbox} of {one.account}" for one in self._config.forward.watch)
        return Report(dict(self._bound), self._tls.context() is not None, accounts, watched)

    async def reload(self, load: Callable[[], Config]) -> Report:
        """Serve the configuration that `load` reads. Sessions go on; unchanged listeners keep their sockets.

        Raises ConfigError, having changed nothing, when it is wrong or a new address cannot be had.
        """
        new = await asyncio.to_thread(load)
        outbound = new.outbound_settings()
        old = self._config
        await self._load_certificate(new)
        ended = await self._move(old.listeners, new)
        former, self._smarthosts = self._smarthosts, _smarthosts(new, self._smarthosts, old)
        self._accounts.replace(new.account_values(), self._smarthosts)
        self._outbound.replace_settings(outbound)
        if new.discovery != old.discovery:
            await self._replace_finding(new)
        for admission in self._admissions.values():
            admission.change(new.listen.limits)
        self._config = new
        await self._mailroom.replace(new)
        set_level(new.service.log_level)
        if _until_next_start(new) != _until_next_start(old):
            log.warning(
                "a change in [secrets], [keystore], [smime], [autocrypt] or [submission] takes effect at the "
                "next start"
            )
        await self._stop_all(ended, new.service.grace_seconds)
        for smarthost in set(former.values()) - set(self._smarthosts.values()):
            # Only idle connections end; a transaction in flight keeps its own.
            await smarthost.close()
        return await self.report()

    async def stop(self, grace: float) -> None:
        """Take no new work and finish what is in flight, for at most `grace` seconds."""
        listeners, self._listeners = list(self._listeners.values()), {}
        try:
            await self._stop_all(listeners, grace)
        finally:
            await self._mailroom.stop(grace)
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._harvest.close()
            if self._finding is not None:
                await self._finding.close()
            await self._correspondents.close()
            await self._workers.close()
            self._index.close()
            self._views.close()
            for smarthost in self._smarthosts.values():
                await smarthost.close()

    async def _stop_all(self, listeners: list[Listener], grace: float) -> None:
        async with asyncio.TaskGroup() as group:
            for listener in listeners:
                group.create_task(listener.stop(grace))

    async def _load_certificate(self, config: Config) -> None:
        """Raises ConfigError when it cannot be used, or is missing and needed."""
        needed = [f"listen.{name}" for name in config.listeners if name in _IMPLICIT_TLS]
        await asyncio.to_thread(self._tls.load, next(iter(needed), ""))

    async def _move(self, before: dict[str, ListenAddress], new: Config) -> list[Listener]:
        """Start what listens elsewhere now; what is to be stopped for it. On ConfigError all is as it was."""
        after = new.listeners
        listeners, bound = dict(self._listeners), dict(self._bound)
        try:
            for name, address in after.items():
                if address != before.get(name):
                    await self._listen(name, new)
        except ConfigError:
            started = [one for name, one in self._listeners.items() if one is not listeners.get(name)]
            await self._stop_all(started, 0)
            self._listeners, self._bound = listeners, bound
            raise
        for name in before.keys() - after.keys():
            del self._listeners[name], self._bound[name]
        return [one for name, one in listeners.items() if one is not self._listeners.get(name)]

    async def _listen(self, name: str, config: Config) -> None:
        """Start the listener of this name and make it the current one."""
        address = config.listeners[name]
        implicit = name in _IMPLICIT_TLS
        listener: Listener
        if name in LISTENERS:
            listener = self._mailroom.listener(name, address)
        elif name.startswith("imap"):
            listener = self._imap(address, implicit_tls=implicit)
        else:
            listener = self._submission(address, config, implicit_tls=implicit)
        try:
            host, port = await listener.start()
        except OSError as error:
            # asyncio's own text repeats the address in Python's notation.
            why = (
                os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
            )
            is_taken = error.errno == errno.EADDRINUSE
            first = "Stop the other program that uses this port, or" if is_taken else "To listen elsewhere,"
            option = f"forward.listen.{name}" if name in LISTENERS else f"listen.{name}"
            remedy = f"{first} change {option} in {config.folders.config_file}."
            raise ConfigError(f"Cannot listen on {address}: {why}. {remedy}") from None
        self._listeners[name] = listener
        self._bound[name] = str(ListenAddress(host=host, port=port))

    def _finding_of(self, config: Config) -> Finding | None:
        """How certificates are looked for; None where no source is switched on."""
        settings = config.discovery_settings()
        if not settings.asks:
            return None
        ladder = Ladder(self._keystore, sources_of(settings), settings.ladder, utc_now)
        return Finding(ladder, settings.wait, utc_now)

    async def _replace_finding(self, config: Config) -> None:
        former, self._finding = self._finding, self._finding_of(config)
        self._outbound.replace_finding(self._finding)
        if former is not None:
            await former.close()

    def _worker_start(self) -> Start:
        config = self._config
        return Start(
            config.keystore_settings(), self._keystore.hand_over(), config.service.log_level, program()
        )

    def _imap(self, address: ListenAddress, *, implicit_tls: bool) -> Listener:
        verdict_field = field_name(self._config.folders.verdict_token())
        settings = ImapSettings(
            address.host,
            address.port,
            verdict_field,
            admission=self._admissions["imap"],
            budget=self._budget,
            tls=self._tls.context() if implicit_tls else None,
        )
        return ImapServer(
            settings,
            self._accounts,
            self._views,
            self._outbound,
            self._keystore,
            self._index,
            self._openings,
        )

    def _submission(self, address: ListenAddress, config: Config, *, implicit_tls: bool) -> Listener:
        settings = SubmissionSettings(
            address.host,
            address.port,
            config.submission.max_octets,
            admission=self._admissions["submission"],
            tls=self._tls.context,
            implicit_tls=implicit_tls,
        )
        return SubmissionServer(
            settings,
            self._accounts,
            self._outbound,
            smarthosts=self._accounts.smarthosts,
            report=self._reports.partly_delivered,
            accepted=self._correspondents.accepted,
        )


def _until_next_start(config: Config) -> tuple[object, ...]:
    """What a reload leaves as it was."""
    return config.secrets, config.keystore, config.smime, config.autocrypt, config.submission


def _smarthosts(config: Config, known: dict[str, Smarthost], old: Config) -> dict[str, Smarthost]:
    """A smarthost for each account; those whose settings are unchanged keep their connections."""
    smarthosts = {}
    for account in config.accounts:
        settings = config.smarthost_settings(account)
        before = old.account(account.address)
        is_same = before is not None and old.smarthost_settings(before) == settings
        kept = known.get(before.address) if before is not None and is_same else None
        smarthosts[account.address] = kept or Smarthost(settings)
    return smarthosts


async def serve(
    service: Service, load: Callable[[], Config], supervisor: Supervisor, tell: Callable[[Report], None]
) -> None:
    """Run until SIGTERM or SIGINT. `tell` gets the report once everything listens.

    Raises ConfigError when a listener cannot start.
    """
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for one in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(one, told.put_nowait, one)
    report = await service.start()
    tell(report)
    supervisor.ready(report.ready_line())
    while (await told.get()) is signal.SIGHUP:
        await _reload(service, load, supervisor)
    supervisor.stopping()
    log.info("stopping", extra={"grace_seconds": service.grace})
    await _stop(service, told)
    log.info("stopped")


async def _reload(service: Service, load: Callable[[], Config], supervisor: Supervisor) -> None:
    supervisor.reloading()
    try:
        report = await service.reload(load)
    except ConfigError as error:
        log.error("the configuration is wrong; the old one stays in force", extra={"why": error.text})
    except Exception as error:  # noqa: BLE001  such as of a keystore that cannot be read: we serve on
        log.error("the configuration could not be read again in full; send SIGHUP again", extra=place(error))
    else:
        log.info(
            "the configuration was read again",
            extra={**report.listeners, "accounts": len(report.accounts)},
        )
    supervisor.ready("")


async def _stop(service: Service, told: asyncio.Queue[signal.Signals]) -> None:
    """Stop with grace; a second signal ends the grace."""
    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(service.stop(service.grace))
        impatience = group.create_task(told.get())
        await asyncio.wait({stopping, impatience}, return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            log.warning("a second signal: stopping at once")
            stopping.cancel()
        impatience.cancel()
