"""AUTH: the exchange with the client, and what failed logins cost it. Imports aiosmtpd.

Standards: RFC 4954, RFC 4616 (PLAIN), RFC 7628 (OAUTHBEARER); LOGIN and XOAUTH2 have none.

Security: failed logins are answered late, the connection ends after a few, and after some more the account is
locked for this address. Each leaves one log record of a form that does not change. No password or access
token is in a record or a reply, nor is a user name, unless it is an account here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
from typing import Any

from aiosmtpd.smtp import MISSING, SMTP, AuthResult

from secmailproxy import localuser
from secmailproxy.accounts import Credentials, Mechanism
from secmailproxy.admission import Refusal
from secmailproxy.errors import LoginRefused, NotAllowed
from secmailproxy.model import Reply
from secmailproxy.smtp import sasl
from secmailproxy.smtp.commands import Refused
from secmailproxy.smtp.courtesies import Courtesies
from secmailproxy.smtp.replies import reply_for
from secmailproxy.smtp.settings import SubmissionSettings
from secmailproxy.smtp.wire import LineFault

log = logging.getLogger(__name__)


class Authentication(Courtesies):
    """A conversation in which the client can show who it is. The rest is a subclass's."""

    AuthLoginUsernameChallenge = "Username:"
    AuthLoginPasswordChallenge = "Password:"
    settings: SubmissionSettings
    _failed_logins = 0

    async def enter(self, credentials: Credentials) -> str:
        """Log in; the account's address. Raises NotAllowed; any other error is a temporary one."""
        raise NotImplementedError

    def account_of(self, username: str) -> str:
        """The address of the account that this user name is for; "" for none."""
        raise NotImplementedError

    async def token_mechanisms(self) -> list[Mechanism]:
        """The mechanisms of OAuth that can be offered."""
        raise NotImplementedError

    async def smtp_AUTH(self, arg: str | None) -> None:
        """AUTH; the mechanism in any case of letters (RFC 4954 section 4)."""
        name, _, rest = (arg or "").partition(" ")
        mechanism = name.upper()
        if mechanism in sasl.FAILURE_ANSWER and mechanism not in await self.token_mechanisms():
            raise Refused(504, f"5.5.4 {mechanism} is not offered here")
        await super().smtp_AUTH(f"{mechanism} {rest}".strip())

    def _authenticate(self, mechanism: str, auth_data: Any) -> AuthResult:
        """Hand the credentials on to the methods below; the library judges them here, synchronously."""
        return AuthResult(success=False, handled=True, auth_data=auth_data)

    async def auth_PLAIN(self, _: SMTP, args: list[str]) -> AuthResult:
        """Runs the exchange of RFC 4616."""
        return await self._by_password("PLAIN", await super().auth_PLAIN(_, args))

    async def auth_LOGIN(self, _: SMTP, args: list[str]) -> AuthResult:
        """Runs the exchange of the LOGIN mechanism."""
        return await self._by_password("LOGIN", await super().auth_LOGIN(_, args))

    async def auth_XOAUTH2(self, _: SMTP, args: list[str]) -> AuthResult:
        """Runs the exchange that Google and Microsoft document."""
        return await self._by_token("XOAUTH2", args)

    async def auth_OAUTHBEARER(self, _: SMTP, args: list[str]) -> AuthResult:
        """Runs the exchange of RFC 7628."""
        return await self._by_token("OAUTHBEARER", args)

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

    async def _by_password(self, mechanism: str, gathered: AuthResult) -> AuthResult:
        if gathered.auth_data is None:
            return gathered
        try:
            username, password = (octets.decode("utf-8") for octets in gathered.auth_data)
        except UnicodeDecodeError:
            return await self._refuse(mechanism, NotAllowed("User name or password is not UTF-8."))
        if not username or not password or "\0" in username + password:
            wrong = NotAllowed("User name or password is missing or malformed.")
            return await self._refuse(mechanism, wrong)
        return await self._log_in(mechanism, Credentials(username, password))

    async def _by_token(self, mechanism: Mechanism, args: list[str]) -> AuthResult:
        if len(args) == 1:
            response = await self.challenge_auth("")
            if response is MISSING:
                return AuthResult(success=False, handled=True)
        else:
            try:
                response = base64.b64decode(args[1].encode(), validate=True)
            except binascii.Error:
                raise Refused(501, "5.5.2 not base64") from None
        credentials = sasl.credentials(mechanism, response)
        if credentials is None:
            raise Refused(501, f"5.5.2 this is no {mechanism} response with a user name and a token")
        return await self._log_in(mechanism, credentials)

    async def _log_in(self, mechanism: str, credentials: Credentials) -> AuthResult:
        """Judge credentials; our own method, since it must ask the smarthost."""
        admission, account = self.settings.admission, self.account_of(credentials.username)
        name = account or credentials.username
        guest = await self._guest()
        if not admission.may_try(self.client, name, credentials.secret, guest):
            # RFC 4954 section 6: temporary, so that no client throws a password away that was not tried.
            self._failed_logins += 1
            await self._fail(Reply(454, "4.7.0 too many failed logins; this one was not tried, try later"))
            return AuthResult(success=False, handled=True)
        try:
            address = await self.enter(credentials)
        except NotAllowed as error:
            if reply_for(error, "").code < 500:
                admission.logins.withdraw(guest, name, credentials.secret)
            return await self._refuse(mechanism, error, account)
        except Exception as error:  # noqa: BLE001  answered like any other, but with the code of RFC 4954
            admission.logins.withdraw(guest, name, credentials.secret)
            reply = self.reply_for(error)
            return AuthResult(success=False, handled=False, message=f"454 {reply.text}")
        admission.logins.succeeded(guest, name)
        log.info(
            "submission login", extra={"client": self.client, "mechanism": mechanism, "account": address}
        )
        return AuthResult(success=True)

    async def _guest(self) -> str:
        """The client as one who may be guessing; empty when it has left already."""
        transport = self._writer.transport
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        return await asyncio.to_thread(localuser.guest, peer[:2], here[:2]) if peer and here else ""

    async def _refuse(self, mechanism: str, error: NotAllowed, account: str = "") -> AuthResult:
        """Answer late, and log one line of a form that does not change."""
        reply = reply_for(error, "") if isinstance(error, LoginRefused) else Reply(535, f"5.7.8 {error.text}")
        if reply.code >= 500:
            known = {"account": account} if account else {}
            self.refuse(Refusal.LOGIN, mechanism=mechanism, **known)
            await asyncio.sleep(self.settings.login_delay * 2**self._failed_logins)
            self._failed_logins += 1
        if isinstance(error, LoginRefused) and error.challenge:
            await self._tell_why(error.challenge)
        await self._fail(reply)
        return AuthResult(success=False, handled=True)

    async def _fail(self, reply: Reply) -> None:
        """Answer a login; after several that failed the connection ends."""
        await self.answer(reply)
        if self._failed_logins >= self.settings.login_attempts:
            await self.say(421, "4.7.0 too many failed logins")

    async def _tell_why(self, challenge: str) -> None:
        """What the smarthost said of the token; the client answers with a line that means nothing."""
        await self.say(334, challenge)
        with contextlib.suppress(LineFault):
            await self.line()
