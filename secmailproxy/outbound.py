"""One outbound message: gather what is known of its addresses, decide, transform. The shell delivers.

Standards: RFC 5322 section 3.6.3 (Bcc), RFC 3156, RFC 9788, RFC 6409 section 8 (what a submission may add).
Security: keys are those of RCPT TO, never of header fields (SMTP-05). All cryptography for all copies is
done, and each product proven, before the first octet is returned. All errors are SecMailProxyError.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from keystore.errors import KeyRefused, KeystoreError, NotReadable, StoreLocked
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Holder, Identity, Purpose, Selection
from secmailproxy import policy
from secmailproxy.errors import (
    KeystoreLocked,
    NotAllowed,
    NoUsableCertificate,
    SecMailProxyError,
    SigningKeyUnusable,
)
from secmailproxy.mime import header
from secmailproxy.mime.address import address_list
from secmailproxy.mime.assemble import Made, made, openpgp_ciphertext
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.protected import may_leave, without_inner_marks
from secmailproxy.mime.system import LOOP_FIELD, SystemHeader, system_message
from secmailproxy.model import Envelope, Protection
from secmailproxy.policy import Plan, Protect, Rule, no_key, normal_address, rule_for
from secmailproxy.sealing import Sealer, Stamp

_NAMING_FIELDS = ("To", "Cc", "Resent-To", "Resent-Cc")


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """The owner's rules, first match wins."""

    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Copy:
    """What one SMTP transaction carries: some of the recipients, and the message with CRLF line ends."""

    rcpt_tos: tuple[str, ...]
    octets: bytes


@contextmanager
def _our_errors() -> Iterator[None]:
    """Errors of the keystore as the errors that the listeners know how to answer."""
    try:
        yield
    except StoreLocked as error:
        raise KeystoreLocked(str(error)) from None
    except KeyRefused as error:
        raise SigningKeyUnusable(str(error)) from None
    except KeystoreError as error:
        raise SecMailProxyError(str(error)) from None


