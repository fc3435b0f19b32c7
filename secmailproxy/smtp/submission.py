"""What one client submits: from MAIL to the final reply, relayed to the smarthost while the client waits.

Gather, decide and transform are `Outbound`'s; this file keeps the order in which the smarthost is asked. No
message is accepted before the smarthost has accepted it (SMTP-01).

Standards: RFC 6409, RFC 5321 sections 3.3 and 6.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from keystore.model import Scheme
from secmailproxy.accounts import SubmissionAccount
from secmailproxy.errors import SecMailProxyError
from secmailproxy.finding import Patience
from secmailproxy.model import Envelope, Protection, Reply
from secmailproxy.policy import refuse_other_account
from secmailproxy.smtp.commands import Path
from secmailproxy.smtp.delivery import Copy, Failure, deliver, log_failures
from secmailproxy.smtp.transaction import Asked, Transaction

Answer = Callable[[], Awaitable[Reply]]
"""Waits for a reply of the smarthost. To be called in the order of the commands; raises UpstreamLost."""


class Protector(Protocol):
    """What submission needs of `secmailproxy.outbound.Outbound`."""

    async def check_recipient(self, sender: str, rcpt_to: str, *, account: str, patience: Patience) -> None:
        """Raises NoUsableCertificate or KeystoreLocked when a rule forbids this recipient.

        StillLooking: it may not, later. `patience` is that of the whole transaction.
        """

    async def protect(
        self, envelope: Envelope, message: bytes, *, sender: str, account: str, patience: Patience
    ) -> Sequence[Copy]:
        """The copies to send, the one for To and Cc first. Raises SecMailProxyError.

        `sender` is the address whose key and rules count, `account` the address of the login.
        """


@dataclass(frozen=True, slots=True)
class Left:
    """How a message left, or would have left, for the log."""

    protection: Protection
    scheme: Scheme | None
    copies: int

    @classmethod
    def of(cls, copies: Sequence[Copy]) -> Left:
        """All copies of a message have one protection."""
        return cls(copies[0].protection, copies[0].scheme, len(copies))

    @property
    def record(self) -> dict[str, str | int]:
        """The details for the log; no addresses."""
        scheme = self.scheme.value if self.scheme else "none"
        return {"protection": self.protection.value, "scheme": scheme, "copies": self.copies}


Report = Callable[[SubmissionAccount, bytes, Envelope, Sequence[Failure]], Awaitable[None]]
"""Tells the owner of an account which recipients did not get a message, which is given as it was submitted.

