"""System mail from the mail server of this machine, by SMTP or LMTP: no login, and few recipients.

Whoever can connect may hand mail over, as to any MTA of the machine, but only for recipients that the
configuration names. 250 is said when the message cannot be lost any more. Whatever goes wrong then is
answered with 451, so that the MTA keeps the message: what it gives back to the sender quotes it in clear.

Standards: RFC 5321, RFC 2033 (LMTP), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3461
(DSN). XCLIENT and XFORWARD are not offered: nothing is decided by the address of the first client, and it is
told to nobody.

Security: relay access is denied to everybody else's recipients. A message with a bare LF is refused, and what
follows it is not read. A bare CR stays what it is inside the encryption.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from keystore.errors import KeystoreError, StoreLocked
from secmailproxy.admission import Refusal
from secmailproxy.errors import SecMailProxyError
from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.commands import Path, Refused, mail_path, rcpt_path
from secmailproxy.smtp.conversation import Conversation
from secmailproxy.smtp.courtesies import Courtesies
from secmailproxy.smtp.listener import Listener
from secmailproxy.smtp.replies import split_status
from secmailproxy.smtp.settings import IntakeSettings
from secmailproxy.smtp.wire import Gathered, line_fault

log = logging.getLogger(__name__)

Take = Callable[[bytes, Envelope], None]
"""Takes one message (CRLF). Blocks until it cannot be lost any more; whatever it raises, nothing was sent."""

_OFFERED = frozenset({"DSN", "SMTPUTF8"})
_RECIPIENTS_MOST = 1000
_TOO_MANY = Reply(451, "4.7.0 too many messages; try again in a minute")
_AT_ONCE = 4
"""Messages that are being protected at a time; the others wait, each in its own session."""


@dataclass(frozen=True, slots=True)
class Counter:
    """What every session hands its messages to."""

    take: Take
    admit: Callable[[Conversation, asyncio.Task[None]], bool]
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))


class Intake(Courtesies):
    """One client by SMTP: a message is taken for all its recipients, or for none."""

    absent: ClassVar = frozenset({"AUTH", "STARTTLS", "LHLO"})
    """Commands of the library and of the other protocol that are none here."""
    greeting: ClassVar = "EHLO"
    settings: IntakeSettings

    def __init__(self, settings: IntakeSettings, counter: Counter) -> None:
        """Made by the listener for each connection."""
        super().__init__(settings)
        for verb in self.absent:
            self._smtp_methods.pop(verb, None)
        self._counter = counter
        self._mail: Path | None = None
        self._rcpts: list[Path] = []
        self._handing_over = False

    def welcome(self, task: asyncio.Task[None]) -> bool:
        """Whether there is room."""
        return self._counter.admit(self, task)

    @property
    def logged_in(self) -> bool:
        """There is no login that could be late."""
        return True

    @property
    def in_transaction(self) -> bool:
        """From MAIL to the reply to DATA."""
        return self._mail is not None or self._handing_over

    def forget(self) -> None:
        """End the mail transaction, if there is one."""
        self._mail, self._rcpts = None, []

    async def keywords(self) -> list[str]:
        """The same for all: there is no smarthost to ask."""
        size = f"SIZE {self.settings.size_limit}"
        return ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", size, *sorted(_OFFERED)]

    async def smtp_MAIL(self, arg: str | None) -> None:
        """MAIL, from anybody: who sends is not what decides here."""
        if await self.check_helo_needed(self.greeting):
            return
        if self._mail is not None:
            raise Refused(503, "5.5.1 nested MAIL")
        path = mail_path(arg or "", _OFFERED)
        if path.size > self.settings.size_limit:
            raise self._too_large()
        if not self.settings.admission.may_send(self.client):
            raise Refused(_TOO_MANY.code, _TOO_MANY.text)
        self._mail = path
        await self.answer(Reply(250, "2.1.0 sender ok"))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RCPT, for recipients that the configuration names."""
        if await self.check_helo_needed(self.greeting):
            return
        if self._mail is None:
            raise Refused(503, "5.5.1 MAIL first")
        path = rcpt_path(arg or "", _OFFERED, smtputf8=self._mail.smtputf8, local=True)
        if not self.settings.accepts(path.address):
            self.refuse(Refusal.RELAY)
            raise Refused(550, "5.7.1 relay access denied")
        if len(self._rcpts) >= _RECIPIENTS_MOST:
            raise Refused(452, "4.5.3 too many recipients")
        self._rcpts.append(path)
        await self.answer(Reply(250, "2.1.5 recipient ok"))

    async def smtp_DATA(self, arg: str | None) -> None:
        """DATA: gather, hand over, answer."""
        if await self.check_helo_needed(self.greeting):
            return
        if arg:
            raise Refused(501, "5.5.4 DATA has no argument")
        if self._mail is None or not self._rcpts:
            raise Refused(503, "5.5.1 no valid recipients")
        await self.say(354, "end with <CRLF>.<CRLF>")
        gathered = await self.message(self.settings.size_limit)
        if gathered is None:
            return
        mail, rcpts = self._mail, self._rcpts
        self.forget()
        self._handing_over = True
        try:
            await self._hand_over(mail, rcpts, gathered)
        finally:
            self._handing_over = False

    async def _hand_over(self, mail: Path, rcpts: list[Path], gathered: Gathered) -> None:
        """Answer for all recipients at once."""
        await self.answer(self._refusal(gathered) or await self._taken(mail, rcpts, gathered.octets))

    def _refusal(self, gathered: Gathered) -> Reply | None:
        """Why a message is not even looked at, or None. Any header, NUL and CR are encrypted as they are."""
        if gathered.too_large:
            return self._too_large().reply
        if gathered.fault and (fault := line_fault(gathered.octets)):
            self.refuse(Refusal.ABUSE, why=fault)
            self.leave()
            return Reply(554, f"5.6.0 {fault}")
        return None

    def _too_large(self) -> Refused:
        return Refused(552, f"5.3.4 more than {self.settings.size_limit} octets")

    async def _taken(self, mail: Path, rcpts: list[Path], octets: bytes) -> Reply:
        """Hand one message over for these recipients; the reply."""
        options: Mapping[str, Path] = {one.address: one for one in reversed(rcpts)}
        addresses = tuple(dict.fromkeys(one.address for one in rcpts))
        envelope = Envelope(
            mail.address, addresses, mail.options, tuple(options[one].options for one in addresses)
        )
        try:
            async with self._counter.places:
                await asyncio.to_thread(self._counter.take, octets, envelope)
            reply = Reply(250, "2.0.0 taken")
        except Exception as error:  # noqa: BLE001  the client must be told to keep the message
            reply = self._deferred(error)
        told = {"client": self.client, "recipients": len(addresses), "octets": len(octets)}
        log.info("%s system mail", self.settings.name, extra={**told, "reply": reply.code})
        return reply

    def _deferred(self, error: Exception) -> Reply:
        """451 for any error: it can be mended meanwhile, while a message given back would show its text."""
        if isinstance(error, OSError) and error.errno:
            log.warning("%s cannot read or write", self.settings.name, extra={"errno": error.errno})
            return Reply(451, f"4.3.0 cannot read or write: {os.strerror(error.errno)}")
        if isinstance(error, KeystoreError) and not isinstance(error, StoreLocked):
            error = SecMailProxyError(str(error))
        status, text = split_status(self.reply_for(error).text)
        return Reply(451, f"4.{status.partition('.')[2]} {text}")


