"""One outbound message: gather what is known of its addresses, decide, transform. The shell delivers.

Standards: RFC 5322 section 3.6.3 (Bcc), RFC 3156, RFC 9788, RFC 6409 section 8 (what a submission may add).
Security: keys are those of RCPT TO, never of header fields (SMTP-05). All cryptography for all copies is
done, and each product proven, before the first octet is returned. All errors are SecMailProxyError.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from keystore.keystore import Keystore
from keystore.model import Scheme
from secmailproxy import clientmade, wishes
from secmailproxy.addressees import named_addresses
from secmailproxy.crew import Crew, Outcome, outcome_of
from secmailproxy.decision import Decider, OutboundSettings, our_errors
from secmailproxy.enclosing import Recipients, enclosures
from secmailproxy.errors import KeystoreLocked
from secmailproxy.guarding import ReplyGuard
from secmailproxy.mime import header
from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.enclosures import NOTHING, Enclosures
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.protected import may_leave, without_inner_marks
from secmailproxy.mime.subjectmark import marked
from secmailproxy.model import Envelope, Protection
from secmailproxy.policy import Plan, Question
from secmailproxy.rules import normal_address
from secmailproxy.sealing import Sealer
from secmailproxy.sealing_smime import SmimeSealer
from secmailproxy.stamp import RANDOM_OCTETS, Stamp

if TYPE_CHECKING:
    from secmailproxy.finding import Finding, Patience

__all__ = ["Copy", "Outbound", "OutboundSettings"]

_MADE = {Made.SIGNED: Protection.SIGNED, Made.ENCRYPTED: Protection.ENCRYPTED}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Copy:
    """What one SMTP transaction carries: some of the recipients, and the message with CRLF line ends."""

    rcpt_tos: tuple[str, ...]
    octets: bytes
    protection: Protection = field(default=Protection.NONE, compare=False)
    """What was done to it, by us or by the mail client."""
    scheme: Scheme | None = field(default=None, compare=False)
    """By what; None where nothing was done."""


class Outbound:
    """Protects outgoing messages. Safe for use by several tasks at once."""

    def __init__(
        self,
        keystore: Keystore,
        settings: OutboundSettings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        crew: Crew | None = None,
        guard: ReplyGuard | None = None,
        finding: Finding | None = None,
    ) -> None:
        """`clock` gives aware times. `crew` may do what is much, by its own clock. `finding` may be None."""
        self._keystore = keystore
        self._settings = settings
        self._clock = clock
        self._crew = crew
        self._guard = guard
        self._finding = finding
        self._sealer = Sealer(keystore)
        self._smime = SmimeSealer(keystore)

    def replace_settings(self, settings: OutboundSettings) -> None:
        """Use other rules from the next call on."""
        self._settings = settings

    def replace_finding(self, finding: Finding | None) -> None:
        """Look for certificates in another way from the next call on, or not at all."""
        self._finding = finding

    async def check_recipient(
        self, sender: str, rcpt_to: str, *, account: str = "", patience: Patience | None = None
    ) -> None:
        """Refuses a recipient before the message is seen, where the rules allow no other end (SMTP-06).

        `account` is the address of the login, "" without one. With the `patience` of a submission, its
        certificate is looked for where there is none.
        Raises NoUsableCertificate naming the key's state, SigningKeyUnusable, KeystoreLocked, StillLooking.
        """
        if self._finding is not None and patience is not None:
            with our_errors():
                await self._finding.recipient(self._decider(), sender, rcpt_to, account, patience)
        # Answered from memory but for the first time: another thread would cost more than the answer.
        self._check_recipient(sender, rcpt_to, account)

    async def protect(
        self,
        envelope: Envelope,
        message: bytes,
        *,
        sender: str = "",
        account: str = "",
        named: frozenset[str] | None = None,
        patience: Patience | None = None,
    ) -> tuple[Copy, ...]:
        """The copies to send, the one for named recipients first, one for each blind recipient after it.

        `message` has LF or CRLF. `sender` is the address whose key and rules count (default: the envelope's);
        never one out of the header, which anybody can write. `named` replaces the addresses that the header's
        To and Cc name. `account` is the address of the login, "" without one. The wishes of the message are
        obeyed: only what the owner has written must come here. `patience` as for `check_recipient`.
        Raises NoUsableCertificate, SigningKeyUnusable, NotAllowed, KeystoreLocked, MalformedMessage,
        StillLooking.
        """
        sender, settings = sender or envelope.mail_from, self._settings
        if self._finding is not None and patience is not None:
            await self._finding.message(envelope.rcpt_tos, patience)
        copies = await self._run(len(message), self._protect, envelope, message, sender, account, named)
        if self._guard is not None:
            product, protection = copies[0].octets, copies[0].protection
            await self._guard.check(message, product, protection, account=account, settings=settings)
        return copies

    async def protect_to_self(self, address: str, message: bytes, *, sign: bool) -> bytes:
        """A draft or sent mail, encrypted to its owner alone (IMAP-16, IMAP-17).

        The message (LF or CRLF) is inside as it is; one that is encrypted already comes back unchanged. With
        S/MIME it is not signed.
        Raises SigningKeyUnusable without an own key for `address`, KeystoreLocked.
        """
        return await self._run(len(message), self._protect_to_self, address, message, sign)

    async def protect_at_rest(self, address: str, message: bytes) -> bytes:
        """A message of a mailbox, as the server holds it, encrypted to the owner of the mailbox alone.

        Its octets come back exactly (`mime.kept.original`). Raises SigningKeyUnusable without an own key for
        `address`, KeystoreLocked, MalformedMessage (LimitExceeded) for what cannot be kept so.
        """
        return await self._run(len(message), self._protect_at_rest, address, message)

    async def _run(self, octets: int, work: Callable[..., T], *args: object) -> T:
        """Do `work`, a method of this object, about a message of so many octets."""
        if self._crew is None:
            return await asyncio.to_thread(self.steadily, work.__name__, args)
        task = Work(self._settings, work.__name__, args)
        return await self._crew.run(task, lambda: self.steadily(work.__name__, args), octets)

    def steadily(self, method: str, args: Sequence[object]) -> Any:
        """Call one of the methods below, for which the keystore does not change."""
        with our_errors(), self._keystore.steady():
            return getattr(self, method)(*args)

    def _decider(self) -> Decider:
        """For one message: settings may be replaced meanwhile, and time goes on."""
        return Decider(self._keystore, self._settings, self._clock())

    @our_errors()
    def _check_recipient(self, sender: str, rcpt_to: str, account: str) -> None:
        with self._keystore.steady():
            if self._decider().check_recipient(sender, rcpt_to, account) and self._keystore.locked:
                raise KeystoreLocked(f"the key of <{sender}> is locked")

    def _protect(
        self, envelope: Envelope, message: bytes, sender: str, account: str, named: frozenset[str] | None
    ) -> tuple[Copy, ...]:
        decider, root = self._decider(), parse(crlf(message))
        words = decider.settings.words
        named = named_addresses(root) if named is None else named
        question = Question(sender, envelope.rcpt_tos, named, account, wishes.read(root, words))
        already = made(root)
        if already is not Made.NOTHING:
            clientmade.refuse(already, root, question, decider)
            return (Copy(envelope.rcpt_tos, _leaving(root), _MADE[already], clientmade.made_by(root)),)
        root = without_inner_marks(wishes.without_words(root, words))
        for mark in decider.settings.marks:
            root = parse(marked(root.octets[root.start : root.end], mark, deserved=False))
        plan = decider.decide(question).plan
        if plan.protection is Protection.NONE:
            return (Copy(envelope.rcpt_tos, _leaving(root)),)
        enclosed = self._enclosed(plan, root, question, decider)
        return self._carry_out(plan, root, enclosed, _stamp(decider.now, sender))

    def _enclosed(self, plan: Plan, root: Entity, question: Question, decider: Decider) -> Enclosures:
        """The certificates that go along, as the account has it or the client wishes."""
        if plan.scheme is Scheme.SMIME:
            return NOTHING  # S/MIME sends its certificates along with each signature
        assert plan.signer is not None  # every protection that policy plans is signed
        sharing = decider.settings.sharing_of(question.account, question.sender)
        if plan.attach_key is not None:
            sharing = replace(sharing, attach_key=plan.attach_key)
        readers = _readers(plan, question.named)
        own = plan.signer_address  # an alias may use the key of its account
        return enclosures(self._keystore, root, own, plan.signer, sharing, decider.now, readers)

    def _carry_out(self, plan: Plan, root: Entity, enclosed: Enclosures, stamp: Stamp) -> tuple[Copy, ...]:
        assert plan.signer is not None  # every protection that policy plans is signed
        sealer = self._smime if plan.scheme is Scheme.SMIME else self._sealer
        if plan.protection is Protection.SIGNED:
            octets = sealer.signed(root, plan.signer, stamp, enclosed)
            return _as_planned(plan, [octets] * len(plan.copies))
        sealed = sealer.encrypted(
            root,
            [copy.fingerprints for copy in plan.copies],
            plan.signer,
            stamp,
            hidden=plan.hide_subject,
            enclosures=enclosed,
        )
        return _as_planned(plan, sealed)

    def _protect_to_self(self, address: str, message: bytes, sign: bool) -> bytes:
        now = self._clock()
        root = parse(crlf(message))
        if made(root) is Made.ENCRYPTED:
            return message
        own, stamp = self._decider().own_key(address), _stamp(now, address)
        if own.scheme is Scheme.SMIME:
            # A signature would be a layer of MIME, and what comes back no longer what was stored.
            return self._smime.own_copy(root, own.fingerprint, stamp)
        return self._sealer.own_copy(root, own.fingerprint, own.fingerprint if sign else None, stamp)

    def _protect_at_rest(self, address: str, message: bytes) -> bytes:
        now = self._clock()
        own = self._decider().own_key(address)
        sealer = self._smime if own.scheme is Scheme.SMIME else self._sealer
        return sealer.at_rest(parse(message), own.fingerprint, _stamp(now, address))


@dataclass(frozen=True, slots=True)
class Work:
    """A call of one of the methods above, as a task for another process."""

    settings: OutboundSettings
    method: str
    args: tuple[object, ...]

    def carry_out(self, keystore: Keystore) -> Outcome[object] | None:
        """What the method returns or raises; None where GnuPG or a token could have to ask."""
        if keystore.holders.relies_on_gnupg or keystore.holders.relies_on_token:
            return None
        outbound = Outbound(keystore, self.settings)
        return outcome_of(lambda: outbound.steadily(self.method, self.args))


def _as_planned(plan: Plan, products: Sequence[bytes]) -> tuple[Copy, ...]:
    return tuple(
        Copy(copy.rcpt_tos, octets, plan.protection, plan.scheme)
        for copy, octets in zip(plan.copies, products, strict=True)
    )


def _readers(plan: Plan, named: frozenset[str]) -> Recipients:
    """Those who know of each other: the recipients whose one encrypted copy names them all."""
    first = plan.copies[0]
    if plan.protection is Protection.SIGNED or not named.issuperset(map(normal_address, first.rcpt_tos)):
        return Recipients()
    return Recipients(first.rcpt_tos, first.fingerprints)


def _leaving(root: Entity) -> bytes:
    """The message as it is, without the fields that must not leave."""
    return header.filter_fields(root.octets, lambda field: may_leave(field.name.lower()))


def _stamp(now: datetime, sender: str) -> Stamp:
    domain = normal_address(sender).rpartition("@")[2]
    return Stamp.fresh(now, domain, secrets.token_bytes(RANDOM_OCTETS))
