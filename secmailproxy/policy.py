"""Decides what happens to a message on its way out. PURE: facts in, a `Plan` or a refusal out.

For each recipient one rule speaks (`secmailproxy.rules`), strengthened or chosen by what the mail client
wishes for this message (`secmailproxy.wishes`). One message has one protection of one scheme: it never goes
in clear to some and encrypted to others, nor by OpenPGP to some and by S/MIME to others.

    some recipient requires encryption   all must have certificates of one scheme and the sender a key, else
                                         it is refused; so it is beside a recipient with "never" or "sign"
    some recipient is on "never"         it goes as it is
    the sender has no key at all         it goes as it is (refused where the key of the login's own address
                                         would have encrypted it)
    a rule or wish allows one scheme     refused where the sender has a key of the other scheme only, or a
    only                                 wish for one keeps the other from encrypting it
    some recipient is on "sign"          it is signed
    every recipient has a certificate    it is signed and encrypted
    the certificate of one has changed   it is refused, until the sender has settled which one is right
    otherwise                            it is signed

Standards: RFC 5322 section 3.6.3 (blind copies), RFC 9787 section 9 (one protection for all recipients).
Security: a sender whose own key exists but cannot be used is told so; the message does not leave unprotected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from keystore.model import Fingerprint, Identity, Reason, Scheme, Selection
from secmailproxy.errors import NotAllowed, NoUsableCertificate, SigningKeyUnusable
from secmailproxy.model import Protection
from secmailproxy.rules import Chosen, Protect, Rule, normal_address
from secmailproxy.wishes import NO_WISH, Wish, wished

__all__ = [
    "CopyPlan",
    "Facts",
    "Plan",
    "Protect",
    "Question",
    "Rule",
    "no_key",
    "plan_outbound",
    "recipient_refusal",
    "refuse_other_account",
    "schemes_of",
]

_IN_ORDER = (Scheme.OPENPGP, Scheme.SMIME)
_NAMES = {Scheme.OPENPGP: "OpenPGP", Scheme.SMIME: "S/MIME"}
_IMPORT = "import a certificate with: secmailproxy key import FILE"
_UNTOLD = (Reason.NO_CERTIFICATE, Reason.OTHER_SCHEME)


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be decided: one message, and who sends it to whom."""

    sender: str
    """The envelope sender, or the owner of the login where that is null."""
    rcpt_tos: tuple[str, ...]
    named: frozenset[str]
    """The addresses of the fields that all recipients can read, as `normal_address` gives them."""
    account: str = ""
    """The address of the account that the client logged in to; "" without a login."""
    wish: Wish = NO_WISH


