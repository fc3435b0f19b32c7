"""Delivery of one or several copies of a message, all or, as far as SMTP allows, nothing.

Standards: RFC 5321 sections 4.1.1.4 (no partial failure at DATA) and 6.1 (responsibility).

Security: none of several copies is begun before all are at 354, so that what can be refused is refused before
anybody has received anything.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol

from keystore.model import Scheme
from secmailproxy.errors import SecMailProxyError, UpstreamLost
from secmailproxy.model import Envelope, Protection, Reply
from secmailproxy.smtp.replies import reply_for
from secmailproxy.smtp.smarthost import Credentials, Smarthost, Transaction

log = logging.getLogger(__name__)


class Copy(Protocol):
    """What `deliver` sends in one transaction; `secmailproxy.outbound.Copy` is one."""

    @property
    def rcpt_tos(self) -> tuple[str, ...]:
        """Recipients, a part of the envelope's."""

    @property
    def octets(self) -> bytes:
        """The message with CRLF line endings."""

    @property
    def protection(self) -> Protection:
        """What was done to it."""

    @property
    def scheme(self) -> Scheme | None:
        """By what; None where nothing was done."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A copy that was not accepted, or whose fate is unknown, after another one was accepted."""

    rcpt_tos: tuple[str, ...]
    reply: Reply
    unknown: bool = False
    """The connection was lost after the message had been sent, at least in part: it may have arrived."""


Report = Callable[[Envelope, Sequence[Failure]], Awaitable[None]]
"""Tells the sender which recipients did not get the message; must not raise."""


async def log_failures(envelope: Envelope, failures: Sequence[Failure]) -> None:
    """The report of last resort: one warning, without addresses."""
    log.warning(
        "partly delivered",
        extra={
            "recipients": len(envelope.rcpt_tos),
            "failed": sum(len(failure.rcpt_tos) for failure in failures),
            "replies": ",".join(str(failure.reply.code) for failure in failures),
        },
    )


async def deliver(
    smarthost: Smarthost,
    credentials: Credentials,
    envelope: Envelope,
    copies: Sequence[Copy],
    report: Report = log_failures,
) -> Reply:
    """Submit each copy in a transaction of its own, the first (To and Cc) before the others.

    Returns the first refusal if there is one before anything was accepted, else the reply to the first copy;
    copies that fail after it are handed to `report`. Raises LoginRefused, UpstreamUnavailable,
    MalformedMessage or LimitExceeded, all while nothing has been accepted, as far as that is known.
    """
    for copy in copies:
        smarthost.check(copy.octets)
    async with AsyncExitStack() as stack:
        ready: list[tuple[Transaction, Copy]] = []
        for copy in copies:
            transaction = await stack.enter_async_context(smarthost.begin(credentials))
            smarthost.check(copy.octets)
            refusal = await _to_data(transaction, envelope, copy)
            if refusal is not None:
                return refusal
            ready.append((transaction, copy))
        return await _send_all(envelope, ready, report)


async def _to_data(transaction: Transaction, envelope: Envelope, copy: Copy) -> Reply | None:
    """MAIL, RCPT, DATA; the first refusal, or None at 354."""
    options = dict(zip(envelope.rcpt_tos, envelope.rcpt_options, strict=False))
    reply = await transaction.mail(envelope.mail_from, envelope.mail_options)
    for rcpt_to in copy.rcpt_tos:
        if reply.positive:
            reply = await transaction.rcpt(rcpt_to, options.get(rcpt_to, ()))
    if reply.positive:
        reply = await transaction.data()
    return None if reply.code == 354 else reply


async def _send_all(envelope: Envelope, ready: Sequence[tuple[Transaction, Copy]], report: Report) -> Reply:
    (first, copy), *others = ready
    accepted = await first.send(copy.octets)
    first.end()
    if not accepted.positive:
        return accepted
    failures = []
    for transaction, copy in others:
        failure = await _failure_of(transaction, copy)
        transaction.end()
        if failure is not None:
            failures.append(failure)
    if failures:
        await report(envelope, failures)
    return accepted


async def _failure_of(transaction: Transaction, copy: Copy) -> Failure | None:
    try:
        reply = await transaction.send(copy.octets)
    except SecMailProxyError as error:
        return Failure(copy.rcpt_tos, reply_for(error, ""), isinstance(error, UpstreamLost))
    return None if reply.positive else Failure(copy.rcpt_tos, reply)
