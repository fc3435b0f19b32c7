"""The next hop of a queued message: a submission server, the sendmail program, or an SMTP server at hand.

Each says for every recipient what became of the message. What it raises says that it could not be asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from secmailproxy.accounts import Credentials
from secmailproxy.errors import MalformedMessage, UpstreamLost, UpstreamUnavailable
from secmailproxy.forward import relay
from secmailproxy.forward.attempts import Fate, Outcome
from secmailproxy.forward.handover import Unanswered, by_sendmail
from secmailproxy.forward.model import Product
from secmailproxy.forward.relay import fate
from secmailproxy.model import Reply
from secmailproxy.smtp.replies import clean
from secmailproxy.smtp.smarthost import Smarthost, Transaction

Begun = Callable[[], Awaitable[None]]
"""To be awaited before the first octet of the message leaves; raises OSError when it must not."""


class Hop(Protocol):
    """Where a queued message goes."""

    async def send(self, product: Product, rcpt_tos: Sequence[str], begun: Begun) -> Mapping[str, Fate]:
        """One try for these of its recipients; the fate of each.

        Raises SecMailProxyError or KeystoreError when the next hop could not be asked.
        """


@dataclass(frozen=True, slots=True)
class SmarthostHop:
    """The submission server of an account; its connections serve many messages."""

    smarthost: Smarthost
    credentials: Callable[[], Credentials]
    """Blocks. Raises ConfigError, KeystoreError."""

    async def send(self, product: Product, rcpt_tos: Sequence[str], begun: Begun) -> Mapping[str, Fate]:
        """As `Hop.send`."""
        credentials = await asyncio.to_thread(self.credentials)
        async with self.smarthost.begin(credentials) as transaction:
            try:
                await self.smarthost.check(product.octets)
            except MalformedMessage as error:
                text = f"{error.enhanced_status} {clean(error.text)}"
                return dict.fromkeys(rcpt_tos, Fate(Outcome.REFUSED, error.smtp_code, text))
            fates = await _opened(transaction, product, rcpt_tos)
            accepted = [to for to, one in fates.items() if one.outcome is Outcome.ACCEPTED]
            if accepted:
                await begun()
                fates |= dict.fromkeys(accepted, await _sent(transaction, product))
            return fates


async def _opened(transaction: Transaction, product: Product, rcpt_tos: Sequence[str]) -> dict[str, Fate]:
    """Up to 354; without anybody accepted, no message is expected."""
    envelope = product.envelope
    options = dict(zip(envelope.rcpt_tos, envelope.rcpt_options, strict=False))
    if len(rcpt_tos) == 1:
        rcpts = [(rcpt_tos[0], options.get(rcpt_tos[0], ()))]
        refusal = await transaction.open(envelope.mail_from, envelope.mail_options, rcpts)
        return {rcpt_tos[0]: _fate(refusal) if refusal else Fate(Outcome.ACCEPTED)}
    begun = _fate(await transaction.mail(envelope.mail_from, envelope.mail_options))
    if begun.outcome is not Outcome.ACCEPTED:
        return dict.fromkeys(rcpt_tos, begun)
    fates = {to: _fate(await transaction.rcpt(to, options.get(to, ()))) for to in rcpt_tos}
    accepted = [to for to, one in fates.items() if one.outcome is Outcome.ACCEPTED]
    if accepted and not (reply := await transaction.data()).positive:
        fates |= dict.fromkeys(accepted, _fate(reply))
    return fates


async def _sent(transaction: Transaction, product: Product) -> Fate:
    try:
        return _fate(await transaction.send(product.octets))
    except UpstreamLost as error:
        return Fate(Outcome.UNKNOWN, 0, error.text)


def _fate(reply: Reply) -> Fate:
    return fate(reply.code, clean(reply.text))


@dataclass(frozen=True, slots=True)
class SendmailHop:
    """The sendmail program of this machine."""

    program: Path

    async def send(self, product: Product, rcpt_tos: Sequence[str], begun: Begun) -> Mapping[str, Fate]:
        """As `Hop.send`."""
        await begun()
        try:
            mail_from = product.envelope.mail_from
            await asyncio.to_thread(by_sendmail, self.program, mail_from, rcpt_tos, product.octets)
        except Unanswered as error:
            return dict.fromkeys(rcpt_tos, Fate(Outcome.UNKNOWN, 0, error.text))
        except UpstreamUnavailable as error:
            # An MTA that does not like the message returns it; a program that fails may work tomorrow.
            return dict.fromkeys(rcpt_tos, Fate(Outcome.DEFERRED, 0, error.text))
        return dict.fromkeys(rcpt_tos, Fate(Outcome.ACCEPTED))


@dataclass(frozen=True, slots=True)
class RelayHop:
    """An SMTP server on this machine."""

    relay: str

    async def send(self, product: Product, rcpt_tos: Sequence[str], begun: Begun) -> Mapping[str, Fate]:
        """As `Hop.send`."""
        loop = asyncio.get_running_loop()

        async def waited() -> None:
            await begun()

        def from_thread() -> None:
            asyncio.run_coroutine_threadsafe(waited(), loop).result()

        return await asyncio.to_thread(relay.send, self.relay, product, rcpt_tos, from_thread)