When it returns, the report is safe: the client is told 250 then. It must not raise.
"""


Accepted = Callable[[Sequence[str]], Sequence[str]]
"""Is told the recipients of a message that was accepted; returns lines for the reply. Must not raise."""


def nothing_to_add(_rcpt_tos: Sequence[str]) -> Sequence[str]:
    """The `Accepted` where nobody keeps an address book."""
    return ()


async def log_only(
    account: SubmissionAccount, message: bytes, envelope: Envelope, failures: Sequence[Failure]
) -> None:
    """The `Report` where there is no INBOX to report to."""
    await log_failures(envelope, failures)


class Submission:
    """The mail transactions of one client that has logged in, one after the other."""

    def __init__(self, account: SubmissionAccount, outbound: Protector, report: Report) -> None:
        """`report` is told of copies that fail after the first one was accepted."""
        self._account = account
        self._outbound = outbound
        self._report = report
        self._transaction: Transaction | None = None
        self._mail: Path | None = None
        self._rcpts: list[Path] = []
        self.left: Left | None = None
        """How the last message was protected; None where that was not decided."""
        self._asked: dict[str, Asked] = {}
        self._due = 0
        self._leaving = False
        self._patience = Patience()

    @property
    def open(self) -> bool:
        """Whether MAIL was accepted and neither DATA nor RSET has followed."""
        return self._mail is not None

    @property
    def under_way(self) -> bool:
        """From MAIL until what became of the message is known."""
        return self.open or self._leaving

    @property
    def smtputf8(self) -> bool:
        """Whether MAIL asked for SMTPUTF8."""
        return self._mail is not None and self._mail.smtputf8

    @property
    def recipients(self) -> int:
        """How many recipients were accepted."""
        return len(self._rcpts)

    async def mail(self, path: Path) -> Answer:
        """Begin at the smarthost, whose reply can be waited for later: RCPT may follow before.

        Raises NotAllowed, LoginRefused, UpstreamUnavailable.
        """
        refuse_other_account(path.address, self._account.others())
        self.reset()
        self._transaction = transaction = await self._account.smarthost.start(self._account.credentials)
        self._mail = path
        asked = transaction.mail(path.address, self._options(path))

        async def answer() -> Reply:
            refused = True
            try:
                reply = await asked
                refused = not reply.positive
            finally:
                if refused:
                    self._mail = None
            return reply

        return self._counted(transaction, answer)

    async def rcpt(self, path: Path) -> Answer:
        """Ask our rules first, then the smarthost, whose reply can be waited for later.

        Raises SecMailProxyError.
        """
        transaction, mail = self._begun()
        before = self._asked.get(path.address)
        if before is None:
            await self._outbound.check_recipient(
                self._sender(mail), path.address, account=self._account.address, patience=self._patience
            )
            if self._transaction is not transaction:
                raise SecMailProxyError("the transaction has ended while a certificate was looked for")
            self._asked[path.address] = transaction.rcpt(path.address, path.options)
        asked = self._asked[path.address]

        async def answer() -> Reply:
            reply = await asked
            if not reply.positive:
                self._asked.pop(path.address, None)
            elif before is None:
                self._rcpts.append(path)
            else:
                return Reply(250, "2.1.5 this recipient was accepted before")
            return reply

        return self._counted(transaction, answer)

    async def data(self, message: bytes) -> Reply:
        """Protect and send; the smarthost's final reply. The transaction is over then, whatever happens.

        Raises SecMailProxyError.
        """
        self.left = None
        self._leaving = True
        try:
            transaction, mail = self._begun()
            # Again: the accounts may be others than they were at MAIL.
            refuse_other_account(mail.address, self._account.others())
            envelope = self.envelope()
            # One recipient gets one copy: the smarthost can get ready for it while it is made.
            early = transaction.data() if len(envelope.rcpt_tos) == 1 else None
            copies = await self._outbound.protect(
                envelope,
                message,
                sender=self._sender(mail),
                account=self._account.address,
                patience=self._patience,
            )
            self.left = Left.of(copies)
            if {address for copy in copies for address in copy.rcpt_tos} != set(envelope.rcpt_tos):
                raise SecMailProxyError("the copies are not for the recipients of the message; not sent")
            if len(copies) == 1:
                await self._account.smarthost.check(copies[0].octets)
                reply = await (early or transaction.data())
                return await transaction.send(copies[0].octets) if reply.code == 354 else reply
            self.reset()
            account = self._account
            report = partial(self._report, account, message)
            return await deliver(account.smarthost, account.credentials, envelope, copies, report)
        finally:
            self._leaving = False
            self.reset()

    def envelope(self) -> Envelope:
        """The envelope so far."""
        _, mail = self._begun()
        return Envelope(
            mail.address,
            tuple(path.address for path in self._rcpts),
            self._options(mail),
            tuple(path.options for path in self._rcpts),
        )

    def reset(self) -> None:
        """Forget the transaction; the smarthost's is ended, its connection kept where possible."""
        transaction, self._transaction = self._transaction, None
        self._mail, self._rcpts, self._asked, self._due = None, [], {}, 0
        self._patience = Patience()
        if transaction is not None:
            transaction.end()

    def _counted(self, transaction: Transaction, answer: Answer) -> Answer:
        """The answer; when MAIL was refused, the last one that is due ends the transaction."""
        self._due += 1

        async def count() -> Reply:
            try:
                return await answer()
            finally:
                if self._transaction is transaction:
                    self._due -= 1
                    if self._mail is None and not self._due:
                        self.reset()

        return count

    def _options(self, path: Path) -> tuple[str, ...]:
        """The parameters of MAIL for the smarthost. BODY says nothing to one that does not know it."""
        known = self._account.smarthost.extensions or {}
        return tuple(
            option for option in path.options if "8BITMIME" in known or not option.upper().startswith("BODY=")
        )

    def _sender(self, mail: Path) -> str:
        """Whose key and rules count; a null sender (a receipt) is the owner of the login."""
        return mail.address or self._account.address

    def _begun(self) -> tuple[Transaction, Path]:
        assert self._transaction is not None
        assert self._mail is not None
        return self._transaction, self._mail
