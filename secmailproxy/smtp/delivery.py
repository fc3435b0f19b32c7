"""Delivery of one or several copies of a message, all or, as far as SMTP allows, nothing.

Standards: RFC 5321 sections 4.1.1.4 (no partial failure at DATA) and 6.1 (responsibility).

Security: none of several copies is begun before all are at 354, so that what can be refused is refused before
anybody has received anything.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from keystore.model import Scheme
from secmailproxy.errors import SecMailProxyError, UpstreamLost
from secmailproxy.model import Envelope, Protection, Reply
from secmailproxy.smtp.replies import reply_for
from secmailproxy.smtp.smarthost import Credentials, Smarthost, Transaction

log = logging.getLogger(__name__)

_AT_ONCE = 4
"""Transactions begun, or copies sent, at the same time: many logins in one moment look like an attack, and a
copy is in memory twice while it is sent."""


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
    """Submit each copy in a transaction of its own, all begun together, the first (To and Cc) sent first.

    Returns the first refusal if there is one before anything was accepted, else the reply to the first copy;
    copies that fail after it are handed to `report`. Raises LoginRefused, UpstreamUnavailable,
    MalformedMessage or LimitExceeded, all while nothing has been accepted, as far as that is known.
    """
    for copy in copies:
        await smarthost.check(copy.octets)
    with ExitStack() as stack:
        begun = await _begin(smarthost, credentials, envelope, copies, stack)
        if isinstance(begun, Reply):
            return begun
        return await _send_all(envelope, list(zip(begun, copies, strict=True)), report)


async def _begin(
    smarthost: Smarthost,
    credentials: Credentials,
    envelope: Envelope,
    copies: Sequence[Copy],
    stack: ExitStack,
) -> list[Transaction] | Reply:
    """A transaction at 354 for each copy, which `stack` ends, or the first refusal. Raises as `deliver`."""
    options = dict(zip(envelope.rcpt_tos, envelope.rcpt_options, strict=False))
    slots, failed = asyncio.Semaphore(_AT_ONCE), asyncio.Event()

    async def to_data(copy: Copy) -> Transaction | Reply:
        transaction = await smarthost.start(credentials)
        stack.callback(transaction.end)
        await smarthost.check(copy.octets)  # again: now it is known what the smarthost takes
        rcpts = [(rcpt_to, options.get(rcpt_to, ())) for rcpt_to in copy.rcpt_tos]
        refusal = await transaction.open(envelope.mail_from, envelope.mail_options, rcpts)
        return transaction if refusal is None else refusal

    async def in_turn(copy: Copy) -> Transaction | Reply | Exception | None:
        async with slots:
            if failed.is_set():
                return None  # a copy before this one tells why
            try:
                outcome: Transaction | Reply | Exception = await to_data(copy)
            except Exception as error:  # noqa: BLE001  raised below, once the others have come to rest
                outcome = error
            if not isinstance(outcome, Transaction):
                failed.set()
            return outcome

    ready = []
    for outcome in await asyncio.gather(*map(in_turn, copies)):
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Reply):
            return outcome
        assert outcome is not None
        ready.append(outcome)
    return ready


async def _send_all(envelope: Envelope, ready: Sequence[tuple[Transaction, Copy]], report: Report) -> Reply:
    (first, copy), *others = ready
    accepted = await first.send(copy.octets)
    first.end()
    if not accepted.positive:
        return accepted
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def send(transaction: Transaction, copy: Copy) -> Failure | None:
        async with at_once:
            failure = await _failure_of(transaction, copy)
            transaction.end()
            return failure

    sent = await asyncio.gather(*(send(*one) for one in others))
    failures = [failure for failure in sent if failure is not None]
    if failures:
        await report(envelope, failures)
    return accepted


async def _failure_of(transaction: Transaction, copy: Copy) -> Failure | None:
    """What kept this copy from being accepted. Raises nothing: the client must hear of the first 250."""
    try:
        reply = await transaction.send(copy.octets)
    except Exception as error:  # noqa: BLE001  see above
        known = isinstance(error, SecMailProxyError) and not isinstance(error, UpstreamLost)
        return Failure(copy.rcpt_tos, reply_for(error, "none"), unknown=not known)
    return None if reply.positive else Failure(copy.rcpt_tos, reply)