class LocalIntake(Intake):
    """One client by LMTP: a message is taken for each recipient on its own, who has a reply of their own."""

    absent: ClassVar = frozenset({"AUTH", "STARTTLS", "HELO", "EHLO"})
    greeting: ClassVar = "LHLO"

    async def smtp_LHLO(self, hostname: str | None) -> None:
        """LHLO (RFC 2033 section 4.1)."""
        await self.greet(hostname, extended=True)

    async def _hand_over(self, mail: Path, rcpts: list[Path], gathered: Gathered) -> None:
        """One reply for each RCPT that was accepted, in their order (RFC 2033 section 4.2)."""
        refusal = self._refusal(gathered)
        replies: dict[str, Reply] = {}
        for rcpt in rcpts:
            if rcpt.address not in replies:
                # Each is a message of this client; MAIL has counted the first.
                if replies and not refusal and not self.settings.admission.may_send(self.client):
                    refusal = _TOO_MANY
                replies[rcpt.address] = refusal or await self._taken(mail, [rcpt], gathered.octets)
            await self.answer(replies[rcpt.address])


class IntakeServer(Listener):
    """Listens for mail servers of this machine."""

    def __init__(self, settings: IntakeSettings, take: Take, kind: type[Intake] = Intake) -> None:
        """`take` is called in a thread, a few times at once."""
        counter = Counter(take, self.admit)
        super().__init__(settings.host, settings.port, settings, lambda: kind(settings, counter))
