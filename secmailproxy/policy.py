"""Decides what happens to a message on its way out. PURE: facts in, a `Plan` or a refusal out.

The sender's rules are read from the top; the first that matches a (sender, recipient) pair speaks for that
recipient. One message has one protection: it never goes in clear to some and encrypted to others.

    some recipient requires encryption   all must have certificates and the sender a key, else it is refused;
                                         beside a recipient with "never" or "sign" it is refused too
    some recipient is on "never"         it goes as it is
    the sender has no key at all         it goes as it is
    some recipient is on "sign"          it is signed
    every recipient has a certificate    it is signed and encrypted
    otherwise                            it is signed

Standards: RFC 5322 section 3.6.3 (blind copies), RFC 9787 section 9 (one protection for all recipients).
Security: a sender whose own key exists but cannot be used is told so; the message does not leave unprotected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from keystore.model import Fingerprint, Identity, Scheme, Selection
from secmailproxy.errors import NotAllowed, NoUsableCertificate, SigningKeyUnusable
from secmailproxy.model import Protection


class Protect(Enum):
    """What a rule asks for."""

    REQUIRE = "require"
    """Sign and encrypt, or refuse."""
    PREFER = "prefer"
    """Sign, and encrypt when every recipient has a certificate."""
    SIGN = "sign"
    """Sign, never encrypt."""
    NEVER = "never"
    """Leave as it is."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `to` and `from_` are patterns: an address, "@domain", "*.domain" (subdomains), or "*".

    `fingerprints`, when given, are the only certificates to encrypt to, and all of them are needed.
    """

    to: str = "*"
    from_: str = "*"
    protect: Protect = Protect.PREFER
    fingerprints: tuple[Fingerprint, ...] = ()
    hide_subject: bool = True


DEFAULT_RULE = Rule()
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_DOT_ATOM = re.compile(r"[^\s\"(),.:;<>@\[\\\]]+(?:\.[^\s\"(),.:;<>@\[\\\]]+)*")


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
    hide_subject: bool = True
    scheme: Scheme = Scheme.OPENPGP
    """All certificates and the signer are of this one."""
    why: str = ""


def normal_address(address: str) -> str:
    """`address` for comparison: without brackets and case, the domain in its ASCII form (RFC 5891).

    Neither quotes that change nothing (RFC 5321 section 4.1.2) nor a dot at the end of the domain make it
    another one: a rule that requires encryption must hold for every spelling that reaches the same mailbox.
    """
    address = address.strip().removeprefix("<").removesuffix(">").casefold()
    local, at, domain = address.rpartition("@")
    unquoted = _ESCAPED.sub(r"\1", local[1:-1])
    if local[:1] == local[-1:] == '"' and _DOT_ATOM.fullmatch(unquoted):
        local = unquoted
    domain = domain.removesuffix(".")
    try:
        return local + at + (domain if domain.isascii() else domain.encode("idna").decode("ascii"))
    except UnicodeError:
        return local + at + domain


def matches(pattern: str, address: str) -> bool:
    """Whether a rule's pattern covers `address`."""
    if pattern.strip() == "*":
        return True
    pattern, address = normal_address(pattern), normal_address(address)
    if pattern.startswith("*."):
        return address.rpartition("@")[2].endswith(pattern[1:])
    if pattern.startswith("@"):
        return address.rpartition("@")[2] == pattern[1:]
    return address == pattern


def rule_for(sender: str, rcpt_to: str, rules: Sequence[Rule]) -> Rule:
    """The first rule that matches; the default (prefer) when none does."""
    for rule in rules:
        if matches(rule.to, rcpt_to) and matches(rule.from_, sender):
            return rule
    return DEFAULT_RULE


def recipient_refusal(rcpt_to: str, rule: Rule, selection: Selection) -> str | None:
    """Why `rcpt_to` must be refused before any message is seen (SMTP-06), or None."""
    if rule.protect is not Protect.REQUIRE:
        return None
    return _missing(rcpt_to, rule, selection)