class Outbound:
    """Protects outgoing messages. Safe for use by several tasks at once."""

    def __init__(
        self,
        keystore: Keystore,
        settings: OutboundSettings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`clock` gives aware times."""
        self._keystore = keystore
        self._rules = settings.rules
        self._clock = clock
        self._sealer = Sealer(keystore)

    def replace_settings(self, settings: OutboundSettings) -> None:
        """Use other rules from the next call on."""
        self._rules = settings.rules

    async def check_recipient(self, sender: str, rcpt_to: str) -> None:
        """Refuses a recipient before the message is seen, where the rules allow no other end (SMTP-06).

        Raises NoUsableCertificate naming the key's state, SigningKeyUnusable, KeystoreLocked.
        """
        await asyncio.to_thread(self._check_recipient, sender, rcpt_to)

    async def protect(
        self, envelope: Envelope, message: bytes, *, sender: str = "", named: frozenset[str] | None = None
    ) -> tuple[Copy, ...]:
        """The copies to send, the one for named recipients first, one for each blind recipient after it.

        `message` has LF or CRLF. `sender` is the address whose key and rules count (default: the envelope's);
        never one out of the header, which anybody can write. `named` replaces the addresses that the header's
        To and Cc name.
        Raises NoUsableCertificate, SigningKeyUnusable, NotAllowed, KeystoreLocked, MalformedMessage.
        """
        sender = sender or envelope.mail_from
        return await asyncio.to_thread(self._protect, envelope, message, sender, named)

    async def protect_to_self(self, address: str, message: bytes, *, sign: bool) -> bytes:
        """A draft or sent mail, encrypted to its owner alone (IMAP-16, IMAP-17).

        The message (LF or CRLF) is inside as it is; one that is encrypted already comes back unchanged.
        Raises SigningKeyUnusable without an own key for `address`, KeystoreLocked.
        """
        return await asyncio.to_thread(self._protect_to_self, address, message, sign)

    async def protect_at_rest(self, address: str, message: bytes) -> bytes:
        """A message of a mailbox, as the server holds it, encrypted to the owner of the mailbox alone.

        Its octets come back exactly (`mime.kept.original`). Raises SigningKeyUnusable without an own key for
        `address`, KeystoreLocked, MalformedMessage (LimitExceeded) for what cannot be kept so.
        """
        return await asyncio.to_thread(self._protect_at_rest, address, message)

    async def protect_system(
        self,
        message: bytes,
        rcpt_to: str,
        fingerprint: Fingerprint,
        mail_from: str,
        *,
        author: str = "",
        loop: str = "",
    ) -> bytes:
        """A message of this machine, whole inside a new one (FWD-02, FWD-08); encrypted, not signed.

        `author` stands in From (default: `mail_from`, then `rcpt_to`); `loop` marks this host. A message that
        is encrypted already only gets the mark. Raises NoUsableCertificate, MalformedMessage.
        """
        head = SystemHeader(author or mail_from or rcpt_to, rcpt_to, loop)
        return await asyncio.to_thread(self._protect_system, message, fingerprint, head)

    @_our_errors()
    def _check_recipient(self, sender: str, rcpt_to: str) -> None:
        now = self._clock()
        rule = rule_for(sender, rcpt_to, self._rules)
        if rule.protect is Protect.NEVER:
            return
        selection = self._select(rcpt_to, rule, now)
        if refusal := policy.recipient_refusal(rcpt_to, rule, selection):
            raise NoUsableCertificate(refusal)
        identity, problem = self._identity(sender, now) if sender else (None, "")
        if problem:
            raise SigningKeyUnusable(problem)
        if identity and identity.certificate.holder is Holder.OWN and self._keystore.locked:
            raise KeystoreLocked(f"the key of <{sender}> is locked")

    @_our_errors()
    def _protect(
        self, envelope: Envelope, message: bytes, sender: str, named: frozenset[str] | None
    ) -> tuple[Copy, ...]:
        now = self._clock()
        root = parse(crlf(message))
        already = made(root)
        if already is not Made.NOTHING:
            self._refuse_made(already, root, sender, envelope.rcpt_tos, now)
            return (Copy(envelope.rcpt_tos, _leaving(root)),)
        root = without_inner_marks(root)
        plan = self._plan(sender, envelope, _named(root) if named is None else named, now)
        if plan.protection is Protection.NONE:
            return (Copy(envelope.rcpt_tos, _leaving(root)),)
        return self._carry_out(plan, root, _stamp(now, sender))

    def _plan(self, sender: str, envelope: Envelope, named: frozenset[str], now: datetime) -> Plan:
        identity, problem = self._identity(sender, now) if sender else (None, "")
        rules = self._rules  # once: they may be replaced meanwhile
        selections = {
            rcpt_to: self._select(rcpt_to, rule_for(sender, rcpt_to, rules), now)
            for rcpt_to in envelope.rcpt_tos
        }
        try:
            return policy.plan_outbound(
                sender,
                envelope.rcpt_tos,
                named,
                identity,
                selections,
                rules,
                identity_problem=problem,
            )
        except NoUsableCertificate as error:
            error.smtp_code = 554  # 550 answers RCPT; this answers the whole message
            raise

    def _select(self, rcpt_to: str, rule: Rule, now: datetime) -> Selection:
        """The certificates for `rcpt_to` as written, else for the plain spelling of the same address."""
        selection = self._keystore.select(rcpt_to, now, rule.fingerprints)
        plain = normal_address(rcpt_to)
        if selection.certificates or plain == rcpt_to.lower():
            return selection
        other = self._keystore.select(plain, now, rule.fingerprints)
        return other if other.certificates else selection

    def _carry_out(self, plan: Plan, root: Entity, stamp: Stamp) -> tuple[Copy, ...]:
        assert plan.signer is not None  # every protection that policy plans is signed
        if plan.protection is Protection.SIGNED:
            octets = self._sealer.signed(root, plan.signer, stamp)
            return tuple(Copy(copy.rcpt_tos, octets) for copy in plan.copies)
        sealed = self._sealer.encrypted(
            root,
            [copy.fingerprints for copy in plan.copies],
            plan.signer,
            stamp,
            hidden=plan.hide_subject,
        )
        return tuple(Copy(copy.rcpt_tos, octets) for copy, octets in zip(plan.copies, sealed, strict=True))

    def _identity(self, sender: str, now: datetime) -> tuple[Identity | None, str]:
        """The own key of `sender`; or None, and why an existing one cannot be used."""
        plain = normal_address(sender)
        identity = self._keystore.identity(sender, now) or self._keystore.identity(plain, now)
        if identity is not None:
            return identity, ""
        unusable = self._keystore.unusable_own(sender, now) or self._keystore.unusable_own(plain, now)
        if unusable is None:
            return None, ""
        fingerprint, usability = unusable
        return None, f"the own key {fingerprint} of <{sender}> cannot sign: {usability.explanation}"

    def _refuse_made(
        self, already: Made, root: Entity, sender: str, rcpt_tos: tuple[str, ...], now: datetime
    ) -> None:
        """Raises NotAllowed when a message that the client has protected itself must not go as it is."""
        if already is Made.SIGNED:
            for rcpt_to in rcpt_tos:
                if rule_for(sender, rcpt_to, self._rules).protect is Protect.REQUIRE:
                    raise NotAllowed(
                        f"a rule requires encryption to <{rcpt_to}>, and the mail client has only signed the "
                        "message: let the client encrypt it, or leave signing to the proxy"
                    )
        elif self._only_to_self(root, rcpt_tos, now):
            raise NotAllowed(
                "the message is encrypted only to the sender's own key (a draft?); "
                "its recipients could not read it"
            )

    def _only_to_self(self, root: Entity, rcpt_tos: tuple[str, ...], now: datetime) -> bool:
        """Whether nobody but the owner of this keystore can read what goes to others too (SMTP-16)."""
        ciphertext = openpgp_ciphertext(root)
        others = [one for one in rcpt_tos if not self._keystore.own(one)]
        if ciphertext is None or not others:
            return False
        try:
            opened = self._keystore.decrypt(ciphertext, now)
        except NotReadable:
            return False
        known = [self._keystore.certificates(key_id) for key_id in opened.recipients]
        return all(
            certificates and all(one.holder is not Holder.NONE for one in certificates)
            for certificates in known
        )

    @_our_errors()
    def _protect_to_self(self, address: str, message: bytes, sign: bool) -> bytes:
        now = self._clock()
        root = parse(crlf(message))
        if made(root) is Made.ENCRYPTED:
            return message
        own = self._own_key(address, now)
        return self._sealer.own_copy(root, own, own if sign else None, _stamp(now, address))

    @_our_errors()
    def _protect_at_rest(self, address: str, message: bytes) -> bytes:
        now = self._clock()
        return self._sealer.at_rest(parse(message), self._own_key(address, now), _stamp(now, address))

    def _own_key(self, address: str, now: datetime) -> Fingerprint:
        identity, problem = self._identity(address, now)
        if identity is None:
            raise SigningKeyUnusable(problem or no_key(address))
        return identity.certificate.fingerprint

    @_our_errors()
    def _protect_system(self, message: bytes, fingerprint: Fingerprint, head: SystemHeader) -> bytes:
        now = self._clock()
        octets = crlf(message)
        if made(parse(octets)) is Made.ENCRYPTED:
            return b"%s: %s\r\n" % (LOOP_FIELD.encode(), head.loop.encode()) + octets
        usability = self._keystore.usability(fingerprint, Purpose.ENCRYPT, now)
        if not usability.usable:
            raise NoUsableCertificate(
                f"no encryption key for <{head.rcpt_to}> (certificate {fingerprint}: {usability.explanation})"
            )
        stamp = _stamp(now, head.author)
        ready = system_message(octets, head, date=stamp.date, message_id=stamp.message_id)
        return self._sealer.sealed_for_another(ready, fingerprint, stamp)


def _addresses(root: Entity, *names: str) -> list[str]:
    """The addresses in the fields `names`; UTF-8 in them is read as such (RFC 6532)."""
    return [
        one.addr_spec.encode("latin-1").decode("utf-8", "replace")
        for name in names
        for value in header.values(root, name)
        for one in address_list(value)
        if one.is_mailbox
    ]


def _named(root: Entity) -> frozenset[str]:
    """The addresses that every reader of the message sees."""
    return frozenset(map(normal_address, _addresses(root, *_NAMING_FIELDS)))


def _leaving(root: Entity) -> bytes:
    """The message as it is, without the fields that must not leave."""
    return header.filter_fields(root.octets, lambda field: may_leave(field.name.lower()))


def _stamp(now: datetime, sender: str) -> Stamp:
    domain = normal_address(sender).rpartition("@")[2]
    return Stamp(
        now=now,
        boundary=f"=-{secrets.token_hex(20)}",
        message_id=f"<{uuid.uuid4()}@{domain if domain.isascii() and domain else 'localhost.invalid'}>",
    )
