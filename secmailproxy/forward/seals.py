"""Seals messages with the keystore at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from secmailproxy.forward.model import Forward, ForwardSettings, Product, SystemMail, Target
from secmailproxy.forward.target import pinned
from secmailproxy.model import Envelope

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from secmailproxy.outbound import Outbound


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class KeystoreSeals:
    """A `model.Seals`. `settings.sender` must be set. Must not be called where an event loop runs."""

    keystore: Keystore
    settings: ForwardSettings
    clock: Callable[[], datetime] = _now

    def seal(self, mail: SystemMail, action: Forward, targets: Sequence[Target]) -> tuple[Product, ...]:
        """One product for each target."""
        from secmailproxy.outbound import Outbound, OutboundSettings

        outbound = Outbound(self.keystore, OutboundSettings(), self.clock)
        return tuple(self._sealed(outbound, mail, target) for target in targets)

    def _sealed(self, outbound: Outbound, mail: SystemMail, target: Target) -> Product:
        settings = self.settings
        fingerprint = pinned(self.keystore, target.address, target.fingerprints, self.clock())
        octets = asyncio.run(
            outbound.protect_system(
                mail.octets, target.address, fingerprint, settings.sender, loop=settings.mark
            )
        )
        # A submission server wants its user as sender.
        null = not mail.mail_from and settings.via != "smarthost"
        return Product(octets, Envelope("" if null else settings.sender, (target.address,)))
