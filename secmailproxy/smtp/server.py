"""The submission listener: accepts mail clients on loopback and owns their sessions.

Standards: RFC 6409, RFC 8314 section 3.3 (submissions).

Security: binds loopback only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Iterable

from secmailproxy.accounts import AccountDoor
from secmailproxy.errors import ConfigError
from secmailproxy.smtp.conversation import Conversation
from secmailproxy.smtp.session import Office, Session
from secmailproxy.smtp.settings import SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost
from secmailproxy.smtp.submission import Protector, Report, log_only

__all__ = ["SubmissionServer", "SubmissionSettings"]


class SubmissionServer:
    """Listens for mail clients."""

    def __init__(
        self,
        settings: SubmissionSettings,
        accounts: AccountDoor,
        outbound: Protector,
        *,
        smarthosts: Callable[[], Iterable[Smarthost]] = tuple,
        report: Report = log_only,
    ) -> None:
        """`smarthosts` gives those of all accounts: what they all offer is offered to clients before login.

        `report` tells a sender which recipients failed after the message was accepted for others.
        """
        self._settings = settings
        self._office = Office(accounts, outbound, smarthosts, report, self._admit)
        self._sessions: dict[asyncio.Task[None], Conversation] = {}
        self._listener: asyncio.Server | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; the address bound. Raises ConfigError unless it is loopback, OSError if it is taken."""
        loop = asyncio.get_running_loop()
        host, port = self._settings.host, self._settings.port
        # An empty host would mean every interface.
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        if not all(ipaddress.ip_address(address[4][0]).is_loopback for address in found):
            raise ConfigError(
                f"Submission listens on loopback only, such as 127.0.0.1; {host}:{port} is not allowed."
            )
        self._listener = await loop.create_server(lambda: Session(self._settings, self._office), host, port)
        bound = self._listener.sockets[0].getsockname()
        return str(bound[0]), int(bound[1])

    async def stop(self, grace: float) -> None:
        """Stop listening, let transactions that have begun finish within `grace` seconds, cut the rest."""
        if self._listener is None:
            return
        listener, self._listener = self._listener, None
        listener.close()
        for session in self._sessions.values():
            session.retire()
        if tasks := list(self._sessions):
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()

    def _admit(self, session: Conversation, task: asyncio.Task[None]) -> bool:
        self._sessions[task] = session
        task.add_done_callback(self._sessions.pop)
        if self._listener is None or len(self._sessions) > self._settings.max_sessions:
            return False
        admission, address = self._settings.admission, session.address
        if not admission.enter(address):
            return False
        task.add_done_callback(lambda _: admission.leave(address))
        return True
