"""The commands that mean the same to every listener of SMTP and LMTP.

Standards: RFC 5321 sections 4.1.1.5 to 4.1.1.10.
"""

from __future__ import annotations

from secmailproxy.model import Reply
from secmailproxy.smtp.conversation import Conversation


class Courtesies(Conversation):
    """A conversation with RSET, NOOP, VRFY and QUIT."""

    async def smtp_RSET(self, arg: str | None) -> None:
        """RSET: the transaction is forgotten."""
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
