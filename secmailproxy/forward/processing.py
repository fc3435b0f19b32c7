"""The one way through for system mail, whatever the entrance: decide, seal, store, hand over.

    decide -> seal every product -> keep copies, collect -> one hand-over of all products

What can fail without a trace comes first: when a certificate is missing, nothing has happened yet. Copies and
entries of digests are written once however often the message comes again, so a retry after a hand-over that
failed adds nothing. Success is told only after the hand-over.

Standards: RFC 5321 section 6.3 (loops), RFC 3834 (nothing is ever answered).
Security: plaintext goes to `Seals`, `Keeper` and `Collector`, and out only where a rule passes it on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from secmailproxy.errors import ConfigError, NotAllowed, NoUsableCertificate, SigningKeyUnusable
from secmailproxy.forward.destinations import Resolve, destinations
from secmailproxy.forward.message import refuse_loop
from secmailproxy.forward.model import (
    Collect,
    Collector,
    Disposition,
    Entrance,
    Forward,
    ForwardSettings,
    Keep,
    Keeper,
    Outlet,
    PassOn,
    Product,
    Receipt,
    Seals,
    SystemMail,
    Target,
)
from secmailproxy.forward.rules import decide
from secmailproxy.forward.tally import Outcome, outcomes_of
from secmailproxy.model import Envelope

if TYPE_CHECKING:
    from keystore.keystore import Keystore
    from secmailproxy.folders import Folders
    from secmailproxy.forward.aliases import Resolved
    from secmailproxy.forward.journal import Journal


@dataclass(frozen=True, slots=True)
class Desk:
    """Processes one message after the other. May be used by several threads when its parts may."""

    settings: ForwardSettings
    seals: Seals
    outlet: Outlet
    keeper: Keeper | None = None
    collector: Collector | None = None
    journal: Journal | None = None
    tell: Callable[[str], None] = field(default=lambda why: None)
    """Hears in one line, without content, why a message is not sealed for whom it is; must not raise."""

    def process(self, mail: SystemMail) -> Receipt:
        """Returns when nothing can be lost any more. Blocks: a server calls it in a thread.

        Raises SecMailProxyError, KeystoreError or OSError; then nothing was sent, and whoever brought the
        message must keep it and try again, whatever the error is called: to give it back would quote it.
        """
        disposition = decide(mail, self.settings)
        try:
            receipt = self._carry_out(mail, disposition)
        except Exception as error:
            self._note(mail, (Outcome.DEFERRED,), disposition.rule, type(error).__name__)
            raise
        self._note(mail, outcomes_of(disposition.actions, receipt), disposition.rule)
        return receipt

    def _note(self, mail: SystemMail, outcomes: tuple[Outcome, ...], rule: str, why: str = "") -> None:
        if self.journal is not None and mail.entrance is not Entrance.OWN:
            # Whatever goes wrong with it: the message is through, and must not be brought again.
            with suppress(Exception):
                self.journal.note(mail, outcomes, rule, why)

    def _carry_out(self, mail: SystemMail, disposition: Disposition) -> Receipt:
        self.refuse_impossible(disposition)
        products = self._sealed(mail, disposition)
        copies = [action for action in disposition.actions if isinstance(action, Keep)]
        entries = [action for action in disposition.actions if isinstance(action, Collect)]
        receipt: Receipt | None = None
        try:
            with self.keeper.attempt(mail) if self.keeper and copies else nullcontext() as copying:
                for copy in copies:
                    assert copying is not None  # there is a keeper
                    copying.keep(copy)
                for entry in entries:
                    assert self.collector is not None  # asked above, before anything is stored
                    self.collector.collect(mail, entry)
                if products:
                    self.outlet.take(products)
                held = sum(bool(product.held) for product in products)
                receipt = Receipt(disposition.rule, len(products), len(copies), len(entries), held)
                if copying is not None:
                    copying.finish()
        except Exception:
            if receipt is None:
                raise
            # The message is through: an error now would bring it again.
        return receipt

    def _sealed(self, mail: SystemMail, disposition: Disposition) -> tuple[Product, ...]:
        try:
            products = products_of(mail, disposition, self.settings, self.seals)
        except (NoUsableCertificate, SigningKeyUnusable) as error:
            self.tell(error.text)
            raise
        for why in dict.fromkeys(product.held for product in products if product.held):
            self.tell(f"held: {why}")
        return products

    def refuse_impossible(self, disposition: Disposition) -> None:
        """Raises ConfigError for an action for which there is no part of the desk."""
        for action in disposition.actions:
            if isinstance(action, Keep) and self.keeper is None:
                raise ConfigError(f"a rule keeps a copy in {action.path}, which is not possible here")
            if isinstance(action, Collect) and self.collector is None:
                raise ConfigError(f"a rule collects for {action.digest}, which is not possible here")


def desk_of(
    folders: Folders,
    settings: ForwardSettings,
    keystore: Keystore,
    outlet: Outlet,
) -> Desk:
    """The desk that works with the files of this machine."""
    from secmailproxy.forward.collected import collected_of
    from secmailproxy.forward.copies import Copies
    from secmailproxy.forward.journal import journal_of
    from secmailproxy.forward.seals import KeystoreSeals

    def tell(why: str) -> None:
        from secmailproxy.forward.alerting import Alerts  # for what goes wrong alone

        Alerts(lambda: settings, keystore, lambda _: outlet, folders.state).tell(why)

    return Desk(
        settings,
        KeystoreSeals(keystore, settings),
        outlet,
        Copies(folders.traces),
        collected_of(folders, keystore),
        journal_of(folders),
        tell,
    )


def products_of(
    mail: SystemMail, disposition: Disposition, settings: ForwardSettings, seals: Seals
) -> tuple[Product, ...]:
    """All that leaves. Nothing is changed anywhere. Raises as `Desk.process` does."""
    return tuple(_products(mail, disposition, settings, seals))


def _products(
    mail: SystemMail, disposition: Disposition, settings: ForwardSettings, seals: Seals
) -> Iterator[Product]:
    served: set[str] = set()
    if any(isinstance(action, Collect) for action in disposition.actions):
        # Else a digest that comes back would be in the next one.
        refuse_loop(mail.octets, "", settings.mark)
    for action in disposition.actions:
        if isinstance(action, PassOn):
            yield _passed_on(mail, settings)
        elif isinstance(action, Forward):
            # Nobody gets a message twice: the first action that is for an address is the one.
            targets = [one for one in targets_of(mail, action, settings) if one.address.lower() not in served]
            served.update(one.address.lower() for one in targets)
            if targets:
                yield from seals.seal(mail, action, targets)


def targets_of(mail: SystemMail, action: Forward, settings: ForwardSettings) -> tuple[Target, ...]:
    """Whom `action` sends to.

    Raises ConfigError where there is no target for an address, LimitExceeded, NotAllowed for a mail loop.
    """
    targets = destinations(mail, action, settings, _resolver(settings))
    for target in targets:
        refuse_loop(mail.octets, target.address, settings.mark)
    if _is_our_bounce(mail, settings):
        raise NotAllowed("the message is a bounce of one that this host has forwarded (mail loop)")
    return targets


def _is_our_bounce(mail: SystemMail, settings: ForwardSettings) -> bool:
    """A bounce that quotes our mark, where what we send has a sender who can get a bounce of it in turn."""
    if settings.via != "smarthost" or mail.mail_from or mail.entrance is Entrance.OWN:
        return False
    return bool(settings.mark) and settings.mark.encode() in mail.octets


def _passed_on(mail: SystemMail, settings: ForwardSettings) -> Product:
    if settings.via == "smarthost":
        raise ConfigError('a rule passes a message on, which forward.via = "smarthost" cannot')
    if not mail.rcpt_tos:
        raise ConfigError("a rule passes a message on, and its recipients are not known here")
    if not all(map(str.isprintable, (mail.mail_from, *mail.rcpt_tos))):
        raise NotAllowed("a rule passes a message on, and an address of it holds a control character")
    if not (mail.octets.count(b"\r") == mail.octets.count(b"\n") == mail.octets.count(b"\r\n")):
        # Servers do not agree on where such a message ends.
        raise NotAllowed("a rule passes a message on, and it holds a bare CR or LF")
    refuse_loop(mail.octets, "", "")
    envelope = Envelope(mail.mail_from, mail.rcpt_tos, mail.mail_options, mail.rcpt_options)
    return Product(mail.octets, envelope, is_plain=True)


def _resolver(settings: ForwardSettings) -> Resolve:
    """Reads the aliases file when a name is first asked for."""

    @lru_cache
    def resolve(name: str) -> Resolved:
        # A pipe mostly knows no recipients.
        from secmailproxy.forward.aliases import Resolved
        from secmailproxy.forward.aliasfile import resolve_name

        # A machine without aliases has no such file.
        return resolve_name(name, settings.aliases) if os.path.exists(settings.aliases) else Resolved((name,))

    return resolve
