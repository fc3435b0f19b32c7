"""Makes protected messages and proves each one: it is taken apart again and compared with what went in.

Synchronous; the caller chooses the thread. Nothing is returned that did not pass its proof.

Standards: RFC 3156 (section 6.2: signed inside, encrypted outside, in one OpenPGP message), RFC 9788.
Security: `Stamp` brings time and randomness. A key that GnuPG holds is not asked to decrypt for the proof of
its own product, which could make GnuPG ask for a passphrase at every message sent; the keystore has compared
the keys it encrypted to already.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from keystore.keystore import Keystore
from keystore.model import Fingerprint, Holder, SignatureResult, SignatureState
from secmailproxy.mime import assemble
from secmailproxy.mime.enclosures import NOTHING, Enclosures
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.owncopy import for_owner, for_rest
from secmailproxy.mime.protected import ProtectedMessage, Protects
from secmailproxy.mime.transfer import decoded_body
from secmailproxy.preparation import ProofFailed, prepared, prove_outside
from secmailproxy.stamp import Stamp


@dataclass(frozen=True, slots=True)
class Sealer:
    """Makes protected messages with the keys of one keystore. Raises KeystoreError beside what is named."""

    keystore: Keystore

    def signed(
        self, message: Entity, signer: Fingerprint, stamp: Stamp, enclosures: Enclosures = NOTHING
    ) -> bytes:
        """multipart/signed. Raises MalformedMessage when it cannot be signed as it is, ProofFailed."""
        ready = prepared(message, Protects.CLEAR, stamp, hidden=False, enclosures=enclosures)
        signature = self.keystore.sign(ready.payload, signer, stamp.now)
        product = assemble.signed(ready.outer, ready.payload, signature, stamp.boundary)
        self._prove_signed(product, ready, signer, stamp.now)
        return product

    def encrypted(
        self,
        message: Entity,
        copies: Sequence[Sequence[Fingerprint]],
        signer: Fingerprint,
        stamp: Stamp,
        *,
        hidden: bool,
        enclosures: Enclosures = NOTHING,
    ) -> list[bytes]:
        """multipart/encrypted, signed inside, once for each set of certificates; `hidden`: the subject is.

        Raises MalformedMessage when it cannot be signed as it is, ProofFailed.
        """
        ready = prepared(message, Protects.CIPHER, stamp, hidden=hidden, enclosures=enclosures)
        return [self.sealed(ready, fingerprints, signer, stamp) for fingerprints in copies]

    def own_copy(self, message: Entity, own: Fingerprint, signer: Fingerprint | None, stamp: Stamp) -> bytes:
        """A draft or sent mail for its owner: the octets of the message, as they are, inside."""
        return self.sealed(for_owner(message), (own,), signer, stamp)

    def at_rest(self, message: Entity, own: Fingerprint, stamp: Stamp) -> bytes:
        """A message of any kind for the owner of a mailbox: `kept.original` gives its octets back."""
        return self.sealed(for_rest(message), (own,), None, stamp)

    def sealed(
        self,
        ready: ProtectedMessage,
        fingerprints: Sequence[Fingerprint],
        signer: Fingerprint | None,
        stamp: Stamp,
    ) -> bytes:
        """multipart/encrypted of a payload that is ready. Raises ProofFailed."""
        product, ciphertext = self._made(ready, fingerprints, signer, stamp)
        self._prove_opened(ciphertext, ready, fingerprints, signer, stamp.now)
        return product

    def _made(
        self,
        ready: ProtectedMessage,
        fingerprints: Sequence[Fingerprint],
        signer: Fingerprint | None,
        stamp: Stamp,
    ) -> tuple[bytes, bytes]:
        """The message and the armored ciphertext in it, found there again."""
        ciphertext = self.keystore.encrypt(ready.payload, fingerprints, signer, stamp.now)
        product = assemble.encrypted(ready.outer, ciphertext, stamp.boundary)
        root = parse(product)
        prove_outside(root, ready)
        if assemble.openpgp_ciphertext(root) != ciphertext:
            raise ProofFailed("the message did not come out as multipart/encrypted")
        return product, ciphertext

    def _prove_signed(
        self, product: bytes, ready: ProtectedMessage, signer: Fingerprint, now: datetime
    ) -> None:
        root = parse(product)
        prove_outside(root, ready)
        if assemble.made(root) is not assemble.Made.SIGNED or root.parts[0].whole != ready.payload:
            raise ProofFailed("the signed octets are not what they were")
        signed, signature = root.parts
        _prove_signer(self.keystore.verify(signed.whole, decoded_body(signature), now), signer)

    def _prove_opened(
        self,
        ciphertext: bytes,
        ready: ProtectedMessage,
        fingerprints: Sequence[Fingerprint],
        signer: Fingerprint | None,
        now: datetime,
    ) -> None:
        if not self._opens_in_process(fingerprints):
            return
        opened = self.keystore.decrypt(ciphertext, now)
        if opened.octets != ready.payload:
            raise ProofFailed("the message does not decrypt to what it was")
        if signer is not None:
            _prove_signer(opened.signatures, signer)
        wanted = set(fingerprints)
        for key_id in opened.recipients:
            if not wanted & {one.fingerprint for one in self.keystore.certificates(key_id)}:
                raise ProofFailed("the message is encrypted to a key that was not asked for")
        if len(opened.recipients) != len(wanted):
            raise ProofFailed("the message is not encrypted to every key that was asked for")

    def _opens_in_process(self, fingerprints: Sequence[Fingerprint]) -> bool:
        found = (self.keystore.certificate(one) for one in fingerprints)
        return any(one is not None and one.holder is Holder.OWN for one in found)


def _prove_signer(results: Sequence[SignatureResult], signer: Fingerprint) -> None:
    if not any(one.state is SignatureState.GOOD and one.fingerprint == signer for one in results):
        raise ProofFailed(f"the signature of {signer} does not verify")
