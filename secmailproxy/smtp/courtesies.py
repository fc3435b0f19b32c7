"""The commands that mean the same to every listener of SMTP and LMTP.

Standards: RFC 5321 sections 4.1.1.1 and 4.1.1.5 to 4.1.1.10.
"""

from __future__ import annotations

from secmailproxy.model import Reply
from secmailproxy.smtp.commands import Refused
from secmailproxy.smtp.conversation import HOSTNAME, Conversation


class Courtesies(Conversation):
    """A conversation with HELO, EHLO, RSET, NOOP, VRFY and QUIT."""

    async def keywords(self) -> list[str]:
        """What EHLO offers, a keyword with its parameters each."""
        raise NotImplementedError

    async def smtp_HELO(self, hostname: str | None) -> None:
        """HELO: no extensions, so no login."""
        await self.greet(hostname, extended=False)

    async def smtp_EHLO(self, hostname: str | None) -> None:
        """EHLO: our extensions."""
        await self.greet(hostname, extended=True)

    async def greet(self, hostname: str | None, *, extended: bool) -> None:
        """Begin anew, and answer with the keywords if `extended`. Raises Refused for nobody."""
        if not hostname:
            raise Refused(501, "5.5.4 host name missing")
        assert self.session is not None
        self.forget()
        self.session.host_name, self.session.extended_smtp = hostname, extended
        await self.say(250, "\n".join([HOSTNAME, *(await self.keywords() if extended else ())]))

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
