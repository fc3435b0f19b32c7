"""A connection to a smarthost up to the login: TLS, EHLO, AUTH. The only importer of aiosmtplib.

Standards: RFC 5321, RFC 8314 section 3.3 (implicit TLS), RFC 3207 (STARTTLS), RFC 4954 (AUTH),
RFC 7628 (OAUTHBEARER), RFC 9422 (LIMITS).

Security: no credential and no mail is sent before TLS with a verified certificate stands; a server that stops
offering STARTTLS is an error, never a reason to go on. The library drops what came before the handshake and
asks EHLO again after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiosmtplib

from secmailproxy.accounts import Credentials
from secmailproxy.errors import ConfigError, LoginRefused, UpstreamLost, UpstreamUnavailable
from secmailproxy.model import Reply
from secmailproxy.smtp.exchange import Exchange, Pace
from secmailproxy.smtp.replies import clean, split_status, with_status
from secmailproxy.smtp.sasl import FAILURE_ANSWER, initial_response, is_base64

_MAILMAX = re.compile(r"\bMAILMAX=([1-9]\d{0,5})\b", re.IGNORECASE)
_QUIT_TIMEOUT = 2.0
_AUTH_METHODS = ("plain", "login", "cram-md5")
"""In the order of preference; one is tried, so that a wrong password counts once."""

_LOCAL_NAME = "[127.0.0.1]"
"""Says EHLO; no name of this machine leaves it."""


@dataclass(frozen=True, slots=True)
class SmarthostSettings:
    """Where to submit. Times in seconds."""

    host: str
    port: int
    tls: Literal["implicit", "starttls"] = "implicit"
    ca_file: Path | None = None
    """The certificate authorities to trust in place of the system's."""
    timeout: float = 60
    """To connect, for one reply, and for one chunk of a message to leave."""
    final_timeout: float = 600
    """For the reply to the final dot (RFC 5321 section 4.5.3.2.6)."""
    idle_limit: float = 60
    """A kept connection is closed after this."""
    keep: int = 50
    """Idle connections kept, at most, for one login; those that are not needed go after `idle_limit`."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.host}:{self.port}"


def tls_context(settings: SmarthostSettings) -> ssl.SSLContext:
    """Verifies certificate and host name. Reads files. Raises ConfigError when `ca_file` cannot be used."""
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"ca_file {settings.ca_file} of the smarthost {settings.name} cannot be used: "
            f"{error.strerror or 'no PEM certificates'}"
        ) from None


class Connection:
    """An open connection with verified TLS, up to the login."""

    def __init__(self, settings: SmarthostSettings, smtp: aiosmtplib.SMTP) -> None:
        """Use `Connection.open`."""
        self._settings = settings
        self._smtp = smtp
        self.extensions: Mapping[str, str] = {
            keyword.upper(): parameters for keyword, parameters in smtp.esmtp_extensions.items()
        }
        """EHLO keywords in upper case, with their parameters."""
        self._challenge = ""

    @classmethod
    async def open(cls, settings: SmarthostSettings, context: ssl.SSLContext) -> Connection:
        """Connect, verify TLS, say EHLO. Raises UpstreamUnavailable."""
        smtp = aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            use_tls=settings.tls == "implicit",
            start_tls=settings.tls == "starttls",
            tls_context=context,
            timeout=settings.timeout,
            local_hostname=_LOCAL_NAME,
        )
        try:
            await smtp.connect()
            await smtp.ehlo()
            if smtp.get_transport_info("sslcontext") is None:
                raise UpstreamUnavailable(f"{settings.name} gave no TLS connection")
            return cls(settings, smtp)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            _abort(smtp)
            raise UpstreamUnavailable(_why(settings, error)) from None
        except BaseException:
            _abort(smtp)
            raise

    async def login(self, credentials: Credentials) -> Exchange:
        """Log in, once, and go on. Raises LoginRefused with the server's own reply, UpstreamUnavailable."""
        try:
            with self._closing_on_failure():
                if credentials.mechanism == "password":
                    await self._give_password(credentials)
                else:
                    await self._give_token(credentials)
                return self._exchange()
        except aiosmtplib.SMTPAuthenticationError as error:
            self._close()
            if not 400 <= error.code <= 599:
                raise self._lost("gave no proper reply to the login") from None
            lines = with_status(Reply(error.code, error.message)).text.split("\n")
            text = " ".join(split_status(line)[1] for line in lines)
            status = split_status(lines[0])[0]
            raise LoginRefused(
                text, smtp_code=error.code, enhanced_status=status, challenge=self._challenge
            ) from None

    async def _give_password(self, credentials: Credentials) -> None:
        offered = self._smtp.server_auth_methods
        method = next((name for name in _AUTH_METHODS if name in offered), None)
        if method is None:
            self._close()
            raise UpstreamUnavailable(f"{self._settings.name} offers no login by password")
        log_in = {
            "plain": self._smtp.auth_plain,
            "login": self._smtp.auth_login,
            "cram-md5": self._smtp.auth_crammd5,
        }[method]
        await log_in(credentials.username, credentials.secret)

    async def _give_token(self, credentials: Credentials) -> None:
        mechanism = credentials.mechanism
        if mechanism.lower() not in self._smtp.server_auth_methods:
            self._close()
            text = f"{self._settings.name} offers no login by {mechanism}"
            raise LoginRefused(text, smtp_code=504, enhanced_status="5.5.4")
        token = initial_response(credentials, self._settings.host, self._settings.port)
        timeout = self._settings.timeout
        response = await self._smtp.execute_command(b"AUTH", mechanism.encode(), token, timeout=timeout)
        if response.code == 334:
            # The reason in JSON, for programs. The refusal itself follows once this is answered.
            self._challenge = response.message if is_base64(response.message) else ""
            response = await self._smtp.execute_command(FAILURE_ANSWER[mechanism], timeout=timeout)
        if response.code != 235:
            raise aiosmtplib.SMTPAuthenticationError(response.code, response.message)

    def _close(self) -> None:
        """Say QUIT and close; does not wait."""
        if self._smtp.protocol is not None:
            with contextlib.suppress(aiosmtplib.SMTPException):
                self._smtp.protocol.write(b"QUIT\r\n")
        self._smtp.close()

    async def quit(self) -> None:
        """Say QUIT, wait a moment for the answer, close: for one who only came to look."""
        with contextlib.suppress(aiosmtplib.SMTPException):
            await self._smtp.quit(timeout=_QUIT_TIMEOUT)
        self.abort()
        await asyncio.sleep(0)

    def abort(self) -> None:
        """Close at once."""
        _abort(self._smtp)

    def _exchange(self) -> Exchange:
        """What goes on from here; the library is done."""
        settings = self._settings
        mailmax = _MAILMAX.search(self.extensions.get("LIMITS", ""))
        pace = Pace(
            settings.name,
            "PIPELINING" in self.extensions,
            settings.timeout,
            settings.final_timeout,
            int(mailmax[1]) if mailmax else None,
        )
        transport = self._smtp.transport
        if not isinstance(transport, asyncio.Transport) or transport.is_closing():
            raise self._lost("closed the connection or broke the protocol")
        return Exchange(transport, pace)

    @contextlib.contextmanager
    def _closing_on_failure(self) -> Iterator[None]:
        try:
            yield
        except aiosmtplib.SMTPAuthenticationError:
            raise
        except TimeoutError:
            self.abort()
            raise self._lost("did not answer in time") from None
        except (aiosmtplib.SMTPException, OSError, ValueError):
            self.abort()
            raise self._lost("closed the connection or broke the protocol") from None
        except BaseException:
            self.abort()
            raise

    def _lost(self, what: str) -> UpstreamLost:
        return UpstreamLost(f"{self._settings.name} {what}")


