"""PURE. Which domains nobody outside is asked about.

A name that only means something on this machine or in this network must not be shown to servers elsewhere,
and what they would answer for it could be anybody's.

Standards: RFC 6761 (special-use names), 6762 section 3 and appendix G (.local and its like), 7686 (.onion),
8375 (.home.arpa), 9476 (.alt).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from keystore.discovery.model import SourceKind

OUTWARD = frozenset({SourceKind.WKD, SourceKind.VKS, SourceKind.HKPS, SourceKind.DANE})
"""The sources that show a domain to servers which the owner of this machine did not choose for it."""

_SPECIAL = frozenset(
    {"alt", "arpa", "corp", "example", "home", "internal", "intranet", "invalid", "lan", "local"}
    | {"localdomain", "localhost", "private", "test"}
    | {"example.com", "example.net", "example.org"}
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?")


def refusal(domain: str, allowed: Collection[str] = (), *, tor: bool = False) -> str:
    """Say for people why nobody outside is asked about `domain` (lower case, ASCII); "" where they may be.

    `allowed` are domains that are asked about all the same, with all below them. With `tor`, .onion is asked.
    """
    labels = domain.split(".")
    if _covers(allowed, domain):
        return ""
    if not all(_LABEL.fullmatch(one) for one in labels) or len(domain) > 253:
        return f"{domain or 'an empty name'} is no domain"
    if len(labels) == 1:
        return f"{domain} has no dot: it means something in this network only"
    if labels[-1].isdigit():
        return f"{domain} is a network address"
    if labels[-1] == "onion":
        return "" if tor else f"{domain} can be reached over Tor only"
    if _covers(_SPECIAL, domain):
        return f"{domain} is a special name that nobody outside may be asked about"
    return ""


def _covers(domains: Collection[str], domain: str) -> bool:
    labels = domain.split(".")
    return any(".".join(labels[at:]) in domains for at in range(len(labels)))
