"""Signing, encrypting and opening, each by the holder of the secret key.

Our own keys work in this process. For a key that GnuPG holds, its agent signs the digest or opens the session
key; the message is made, read and judged in this process all the same. Only a kind of encryption that is not
ours is unwrapped by gpg, with the session key that one of the holders opened.

Standards: RFC 9580, RFC 3156 section 6.2 (signed and encrypted in one message).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from keystore import openpgp
from keystore.agentmessages import AgentMessages, HeldKey, HolderInDoubt
from keystore.cache import CertificateCache
from keystore.errors import KeyRefused, NotReadable, StoreLocked
from keystore.gnupg import Gnupg, GnupgAbsent
from keystore.model import (
    HIDDEN,
    Certificate,
    DetachedSignature,
    Fingerprint,
    Holder,
    Opened,
    Purpose,
    SignatureResult,
    Usability,
)
from keystore.vault import Vault

Judge = Callable[[Certificate, Purpose, datetime], Usability]


_OF_THE_MESSAGE = frozenset({"no-integrity", "too-large", "passphrase", "not-encrypted"})
"""Reasons not to open a message that no other key and no other reader changes."""


@dataclass(frozen=True, slots=True)
class _Addressees:
    """Which holders a ciphertext may be for, by the key IDs that it names."""

    own: bool
    gnupg: bool
    hidden: bool


class Messages:
    """The cryptographic work of the keystore. Errors as in `keystore.keystore`."""

    def __init__(self, cache: CertificateCache, vault: Vault, gnupg: Gnupg, judge: Judge) -> None:
        self._cache = cache
        self._vault = vault
        self._gnupg = gnupg
        self._agent = AgentMessages(gnupg.agent)
        self._judge = judge

    def sign(self, octets: bytes, signer: Certificate, now: datetime) -> DetachedSignature:
        """Sign `octets` with the newest signing key of `signer`."""
        keys = self._demand_usable(signer, Purpose.SIGN, now)
        if signer.holder is Holder.GNUPG:
            return self._agent.sign(octets, signer, keys[0], now)
        return openpgp.sign_detached(self._vault.key(signer.fingerprint), octets, now)

    def encrypt(
        self, octets: bytes, recipients: Sequence[Certificate], signer: Certificate | None, now: datetime
    ) -> bytes:
        """Encrypt to every recipient; KeyRefused when one is not usable, or there is none."""
        if not recipients:
            raise KeyRefused("a message cannot be encrypted to nobody")
        targets = [(one.octets, self._demand_usable(one, Purpose.ENCRYPT, now)) for one in recipients]
        if signer is None:
            return openpgp.encrypt(octets, targets, None, now)
        keys = self._demand_usable(signer, Purpose.SIGN, now)
        if signer.holder is not Holder.GNUPG:
            return openpgp.encrypt(octets, targets, self._vault.key(signer.fingerprint), now)
        chosen = [openpgp.recipient_key(certificate, found[0]) for certificate, found in targets]
        return self._agent.sign_and_encrypt(octets, chosen, signer, keys[0], now)

    def decrypt(self, ciphertext: bytes, now: datetime) -> Opened:
        """Open a message with whichever holder has a key for it."""
        outcome: NotReadable | StoreLocked
        try:
            return openpgp.open_message(ciphertext, self._own_keys(), self._cache.by_issuer, now)
        except (NotReadable, StoreLocked) as error:
            outcome = error
        if isinstance(outcome, NotReadable) and outcome.reason in _OF_THE_MESSAGE:
            raise outcome
        addressees = self._addressees(openpgp.key_ids(ciphertext))
        if isinstance(outcome, StoreLocked):
            # A locked store of ours is no reason to keep GnuPG's mail from its reader.
            if addressees.own or (addressees.hidden and not addressees.gnupg):
                raise outcome
            outcome = NotReadable("there is no secret key for this message", reason="no-secret-key")
        if addressees.gnupg or (addressees.hidden and self._vault.held_by(Holder.GNUPG)):
            return self._open_by_agent(ciphertext, addressees, now)
        if isinstance(outcome, openpgp.BeyondUs):
            return self._open_with_gnupg(ciphertext, outcome, now)
        raise outcome

    def _own_keys(self) -> Iterator[openpgp.SecretKey]:
        # Asked for when there is something to decrypt, and not before: they may be locked.
        yield from self._vault.keys()

    def verify(self, octets: bytes, signature: bytes, now: datetime) -> tuple[SignatureResult, ...]:
        """Judge detached signatures."""
        return openpgp.verify_detached(octets, signature, self._cache.by_issuer, now)

    def _open_with_gnupg(self, ciphertext: bytes, refusal: NotReadable, now: datetime) -> Opened:
        """For a cipher that is not ours but gpg's: a key of ours opens the session key, gpg the rest."""
        session_key = openpgp.session_key_text(ciphertext, self._vault.keys())
        if session_key is None:
            raise refusal
        return self._unwrapped(ciphertext, session_key, refusal, now)

    def _unwrapped(self, ciphertext: bytes, session_key: str, refusal: NotReadable, now: datetime) -> Opened:
        try:
            inside = self._gnupg.unwrap(openpgp.for_gnupg(ciphertext), session_key)
        except GnupgAbsent:
            # That must not look like a locked key, which would keep a mailbox closed.
            raise refusal from None
        return openpgp.open_unwrapped(ciphertext, inside, self._cache.by_issuer, now)

    def _open_by_agent(self, ciphertext: bytes, addressees: _Addressees, now: datetime) -> Opened:
        held = [
            one for fingerprint in self._vault.held_by(Holder.GNUPG) if (one := self._cache.get(fingerprint))
        ]
        refusal = NotReadable("GnuPG has no secret key for this message", reason="no-secret-key")
        if addressees.gnupg:
            refusal = NotReadable("GnuPG cannot read the message", reason="damaged")
        try:
            for wrong, session_key in enumerate(self._agent.session_keys(ciphertext, held), start=1):
                try:
                    return self._open_with(session_key, ciphertext, now)
                except NotReadable as error:
                    refusal = error
                if openpgp.is_in_vain(wrong, len(ciphertext)):
                    break
        except HolderInDoubt as doubt:
            # Strangers can make messages on which an agent's errors are like those of an absent card. If they
            # were taken for one, such a message would keep a whole mailbox from being read.
            if not self._answers(doubt.keys, now):
                raise
        raise refusal

    def _open_with(self, session_key: bytes, ciphertext: bytes, now: datetime) -> Opened:
        try:
            return openpgp.open_with_session_key(ciphertext, session_key, self._cache.by_issuer, now)
        except openpgp.BeyondUs as refusal:
            text = openpgp.session_key_for_gnupg(session_key)
            return self._unwrapped(ciphertext, text, refusal, now)

    def _answers(self, keys: Sequence[HeldKey], now: datetime) -> bool:
        """Whether the agent opens a message of our own to each of these keys."""
        try:
            for key in keys:
                trial = openpgp.encrypt(b"", [(key.owner.octets, [key.fingerprint])], None, now)
                if not any(self._agent.session_keys(trial, [key.owner])):
                    return False
        except (KeyRefused, NotReadable, StoreLocked):
            return False
        return True

    def _addressees(self, ids: Sequence[str]) -> _Addressees:
        holders = {one.holder for number in ids if number != HIDDEN for one in self._cache.by_issuer(number)}
        return _Addressees(Holder.OWN in holders, Holder.GNUPG in holders, HIDDEN in ids)

    def _demand_usable(
        self, certificate: Certificate, purpose: Purpose, now: datetime
    ) -> tuple[Fingerprint, ...]:
        usability = self._judge(certificate, purpose, now)
        if not usability.usable:
            verb = "encrypt to" if purpose is Purpose.ENCRYPT else "sign with"
            raise KeyRefused(f"cannot {verb} {certificate.fingerprint}: {usability.explanation}")
        if purpose is Purpose.SIGN and certificate.holder is Holder.NONE:
            raise KeyRefused(f"there is no secret key for {certificate.fingerprint} in this keystore")
        return usability.keys