def _abort(smtp: aiosmtplib.SMTP) -> None:
    transport = smtp.transport
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()
    smtp.close()


def _why(settings: SmarthostSettings, error: BaseException) -> str:
    """What went wrong while connecting, in words of ours or the server's, never of an exception's."""
    causes = list(_causes(error))
    for cause in causes:
        match cause:
            case ssl.SSLCertVerificationError():
                return (
                    f"the TLS certificate of {settings.name} is not accepted: {clean(cause.verify_message)}; "
                    "a private authority can be named with ca_file"
                )
            case ssl.SSLError():
                return f"{settings.name} does not speak TLS as expected (tls is {settings.tls!r})"
            case aiosmtplib.SMTPResponseException() if cause.code > 0:
                return f"{settings.name} refuses the connection: {cause.code} {clean(cause.message)}"
            case TimeoutError():
                return f"{settings.name} did not answer within {settings.timeout:g} s"
            case OSError(errno=number) if number and number > 0:
                # asyncio's own text repeats the address in Python's notation.
                return f"{settings.name} cannot be reached: {os.strerror(number)}"
            case OSError() if cause.strerror:
                return f"{settings.name} cannot be reached: {clean(cause.strerror)}"
            case _:
                pass
    if settings.tls == "starttls" and type(error) is aiosmtplib.SMTPException:
        return f"{settings.name} does not offer STARTTLS; nothing was sent"
    return f"{settings.name} cannot be reached or does not speak SMTP"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The innermost first."""
    if error is not None:
        yield from _causes(error.__cause__)
        yield error
