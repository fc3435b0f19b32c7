"""The commands of the submission protocol, for one client.

Standards: RFC 6409 (submission), RFC 5321, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
RFC 3461 (DSN), RFC 3207 (STARTTLS).

Security: nothing but EHLO, STARTTLS and a login is possible before the login.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from secmailproxy.accounts import AccountDoor, Credentials, Mechanism, SubmissionAccount
from secmailproxy.admission import Refusal
from secmailproxy.model import Reply
from secmailproxy.smtp.authentication import Authentication
from secmailproxy.smtp.commands import Refused, mail_path, rcpt_path
from secmailproxy.smtp.conversation import Conversation
from secmailproxy.smtp.settings import SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost
from secmailproxy.smtp.submission import Accepted, Protector, Report, Submission, nothing_to_add
from secmailproxy.smtp.wire import Gathered

log = logging.getLogger(__name__)

_ENCRYPTION_ROOM = 64 * 1024
_ENCRYPTION_GROWTH = 1.4
"""What protecting a message may add to it, at most: base64, its own armor, certificates."""


@dataclass(frozen=True, slots=True)
class Office:
    """What every session works with."""

    accounts: AccountDoor
    outbound: Protector
    smarthosts: Callable[[], Iterable[Smarthost]]
    """Those of all accounts: what they all offer is offered to clients before login."""
    report: Report
    admit: Callable[[Conversation, asyncio.Task[None]], bool]
    """Takes a new session and its task; whether there is room for it."""
    accepted: Accepted = nothing_to_add


class Session(Authentication):
    """One mail client."""

    settings: SubmissionSettings

    def __init__(self, settings: SubmissionSettings, office: Office) -> None:
        """Made by the listener for each connection."""
        super().__init__(settings)
        self._office = office
        self._account: SubmissionAccount | None = None
        self._submission: Submission | None = None

    def welcome(self, task: asyncio.Task[None]) -> bool:
        """Whether there is room."""
        return self._office.admit(self, task)

    @property
    def logged_in(self) -> bool:
        """Whether AUTH has succeeded."""
        return self._account is not None

    @property
    def in_transaction(self) -> bool:
        """From MAIL to the reply to DATA."""
        return self._submission is not None and self._submission.under_way

    def forget(self) -> None:
        """End the mail transaction, if there is one."""
        if self._submission is not None:
            self._submission.reset()

    async def keywords(self) -> list[str]:
        """Ours, and those that the smarthost must offer for them to be true."""
        offered = await self._offered()
        return [
            "PIPELINING",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            f"SIZE {self._size_limit}",
            " ".join(["AUTH LOGIN PLAIN", *await self.token_mechanisms()]),
            *(keyword for keyword in ("DSN", "SMTPUTF8") if keyword in offered),
            *(["STARTTLS"] if not self.over_tls and self.settings.tls() is not None else ()),
        ]

    async def _offered(self) -> set[str]:
        """EHLO keywords of the smarthost of this client; before login, those that all smarthosts share."""
        smarthosts = self._smarthosts
        if any(one.extensions is None for one in smarthosts):
            # All at once: a client does not wait for one after the other to be given up.
            await asyncio.gather(*(one.learn(self.settings.probe_patience) for one in smarthosts))
        known = [one.extensions or {} for one in smarthosts]
        shared = set.intersection(*(set(extensions) for extensions in known)) if known else set()
        # Addresses in UTF-8 come with header fields in UTF-8 (RFC 6531 section 3.1).
        return shared if "8BITMIME" in shared else shared - {"SMTPUTF8"}

    @property
    def _size_limit(self) -> int:
        """The SIZE to offer: what fits the smarthost once it is encrypted (SMTP-13)."""
        limits = [one.size_limit for one in self._smarthosts]
        room = [int((limit - _ENCRYPTION_ROOM) / _ENCRYPTION_GROWTH) for limit in limits if limit]
        return max(1, min([self.settings.size_limit, *room]))

    @property
    def _smarthosts(self) -> list[Smarthost]:
        """That of this client; before login, all there are."""
        return [self._account.smarthost] if self._account else list(self._office.smarthosts())

    def account_of(self, username: str) -> str:
        """As the accounts know it."""
        return self._office.accounts.known_as(username)

    async def token_mechanisms(self) -> list[Mechanism]:
        """Those of OAuth that the smarthost of this client knows; before login, that all smarthosts know."""
        await self._offered()
        known = [one.mechanisms for one in self._smarthosts]
        shared = frozenset.intersection(*known) if known else frozenset()
        return [name for name in ("XOAUTH2", "OAUTHBEARER") if name in shared]

    async def enter(self, credentials: Credentials) -> str:
        """Ask the accounts, which ask the smarthost."""
        account = await self._office.accounts.authenticate_submission(
            credentials.username, credentials.secret, credentials.mechanism
        )
        self._account = account
        self._submission = Submission(account, self._office.outbound, self._office.report)
        return account.address

    async def smtp_STARTTLS(self, arg: str | None) -> None:
        """STARTTLS: afterwards nothing is known of the client (RFC 3207 section 4.2)."""
        context = None if self.over_tls else self.settings.tls()
        if context is None:
            raise Refused(*((503, "5.5.1 TLS is on") if self.over_tls else (502, "5.5.1 no TLS here")))
        if arg:
            raise Refused(501, "5.5.4 STARTTLS has no argument")
        assert self.session is not None
        self.forget()
        self._account = self._submission = None
        self.session.host_name, self.session.extended_smtp = None, False
        self.session.authenticated = False
        await self.start_tls(context)

    async def smtp_MAIL(self, arg: str | None) -> None:
        """MAIL: begins at the smarthost, whose reply this is."""
        submission = await self._ready()
        if submission is None:
            return
        if submission.open:
            raise Refused(503, "5.5.1 nested MAIL")
        path = mail_path(arg or "", await self._offered())
        if not self.settings.admission.may_send(self.client):
            raise Refused(451, "4.7.0 too many messages; try again in a minute")
        if path.size > self._size_limit:
            raise Refused(552, f"5.3.4 at most {self._size_limit} octets fit once the message is protected")
        await self.answer_in_turn(await submission.mail(path))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RCPT: our rules first, then the smarthost's reply."""
        submission = await self._ready()
        if submission is None:
            return
        if not submission.open:
            raise Refused(503, "5.5.1 MAIL first")
        path = rcpt_path(arg or "", await self._offered(), smtputf8=submission.smtputf8)
        await self.answer_in_turn(await submission.rcpt(path))

    async def smtp_DATA(self, arg: str | None) -> None:
        """DATA: gather, protect, relay; the reply is the smarthost's (SMTP-01)."""
        submission = await self._ready()
        if submission is None:
            return
        if arg:
            raise Refused(501, "5.5.4 DATA has no argument")
        if not submission.recipients:
            raise Refused(503, "5.5.1 no valid recipients")
        await self.say(354, "end with <CRLF>.<CRLF>")
        gathered = await self.message(self._size_limit)
        if gathered is None:
            return
        if refusal := self._refusal(gathered):
            submission.reset()
            await self.answer(refusal)
            if gathered.fault:
                self.refuse(Refusal.ABUSE, why=gathered.fault)
                self.leave()
            return
        rcpt_tos = submission.envelope().rcpt_tos
        try:
            reply = self._remarked(await submission.data(gathered.octets), rcpt_tos)
        except Exception as error:  # noqa: BLE001  see _perform; here the record wants the reply
            reply = self.reply_for(error)
        log.info(
            "submission",
            extra={
                "client": self.client,
                "recipients": len(rcpt_tos),
                "octets": len(gathered.octets),
                "reply": reply.code,
                **(submission.left.record if submission.left else {}),
            },
        )
        await self.answer(reply)

    def _remarked(self, reply: Reply, rcpt_tos: Sequence[str]) -> Reply:
        """The smarthost's reply; below its own text what the sender is to know, where it has accepted."""
        lines = self._office.accepted(rcpt_tos) if reply.positive else ()
        return Reply(reply.code, "\n".join([reply.text, *lines])) if lines else reply

    def _refusal(self, gathered: Gathered) -> Reply | None:
        """Why a message is not even looked at, or None."""
        if gathered.too_large:
            limit = self._size_limit
            return Reply(552, f"5.3.4 at most {limit} octets fit once the message is protected")
        fault = gathered.fault or gathered.header_fault
        return Reply(554, f"5.6.0 {fault}") if fault else None

    async def _ready(self) -> Submission | None:
        """The submission of a client that said EHLO and logged in; the others have been answered."""
        if await self.check_helo_needed("EHLO"):
            return None
        if await self.check_auth_needed("submission"):
            self.refuse(Refusal.RELAY)
            return None
        return self._submission
