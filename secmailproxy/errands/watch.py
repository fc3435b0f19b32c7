"""A mailbox that is watched: each message in it is handed on once, whether it came now or while we were away.

    hand it on -> remember its UID, on the disk -> mark it with a keyword -> keep, move or delete it

Nothing happens to a message before it was handed on. A connection that breaks costs nothing: what the disk
knows is not handed on again, and what was to be done with the original is done next time. If this process is
killed in the moment between handing on and remembering, the message is handed on twice. The keyword serves
where the disk cannot: on another machine, or when the server has given the mailbox a new UIDVALIDITY.

Standards: RFC 2177 (IDLE), RFC 6851 (MOVE), RFC 4315 (UIDPLUS), RFC 9051.
Security: nothing of a message is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from keystore.errors import KeystoreError
from secmailproxy.accounts import ImapLogin
from secmailproxy.errands.client import Client, Refused
from secmailproxy.errands.facts import Facts
from secmailproxy.errands.handedon import HandedOn
from secmailproxy.errands.names import to_wire
from secmailproxy.errors import ConfigError, LimitExceeded, NotAllowed, SecMailProxyError
from secmailproxy.logs import place

log = logging.getLogger(__name__)

KEYWORD = b"SecmailForwarded"
"""Marks a message that was handed on and is kept."""


class After(Enum):
    """What becomes of a message that was handed on."""

    KEEP = "keep"
    MOVE = "move"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """One mailbox. Times in seconds."""

    account: str
    mailbox: str
    """As text, not in modified UTF-7."""
    after: After = After.KEEP
    move_to: str = ""
    poll: float = 60.0
    """Between two looks at a server that has no IDLE."""
    idle: float = 540.0
    """Then IDLE is begun anew, which shows whether the connection still lives."""
    size_limit: int = 50 * 1024 * 1024
    """Octets of a message."""
    first_pause: float = 5.0
    """After a failure; doubled for each further one."""
    longest_pause: float = 900.0


Take = Callable[[bytes], None]
"""Takes one message. Blocks until it cannot be lost any more; NotAllowed: it must stay where it is."""


class Logins(Protocol):
    """What is needed of `secmailproxy.accounts.Accounts`."""

    def errand_login(self, address: str, password: str) -> ImapLogin | None:
        """The login with the stored password; None without one."""


class Watch:
    """Watches one mailbox until cancelled."""

    def __init__(self, settings: WatchSettings, logins: Logins, take: Take, folder: Path) -> None:
        """`folder` is where we remember."""
        self._settings = settings
        self._logins = logins
        self._take = take
        self._known = HandedOn(folder, settings.account, settings.mailbox)
        self._pause = settings.first_pause
        """Before the next connection."""
        self._client: Client | None = None
        self._failures: dict[int, int] = {}
        self._again: dict[int, float] = {}
        """When a message that failed is tried again, on the clock of the loop."""

    def hurry(self) -> None:
        """Try now what has failed: what was wrong may have been mended."""
        self._again = dict.fromkeys(self._again, 0.0)
        if self._client is not None:
            self._client.stir()

    async def run(self) -> None:
        """Connect, watch, connect again, until cancelled; a message that is being handed on is waited for."""
        while True:
            client = None
            try:
                client = self._client = await self._connect()
                await self._watch(client)
            except (SecMailProxyError, KeystoreError, OSError) as error:
                self._tell("a watched mailbox cannot be read", error, again=self._pause)
            except Exception as error:  # noqa: BLE001 - one mailbox must not end the watch over it for ever
                log.error("a watched mailbox cannot be read", extra={**self._names, **place(error)})
            finally:
                self._client = None
                if client is not None:
                    client.abort()
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, self._settings.longest_pause)

    async def _connect(self) -> Client:
        settings = self._settings
        login = await asyncio.to_thread(self._logins.errand_login, settings.account, "")
        if login is None:
            raise ConfigError(
                f"no password is stored for {settings.account}; run: secmailproxy setup {settings.account}"
            )
        client = await Client.connect(login)
        try:
            selection = await client.open(to_wire(settings.mailbox), read_only=False)
            if selection.read_only and settings.after is not After.KEEP:
                raise ConfigError(
                    f'the mailbox {settings.mailbox} is read-only; use after = "keep" in [[forward.watch]]'
                )
            await asyncio.to_thread(self._known.use, selection.uidvalidity)
        except BaseException:
            client.abort()
            raise
        log.info("watching a mailbox", extra={**self._names, "idle": client.can_idle})
        return client

    async def _watch(self, client: Client) -> None:
        """Hand on what is there, wait for more. Raises UpstreamLost."""
        settings = self._settings
        while True:
            client.heed()
            await client.sync()
            await self._round(client)
            self._pause = settings.first_pause
            due = min(self._again.values(), default=float("inf")) - asyncio.get_running_loop().time()
            if client.can_idle:
                with contextlib.suppress(Refused):
                    await client.idle(max(0.0, min(settings.idle, due)))
                    continue
            await asyncio.sleep(max(0.0, min(settings.poll, due)))

    async def _round(self, client: Client) -> None:
        """All messages that are there and not done with."""
        now = asyncio.get_running_loop().time()
        existing = await client.existing_from(self._known.floor)
        for uid in [one for one in self._again if one not in existing]:
            del self._again[uid], self._failures[uid]
        candidates = [
            uid for uid in existing if self._again.get(uid, 0.0) <= now and not self._is_finished(uid)
        ]
        facts = await client.facts(candidates, "RFC822.SIZE")
        for uid in sorted(facts):
            try:
                if await self._hand_on(client, facts[uid]):
                    await self._see_off(client, uid)
                    self._again.pop(uid, None)
                    self._failures.pop(uid, None)
            except NotAllowed as error:
                await asyncio.to_thread(self._known.leave, uid)
                self._tell("a message of a watched mailbox is left alone", error, uid=uid)
            except Refused as error:
                self._failed(uid, error)
        finished = self._settings.after is After.KEEP
        await asyncio.to_thread(
            self._known.compact, await client.existing_from(self._known.floor), finished=finished
        )

    def _is_finished(self, uid: int) -> bool:
        """Whether nothing is to be done with it: what was handed on and is still there may have to go."""
        if self._settings.after is After.KEEP:
            return self._known.is_done(uid)
        return self._known.is_left(uid)

    async def _hand_on(self, client: Client, facts: Facts) -> bool:
        """Whether the message has been handed on, now or before. Raises NotAllowed, Refused, UpstreamLost."""
        uid = facts.uid
        if self._known.is_done(uid):
            return True
        if facts.deleted:
            return False
        if any(flag.lower() == KEYWORD.lower() for flag in facts.flags):
            await asyncio.to_thread(self._known.done, uid)
            return True
        if facts.size > self._settings.size_limit:
            self._failed(uid, LimitExceeded("it is larger than submission.max_octets"))
            return False
        message = await client.message(uid)
        if message is None:
            return False
        try:
            await _to_its_end(asyncio.to_thread(self._take_once, uid, message.octets))
        except NotAllowed:
            raise
        except Exception as error:  # noqa: BLE001 - what comes after this message must not wait for it
            self._failed(uid, error)
            return False
        log.info("a message of a watched mailbox was handed on", extra={**self._names, "uid": uid})
        return True

    def _take_once(self, uid: int, octets: bytes) -> None:
        """What was handed on is remembered, whatever becomes of the watch meanwhile."""
        self._known.prepare()
        self._take(octets)
        self._known.done(uid)

    async def _see_off(self, client: Client, uid: int) -> None:
        settings = self._settings
        match settings.after:
            case After.KEEP:
                with contextlib.suppress(Refused):  # where no keywords are taken, the disk remembers
                    await client.store([uid], "+", [KEYWORD])
            case After.MOVE:
                await client.move(uid, to_wire(settings.move_to))
            case After.DELETE:
                await client.delete(uid)

    def _failed(self, uid: int, error: Exception) -> None:
        tries = self._failures.get(uid, 0)
        settings = self._settings
        pause = min(settings.longest_pause, settings.first_pause * 2.0 ** min(tries, 20))
        self._failures[uid] = tries + 1
        self._again[uid] = asyncio.get_running_loop().time() + pause
        self._tell("a message of a watched mailbox waits", error, uid=uid, again=pause)

    @property
    def _names(self) -> dict[str, object]:
        return {"account": self._settings.account, "mailbox": self._settings.mailbox}

    def _tell(self, event: str, error: Exception, *, uid: int = 0, again: float = 0) -> None:
        more: dict[str, object] = {**self._names, **({"uid": uid} if uid else {})}
        if again:
            more["again_seconds"] = round(again)
        if isinstance(error, SecMailProxyError | KeystoreError):
            more["why"] = " ".join(str(error).split())
        elif isinstance(error, OSError) and error.strerror:
            more["why"] = error.strerror
        else:
            more |= place(error)
        log.warning(event, extra=more)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await `work`. When that is cancelled, it is only after the work has ended: another watch may follow."""
    task = asyncio.create_task(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            # Whoever stops us may say so more than once.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task})
        task.exception()  # it has been looked at; who would hear of it is gone
        raise
