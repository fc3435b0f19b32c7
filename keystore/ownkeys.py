"""The life of own OpenPGP keys after their birth: rotation, extension, user IDs, revocation.

Each change is one transaction from reading to writing: of an interruption at any point remains the key as it
was, or as it is to be. Secret halves are only ever added, and what was written is read back before it counts.

Security: a key whose secret half GnuPG holds is changed by GnuPG.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from keystore import openpgp
from keystore.errors import KeyRefused, StoreDamaged
from keystore.model import Certificate, Fingerprint, Holder, Scheme
from keystore.revocationfiles import RevocationFiles, without_colon
from keystore.store import Store, StoredCertificate
from keystore.vault import Vault

OVERLAP = timedelta(days=90)
"""How long correspondents who have not seen a rotation may go on with the subkey before."""
LIFETIME = timedelta(days=3 * 365)
"""Of keys that people make, unless they say otherwise: a key that is lost must end some day by itself."""

_GNUPG = {
    "rotate": "gpg --quick-add-key {0} cv25519 encr",
    "extend": "gpg --quick-set-expire {0} 2y, and the same with '*' at its end for the subkeys",
    "identity": "gpg --quick-add-uid {0}, or --quick-revoke-uid",
    "revoke": "gpg --gen-revoke {0}",
}
_Change = Callable[[openpgp.SecretKey], openpgp.SecretKey]


class OwnKeys:
    """Changes own keys in the store. Raises KeyRefused where that cannot be, StoreLocked, StoreDamaged."""

    def __init__(self, store: Store, vault: Vault, folder: Path) -> None:
        """`folder` is that of the keystore, for the revocation certificates."""
        self._store = store
        self._vault = vault
        self.files = RevocationFiles(folder)

    def rotate(
        self,
        fingerprint: Fingerprint,
        now: datetime,
        *,
        expires: datetime | None = None,
        overlap: timedelta | None = OVERLAP,
    ) -> Certificate:
        """Add a new subkey that encrypts; those before end after `overlap` (None: as they did).

        Mail to them is read for ever.
        """

        def change(key: openpgp.SecretKey) -> openpgp.SecretKey:
            changed, subkey = openpgp.rotated(key, now, expires=expires, overlap=overlap)
            openpgp.trial(changed.certificate_octets, [subkey])
            return changed

        return self._changed(fingerprint, "rotate", change, now)

    def extend(self, fingerprint: Fingerprint, expires: datetime | None, now: datetime) -> Certificate:
        """Give the key another end; None: never."""
        return self._changed(fingerprint, "extend", lambda key: openpgp.extended(key, now, expires), now)

    def add_user_id(
        self, fingerprint: Fingerprint, address: str, name: str, now: datetime, *, first: bool = False
    ) -> Certificate:
        """Give the key one more address, or one back that was taken away; `first`: as its primary one."""
        user_id = openpgp.user_id_of(address, name)
        return self._changed(
            fingerprint,
            "identity",
            lambda key: openpgp.with_user_id(key, user_id, now, first=first),
            now,
        )

    def remove_user_id(self, fingerprint: Fingerprint, user_id: str, now: datetime) -> Certificate:
        """Revoke one user ID, by its whole text."""
        return self._changed(
            fingerprint, "identity", lambda key: openpgp.without_user_id(key, user_id, now), now
        )

    def revoke(
        self, fingerprint: Fingerprint, reason: openpgp.RevocationReason, now: datetime
    ) -> Certificate:
        """End the key, for ever; it goes on to read the mail that it read."""

        def change(key: openpgp.SecretKey) -> openpgp.SecretKey:
            made = openpgp.revocation_certificate(key, now, reason)
            return key.with_certificate(openpgp.revoked(key.certificate_octets, made))

        return self._changed(fingerprint, "revoke", change, now)

    def revoke_by(self, fingerprint: Fingerprint, revocation: bytes, now: datetime) -> Certificate:
        """End a key, own or a correspondent's, by its revocation certificate; no secret key is needed."""
        with self._store.transaction():
            row = self._row(fingerprint)
            octets = openpgp.revoked(row.octets, without_colon(revocation))
            return self._written(row, octets, now)

    # -- revocation certificates

    def birth(self, key: openpgp.SecretKey, now: datetime) -> Path:
        """Make the revocation certificate of a key that is about to be stored, and keep it."""
        armored = openpgp.armor(openpgp.revocation_certificate(key, now), "PUBLIC KEY BLOCK")
        stated = openpgp.certificate(key.certificate_octets)
        return self.files.keep(key.fingerprint, armored, ", ".join(stated.user_ids))

    def revocation_file(self, fingerprint: Fingerprint, now: datetime) -> Path:
        """Where the revocation certificate of an own key is, which is made now where there is none yet."""
        if self.files.read(fingerprint) is None:
            self._demand_own(self._row(fingerprint), "revoke")
            self.birth(self._vault.key(fingerprint), now)
        return self.files.path(fingerprint)

    # -- inside

    def _changed(self, fingerprint: Fingerprint, what: str, change: _Change, now: datetime) -> Certificate:
        # Before a passphrase is asked for: whoever has no own key here may have no secrets either.
        self._demand_own(self._row(fingerprint), what)
        self._vault.fetch_key()
        with self._store.transaction():
            row = self._row(fingerprint)
            self._demand_own(row, what)
            before = self._vault.key(fingerprint)
            after = change(before)
            octets = openpgp.merge(row.octets, after.certificate_octets)
            certificate = self._written(row, octets, now)
            if after.secret_fingerprints != before.secret_fingerprints:
                self._store.put_secret(self._vault.wrapped(after.with_certificate(octets)))
            self._demand_whole(before, after)
        return certificate

    def _demand_whole(self, before: openpgp.SecretKey, after: openpgp.SecretKey) -> None:
        """What is stored now opens again, with every secret half that there was and that was made."""
        had, made, kept = map(_halves, (before, after, self._vault.key(after.fingerprint)))
        if kept != made or not had.items() <= made.items():
            raise StoreDamaged(f"key {after.fingerprint} was not stored as it should be, and stays as it was")

    def _row(self, fingerprint: Fingerprint) -> StoredCertificate:
        row = self._store.certificate(fingerprint)
        if row is None:
            raise KeyRefused(f"there is no certificate {fingerprint} in this keystore")
        if row.scheme is Scheme.SMIME:
            raise KeyRefused(
                f"{fingerprint} is an S/MIME certificate, which only the authority that issued it can renew "
                "or revoke: ask it, with secmailproxy key request for a new one"
            )
        return row

    def _demand_own(self, row: StoredCertificate, what: str) -> None:
        if row.holder is Holder.OWN:
            return
        if row.holder is Holder.NONE:
            raise KeyRefused(f"there is no secret key for {row.fingerprint} in this keystore")
        raise KeyRefused(
            f"GnuPG holds the secret key of {row.fingerprint}. Use {_GNUPG[what].format(row.fingerprint)}; "
            f"then secmailproxy key import --from-gnupg {row.fingerprint}"
        )

    def _written(self, row: StoredCertificate, octets: bytes, now: datetime) -> Certificate:
        certificate = openpgp.certificate(octets, source=row.source, trust=row.trust, holder=row.holder)
        self._store.put(
            StoredCertificate(row.fingerprint, octets, row.trust, row.source, Holder.NONE),
            addresses=certificate.addresses,
            keys=openpgp.key_fingerprints(octets),
            now=now,
        )
        return certificate


def _halves(key: openpgp.SecretKey) -> dict[Fingerprint, bytes]:
    return {one: key.secret_of(one) for one in key.secret_fingerprints}