@dataclass(frozen=True, slots=True)
class Facts:
    """What the keystore knows of one scheme for one message."""

    identity: Identity | None
    """The sender's own key."""
    selections: Mapping[str, Selection]
    """One for each recipient."""
    identity_problem: str = ""
    """Why an existing own key cannot be used; "" when there is none at all."""
    account_has_key: bool = False
    """Whether the account's own address has a usable key, though the sender has none."""


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """One copy of the message: who gets it, and the certificates it is encrypted to, if any."""

    rcpt_tos: tuple[str, ...]
    fingerprints: tuple[Fingerprint, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The decision for one message, carried out without further ones; the named recipients' copy is first."""

    protection: Protection
    copies: tuple[CopyPlan, ...]
    signer: Fingerprint | None = None
    signer_address: str = ""
    """Of the signer's key; another than the sender's for an alias."""
    hide_subject: bool = True
    scheme: Scheme = Scheme.OPENPGP
    """All certificates and the signer are of this one."""
    attach_key: bool | None = None
    """Whether the client wants the sender's certificate attached; None: as the account has it."""
    why: str = ""


def refuse_other_account(sender: str, others: Iterable[str]) -> None:
    """Raises NotAllowed where `sender` is an address of another account than that of the login."""
    if normal_address(sender) in map(normal_address, others):
        raise NotAllowed(f"<{sender}> is another account here; log in with it to send from it")


def schemes_of(rules: Iterable[Rule]) -> tuple[Scheme, ...]:
    """The schemes that all of `rules` allow, in the order in which they are tried; may be empty."""
    asked = {rule.scheme for rule in rules} - {None}
    return tuple(scheme for scheme in _IN_ORDER if asked <= {scheme})


def recipient_refusal(rcpt_to: str, rule: Rule, selections: Mapping[Scheme, Selection]) -> str | None:
    """Why `rcpt_to` must be refused before any message is seen (SMTP-06), or None.

    `selections` has an entry for each scheme that the rule allows.
    """
    if rule.protect is not Protect.REQUIRE:
        return None
    missing = {scheme: _missing(rcpt_to, rule, scheme, one) for scheme, one in selections.items()}
    if not all(missing.values()):
        return None
    told = [scheme for scheme, one in selections.items() if one.reason not in _UNTOLD]
    if not told and not rule.fingerprints and rule.scheme is None:
        return f"no encryption key for <{rcpt_to}> (no certificate is known); {_IMPORT}"
    changed = next((one for one in told if selections[one].reason is Reason.HELD), None)
    if changed is not None and not rule.fingerprints:
        return _changed(rcpt_to, changed, selections[changed])
    return f"{missing[(told or schemes_of([rule]))[0]]}; {_IMPORT}"


def plan_outbound(question: Question, chosen: Mapping[str, Chosen], facts: Callable[[Scheme], Facts]) -> Plan:
    """Decides for one message.

    `chosen` has the rule of each recipient; `facts` is asked for each scheme in question.
    Raises NoUsableCertificate, SigningKeyUnusable or NotAllowed, naming addresses and reasons.
    """
    rules = {rcpt_to: wished(chosen[rcpt_to].rule, question.wish, rcpt_to) for rcpt_to in question.rcpt_tos}
    asked = {rule.protect for rule in rules.values()}
    if Protect.REQUIRE in asked:
        _refuse_conflict(rules)
    elif Protect.NEVER in asked:
        return _as_it_is(question, _because(rules, Protect.NEVER))
    attempts = [_Attempt(question, rules, scheme, facts) for scheme in schemes_of(rules.values())]
    if Protect.SIGN not in asked:
        for attempt in attempts:
            if plan := attempt.encrypted():
                return plan
        _refuse_changed(attempts)
        _refuse_clear(question, attempts, required=Protect.REQUIRE in asked)
        _refuse_wish_for_less(question, chosen, rules, facts)
    why = _because(rules, Protect.SIGN) if Protect.SIGN in asked else _all_missing(attempts)
    attempts = attempts or [_Attempt(question, rules, scheme, facts) for scheme in _IN_ORDER]
    for attempt in attempts:
        if plan := attempt.signed(why):
            return plan
    for attempt in attempts:
        if attempt.facts.identity_problem:
            raise SigningKeyUnusable(attempt.facts.identity_problem)
    for other in _IN_ORDER:
        if facts(other).identity is not None:
            raise SigningKeyUnusable(
                f"{no_key(question.sender, attempts[0].scheme)}; or change the rule or wish that allows "
                f"only {_NAMES[attempts[0].scheme]}"
            )
    return _as_it_is(question, no_key(question.sender, attempts[0].scheme))


class _Attempt:
    """What one scheme can do for the message."""

    def __init__(
        self,
        question: Question,
        rules: Mapping[str, Rule],
        scheme: Scheme,
        facts: Callable[[Scheme], Facts],
    ) -> None:
        self.scheme = scheme
        self._question = question
        self._rules = rules
        self._ask = facts

    @property
    def sender(self) -> str:
        return self._question.sender

    @property
    def facts(self) -> Facts:
        return self._ask(self.scheme)

    @property
    def missing(self) -> list[str]:
        """Why the message cannot be encrypted to all, one text for each recipient without certificates."""
        selections = self.facts.selections
        texts = (_missing(one, rule, self.scheme, selections[one]) for one, rule in self._rules.items())
        return [text for text in texts if text is not None]

    def encrypted(self) -> Plan | None:
        """The plan to sign and encrypt, where the sender and every recipient have what it needs."""
        identity = self.facts.identity
        if identity is None or self.missing:
            return None
        signer = identity.certificate.fingerprint
        copies = _copies(self._rules, self._question.named, self.facts.selections, signer)
        why = "every recipient has a usable certificate"
        return self._plan(Protection.SIGNED_AND_ENCRYPTED, copies, identity, why)

    def signed(self, why: str) -> Plan | None:
        """The plan to sign, where the sender has a key."""
        identity = self.facts.identity
        if identity is None:
            return None
        everyone = (CopyPlan(self._question.rcpt_tos),)
        return self._plan(Protection.SIGNED, everyone, identity, why)

    def _plan(
        self, protection: Protection, copies: tuple[CopyPlan, ...], identity: Identity, why: str
    ) -> Plan:
        return Plan(
            protection,
            copies,
            identity.certificate.fingerprint,
            identity.address,
            hide_subject=any(rule.hide_subject for rule in self._rules.values()),
            scheme=self.scheme,
            attach_key=self._question.wish.attach_key,
            why=why,
        )


def _refuse_changed(attempts: Sequence[_Attempt]) -> None:
    """Raises where another certificate than before waits for the sender's decision.

    Until then the message goes to neither of the two, nor in clear because of it.
    """
    # Who could not encrypt anyway is not kept from writing.
    for attempt in (one for one in attempts if one.facts.identity is not None):
        for rcpt_to, selection in attempt.facts.selections.items():
            if selection.reason is Reason.HELD:
                raise NoUsableCertificate(_changed(rcpt_to, attempt.scheme, selection))


def _changed(rcpt_to: str, scheme: Scheme, selection: Selection) -> str:
    return f"the certificate of <{rcpt_to}> has changed ({_NAMES[scheme]}: {selection.explanation})"


def _refuse_clear(question: Question, attempts: Sequence[_Attempt], *, required: bool) -> None:
    """Raises where a message that cannot be encrypted must not leave signed or in clear either."""
    for attempt in attempts:
        if attempt.missing:
            continue
        # Only the sender's key is missing: that is the sender's to put right, and no reason for clear text.
        if attempt.facts.identity_problem:
            raise SigningKeyUnusable(attempt.facts.identity_problem)
        if attempt.facts.account_has_key:
            raise SigningKeyUnusable(_not_the_accounts(question, attempt.scheme))
        if required:
            raise SigningKeyUnusable(
                "; ".join([*attempts[0].missing, no_key(question.sender, attempt.scheme)])
            )
    if required:
        raise NoUsableCertificate(f"{_all_missing(attempts)}; {_IMPORT}")


def _refuse_wish_for_less(
    question: Question,
    chosen: Mapping[str, Chosen],
    rules: Mapping[str, Rule],
    facts: Callable[[Scheme], Facts],
) -> None:
    """Raises where the message is not encrypted only because it wishes a scheme."""
    wished_for = question.wish.scheme
    if wished_for is None:
        return
    for other in schemes_of(one.rule for one in chosen.values()):
        if other is not wished_for and _Attempt(question, rules, other, facts).encrypted():
            raise NotAllowed(
                f'the message wishes scheme "{wished_for.value}", which cannot encrypt it; '
                f"{_NAMES[other]} can. Leave the wish out, or wish also to have it only signed"
            )


def _as_it_is(question: Question, why: str) -> Plan:
    if question.wish.attach_key:
        raise NotAllowed(f"the message wishes its key attached, but it must leave as it is: {why}")
    return Plan(Protection.NONE, (CopyPlan(question.rcpt_tos),), why=why)


def _missing(rcpt_to: str, rule: Rule, scheme: Scheme, selection: Selection) -> str | None:
    """Why the message cannot be encrypted to `rcpt_to`, or None when it can."""
    found = {certificate.fingerprint for certificate in selection.certificates}
    absent = [fingerprint for fingerprint in rule.fingerprints if fingerprint not in found]
    if found and not absent:
        return None
    why = selection.explanation or (selection.reason.value if selection.reason else "")
    if not why:
        why = f"pinned key {absent[0]} is not usable" if absent else "no certificate"
    return f"no encryption key for <{rcpt_to}> ({_NAMES[scheme]}: {why})"


def _all_missing(attempts: Sequence[_Attempt]) -> str:
    """Why no scheme can encrypt the message; what is missing of a scheme that the sender could use."""
    if not attempts:
        return "the rules of the recipients ask for OpenPGP and for S/MIME, and one message has one scheme"
    texts = []
    for attempt in attempts:
        if attempt.facts.identity is not None:
            texts += attempt.missing
        elif not attempt.missing:
            texts.append(no_key(attempt.sender, attempt.scheme))
    return "; ".join(texts or attempts[0].missing)


def _refuse_conflict(rules: Mapping[str, Rule]) -> None:
    """Raises NotAllowed when some recipients require encryption and others forbid what it needs."""
    require = [rcpt_to for rcpt_to, rule in rules.items() if rule.protect is Protect.REQUIRE]
    clear = [rcpt_to for rcpt_to, rule in rules.items() if rule.protect in (Protect.NEVER, Protect.SIGN)]
    if clear:
        raise NotAllowed(
            f"a rule requires encryption to <{require[0]}> and another forbids it to <{clear[0]}>; "
            "send two messages"
        )
    if not schemes_of(rules.values()):
        by = {rule.scheme: rcpt_to for rcpt_to, rule in rules.items()}
        raise NotAllowed(
            f"encryption is required, but a rule asks for OpenPGP to <{by[Scheme.OPENPGP]}> and another for "
            f"S/MIME to <{by[Scheme.SMIME]}>; send two messages"
        )


def _copies(
    rules: Mapping[str, Rule],
    named: frozenset[str],
    selections: Mapping[str, Selection],
    own: Fingerprint,
) -> tuple[CopyPlan, ...]:
    """One copy for the named recipients, then one for each blind recipient; all also for the sender.

    A blind copy is encrypted to its recipient and the sender alone: nobody's copy then tells of anybody who
    is not named in it (SMTP-09).
    """

    def fingerprints(*rcpt_tos: str) -> tuple[Fingerprint, ...]:
        found: dict[Fingerprint, None] = {}
        for rcpt_to in rcpt_tos:
            pinned = rules[rcpt_to].fingerprints
            certificates = selections[rcpt_to].certificates
            found |= dict.fromkeys(
                c.fingerprint for c in certificates if not pinned or c.fingerprint in pinned
            )
        return tuple(found | {own: None})

    open_ones = tuple(rcpt_to for rcpt_to in rules if normal_address(rcpt_to) in named)
    blind = tuple(rcpt_to for rcpt_to in rules if rcpt_to not in open_ones)
    copies = [CopyPlan(open_ones, fingerprints(*open_ones))] if open_ones else []
    return (*copies, *(CopyPlan((rcpt_to,), fingerprints(rcpt_to)) for rcpt_to in blind))


def _because(rules: Mapping[str, Rule], protect: Protect) -> str:
    rcpt_to = next(rcpt_to for rcpt_to, rule in rules.items() if rule.protect is protect)
    return f'for <{rcpt_to}> the rule or wish says "{protect.value}"'


def _not_the_accounts(question: Question, scheme: Scheme) -> str:
    return (
        f"no own {_NAMES[scheme]} key for <{question.sender}>, which would leave a message in clear that can "
        f"be encrypted; add the address to `aliases` of the account {question.account} to use its key, or "
        f"{_how_to_get_one(question.sender, scheme)}"
    )


def no_key(sender: str, scheme: Scheme = Scheme.OPENPGP) -> str:
    """What to say where the sender has no key."""
    return f"no own {_NAMES[scheme]} key for <{sender}>; {_how_to_get_one(sender, scheme)}"


def _how_to_get_one(sender: str, scheme: Scheme) -> str:
    if scheme is Scheme.SMIME:
        return "import one with: secmailproxy key import FILE"
    return f"make one with: secmailproxy key generate {sender}"
