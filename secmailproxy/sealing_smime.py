"""Makes S/MIME messages and proves each one, as `sealing` does for OpenPGP.

A signature stands inside an encryption, so that nobody else sees who signed. All copies of one message carry
the same signature and are encrypted apart (RFC 8551 section 3.6; blind recipients: SMTP-09).

Standards: RFC 8551, RFC 9788. Synchronous; the caller chooses the thread.
Security: nothing is returned that did not pass its proof: the signed octets are those of the payload, the
signature is the signer's, the envelope names exactly the certificates asked for and opens to what went in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keystore.keystore import Keystore
from keystore.model import Fingerprint
from secmailproxy.mime import pkcs7
from secmailproxy.mime.assemble import Made, made
from secmailproxy.mime.enclosures import NOTHING, Enclosures
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.mime.owncopy import for_owner, for_rest
from secmailproxy.mime.protected import ProtectedMessage, Protects
from secmailproxy.mime.transfer import decoded_body
from secmailproxy.preparation import ProofFailed, prepared, prove_outside
from secmailproxy.stamp import Stamp

if TYPE_CHECKING:
    from keystore.smime import CmsEnvelope


@dataclass(frozen=True, slots=True)
class SmimeSealer:
    """Makes S/MIME messages with the keys of one keystore. Raises KeystoreError beside what is named."""

    keystore: Keystore

    def signed(
        self, message: Entity, signer: Fingerprint, stamp: Stamp, enclosures: Enclosures = NOTHING
    ) -> bytes:
        """multipart/signed. Raises MalformedMessage when it cannot be signed as it is, ProofFailed."""
        ready = prepared(message, Protects.CLEAR, stamp, hidden=False, enclosures=enclosures)
        signature = self.keystore.smime.sign(ready.payload, signer, stamp.now)
        product = pkcs7.signed(ready.outer, ready.payload, signature.der, signature.micalg, stamp.boundary)
        root = parse(product)
        prove_outside(root, ready)
        self._prove_signed(root, ready.payload, signer)
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
        """application/pkcs7-mime, signed inside, once for each set of certificates; `hidden`: the subject is.

        An own certificate that only signs is replaced by the one that its owner reads with. Raises
        MalformedMessage when it cannot be signed as it is, ProofFailed.
        """
        ready = prepared(message, Protects.CIPHER, stamp, hidden=hidden, enclosures=enclosures)
        inside = self._signed_entity(ready.payload, signer, stamp)
        reader = self.keystore.smime.reader(signer, stamp.now)
        wanted = [[reader if one == signer else one for one in copy] for copy in copies]
        return [self._enveloped(ready, inside, fingerprints, stamp) for fingerprints in wanted]

    def own_copy(self, message: Entity, own: Fingerprint, stamp: Stamp) -> bytes:
        """A draft or sent mail for its owner: the octets of the message, as they are, inside."""
        return self._for_owner(for_owner(message), own, stamp)

    def at_rest(self, message: Entity, own: Fingerprint, stamp: Stamp) -> bytes:
        """A message of any kind for the owner of a mailbox: `kept.original` gives its octets back."""
        return self._for_owner(for_rest(message), own, stamp)

    def sealed_for_others(
        self,
        ready: ProtectedMessage,
        fingerprints: Sequence[Fingerprint],
        signer: Fingerprint | None,
        stamp: Stamp,
    ) -> bytes:
        """application/pkcs7-mime that this machine need not be able to read; signed inside with a `signer`.

        No secret but the signer's is touched. Raises ProofFailed.
        """
        inside = ready.payload if signer is None else self._signed_entity(ready.payload, signer, stamp)
        product, envelope = self._wrapped(ready, inside, fingerprints, stamp)
        self._prove_named(envelope, fingerprints)
        return product

    def _for_owner(self, ready: ProtectedMessage, own: Fingerprint, stamp: Stamp) -> bytes:
        """Encrypted with AES-GCM, which the owner's own proxy reads; a name of its own says which it is."""
        reader = self.keystore.smime.reader(own, stamp.now)
        return self._enveloped(ready, ready.payload, (reader,), stamp, _content_id(stamp))

    def _signed_entity(self, payload: bytes, signer: Fingerprint, stamp: Stamp) -> bytes:
        signature = self.keystore.smime.sign(payload, signer, stamp.now)
        entity = pkcs7.signed_entity(payload, signature.der, signature.micalg, stamp.boundary)
        self._prove_signed(parse(entity), payload, signer)
        return entity

    def _enveloped(
        self,
        ready: ProtectedMessage,
        inside: bytes,
        fingerprints: Sequence[Fingerprint],
        stamp: Stamp,
        *fields: bytes,
    ) -> bytes:
        product, envelope = self._wrapped(ready, inside, fingerprints, stamp, *fields)
        self._prove_enveloped(envelope, inside, fingerprints)
        return product

    def _wrapped(
        self,
        ready: ProtectedMessage,
        inside: bytes,
        fingerprints: Sequence[Fingerprint],
        stamp: Stamp,
        *fields: bytes,
    ) -> tuple[bytes, CmsEnvelope]:
        """The message and the envelope in it, found there again."""
        envelope = self.keystore.smime.encrypt(inside, fingerprints, stamp.now)
        product = pkcs7.enveloped(ready.outer, envelope.der, envelope.smime_type, *fields)
        root = parse(product)
        prove_outside(root, ready)
        if made(root) is not Made.ENCRYPTED or pkcs7.cms_octets(root) != envelope.der:
            raise ProofFailed("the message did not come out as application/pkcs7-mime")
        return product, envelope

    def _prove_signed(self, root: Entity, payload: bytes, signer: Fingerprint) -> None:
        if made(root) is not Made.SIGNED or root.parts[0].whole != payload:
            raise ProofFailed("the signed octets are not what they were")
        signed, signature = root.parts
        if not self.keystore.smime.proves(signed.whole, decoded_body(signature), signer):
            raise ProofFailed(f"the signature of {signer} does not verify")

    def _prove_enveloped(
        self, envelope: CmsEnvelope, inside: bytes, fingerprints: Sequence[Fingerprint]
    ) -> None:
        self._prove_named(envelope, fingerprints)
        opened = self.keystore.smime.decrypt(envelope.der)
        if opened.octets != inside or opened.authenticated is not envelope.cipher.authenticates:
            raise ProofFailed("the message does not decrypt to what it was")

    def _prove_named(self, envelope: CmsEnvelope, fingerprints: Sequence[Fingerprint]) -> None:
        named = [one and one.fingerprint for one in self.keystore.smime.recipients(envelope.der)]
        if set(named) != set(fingerprints) or len(named) != len(set(named)):
            raise ProofFailed("the message is not encrypted to the certificates that were asked for alone")


def _content_id(stamp: Stamp) -> bytes:
    """The field by which a copy is found again, whatever a server makes of its octets."""
    return b"Content-ID: <%b@secmailproxy.invalid>\r\n" % stamp.boundary.strip("=-").encode("ascii")
