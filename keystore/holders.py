"""Who holds which secret keys in place of the keystore, and whether they answer now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from keystore import openpgp
from keystore.agent import Agent, AgentKey, plain_number
from keystore.cache import matches
from keystore.errors import StoreLocked
from keystore.gnupg import Gnupg
from keystore.holding import Judge
from keystore.importing import Importer, Origin
from keystore.model import Certificate, Fingerprint, Holder, ImportResult, Trust
from keystore.openpgp import elsewhere
from keystore.store import Store
from keystore.vault import Vault

if TYPE_CHECKING:
    from keystore.keystore import Keystore


class Holders:
    """Secret keys that the keystore uses and does not have."""

    def __init__(self, store: Store, vault: Vault, gnupg: Gnupg, importer: Importer, judge: Judge) -> None:
        self._store = store
        self._vault = vault
        self._gnupg = gnupg
        self._importer = importer
        self._judge = judge

    @property
    def relies_on_gnupg(self) -> bool:
        """Whether GnuPG holds any secret key: using it may ask somebody for a passphrase, and take long."""
        return bool(self._vault.held_by(Holder.GNUPG))

    @property
    def agent(self) -> Agent:
        """GnuPG's agent, which holds the keys that GnuPG has."""
        return self._gnupg.agent

    @property
    def relies_on_token(self) -> bool:
        """Whether a token holds any secret key: only the process that is logged in there can use it."""
        return bool(self._vault.held_by(Holder.PKCS11))

    def take_from_gnupg(
        self,
        query: str = "",
        *,
        secret: bool = False,
        trust: Trust | None = None,
        now: datetime | None = None,
    ) -> list[ImportResult]:
        """Import from GnuPG's public ring what holds all words of `query` in fingerprint or user IDs.

        With `secret`, only keys whose secret half GnuPG has, which from then on signs and decrypts with them.
        """
        origin = Origin("GnuPG", trust, now or datetime.now(UTC), held_by_gnupg=secret)
        found = [key for key in self._gnupg.ring() if key.secret or not secret]
        wanted = [key.fingerprint for key in found if matches(query, key.fingerprint, key.user_ids)]
        exported = [self._gnupg.export(fingerprint) for fingerprint in wanted]
        taken = [self._importer.take_all(octets, origin, None) for octets in exported]
        return [result for results in taken for result in results]

    def take_from_token(
        self, pin: Callable[[], str] | None = None, *, trust: Trust | None = None, now: datetime | None = None
    ) -> list[ImportResult]:
        """Import the certificates of the configured token, which keeps their secret keys.

        `pin` is asked where the token wants one, and kept among the secrets when it is right; None for the
        one that is kept.
        """
        from keystore.importing_token import take_from_token  # few have a token

        origin = Origin("token", trust, now or datetime.now(UTC))
        return take_from_token(self._vault, self._store, self._judge, origin, pin)


@dataclass(frozen=True, slots=True)
class HeldKey:
    """An own certificate with its holder's view of the secret half."""

    fingerprint: Fingerprint
    addresses: tuple[str, ...]
    card: str = ""
    """Serial number of the smartcard that has a part of it, as GnuPG knows it."""


@dataclass(frozen=True, slots=True)
class HolderReport:
    """One holder. `answers`: its keys could be used now, but for a passphrase that it may ask for."""

    holder: Holder
    answers: bool
    reason: str
    """Why it does not answer; "" when it does."""
    keys: tuple[HeldKey, ...]


def reports(keystore: Keystore) -> list[HolderReport]:
    """One for each holder that there is, with keys or without. Nobody is asked for a passphrase or a PIN."""
    own = keystore.owned()
    by = {holder: [one for one in own if one.holder is holder] for holder in Holder}
    return [
        _of_ours(keystore, by[Holder.OWN]),
        _of_agent(keystore, by[Holder.GNUPG]),
        _of_token(keystore, by[Holder.PKCS11]),
    ]


def _of_ours(keystore: Keystore, own: list[Certificate]) -> HolderReport:
    if not own:
        return HolderReport(Holder.OWN, answers=True, reason="", keys=())
    try:
        keystore.unlock()
    except StoreLocked as error:
        return HolderReport(Holder.OWN, answers=False, reason=str(error), keys=_plain(own))
    return HolderReport(Holder.OWN, answers=True, reason="", keys=_plain(own))


def _of_agent(keystore: Keystore, own: list[Certificate]) -> HolderReport:
    if not own:
        return HolderReport(Holder.GNUPG, answers=True, reason="", keys=())
    try:
        known = {one.number: one for one in keystore.holders.agent.held()}
    except StoreLocked as error:
        return HolderReport(Holder.GNUPG, answers=False, reason=str(error), keys=_plain(own))
    found = [(one, _known_of(one, known)) for one in own]
    keys = tuple(
        HeldKey(one.fingerprint, one.addresses, next((part.card for part in parts if part.card), ""))
        for one, parts in found
    )
    lost = [one.fingerprint for one, parts in found if not parts]
    reason = f"it has not the key {lost[0]}" if lost else ""
    return HolderReport(Holder.GNUPG, answers=not lost, reason=reason, keys=keys)


def _known_of(certificate: Certificate, known: dict[bytes, AgentKey]) -> list[AgentKey]:
    numbers = [
        plain_number(elsewhere.public_number(elsewhere.public_key(certificate.octets, fingerprint)))
        for fingerprint in openpgp.key_fingerprints(certificate.octets)
    ]
    return [known[number] for number in numbers if number in known]


def _of_token(keystore: Keystore, own: list[Certificate]) -> HolderReport:
    if not own:
        return HolderReport(Holder.PKCS11, answers=True, reason="", keys=())
    reason = ""
    for one in own:
        try:
            keystore.smime.demand_held(one.fingerprint)
        except StoreLocked as error:
            reason = str(error)
            break
    return HolderReport(Holder.PKCS11, answers=not reason, reason=reason, keys=_plain(own))


def _plain(own: list[Certificate]) -> tuple[HeldKey, ...]:
    return tuple(HeldKey(one.fingerprint, one.addresses) for one in own)
