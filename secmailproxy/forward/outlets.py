"""The ways out: each takes encrypted messages and returns when they cannot be lost any more.

With a sendmail program or an SMTP server at hand, one message is given to it directly, and its queue is used.
Of several, some could be accepted and others not, so that the next try would send the first ones again:
they go into our own queue, all or none, and from there to the same place. Without an MTA, everything does.

Security: a message in clear, which a rule passes on, is never queued.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from secmailproxy.errors import ConfigError
from secmailproxy.forward.model import ForwardSettings, Outlet, Product
from secmailproxy.forward.spool import Route, Spool, route_of
from secmailproxy.forward.wake import see_to_delivery


@dataclass(frozen=True, slots=True)
class SpoolOutlet:
    """A `model.Outlet`: our own queue. `wake` is called when something is in it."""

    spool: Spool
    route: Route
    bounces: str
    wake: Callable[[], None]

    def take(self, products: Sequence[Product]) -> None:
        """As `model.Outlet.take`; NotAllowed for a message in clear."""
        self.spool.put(products, self.route, self.bounces)
        self.wake()


@dataclass(frozen=True, slots=True)
class DirectOutlet:
    """A `model.Outlet`: whoever is at hand, by `hand_over`, and our queue where one call is not enough."""

    hand_over: Callable[[Product], None]
    queue: SpoolOutlet

    def take(self, products: Sequence[Product]) -> None:
        """As `model.Outlet.take`; ConfigError for several messages in clear."""
        if len(products) == 1 and not products[0].held:
            return self.hand_over(products[0])
        clear = [one for one in products if one.is_plain]
        if len(clear) > 1:
            raise ConfigError(
                "several messages in clear cannot be handed over at once; let one rule pass it on"
            )
        sealed = [one for one in products if not one.is_plain]
        queue = self.queue
        # What can fail is done first: the disk may be full, and then nothing must have left.
        with queue.spool.prepared(sealed, queue.route, queue.bounces) as prepared:
            for one in clear:
                self.hand_over(one)
            prepared.commit()
        queue.wake()
        return None


def outlet_of(settings: ForwardSettings, spool: Path, wake: Callable[[], None] | None = None) -> Outlet:
    """The way out that the settings choose; `spool` is the folder of our queue.

    Without `wake`, a runner is started where none runs.
    """
    bounces = settings.bounces or settings.sender
    queue = SpoolOutlet(Spool(spool), route_of(settings), bounces, wake or partial(see_to_delivery, spool))
    if settings.via == "smarthost":
        return queue
    if settings.via == "sendmail":
        return DirectOutlet(partial(_by_sendmail, Path(settings.sendmail)), queue)
    return DirectOutlet(partial(_by_relay, settings.relay), queue)


def _by_sendmail(program: Path, product: Product) -> None:
    from secmailproxy.forward.handover import by_sendmail  # where our queue takes it, no program is started

    by_sendmail(program, product.envelope.mail_from, product.envelope.rcpt_tos, product.octets)


def _by_relay(relay: str, product: Product) -> None:
    from secmailproxy.forward.relay import to_relay  # as above

    to_relay(relay, product)
