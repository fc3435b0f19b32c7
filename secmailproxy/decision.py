"""Gathers what the keystore knows of the addresses of a message, and has `policy` decide.

Synchronous; the caller chooses the thread. What the proxy does and what `secmailproxy policy test` shows come
from the same calls.

Security: nothing here looks at a header; keys are those of the envelope (SMTP-05).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from keystore.errors import KeyRefused, KeystoreError, StoreLocked
from keystore.keystore import Keystore
from keystore.model import Fingerprint, Holder, Identity, Selection
from secmailproxy import policy
from secmailproxy.enclosing import Sharing
from secmailproxy.errors import KeystoreLocked, NoUsableCertificate, SecMailProxyError, SigningKeyUnusable
from secmailproxy.policy import Plan, Protect, Rule, no_key, normal_address, rule_for


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """What the owner wants: rules, of which the first match wins, and the keys that go along."""

    rules: tuple[Rule, ...] = ()
    sharing: Mapping[str, Sharing] = field(default_factory=dict)
    """By account address, in lower case."""

    def sharing_of(self, *addresses: str) -> Sharing:
        """What the first of `addresses` that is an account wants to go along."""
        found = (self.sharing.get(one.lower()) for one in addresses)
        return next((one for one in found if one is not None), Sharing())


@contextmanager
def our_errors() -> Iterator[None]:
    """Errors of the keystore as the errors that the listeners know how to answer."""
    try:
        yield
    except StoreLocked as error:
        raise KeystoreLocked(str(error)) from None
    except KeyRefused as error:
        raise SigningKeyUnusable(str(error)) from None
    except KeystoreError as error:
        raise SecMailProxyError(str(error)) from None


@dataclass(frozen=True, slots=True)
class Decider:
    """Decides with the certificates and keys of one keystore."""

    keystore: Keystore

    def check_recipient(self, sender: str, rcpt_to: str, rules: Sequence[Rule], now: datetime) -> None:
        """Raises NoUsableCertificate, SigningKeyUnusable, KeystoreLocked where `rules` allow no other end."""
        rule = rule_for(sender, rcpt_to, rules)
        if rule.protect is Protect.NEVER:
            return
        selection = self._select(rcpt_to, rule, now)
        if refusal := policy.recipient_refusal(rcpt_to, rule, selection):
            raise NoUsableCertificate(refusal)
        identity, problem = self.identity(sender, now) if sender else (None, "")
        if problem:
            raise SigningKeyUnusable(problem)
        if identity and identity.certificate.holder is Holder.OWN and self.keystore.locked:
            raise KeystoreLocked(f"the key of <{sender}> is locked")

    def plan(
        self,
        sender: str,
        rcpt_tos: Sequence[str],
        named: frozenset[str],
        rules: Sequence[Rule],
        now: datetime,
    ) -> Plan:
        """What to do with a message; arguments and errors are those of `policy.plan_outbound`."""
        identity, problem = self.identity(sender, now) if sender else (None, "")
        selections = {
            rcpt_to: self._select(rcpt_to, rule_for(sender, rcpt_to, rules), now) for rcpt_to in rcpt_tos
        }
        try:
            return policy.plan_outbound(
                sender,
                rcpt_tos,
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
        selection = self.keystore.select(rcpt_to, now, rule.fingerprints)
        plain = normal_address(rcpt_to)
        if selection.certificates or plain == rcpt_to.lower():
            return selection
        other = self.keystore.select(plain, now, rule.fingerprints)
        return other if other.certificates else selection

    def identity(self, sender: str, now: datetime) -> tuple[Identity | None, str]:
        """The own key of `sender`; or None, and why an existing one cannot be used."""
        plain = normal_address(sender)
        identity = self.keystore.identity(sender, now) or self.keystore.identity(plain, now)
        if identity is not None:
            return identity, ""
        unusable = self.keystore.unusable_own(sender, now) or self.keystore.unusable_own(plain, now)
        if unusable is None:
            return None, ""
        fingerprint, usability = unusable
        return None, f"the own key {fingerprint} of <{sender}> cannot sign: {usability.explanation}"

    def own_key(self, address: str, now: datetime) -> Fingerprint:
        """The own key of `address`. Raises SigningKeyUnusable."""
        identity, problem = self.identity(address, now)
        if identity is None:
            raise SigningKeyUnusable(problem or no_key(address))
        return identity.certificate.fingerprint
