"""The mail server of the demonstration: pymap for IMAP, aiosmtpd for submission and delivery.

It stands for any provider: it keeps the octets that it gets and knows nothing of encryption. Messages for the
two accounts are delivered into their inboxes; all others are kept in `outbox`, as if sent to the world.

Standards: RFC 3501 over implicit TLS, RFC 6409 with STARTTLS and AUTH.
"""

from __future__ import annotations

import asyncio
import hmac
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from aiosmtpd.smtp import Envelope as SinkEnvelope
from aiosmtpd.smtp import Session as SinkSession
from proxyprotocol.reader import ProxyProtocolReader
from pymap.backend.dict import Config as PymapConfig
from pymap.backend.dict import Identity, Login
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.user import Passwords, UserMetadata

from secmailproxy.demo.certificates import DemoTls

HOST = "127.0.0.1"


class MailServer:
    """The running server. `imap_port` speaks implicit TLS, `smtp_port` STARTTLS."""

    def __init__(self, tls: DemoTls, passwords: Mapping[str, str]) -> None:
        """`passwords` by address: the accounts."""
        self.tls = tls
        self.imap_port = 0
        self.smtp_port = 0
        self.outbox: list[tuple[tuple[str, ...], bytes]] = []
        """(recipients, octets) of what went to nobody here."""
        self._passwords = dict(passwords)
        # reject_dnsbl would ask the network; Namespace stands for pymap's command line.
        self._config = PymapConfig(
            Namespace(passlib_cfg=None, proxy_protocol=None),
            host=HOST,
            port=0,
            ssl_context=tls.server_context(),
            tls_enabled=False,  # of STARTTLS: the listener speaks TLS from the first octet
            demo_data=False,
            demo_user="",
            demo_password="",
            invalid_user_sleep=0.0,
            reject_dnsbl=False,
        )
        self._login = Login(self._config)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[MailServer]:
        """Serve until the block ends."""
        for address, password in self._passwords.items():
            hashed = await Passwords(self._config).hash_password(password)
            await self._identity(address).set(UserMetadata(self._config, address, password=hashed))
        self._config.apply_context()
        imap = ProxyProtocolReader(self._config.proxy_protocol).get_callback(
            IMAPServer(self._login, self._config)
        )
        loop = asyncio.get_running_loop()
        context = self.tls.server_context()
        async with (
            await asyncio.start_server(imap, HOST, 0, ssl=context) as imap_server,
            await loop.create_server(self._smtp, HOST, 0) as smtp_server,
        ):
            self.imap_port = imap_server.sockets[0].getsockname()[1]
            self.smtp_port = smtp_server.sockets[0].getsockname()[1]
            yield self

    async def deliver(self, address: str, octets: bytes) -> None:
        """Put a message into the inbox of an account, as delivery does."""
        async with self._identity(address).new_session() as session:
            await session.append_messages("INBOX", [AppendMessage(octets, datetime.now(UTC), frozenset())])

    def _identity(self, address: str) -> Identity:
        return Identity(address, self._login, None, frozenset())

    def _smtp(self) -> SMTP:
        return SMTP(
            self,
            hostname="localhost",
            tls_context=self.tls.server_context(),
            require_starttls=True,
            auth_required=True,
            authenticator=self._authenticate,
            loop=asyncio.get_running_loop(),
        )

    def _authenticate(
        self, server: SMTP, session: SinkSession, envelope: SinkEnvelope, mechanism: str, data: object
    ) -> AuthResult:
        """Called by aiosmtpd for AUTH."""
        right = False
        if isinstance(data, LoginPassword):
            wanted = self._passwords.get(data.login.decode("utf-8", "replace"), "")
            right = bool(wanted) and hmac.compare_digest(data.password, wanted.encode())
        return AuthResult(success=right, handled=False)  # aiosmtpd words the reply

    async def handle_DATA(self, server: SMTP, session: SinkSession, envelope: SinkEnvelope) -> str:
        """Called by aiosmtpd with each message."""
        octets = envelope.original_content or b""
        for address in envelope.rcpt_tos:
            if address in self._passwords:
                await self.deliver(address, octets)
        if others := tuple(one for one in envelope.rcpt_tos if one not in self._passwords):
            self.outbox.append((others, octets))
        return "250 2.0.0 taken"
