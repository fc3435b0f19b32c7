"""The owner's rules: what they can say, whom they cover, and which of them speaks. PURE.

Rules are read from the top; the first that matches sender, recipient and account speaks for that recipient.

Standards: RFC 5321 section 4.1.2 (spellings of an address), RFC 5891 (domains in other scripts).
Security: every spelling of an address that reaches the same mailbox is the same address here, so that no rule
can be evaded by quotes, case, a final dot or an encoded domain. Patterns of rules also cover letters that
some servers take for others (sharp s for "ss"); certificates do not, for behind these may be another person.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from keystore.domainnames import ascii_label
from keystore.model import Fingerprint, Scheme


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
    scheme: Scheme | None = None
    """None: either, OpenPGP first."""
    account: str = ""
    """The address of the account that the client logged in to; "" for every one."""

    @property
    def text(self) -> str:
        """The rule for people, as it can be written on lines of the configuration; defaults left out."""
        said = [f'to = "{self.to}"']
        if self.from_ != "*":
            said.append(f'from = "{self.from_}"')
        if self.account:
            said.append(f'account = "{self.account}"')
        said.append(f'protect = "{self.protect.value}"')
        if self.scheme is not None:
            said.append(f'scheme = "{self.scheme.value}"')
        if self.fingerprints:
            said.append(f"fingerprints = {json.dumps(self.fingerprints)}")
        if not self.hide_subject:
            said.append("hide_subject = false")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rule that speaks for a recipient, and its number from 1; 0 for the default."""

    rule: Rule
    number: int = 0


DEFAULT_RULE = Rule()
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_DOT_ATOM = re.compile(r"[^\s\"(),.:;<>@\[\\\]]+(?:\.[^\s\"(),.:;<>@\[\\\]]+)*")
_TO_ESCAPE = re.compile(r'([\\"])')
_DOTS = re.compile("[.\u3002\uff0e\uff61]")


@lru_cache(maxsize=1024)
def normal_address(address: str) -> str:
    """`address` for comparison: without brackets and case, the domain in its ASCII form (RFC 5891).

    Neither quotes that change nothing (RFC 5321 section 4.1.2), nor the form of Unicode, nor a dot at the end
    of the domain make it another one: a rule that requires encryption must hold for every spelling that
    reaches the same mailbox.
    """
    address = address.strip().removeprefix("<").removesuffix(">")
    local, at, domain = address.rpartition("@")
    domain = domain.removesuffix(".")
    return _local_part(local) + at + (domain.lower() if domain.isascii() else _ascii_domain(domain))


def _local_part(written: str) -> str:
    """One that has letters such as the Kelvin sign, whose small one is an ASCII letter, keeps its case."""
    local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", written).lower())
    if any(not one.isascii() and unicodedata.normalize("NFC", one).lower().isascii() for one in written):
        local = written
    if len(local) < 2 or not local[0] == local[-1] == '"':
        return local
    unquoted = _ESCAPED.sub(r"\1", local[1:-1])
    return unquoted if _DOT_ATOM.fullmatch(unquoted) else '"' + _TO_ESCAPE.sub(r"\\\1", unquoted) + '"'


def _ascii_domain(domain: str) -> str:
    """As the resolver is asked for it; what has no such form stays."""
    labels = _DOTS.split(domain.lower())
    try:
        return ".".join(map(ascii_label, labels if labels[-1] else labels[:-1]))
    except UnicodeError:
        return domain.casefold()


@lru_cache(maxsize=1024)
def _folded(address: str) -> str:
    """As rules compare it: more letters are the same than in `normal_address`, for servers that fold so."""
    folded = normal_address(address)
    if folded.isascii():
        return folded
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", folded).casefold())


def matches(pattern: str, address: str) -> bool:
    """Whether a rule's pattern covers `address`."""
    if pattern.strip() == "*":
        return True
    pattern, address = _folded(pattern), _folded(address)
    if pattern.startswith("*."):
        return address.rpartition("@")[2].endswith(pattern[1:])
    if pattern.startswith("@"):
        return address.rpartition("@")[2] == pattern[1:]
    return address == pattern


def choose(sender: str, rcpt_to: str, rules: Sequence[Rule], account: str = "") -> Chosen:
    """The first rule that matches; the default (prefer) when none does.

    `account` is the address of the login; a rule that names one does not hold without it.
    """
    for number, rule in enumerate(rules, 1):
        if rule.account and normal_address(rule.account) != normal_address(account):
            continue
        if matches(rule.to, rcpt_to) and matches(rule.from_, sender):
            return Chosen(rule, number)
    return Chosen(DEFAULT_RULE)


def rule_for(sender: str, rcpt_to: str, rules: Sequence[Rule], account: str = "") -> Rule:
    """The rule that `choose` chooses."""
    return choose(sender, rcpt_to, rules, account).rule
