"""The one way through for system mail, whatever the entrance: decide, seal, store, hand over.

    decide -> seal every product -> keep copies, collect -> one hand-over of all products

What can fail without a trace comes first: when a certificate is missing, nothing has happened yet. Copies and
entries of digests are written once however often the message comes again, so a retry after a hand-over that
failed adds nothing. Success is told only after the hand-over.

Security: plaintext goes to `Seals`, `Keeper` and `Collector` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secmailproxy.errors import ConfigError
from secmailproxy.forward.message import refuse_loop
from secmailproxy.forward.model import (
    Collect,
    Collector,
    Forward,
    ForwardSettings,
    Keep,
    Keeper,
    Outlet,
    Product,
    Receipt,
    Seals,
    SystemMail,
    Target,
)
from secmailproxy.forward.rules import decide


@dataclass(frozen=True, slots=True)
class Desk:
    """Processes one message after the other. May be used by several threads when its parts may."""

    settings: ForwardSettings
    seals: Seals
    outlet: Outlet
    keeper: Keeper | None = None
    collector: Collector | None = None

    def process(self, mail: SystemMail) -> Receipt:
        """Returns when nothing can be lost any more. Blocks: a server calls it in a thread.

        Raises SecMailProxyError, KeystoreError or OSError; then nothing was sent, and whoever brought the
        message must keep it.
        """
        disposition = decide(mail, self.settings)
        products: list[Product] = []
        for action in disposition.actions:
            if isinstance(action, Forward):
                targets = targets_of(mail, action, self.settings)
                for target in targets:
                    refuse_loop(mail.octets, target.address, self.settings.mark)
                products += self.seals.seal(mail, action, targets)
        kept = self._keep(mail, [one for one in disposition.actions if isinstance(one, Keep)])
        collected = self._collect(mail, [one for one in disposition.actions if isinstance(one, Collect)])
        if products:
            self.outlet.take(products)
        return Receipt(disposition.rule, len(products), kept, collected)

    def _keep(self, mail: SystemMail, actions: Sequence[Keep]) -> int:
        for action in actions:
            if self.keeper is None:
                raise ConfigError(f"a rule keeps a copy in {action.path}, which is not possible here")
            self.keeper.keep(mail, action)
        return len(actions)

    def _collect(self, mail: SystemMail, actions: Sequence[Collect]) -> int:
        for action in actions:
            if self.collector is None:
                raise ConfigError(f"a rule collects for {action.digest}, which is not possible here")
            self.collector.collect(mail, action)
        return len(actions)


def targets_of(mail: SystemMail, action: Forward, settings: ForwardSettings) -> tuple[Target, ...]:
    """Whom `action` sends to. Raises ConfigError naming the address for which there is no target."""
    pinned = {one.address.lower(): one for one in settings.targets}
    wanted = action.rcpt_tos or mail.rcpt_tos
    if not wanted:
        if len(pinned) != 1:
            raise ConfigError("the recipient is not known: have exactly one [[forward.targets]]")
        return settings.targets
    missing = [address for address in wanted if address.lower() not in pinned]
    if missing:
        raise ConfigError(f"there is no [[forward.targets]] for {missing[0]}")
    return tuple(pinned[address.lower()] for address in dict.fromkeys(wanted))
