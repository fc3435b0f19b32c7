"""The ways out: each takes encrypted messages and returns when they cannot be lost any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from secmailproxy.forward.handover import by_sendmail
from secmailproxy.forward.model import Product


@dataclass(frozen=True, slots=True)
class SendmailOutlet:
    """A `model.Outlet`: the sendmail program of this machine, whose queue is used."""

    program: Path

    def take(self, products: Sequence[Product]) -> None:
        """One call of the program for each product."""
        for product in products:
            (rcpt_to,) = product.envelope.rcpt_tos
            by_sendmail(self.program, product.envelope.mail_from, rcpt_to, product.octets)
