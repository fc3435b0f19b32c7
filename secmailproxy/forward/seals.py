"""Seals system messages with the certificates of the keystore, and its keys where a rule wants a signature.

Targets of one scheme at one domain share a message, for its server sees them together in the envelope anyway;
all others get one of their own, which says nothing of who else is told. A target without a usable certificate
keeps all back, or where there is an escrow, what is for it is encrypted to the escrow and held.

Standards: RFC 3156, RFC 8551, RFC 9788.
Security: encrypting touches no secret. The signature is inside the encryption.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keystore.model import Fingerprint, Scheme
from secmailproxy.errors import NoUsableCertificate
from secmailproxy.forward.hostkey import host_certificate
from secmailproxy.forward.model import Entrance, Forward, ForwardSettings, Product, SystemMail, Target
from secmailproxy.forward.sealing import bounces_to, openpgp_product, passed, system_header
from secmailproxy.forward.target import Pinned, pinned
from secmailproxy.mime.entity import Entity, parse_or_leaf
from secmailproxy.mime.protected import ProtectedMessage
from secmailproxy.mime.system import Carried, is_sealed, system_message
from secmailproxy.model import Envelope
from secmailproxy.stamp import RANDOM_OCTETS, Stamp

if TYPE_CHECKING:
    from keystore.keystore import Keystore


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads one product."""

    rcpt_tos: tuple[str, ...]
    pinned: Pinned
    held: str = ""

    def joined(self, other: Readers) -> Readers:
        """Both, of one scheme, each address and certificate once."""
        return Readers(
            tuple(dict.fromkeys((*self.rcpt_tos, *other.rcpt_tos))),
            replace(
                self.pinned,
                fingerprints=tuple(dict.fromkeys((*self.pinned.fingerprints, *other.pinned.fingerprints))),
            ),
            "; ".join(dict.fromkeys(filter(None, (self.held, other.held)))),
        )


@dataclass(frozen=True, slots=True)
class KeystoreSeals:
    """A `model.Seals`. `settings.sender` must be set."""

    keystore: Keystore
    settings: ForwardSettings
    clock: Callable[[], datetime] = _now

    def seal(self, mail: SystemMail, action: Forward, targets: Sequence[Target]) -> tuple[Product, ...]:
        """As `model.Seals` has it. Raises SigningKeyUnusable, ConfigError and KeystoreError (locked) too."""
        now, root = self.clock(), parse_or_leaf(mail.octets)
        with self.keystore.steady():
            if is_sealed(root):
                return (passed(root, mail, self.settings, [one.address for one in targets]),)
            return tuple(
                Product(
                    self._sealed(root, action, readers, now, is_own=mail.entrance is Entrance.OWN),
                    Envelope(bounces_to(mail, self.settings), readers.rcpt_tos),
                    held=readers.held,
                )
                for readers in self._readers(targets, now)
            )

    def _readers(self, targets: Sequence[Target], now: datetime) -> tuple[Readers, ...]:
        """One for each product."""
        found: dict[tuple[bool, Scheme, str], Readers] = {}
        for target in targets:
            one = self._reader(target, now)
            domain = one.rcpt_tos[0].rpartition("@")[2].lower()
            key = bool(one.held), one.pinned.scheme, domain
            found[key] = found[key].joined(one) if key in found else one
        return tuple(found.values())

    def _reader(self, target: Target, now: datetime) -> Readers:
        try:
            return Readers((target.address,), pinned(self.keystore, target, now))
        except NoUsableCertificate as error:
            escrow, held = self.settings.escrow, error
        if escrow is None:
            raise held
        try:
            return Readers((escrow.address,), pinned(self.keystore, escrow, now), held.text)
        except NoUsableCertificate as error:
            raise NoUsableCertificate(f"{held.text}; the escrow: {error.text}") from None

    def _sealed(
        self, root: Entity, action: Forward, readers: Readers, now: datetime, *, is_own: bool
    ) -> bytes:
        scheme = readers.pinned.scheme
        host = host_certificate(self.keystore, self.settings, scheme, now) if action.sign else None
        author = self.settings.sender
        if host is not None and author.lower() not in host.addresses and host.addresses:
            # Readers believe a signature for the addresses of its key alone.
            author = host.addresses[0]
        head = system_header(action, self.settings, author, readers.rcpt_tos)
        stamp = Stamp.fresh(now, author.rpartition("@")[2], os.urandom(RANDOM_OCTETS))
        carried = Carried.NOT_AT_ALL if is_own else Carried.AS_IT_IS
        if host is not None and scheme is Scheme.SMIME:
            carried = Carried.FOR_A_SIGNATURE
        ready = system_message(
            root,
            head,
            date=stamp.date,
            message_id=stamp.message_id,
            carried=carried,
        )
        signer = host.fingerprint if host is not None else None
        return self._encrypted(ready, readers.pinned, signer, stamp)

    def _encrypted(
        self, ready: ProtectedMessage, to: Pinned, signer: Fingerprint | None, stamp: Stamp
    ) -> bytes:
        if to.scheme is Scheme.SMIME:
            from secmailproxy.sealing_smime import SmimeSealer  # its libraries take long to import

            return SmimeSealer(self.keystore).sealed_for_others(ready, to.fingerprints, signer, stamp)
        return openpgp_product(
            ready,
            lambda payload: self.keystore.encrypt(payload, to.fingerprints, signer, stamp.now),
            stamp.boundary,
        )
