"""Whom a message goes to: the recipients as they came, what the aliases make of them, the targets. PURE.

    root              -> the aliases of root, each of them again
    root+disk         -> the aliases of root+disk; without any, those of root
    sysmail           -> a local user without an alias: the target of local mail
    ops@localhost     -> without an alias its own target, where it has one, else that of local mail
    admin@example.org -> its target; without one the message cannot leave

Keys are chosen by the addresses at the end of this, never by those that came. An alias that leads to a
command or a file alone is a local user: somebody must get the mail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from secmailproxy.errors import ConfigError, LimitExceeded
from secmailproxy.forward.model import Forward, ForwardSettings, SystemMail, Target
from secmailproxy.mime.address import is_plain

if TYPE_CHECKING:
    from secmailproxy.forward.aliases import Resolved

Resolve = Callable[[str], "Resolved"]
"""What stands behind a local name; raises ConfigError, LimitExceeded."""

_STEPS_MOST = 100


def destinations(
    mail: SystemMail, action: Forward, settings: ForwardSettings, resolve: Resolve
) -> tuple[Target, ...]:
    """The targets of `action` for `mail`, each once, at least one.

    Raises ConfigError, which names the address, where there is no target; LimitExceeded, and what `resolve`
    raises.
    """
    pinned = {one.address.lower(): one for one in settings.targets}
    addresses = action.rcpt_tos or _addresses(mail.rcpt_tos, settings, resolve, set(pinned)) or ("",)
    targets = (_target(address, pinned, settings) for address in addresses)
    return tuple({one.address.lower(): one for one in targets}.values())


def _addresses(
    rcpt_tos: tuple[str, ...], settings: ForwardSettings, resolve: Resolve, pinned: set[str]
) -> tuple[str, ...]:
    """Addresses elsewhere and those that are `pinned` (lower case), and "" for other local users."""
    found: dict[str, None] = {}
    waiting, seen = list(rcpt_tos), set[str]()
    while waiting:
        address = waiting.pop(0)
        name = local_name(address, settings.local_domains)
        if name is None:
            found[address] = None
        elif name not in seen:
            if len(seen) == _STEPS_MOST:
                raise LimitExceeded(f"the recipients are more than {_STEPS_MOST} local names")
            seen.add(name)
            behind = resolve(name).addresses if settings.aliases else ()
            user, plus, _ = name.partition("+")
            if user and plus and behind == (name,):
                waiting.append(user)
                continue
            reached = [one for one in behind if one.lower() in pinned]
            others = [one for one in behind if local_name(one, settings.local_domains) != name]
            others = [one for one in others if one not in reached]
            found.update(dict.fromkeys(reached))
            waiting += others
            if len(reached) + len(others) < len(behind) or not behind:
                found[address if address.lower() in pinned else ""] = None
    return tuple(found)


def local_name(address: str, local_domains: tuple[str, ...]) -> str | None:
    """The local user that `address` names, in lower case; None for an address elsewhere."""
    name, at, domain = address.rpartition("@")
    if not at:
        return address.lower()
    return name.lower() if domain.lower().removesuffix(".") in local_domains else None


def _target(address: str, pinned: dict[str, Target], settings: ForwardSettings) -> Target:
    if address:
        target = pinned.get(address.lower()) or _otherwise_written(address, settings)
        if target is None:
            called = address if is_plain(address) and address.isprintable() else "a recipient"
            raise ConfigError(f"there is no [[forward.targets]] for {called}; add it, or an alias to one")
        return target
    if settings.to:
        return pinned[settings.to.lower()]
    if len(settings.targets) == 1:
        return settings.targets[0]
    raise ConfigError(
        "the recipient is not known: use --to, set forward.to, or have exactly one [[forward.targets]]"
    )


def _otherwise_written(address: str, settings: ForwardSettings) -> Target | None:
    """The target that is the same mailbox in another spelling: quotes, a final dot, an encoded domain."""
    from secmailproxy.rules import normal_address  # knows all of Unicode

    wanted = normal_address(address)
    return next((one for one in settings.targets if normal_address(one.address) == wanted), None)