def plan_outbound(
    sender: str,
    rcpt_tos: Sequence[str],
    named: frozenset[str],
    identity: Identity | None,
    selections: Mapping[str, Selection],
    rules: Sequence[Rule],
    *,
    identity_problem: str = "",
) -> Plan:
    """Decides for one message.

    `sender` is the envelope sender (or the author where that is null); `named` the addresses of the fields
    that all recipients can read, as `normal_address` gives them; `selections` has an entry for each of
    `rcpt_tos`. `identity_problem` says why an existing own key cannot be used; "" when there is none at all.

    Raises NoUsableCertificate, SigningKeyUnusable or NotAllowed, naming addresses and reasons.
    """
    chosen = {rcpt_to: rule_for(sender, rcpt_to, rules) for rcpt_to in rcpt_tos}
    asked = {rule.protect for rule in chosen.values()}
    hide_subject = any(rule.hide_subject for rule in chosen.values())
    missing = [
        text
        for rcpt_to, rule in chosen.items()
        if (text := _missing(rcpt_to, rule, selections[rcpt_to])) is not None
    ]
    everyone = (CopyPlan(tuple(rcpt_tos)),)

    if Protect.REQUIRE in asked:
        _refuse_conflict(chosen)
        if missing:
            raise NoUsableCertificate("; ".join(missing))
    elif Protect.NEVER in asked:
        return Plan(Protection.NONE, everyone, None, hide_subject, why=_because(chosen, Protect.NEVER))
    if identity is None:
        if identity_problem or Protect.REQUIRE in asked:
            raise SigningKeyUnusable(identity_problem or no_key(sender))
        return Plan(Protection.NONE, everyone, None, hide_subject, why=no_key(sender))

    signer = identity.certificate.fingerprint
    if Protect.SIGN in asked:
        return Plan(Protection.SIGNED, everyone, signer, hide_subject, why=_because(chosen, Protect.SIGN))
    if missing:
        return Plan(Protection.SIGNED, everyone, signer, hide_subject, why="; ".join(missing))
    return Plan(
        Protection.SIGNED_AND_ENCRYPTED,
        _copies(chosen, named, selections, signer),
        signer,
        hide_subject,
        why="every recipient has a usable certificate",
    )


def _missing(rcpt_to: str, rule: Rule, selection: Selection) -> str | None:
    """Why the message cannot be encrypted to `rcpt_to`, or None when it can."""
    found = {certificate.fingerprint for certificate in selection.certificates}
    absent = [fingerprint for fingerprint in rule.fingerprints if fingerprint not in found]
    if found and not absent:
        return None
    why = selection.explanation or (selection.reason.value if selection.reason else "")
    if not why:
        why = f"pinned key {absent[0]} is not usable" if absent else "no certificate"
    return f"no encryption key for <{rcpt_to}> ({why})"


def _refuse_conflict(chosen: Mapping[str, Rule]) -> None:
    """Raises NotAllowed when some recipients require encryption and others must not get it."""
    require = [rcpt_to for rcpt_to, rule in chosen.items() if rule.protect is Protect.REQUIRE]
    clear = [rcpt_to for rcpt_to, rule in chosen.items() if rule.protect in (Protect.NEVER, Protect.SIGN)]
    if clear:
        raise NotAllowed(
            f"a rule requires encryption to <{require[0]}> and another forbids it to <{clear[0]}>; "
            "send two messages"
        )


def _copies(
    chosen: Mapping[str, Rule],
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
            pinned = chosen[rcpt_to].fingerprints
            certificates = selections[rcpt_to].certificates
            found |= dict.fromkeys(
                c.fingerprint for c in certificates if not pinned or c.fingerprint in pinned
            )
        return tuple(found | {own: None})

    open_ones = tuple(rcpt_to for rcpt_to in chosen if normal_address(rcpt_to) in named)
    blind = tuple(rcpt_to for rcpt_to in chosen if rcpt_to not in open_ones)
    copies = [CopyPlan(open_ones, fingerprints(*open_ones))] if open_ones else []
    return (*copies, *(CopyPlan((rcpt_to,), fingerprints(rcpt_to)) for rcpt_to in blind))


def _because(chosen: Mapping[str, Rule], protect: Protect) -> str:
    rcpt_to = next(rcpt_to for rcpt_to, rule in chosen.items() if rule.protect is protect)
    return f'a rule for <{rcpt_to}> says "{protect.value}"'


def no_key(sender: str) -> str:
    """What to say where the sender has no key."""
    return f"no own key for <{sender}>; make one with: secmailproxy key generate {sender}"
