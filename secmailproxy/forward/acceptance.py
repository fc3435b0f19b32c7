"""Whom a listener takes system mail for. PURE.

Everything else would be relaying: what a rule passes on leaves this machine.
"""

from __future__ import annotations

from collections.abc import Sequence

from secmailproxy.forward.model import ForwardSettings
from secmailproxy.rules import matches, normal_address

_ROUTED = frozenset("%!@")
"""For some servers they make a route of a local part: bob%example.net@host is passed on to Bob."""


def is_accepted(rcpt_to: str, settings: ForwardSettings, patterns: Sequence[str]) -> bool:
    """Whether `rcpt_to` is of this machine, a target, or covered by one of `patterns`.

    Of this machine is a bare name such as "root", and any name at one of `settings.local_domains`. Patterns
    are those of the configuration: an address, @example.org, *.example.org or *. Where not everybody is
    taken mail for, nobody is by a name that some servers make a route of.
    """
    name, at, domain = rcpt_to.rpartition("@")
    if "*" not in patterns and _ROUTED.intersection(name or domain):
        return any(rcpt_to.lower() == one.address.lower() for one in settings.targets)
    if not at or (name and domain.lower() in settings.local_domains):
        return True
    address = normal_address(rcpt_to)
    return any(address == normal_address(one.address) for one in settings.targets) or any(
        matches(one, rcpt_to) for one in patterns
    )
