"""Signing, encrypting and opening, each by the holder of the secret key.

Our own keys work in this process. For a key that GnuPG holds, gpg makes the signature or opens the session
key, and the message is read and judged in this process all the same; only a kind of encryption that the
engine does not know is unwrapped by gpg whole, for keys of ours with the session key that they open.

Standards: RFC 9580, RFC 3156 section 6.2 (signed and encrypted in one message).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from keystore import openpgp
from keystore.cache import CertificateCache
from keystore.errors import KeyRefused, NotReadable, StoreLocked
from keystore.gnupg import Gnupg, HolderInDoubt
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
    key_id,
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
        self._judge = judge

    def sign(self, octets: bytes, signer: Certificate, now: datetime) -> DetachedSignature:
        """Sign `octets` with the newest signing key of `signer`."""
        keys = self._demand_usable(signer, Purpose.SIGN, now)
        if signer.holder is Holder.GNUPG:
            return self._gnupg.sign_detached(keys[0], octets)
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
        narrowed = [openpgp.only_key(certificate, chosen[0]) for certificate, chosen in targets]
        made = self._gnupg.sign_and_encrypt(keys[0], octets, narrowed)
        if sorted(openpgp.key_ids(made)) != sorted(key_id(chosen[0]) for _, chosen in targets):
            raise KeyRefused("GnuPG would encrypt to other keys than those chosen")
        return made

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
        if addressees.gnupg or (addressees.hidden and self._vault.gnupg_holds_any()):
            return self._open_by_gnupg(ciphertext, addressees, now)
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
        try:
            inside = self._gnupg.unwrap(openpgp.for_gnupg(ciphertext), held=False, session_key=session_key)
        except StoreLocked:
            # There is no gpg here. That must not look like a locked key, which would keep a mailbox closed.
            raise refusal from None
        return openpgp.open_unwrapped(ciphertext, inside, self._cache.by_issuer, now)

    def _open_by_gnupg(self, ciphertext: bytes, addressees: _Addressees, now: datetime) -> Opened:
        held = addressees.gnupg
        packed = openpgp.for_gnupg(ciphertext)
        try:
            text = self._gnupg.session_key(packed, held=held)
        except HolderInDoubt:
            # Strangers can make messages on which gpg's errors are like those of an absent card. If they were
            # taken for one, such a message would keep a whole mailbox from being read.
            if not self._gnupg_answers(openpgp.key_ids(ciphertext), now):
                raise
            raise NotReadable("GnuPG cannot read the message", reason="damaged") from None
        session_key = openpgp.session_key_from_text(text)
        try:
            return openpgp.open_with_session_key(ciphertext, session_key, self._cache.by_issuer, now)
        except NotReadable as error:
            if error.reason != "unsupported":
                raise
        inside = self._gnupg.unwrap(packed, held=held)
        return openpgp.open_unwrapped(ciphertext, inside, self._cache.by_issuer, now)

    def _gnupg_answers(self, ids: Sequence[str], now: datetime) -> bool:
        """Whether GnuPG opens a message of our own to each of these keys that it holds."""
        held = {
            key: certificate
            for number in ids
            for certificate in self._cache.by_issuer(number)
            for key in openpgp.key_fingerprints(certificate.octets)
            if certificate.holder is Holder.GNUPG and key_id(key) == number
        }
        try:
            for key, certificate in held.items():
                self._gnupg.session_key(
                    openpgp.encrypt(b"", [(certificate.octets, [key])], None, now), held=True
                )
        except (KeyRefused, NotReadable, StoreLocked):
            return False
        return bool(held)

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
