"""S/MIME messages: signing, encrypting and opening with the keys of the store.

Standards: RFC 8551, RFC 8550 section 3 (which certificates are sent along).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from keystore import smime
from keystore.authorities import Authorities
from keystore.cache import CertificateCache
from keystore.errors import KeyRefused, NotReadable, StoreLocked
from keystore.learning import Learning
from keystore.model import (
    Certificate,
    Fingerprint,
    Holder,
    Introduction,
    OpenedEnvelope,
    Purpose,
    Scheme,
    SignedContent,
    Usability,
)
from keystore.smimesignatures import SmimeSignatures
from keystore.vault import Vault

Judge = Callable[[Certificate, Purpose, datetime], Usability]
MAX_CHAIN = 8
"""Certificates above a person's; real chains have two or three."""


class SmimeMessages:
    """The cryptographic work of the keystore for S/MIME. Errors as in `keystore.keystore`."""

    def __init__(
        self,
        cache: CertificateCache,
        vault: Vault,
        judge: Judge,
        authorities: Authorities,
        learning: Learning,
    ) -> None:
        self._cache = cache
        self._vault = vault
        self._judge = judge
        self._signatures = SmimeSignatures(cache, authorities)
        self._learning = learning

    def sign(self, octets: bytes, signer: Fingerprint, now: datetime) -> smime.CmsSignature:
        """A detached signature over `octets` as they are, with the chain of the signer but for its root."""
        certificate = self._usable(signer, Purpose.SIGN, now)
        key = self._vault.smime_key(signer)
        return smime.sign(octets, key, [one.octets for one in self.chain(certificate, root=False)], now)

    def encrypt(self, octets: bytes, recipients: Sequence[Fingerprint], now: datetime) -> smime.CmsEnvelope:
        """Encrypt to all `recipients`, with the best cipher that the programs of all are known to read.

        KeyRefused when one is not usable, or there is none.
        """
        if not recipients:
            raise KeyRefused("a message cannot be encrypted to nobody")
        found = [self._usable(one, Purpose.ENCRYPT, now) for one in dict.fromkeys(recipients)]
        return smime.envelop(octets, {one.octets: self._capabilities(one) for one in found})

    def learn(self, one: Introduction, now: datetime) -> None:
        """Keep what a valid signature introduces, within limits; see `keystore.learning`.

        Raises StoreLocked at once when another process writes.
        """
        kept = self._learning.take(one, now)
        if kept is not None and kept.holder is Holder.NONE:
            with self._learning.at_once():
                self.learn_capabilities(kept.fingerprint, one.capabilities, one.signed or now)

    def learn_capabilities(self, signer: Fingerprint, statement: bytes, stated: datetime) -> None:
        """Note what the owner of a certificate has signed of their program; the latest word counts.

        `statement` is SMIMECapabilities (RFC 8551 section 2.5.2), `stated` when it was signed. Only what is
        under a good signature of this certificate may come here. A certificate that is not stored, or a
        statement that says nothing of use, changes nothing.
        """
        if self._cache.get(signer) is not None and smime.capabilities_of(statement) != smime.NOTHING_STATED:
            self._cache.learn(signer, statement, stated)

    def decrypt(self, cms: bytes) -> OpenedEnvelope:
        """Open EnvelopedData or AuthEnvelopedData (BER or DER) with any own key, expired ones too.

        Raises NotReadable, and StoreLocked where a key for it is in a locked store.
        """
        envelope = smime.read_envelope(cms)
        own = [
            (recipient, certificate.fingerprint)
            for recipient in envelope.recipients
            for certificate in (self._cache.named(recipient.name) if recipient.name else ())
            if certificate.holder is not Holder.NONE
        ]
        pairs: list[tuple[smime.NamedRecipient, smime.SecretKey]] = []
        locked: StoreLocked | None = None
        for recipient, fingerprint in own[: smime.MAX_ATTEMPTS]:
            try:
                pairs.append((recipient, self._vault.smime_key(fingerprint)))
            except StoreLocked as error:  # another key may open it all the same
                locked = error
            except KeyRefused:  # deleted in this moment
                continue
        try:
            return smime.open_envelope(envelope, pairs)
        except NotReadable:
            if locked is not None:
                raise locked from None
            raise

    def verify(self, cms: bytes, octets: bytes | None, now: datetime) -> SignedContent:
        """Judge SignedData (BER or DER): over `octets` (CRLF) when detached, over what it holds when None.

        A signature that should be detached and holds content of its own is BAD, and so is one without content
        where there should be. Raises NotReadable where it is no SignedData at all, and nothing else.
        """
        return self._signatures.verify(cms, octets, now)

    def recipients(self, der: bytes) -> tuple[Certificate | None, ...]:
        """Whom EnvelopedData (DER) is encrypted to; None for each who is unknown. Raises NotReadable."""
        found = (self._cache.named(one) if one else [] for one in smime.recipients(der))
        return tuple(next(iter(named), None) for named in found)

    def demand_held(self, fingerprint: Fingerprint) -> None:
        """Raise StoreLocked where the holder of this own key does not answer, KeyRefused without one."""
        self._vault.smime_key(fingerprint)

    def proves(self, octets: bytes, signature: bytes, signer: Fingerprint) -> bool:
        """Whether `signature` (DER) is that of this certificate over `octets`; nothing else is judged."""
        certificate = self._cache.get(signer)
        return certificate is not None and smime.proves(octets, signature, certificate.octets)

    def export(self, certificate: Certificate, *, secret: bool, passphrase: str | None) -> bytes:
        """PEM with the authorities above that are known, or with `secret` PKCS #12. Raises KeyRefused."""
        chain = [one.octets for one in self.chain(certificate, root=True)]
        if secret and certificate.holder is Holder.PKCS11:
            raise KeyRefused(
                f"the secret key of {certificate.fingerprint} is in a token, and does not leave it"
            )
        if secret:
            return smime.pkcs12(self._vault.smime_key(certificate.fingerprint), chain, passphrase)
        return smime.pem([certificate.octets, *chain])

    def reader(self, fingerprint: Fingerprint, now: datetime) -> Fingerprint:
        """The own certificate with which the owner of this one reads: itself, or where it only signs another.

        Authorities may issue two, each for one purpose (RFC 8551 section 4). The other one has an address in
        common. KeyRefused when there is none.
        """
        certificate = self._demand(fingerprint)
        others = [
            one
            for address in certificate.addresses
            for one in self._cache.by_address(address)
            if one.scheme is Scheme.SMIME and one.holder is not Holder.NONE
        ]
        usable = [one for one in others if self._judge(one, Purpose.ENCRYPT, now).usable]
        if certificate in usable:
            return fingerprint
        if not usable:
            why = self._judge(certificate, Purpose.ENCRYPT, now).explanation
            raise KeyRefused(
                f"the own S/MIME certificate {fingerprint} cannot be encrypted to ({why}); import the one "
                "that is for encryption, with its key"
            )
        return max(usable, key=lambda one: (one.created, one.fingerprint)).fingerprint

    def chain(self, certificate: Certificate, *, root: bool) -> list[Certificate]:
        """The authorities above a certificate that are known, lowest first; with `root` the uppermost too."""
        found: list[Certificate] = []
        current = certificate
        while len(found) < MAX_CHAIN:
            above = [one for one in self._cache.authorities() if smime.issued(one.octets, current.octets)]
            # Renewed or cross-signed authorities have several certificates; the latest to end serves longest.
            best = max(above, key=lambda one: (one.expires or one.created, one.fingerprint), default=None)
            if best is None or best in (current, *found):
                break
            if smime.issued(best.octets, best.octets):
                return [*found, best] if root else found
            found.append(best)
            current = best
        return found

    def _capabilities(self, certificate: Certificate) -> smime.Capabilities:
        """What is known of the program of a certificate's owner."""
        if certificate.holder is not Holder.NONE:
            return smime.OWN
        statement = self._cache.stated(certificate.fingerprint)
        return smime.capabilities_of(
            smime.statement_in(certificate.octets) if statement is None else statement
        )

    def _usable(self, fingerprint: Fingerprint, purpose: Purpose, now: datetime) -> Certificate:
        certificate = self._demand(fingerprint)
        usability = self._judge(certificate, purpose, now)
        if not usability.usable:
            verb = "encrypt to" if purpose is Purpose.ENCRYPT else "sign with"
            raise KeyRefused(f"cannot {verb} {fingerprint}: {usability.explanation}")
        return certificate

    def _demand(self, fingerprint: Fingerprint) -> Certificate:
        certificate = self._cache.get(fingerprint)
        if certificate is None or certificate.scheme is not Scheme.SMIME:
            raise KeyRefused(f"there is no S/MIME certificate {fingerprint} in this keystore")
        return certificate
