"""The commands of the submission protocol, for one client.

Standards: RFC 6409 (submission), RFC 5321, RFC 4954 (AUTH), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531
(SMTPUTF8), RFC 3461 (DSN).

Security: nothing but EHLO and a login is possible before the login. Failed logins are answered late, and the
connection ends after a few; each leaves one log record of a form that does not change.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import MISSING, SMTP, AuthResult

from secmailproxy.accounts import AccountDoor, SubmissionAccount
from secmailproxy.admission import Admission
from secmailproxy.errors import LoginRefused, NotAllowed
from secmailproxy.model import Reply
from secmailproxy.smtp.commands import Refused, mail_path, rcpt_path
from secmailproxy.smtp.conversation import HOSTNAME, Conversation
from secmailproxy.smtp.replies import reply_for
from secmailproxy.smtp.smarthost import Smarthost
from secmailproxy.smtp.submission import Protector, Report, Submission

log = logging.getLogger(__name__)

_ENCRYPTION_ROOM = 64 * 1024
_ENCRYPTION_GROWTH = 1.4
"""What protecting a message may add to it, at most: base64, its own armor, certificates."""


@dataclass(frozen=True, slots=True)
class SubmissionSettings:
    """Where and how to listen. Times in seconds."""

    host: str = "127.0.0.1"
    port: int = 1025
    """0 for any free one."""
    size_limit: int = 50 * 1024 * 1024
    """Octets of a message; less where a smarthost accepts less."""
    idle_timeout: float = 300
    """Without an octet from the client (RFC 5321 section 4.5.3.2.7)."""
    login_timeout: float = 180
    """From the greeting to the login, however busy the client is meanwhile."""
    login_delay: float = 1.0
    """Before a failed login is answered; doubled for each one on the same connection."""
    login_attempts: int = 3
    """Failed logins after which the connection is closed."""
    probe_patience: float = 3.0
    """How long EHLO waits to learn what the smarthosts offer."""
    max_sessions: int = 200
    """Of all clients."""
    admission: Admission = field(default_factory=lambda: Admission("submission"))


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


class Session(Conversation):
    """One mail client."""

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"

    def __init__(self, settings: SubmissionSettings, office: Office) -> None:
        """Made by the listener for each connection."""
        super().__init__(settings.idle_timeout, settings.login_timeout)
        self._settings = settings
        self._office = office
        self._account: SubmissionAccount | None = None
        self._submission: Submission | None = None
        self._failed_logins = 0

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
        return self._submission is not None and self._submission.open

    def forget(self) -> None:
        """End the mail transaction, if there is one."""
        if self._submission is not None:
            self._submission.reset()

    async def smtp_HELO(self, hostname: str | None) -> None:
        """HELO: no extensions, so no login and no mail."""
        await self._greet(hostname, extended=False)

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """EHLO: our extensions, and those that the smarthost must offer for them to be true."""
        await self._greet(hostname, extended=True)

    async def _greet(self, hostname: str | None, *, extended: bool) -> None:
        if not hostname:
            raise Refused(501, "5.5.4 host name missing")
        assert self.session is not None
        self.forget()
        self.session.host_name, self.session.extended_smtp = hostname, extended
        await self.say(250, "\n".join([HOSTNAME, *(await self._keywords() if extended else ())]))

    async def _keywords(self) -> list[str]:
        offered = await self._offered()
        return [
            "PIPELINING",
            "8BITMIME",
            "ENHANCEDSTATUSCODES",
            f"SIZE {self._size_limit}",
            "AUTH LOGIN PLAIN",
            *(keyword for keyword in ("DSN", "SMTPUTF8") if keyword in offered),
        ]

    async def _offered(self) -> set[str]:
        """EHLO keywords of the smarthost of this client; before login, those that all smarthosts share."""
        known = [await one.learn(self._settings.probe_patience) for one in self._smarthosts]
        return set.intersection(*(set(extensions) for extensions in known)) if known else set()

    @property
    def _size_limit(self) -> int:
        """The SIZE to offer: what fits the smarthost once it is encrypted (SMTP-13)."""
        limits = [one.size_limit for one in self._smarthosts]
        room = [int((limit - _ENCRYPTION_ROOM) / _ENCRYPTION_GROWTH) for limit in limits if limit]
        return max(1, min([self._settings.size_limit, *room]))

    @property
    def _smarthosts(self) -> list[Smarthost]:
        """That of this client; before login, all there are."""
        return [self._account.smarthost] if self._account else list(self._office.smarthosts())

    async def smtp_AUTH(self, arg: str | None) -> None:
        """AUTH PLAIN or LOGIN; the mechanism in any case of letters (RFC 4954 section 4)."""
        mechanism, _, rest = (arg or "").partition(" ")
        await super().smtp_AUTH(f"{mechanism.upper()} {rest}".strip())

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        """Hand the credentials on to the two methods below; the library judges them here, synchronously."""
        return AuthResult(success=False, handled=True, auth_data=auth_data)

    async def auth_PLAIN(self, _: SMTP, args: list[str]) -> AuthResult:
        """Runs the exchange of RFC 4616."""
        return await self._log_in("PLAIN", await super().auth_PLAIN(_, args))

    async def auth_LOGIN(self, _: SMTP, args: list[str]) -> AuthResult:
        """Runs the exchange of the LOGIN mechanism."""
        return await self._log_in("LOGIN", await super().auth_LOGIN(_, args))

    async def challenge_auth(
        self, challenge: str | bytes, encode_to_b64: bool = True, log_client_response: bool = False
    ) -> Any:
        """Ask the client for a line of base64; MISSING when it gives none, which is answered here."""
        octets = challenge.encode() if isinstance(challenge, str) else challenge
        await self.say(334, base64.b64encode(octets).decode("ascii"))
        line = await self.line()
        if line == b"*":
            await self.say(501, "5.7.0 login given up")
        if line is None or line == b"*":
            return MISSING
        try:
            return base64.b64decode(line.strip(), validate=True)
        except binascii.Error:
            await self.say(501, "5.5.2 not base64")
            return MISSING

    async def _log_in(self, mechanism: str, gathered: AuthResult) -> AuthResult:
        """Judge credentials; our own method, since it must ask the smarthost."""
        if gathered.auth_data is None:
            return gathered
        try:
            username, password = (octets.decode("utf-8") for octets in gathered.auth_data)
            if not username or not password or "\0" in username + password:
                raise NotAllowed("User name or password is missing or malformed.")
            account = await self._office.accounts.authenticate_submission(username, password, "password")
        except UnicodeDecodeError:
            return await self._refuse_login(mechanism, NotAllowed("User name or password is not UTF-8."))
        except NotAllowed as error:
            return await self._refuse_login(mechanism, error)
        except Exception as error:  # noqa: BLE001  answered like any other, but with the code of RFC 4954
            reply = self.reply_for(error)
            return AuthResult(success=False, handled=False, message=f"454 {reply.text}")
        self._account = account
        self._submission = Submission(account, self._office.outbound, self._office.report)
        log.info(
            "submission login",
            extra={"client": self.client, "mechanism": mechanism, "account": account.address},
        )
        return AuthResult(success=True)

    async def _refuse_login(self, mechanism: str, error: NotAllowed) -> AuthResult:
        """Answer late, and log one line of a form that does not change."""
        reply = reply_for(error, "") if isinstance(error, LoginRefused) else Reply(535, f"5.7.8 {error.text}")
        if reply.code >= 500:
            self._failed_logins += 1
            log.warning(
                "submission authentication failed",
                extra={"client": self.client, "mechanism": mechanism, "attempt": self._failed_logins},
            )
            await asyncio.sleep(self._settings.login_delay * 2 ** (self._failed_logins - 1))
        await self.answer(reply)
        if self._failed_logins >= self._settings.login_attempts:
            await self.say(421, "4.7.0 too many failed logins")
        return AuthResult(success=False, handled=True)

    async def smtp_MAIL(self, arg: str | None) -> None:
        """MAIL: begins at the smarthost, whose reply this is."""
        submission = await self._ready()
        if submission is None:
            return
        if submission.open:
            raise Refused(503, "5.5.1 nested MAIL")
        path = mail_path(arg or "", await self._offered())
        if path.size > self._size_limit:
            raise Refused(552, f"5.3.4 at most {self._size_limit} octets fit once the message is protected")
        await self.answer(await submission.mail(path))

    async def smtp_RCPT(self, arg: str | None) -> None:
        """RCPT: our rules first, then the smarthost's reply."""
        submission = await self._ready()
        if submission is None:
            return
        if not submission.open:
            raise Refused(503, "5.5.1 MAIL first")
        path = rcpt_path(arg or "", await self._offered(), smtputf8=submission.smtputf8)
        await self.answer(await submission.rcpt(path))

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
        if gathered.too_large or gathered.fault:
            submission.reset()
            limit = f"5.3.4 at most {self._size_limit} octets fit once the message is protected"
            raise Refused(*((552, limit) if gathered.too_large else (554, f"5.6.0 {gathered.fault}")))
        recipients = submission.recipients
        try:
            reply = await submission.data(gathered.octets)
        except Exception as error:  # noqa: BLE001  see _perform; here the record wants the reply
            reply = self.reply_for(error)
        log.info(
            "submission",
            extra={
                "client": self.client,
                "recipients": recipients,
                "octets": len(gathered.octets),
                "reply": reply.code,
                **(submission.left.record if submission.left else {}),
            },
        )
        await self.answer(reply)

    async def smtp_RSET(self, arg: str | None) -> None:
        """RSET: the transaction is forgotten on both sides."""
        self.forget()
        await self.answer(Reply(250, "2.0.0 forgotten"))

    async def smtp_NOOP(self, arg: str | None) -> None:
        """NOOP, with or without words."""
        await self.answer(Reply(250, "2.0.0 here"))

    async def smtp_VRFY(self, arg: str | None) -> None:
        """VRFY: never tells."""
        await self.answer(Reply(252, "2.5.1 send some mail to find out"))

    async def smtp_QUIT(self, arg: str | None) -> None:
        """QUIT."""
        self._leaving = True
        await self.answer(Reply(221, "2.0.0 bye"))

    async def _ready(self) -> Submission | None:
        """The submission of a client that said EHLO and logged in; the others have been answered."""
        if await self.check_helo_needed("EHLO") or await self.check_auth_needed("submission"):
            return None
        return self._submission
