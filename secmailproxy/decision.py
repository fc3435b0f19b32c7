"""Gathers what the keystore knows of the addresses of a message, and has `policy` decide.

Synchronous; the caller chooses the thread. What the proxy does and what `secmailproxy policy test` shows come
from the same calls.

Security: nothing here looks at a header; keys are those of the envelope (SMTP-05).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from keystore.errors import KeyRefused, KeystoreError, StoreLocked
from keystore.keystore import Keystore
from keystore.model import Certificate, Holder, Identity, Reason, Scheme, Selection
from keystore.selection import how_to_serve_again
from secmailproxy import policy
from secmailproxy.enclosing import Sharing
from secmailproxy.errors import KeystoreLocked, NoUsableCertificate, SecMailProxyError, SigningKeyUnusable
from secmailproxy.policy import Facts, Plan, Question, no_key, schemes_of
from secmailproxy.rules import Chosen, Protect, Rule, choose, normal_address
from secmailproxy.wishes import SubjectWord


@dataclass(frozen=True, slots=True)
class OutboundSettings:
    """What the owner has decided about mail that leaves."""

    rules: tuple[Rule, ...] = ()
    """First match wins."""
    sharing: Mapping[str, Sharing] = field(default_factory=dict)
    """The keys that go along, by account address in lower case."""
    words: tuple[SubjectWord, ...] = ()
    marks: tuple[str, ...] = ()
    """Secret words that are put before the Subject of presented mail, and never leave."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Alias as `normal_address` gives it -> address of the account whose key it uses where it has none."""
    unguarded: frozenset[str] = frozenset()
    """Addresses of the accounts without the reply guard, in lower case."""

    def sharing_of(self, *addresses: str) -> Sharing:
        """What the first of `addresses` that is an account wants to go along."""
        found = (self.sharing.get(one.lower()) for one in addresses)
        return next((one for one in found if one is not None), Sharing())


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, and everything that it was decided by."""

    question: Question
    chosen: Mapping[str, Chosen]
    facts: Mapping[Scheme, Facts]
    """Of the schemes that came into question."""
    outcome: Plan | SecMailProxyError

    @property
    def plan(self) -> Plan:
        """The plan. Raises the refusal where there is none."""
        if isinstance(self.outcome, SecMailProxyError):
            raise self.outcome
        return self.outcome


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
    """Decides with the certificates and keys of one keystore, at one time, by one set of rules."""

    keystore: Keystore
    settings: OutboundSettings
    now: datetime

    def check_recipient(self, sender: str, rcpt_to: str, account: str = "") -> bool:
        """Whether the message will need a secret key of this keystore's own.

        Raises NoUsableCertificate or SigningKeyUnusable where the rules allow no other end (SMTP-06).
        """
        rule = choose(sender, rcpt_to, self.settings.rules, account).rule
        if rule.protect is Protect.NEVER:
            return False
        selections = {scheme: self.select(rcpt_to, rule, scheme) for scheme in schemes_of([rule])}
        if refusal := policy.recipient_refusal(rcpt_to, rule, selections):
            raise NoUsableCertificate(refusal)
        identities = [self.identity(sender, scheme) for scheme in selections] if sender else []
        usable = [identity for identity, _ in identities if identity is not None]
        problems = [problem for _, problem in identities if problem]
        if problems and not usable:
            raise SigningKeyUnusable(problems[0])
        return any(identity.certificate.holder is Holder.OWN for identity in usable)

    def decide(self, question: Question) -> Decision:
        """What to do with a message; a refusal is an outcome too."""
        chosen = {
            rcpt_to: choose(question.sender, rcpt_to, self.settings.rules, question.account)
            for rcpt_to in question.rcpt_tos
        }
        facts: dict[Scheme, Facts] = {}

        def ask(scheme: Scheme) -> Facts:
            if scheme not in facts:
                facts[scheme] = self._facts(question, chosen, scheme)
            return facts[scheme]

        outcome: Plan | SecMailProxyError
        try:
            outcome = policy.plan_outbound(question, chosen, ask)
        except SecMailProxyError as error:
            if isinstance(error, NoUsableCertificate):
                error.smtp_code = 554  # 550 answers RCPT; this answers the whole message
            outcome = error
        return Decision(question, chosen, facts, outcome)

    def identity(self, sender: str, scheme: Scheme = Scheme.OPENPGP) -> tuple[Identity | None, str]:
        """The key of `sender`, for an alias without one that of its account.

        None with the reason why an existing one cannot be used; "" where there is none at all.
        """
        identity, problem = self._own(sender, scheme)
        account = self.settings.aliases.get(normal_address(sender))
        return (identity, problem) if identity or problem or not account else self._own(account, scheme)

    def own_key(self, address: str) -> Certificate:
        """The own certificate of `address` that own copies are encrypted to. Raises SigningKeyUnusable.

        That of OpenPGP, else that of S/MIME. An OpenPGP key that cannot be used is told of, not passed over.
        """
        identity, problem = self.identity(address)
        if identity is None and not problem:
            identity, problem = self.identity(address, Scheme.SMIME)
        if identity is None:
            raise SigningKeyUnusable(problem or no_key(address))
        return identity.certificate

    def is_own(self, address: str) -> bool:
        """Whether mail to `address` is read by the owner of the keystore."""
        return bool(self.keystore.own(address)) or normal_address(address) in self.settings.aliases

    def _facts(self, question: Question, chosen: Mapping[str, Chosen], scheme: Scheme) -> Facts:
        sender, account = question.sender, question.account
        identity, problem = self.identity(sender, scheme) if sender else (None, "")
        return Facts(
            identity,
            {rcpt_to: self.select(rcpt_to, one.rule, scheme) for rcpt_to, one in chosen.items()},
            problem,
            account_has_key=bool(identity is None and account and self._own(account, scheme)[0]),
        )

    def _own(self, address: str, scheme: Scheme) -> tuple[Identity | None, str]:
        keystore, spellings = self.keystore, dict.fromkeys((address, normal_address(address)))
        for spelling in spellings:
            if identity := keystore.identity(spelling, self.now, scheme=scheme):
                return identity, ""
        for spelling in spellings:
            if unusable := keystore.unusable_own(spelling, self.now, scheme=scheme):
                fingerprint, usability = unusable
                helps = how_to_serve_again(address, fingerprint, scheme, usability.reason)
                why = f"cannot sign: {usability.explanation}; see: {helps}"
                return None, f"the own key {fingerprint} of <{address}> {why}"
        return None, ""

    def select(self, rcpt_to: str, rule: Rule, scheme: Scheme) -> Selection:
        """The certificates for `rcpt_to` as written, else for the plain spelling of the same address."""
        selection = self.keystore.select(rcpt_to, self.now, rule.fingerprints, scheme=scheme)
        plain = normal_address(rcpt_to)
        # What waits for a decision under one spelling is not gone round by another.
        if selection.certificates or selection.reason is Reason.HELD or plain == rcpt_to.lower():
            return selection
        other = self.keystore.select(plain, self.now, rule.fingerprints, scheme=scheme)
        return other if other.certificates else selection
