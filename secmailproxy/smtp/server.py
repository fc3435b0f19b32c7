"""The submission listener: accepts mail clients on loopback.

Standards: RFC 6409, RFC 8314 section 3.3 (submissions).

Security: binds loopback only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from secmailproxy.accounts import AccountDoor
from secmailproxy.smtp.listener import Listener
from secmailproxy.smtp.session import Office, Session
from secmailproxy.smtp.settings import SubmissionSettings
from secmailproxy.smtp.smarthost import Smarthost
from secmailproxy.smtp.submission import Accepted, Protector, Report, log_only, nothing_to_add

__all__ = ["SubmissionServer", "SubmissionSettings"]


class SubmissionServer(Listener):
    """Listens for mail clients."""

    def __init__(
        self,
        settings: SubmissionSettings,
        accounts: AccountDoor,
        outbound: Protector,
        *,
        smarthosts: Callable[[], Iterable[Smarthost]] = tuple,
        report: Report = log_only,
        accepted: Accepted = nothing_to_add,
    ) -> None:
        """`smarthosts` gives those of all accounts: what they all offer is offered to clients before login.

        `report` tells a sender which recipients failed after the message was accepted for others; `accepted`
        says what is to be added to the smarthost's reply.
        """
        self._office = Office(accounts, outbound, smarthosts, report, self.admit, accepted)
        super().__init__(settings.host, settings.port, settings, lambda: Session(settings, self._office))
