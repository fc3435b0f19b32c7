"""Certificates and keys in the forms in which they are given away."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from keystore import openpgp
from keystore.errors import KeyRefused
from keystore.judging import cut_down
from keystore.model import Certificate, Fingerprint, Holder, Scheme
from keystore.vault import Vault

if TYPE_CHECKING:
    from keystore.keystore import Keystore


class Exports:
    """Reads what the keystore has."""

    def __init__(self, keystore: Keystore, vault: Vault) -> None:
        self._keystore = keystore
        self._vault = vault

    def export(self, certificate: Certificate, *, secret: bool, passphrase: str | None) -> bytes:
        """Return the certificate or our secret key, as `Keystore.export` says."""
        if certificate.scheme is Scheme.SMIME:
            return self._keystore.smime.export(certificate, secret=secret, passphrase=passphrase)
        if not secret:
            return self.armored(certificate.octets)
        fingerprint = certificate.fingerprint
        if certificate.holder is Holder.GNUPG:
            raise KeyRefused(
                f"GnuPG holds the secret key of {fingerprint}: use gpg --export-secret-keys {fingerprint}"
            )
        octets = openpgp.protect(self._vault.key(fingerprint), passphrase)
        return openpgp.armor(octets, "PRIVATE KEY BLOCK")

    def setup_message(self, fingerprint: Fingerprint, code: str, *, mutual: bool) -> bytes:
        """Return an own OpenPGP key under a setup code, armored: `openpgp.setup`. Raises KeyRefused."""
        from keystore.openpgp.setup import seal_setup  # rarely needed

        return seal_setup(self._vault.key(fingerprint), code, mutual=mutual)

    def minimal(
        self, fingerprint: Fingerprint, address: str, now: datetime, *, signs: bool = False
    ) -> bytes | None:
        """Return a certificate, binary, cut down to what is needed to encrypt to `address` (any case).

        With `signs`, a subkey stays that signs in place of the primary key. None where the certificate cannot
        be used so at `now`: another address, expired, revoked, rejected.
        """
        return cut_down(self._keystore.demand(fingerprint), address, now, signs=signs)

    @staticmethod
    def armored(certificate: bytes) -> bytes:
        """Return a binary certificate, such as `minimal` gives, armored with CRLF line endings."""
        return openpgp.armor(certificate, "PUBLIC KEY BLOCK")
