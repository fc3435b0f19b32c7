"""Partly delivered messages are reported to their senders, each once, whatever happens in between (SMTP-10).

A notification is in the spool, on the disk, before the submission is answered. From then on it is delivered
in the background, by IMAP APPEND to the sender's INBOX: again and again, after a restart too, until the
server has said OK; only then it leaves the spool. Whether an attempt of which nothing was heard has succeeded
is asked first, by the Message-ID, so that nothing is there twice.

Security: passwords of sessions are in memory only, and only while a notification waits. What is stored at the
server is encrypted to its owner; where there is no key for that, it says less.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from keystore.errors import KeystoreError
from secmailproxy.accounts import ImapLogin, SubmissionAccount
from secmailproxy.errands.reminder import Reminder
from secmailproxy.errands.spool import Spool, Waiting, waiting
from secmailproxy.errors import LoginRefused, SecMailProxyError, SigningKeyUnusable
from secmailproxy.forward.alerts import Fact
from secmailproxy.logs import place
from secmailproxy.model import Envelope
from secmailproxy.smtp.delivery import Failure
from secmailproxy.smtp.notification import DOMAIN, Notification, option, recipient, render, returned_header
from secmailproxy.stamp import Stamp

if TYPE_CHECKING:
    from secmailproxy.errands.client import Client

log = logging.getLogger(__name__)

_INBOX = b"INBOX"
_MANY_TRIES = 10
"""After which each failure is an error in the log, not a warning."""


class EncryptsToSelf(Protocol):
    """What is needed of `secmailproxy.outbound.Outbound`."""

    async def protect_to_self(self, address: str, message: bytes, *, sign: bool) -> bytes:
        """The message encrypted to its owner. Raises SigningKeyUnusable without a key, KeystoreLocked."""


class Logins(Protocol):
    """What is needed of `secmailproxy.accounts.Accounts`."""

    def errand_login(self, address: str, password: str) -> ImapLogin | None:
        """The login for an errand of our own, with this password if any; None while there is none."""


@dataclass(frozen=True, slots=True)
class Patience:
    """In seconds."""

    first: float = 30.0
    """Before the second try; doubled for each one. A server that was cut off may still be storing."""
    longest: float = 3600.0


@dataclass(slots=True)
class _Account:
    """What is known of an account for which something waits."""

    password: str = field(default="", repr=False)
    tries: int = 0
    again: float = 0.0
    """The time of the loop before which nothing is tried."""


class Reports:
    """Keeps notifications and delivers them while `run` runs."""

    def __init__(
        self,
        spool: Spool,
        logins: Logins,
        outbound: EncryptsToSelf,
        patience: Patience | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`clock` gives aware times."""
        self._spool = spool
        self._logins = logins
        self._outbound = outbound
        self._patience = patience or Patience()
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._unkept: dict[str, tuple[Waiting, Notification]] = {}
        """Those that could not be written."""
        self._news = asyncio.Event()

    async def partly_delivered(
        self, account: SubmissionAccount, message: bytes, envelope: Envelope, failures: Sequence[Failure]
    ) -> None:
        """Keep a notification about `failures` of this message, for good when this returns. Never raises."""
        try:
            now = self._clock()
            name = str(uuid.uuid4())
            notification = _notification(name, account.address, message, envelope, failures, now)
        except Exception as error:  # noqa: BLE001 - the message has been accepted, and that must be said
            log.error("a partial failure cannot be reported", extra={**_numbers(failures), **place(error)})
            return
        log.warning("partly delivered; the sender gets a notification", extra=_numbers(failures))
        try:
            await asyncio.to_thread(self._spool.put, name, notification, now)
        except Exception as error:  # noqa: BLE001 - as above
            log.error(
                "a notification cannot be kept, and is lost if we stop before it is delivered",
                extra={"account": account.address, **place(error)},
            )
            self._unkept[name] = (Waiting(name, account.address, now), notification)
        known = self._account(account.address)
        if account.credentials.mechanism == "password":
            # An access token is for the smarthost alone; it takes no password away that serves.
            known.password = account.credentials.secret
        known.again = 0.0
        self._news.set()

    async def remind(self, fact: Fact, remedy: str) -> None:
        """Keep a reminder of a key that ends for the INBOX of its address. Raises as `Spool.put` does.

        The same fact is the same message, however often it is told.
        """
        now = self._clock()
        name = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{fact.key} {fact.stage(now)} {fact.about()}"))
        stamp = Stamp(now, "", f"<{name}@{DOMAIN}>")
        reminder = Reminder(fact.address, stamp.message_id, stamp.date, f"Your {fact.sentence()}.", remedy)
        await asyncio.to_thread(self._spool.put, name, reminder, now)
        self._account(fact.address).again = 0.0
        self._news.set()

    def logged_in(self, address: str, password: str) -> None:
        """A client has logged in with the password of the mailbox, which serves what waits for it."""
        known = self._accounts.get(address.lower())
        if known is not None and known.password != password:
            known.password, known.again, known.tries = password, 0.0, 0
            self._news.set()

    def waiting(self) -> list[Waiting]:
        """What has not been delivered, the oldest first. Blocks."""
        kept = waiting(self._spool.folder)
        known = {one.name for one in kept}
        return kept + [one for one, _ in self._unkept.values() if one.name not in known]

    async def run(self) -> None:
        """Deliver, until cancelled."""
        told = False
        while True:
            self._news.clear()
            try:
                if not told:
                    await self._tell_what_waits()
                    told = True
                pause = await self._round()
            except Exception as error:  # noqa: BLE001 - the spool cannot be used now; later it may
                log.error("notifications cannot be delivered", extra=place(error))
                pause = self._patience.longest
            try:
                async with asyncio.timeout(pause):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _tell_what_waits(self) -> None:
        if left := await asyncio.to_thread(self.waiting):
            log.warning(
                "notifications wait",
                extra={"count": len(left), "since": left[0].since.isoformat()},
            )

    async def _round(self) -> float | None:
        """Try what is due; in how many seconds there is more to do, None for when there is news."""
        loop = asyncio.get_running_loop()
        pending: dict[str, list[str]] = {}
        for one in await asyncio.to_thread(self.waiting):
            pending.setdefault(one.account, []).append(one.name)
        if not self._news.is_set():
            # Else something may have come that is not in `pending`, and its password with it.
            for address in self._accounts.keys() - {one.lower() for one in pending}:
                del self._accounts[address]
        times = []
        for address, names in pending.items():
            known = self._account(address)
            if known.again <= loop.time():
                await self._serve(address, known, names)
            times.append(known.again)
        return min((max(0.0, at - loop.time()) for at in times if at < math.inf), default=None)

    async def _serve(self, address: str, known: _Account, names: Sequence[str]) -> None:
        """One try for one account; sets when the next one is due."""
        password = known.password
        try:
            login = await asyncio.to_thread(self._logins.errand_login, address, password)
            if login is not None:
                await self._deliver(login, names)
                known.tries, known.again = 0, 0.0
            elif known.password == password:
                known.again = math.inf
                log.warning("a notification waits for the next login", extra={"account": address})
        except LoginRefused:
            self._failed(address, known, password, "the mail server refuses the login")
            if known.password == password:
                known.password = ""
        except (SecMailProxyError, KeystoreError, OSError) as error:
            self._failed(address, known, password, str(error))
        except Exception as error:  # noqa: BLE001 - what waits for other accounts must not wait for this one
            log.error("a notification cannot be delivered", extra={"account": address, **place(error)})
            self._failed(address, known, password, "internal error")

    def _failed(self, address: str, known: _Account, password: str, why: str) -> None:
        pause = min(self._patience.longest, self._patience.first * 2.0 ** min(known.tries, 20))
        known.tries += 1
        if known.password == password:
            # Else somebody has logged in meanwhile, and it is tried again at once.
            known.again = asyncio.get_running_loop().time() + pause
        log.log(
            logging.ERROR if known.tries >= _MANY_TRIES else logging.WARNING,
            "a notification waits",
            extra={"account": address, "tries": known.tries, "again_seconds": round(pause), "why": why},
        )

    async def _deliver(self, login: ImapLogin, names: Sequence[str]) -> None:
        """Store what is not stored yet. Raises with everything not proven to be stored still in the spool."""
        # Here, since there is seldom anything to deliver, and its library makes every start slower.
        from secmailproxy.errands.client import Client, Refused

        ready, problems = await asyncio.to_thread(self._read, names)
        if ready:
            client = await Client.connect(login)
            try:
                await client.open(_INBOX, read_only=True)
                for name, notification in ready.items():
                    try:
                        await self._store(client, name, notification)
                    except Refused as refusal:
                        problems.append(refusal)  # the next one may be smaller
                    else:
                        log.info("a notification was delivered", extra={"account": login.account.address})
                await client.log_out()
            finally:
                client.abort()
        if problems:
            raise problems[0]

    def _read(self, names: Sequence[str]) -> tuple[dict[str, Notification | Reminder], list[Exception]]:
        """What can be read, and why others cannot: they must not keep what is whole waiting. Blocks."""
        ready: dict[str, Notification | Reminder] = {}
        problems: list[Exception] = []
        for name in names:
            kept = self._unkept.get(name)
            try:
                ready[name] = kept[1] if kept else self._spool.read(name)
            except (SecMailProxyError, KeystoreError, OSError) as error:
                problems.append(error)
        return ready, problems

    async def _store(self, client: Client, name: str, notification: Notification | Reminder) -> None:
        """Unless it is there; then it need not be kept any more. Raises as `Client.deposit` does."""
        if not await client.holds(notification.message_id):
            await client.deposit(_INBOX, await self._octets(notification), self._clock())
        await asyncio.to_thread(self._spool.drop, name)
        self._unkept.pop(name, None)

    async def _octets(self, notification: Notification | Reminder) -> bytes:
        if isinstance(notification, Reminder):
            message = plain = notification.render()
        else:
            message, plain = (render(notification, plainly=one) for one in (False, True))
        try:
            return await self._outbound.protect_to_self(notification.account, message, sign=False)
        except SigningKeyUnusable:
            return plain

    def _account(self, address: str) -> _Account:
        return self._accounts.setdefault(address.lower(), _Account())


def _numbers(failures: Sequence[Failure]) -> dict[str, object]:
    return {
        "failed": sum(len(failure.rcpt_tos) for failure in failures),
        "replies": ",".join(str(failure.reply.code) for failure in failures),
    }


def _notification(
    name: str,
    account: str,
    message: bytes,
    envelope: Envelope,
    failures: Sequence[Failure],
    now: datetime,
) -> Notification:
    options = dict(zip(envelope.rcpt_tos, envelope.rcpt_options, strict=False))
    stamp = Stamp(now, f"=-{secrets.token_hex(20)}", f"<{name}@{DOMAIN}>")
    return Notification(
        account=account,
        message_id=stamp.message_id,
        date=stamp.date,
        arrived=stamp.date,
        boundary=stamp.boundary,
        envelope_id=option("ENVID", envelope.mail_options),
        recipients=tuple(
            recipient(one, options.get(one, ()), failure.reply, unknown=failure.unknown)
            for failure in failures
            for one in failure.rcpt_tos
        ),
        header=returned_header(message),
    )
