"""Who holds which secret keys, and whether they answer now. Nobody is asked for a passphrase or a PIN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keystore import openpgp
from keystore.agent import AgentKey, plain_number
from keystore.errors import StoreLocked
from keystore.model import Certificate, Fingerprint, Holder
from keystore.openpgp import elsewhere

if TYPE_CHECKING:
    from keystore.keystore import Keystore


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
    """One for each holder that there is, with keys or without."""
    own = [one for one in keystore.certificates() if one.holder is not Holder.NONE]
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
        known = {one.number: one for one in keystore.agent.held()}
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
