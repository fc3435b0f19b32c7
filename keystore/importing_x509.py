"""Taking X.509 certificates and keys in: each certificate of a file has a result of its own.

A certificate never changes, so there is nothing to merge. A private key is stored with its certificate, which
is in the same file or in the store already. Certificates of authorities are stored beside those of people:
they are sent along with signatures, and serve for nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from keystore import smime
from keystore.errors import KeyRefused
from keystore.holding import Judge, Rival, rivals_of
from keystore.importing import AskedOnce, Origin, hold, refusal_of, trust_given
from keystore.model import (
    Certificate,
    Fingerprint,
    Holder,
    ImportAction,
    ImportResult,
    Purpose,
    Scheme,
)
from keystore.requests import Requests
from keystore.store import Store, StoredCertificate
from keystore.vault import Vault
from keystore.x509table import X509Table


class X509Importer:
    """Writes to the store."""

    def __init__(
        self,
        store: Store,
        vault: Vault,
        judge: Judge,
    ) -> None:
        """`judge` is asked whether a certificate serves."""
        self._store = store
        self._table = X509Table(store)
        self._vault = vault
        self._judge = judge
        self._requests = Requests(store, vault)

    def take_all(
        self, octets: bytes, origin: Origin, passphrase: Callable[[], str] | None
    ) -> list[ImportResult]:
        """Import all that a file holds; KeyRefused when it holds nothing, or cannot be opened."""
        contents = smime.read(octets, AskedOnce(passphrase))
        keys = list(contents.keys)
        if keys:
            self._vault.fetch_key()
        results = []
        for der in contents.certificates:
            key = next((one for one in keys if smime.belongs(one, der)), None)
            results.append(self._take(der, key, origin))
        alone = [one for one in keys if not any(smime.belongs(one, der) for der in contents.certificates)]
        for key in alone:
            results += self._take_alone(key, origin)
        return results + [ImportResult(ImportAction.REFUSED, reason=one) for one in contents.refusals]

    def _take(self, der: bytes, key: smime.PrivateKey | None, origin: Origin) -> ImportResult:
        offered: Certificate | None = None
        try:
            offered = smime.certificate(der, source=origin.source)
            key = key or self._renewed(offered) or self._requests.key_for(offered)
            return self._stored(offered, smime.SecretKey(der, key) if key else None, origin)
        except KeyRefused as refusal:
            return refusal_of(offered, refusal)

    def _take_alone(self, key: smime.PrivateKey, origin: Origin) -> list[ImportResult]:
        """A private key whose certificates have come, or have not come yet, from other files."""
        known = self._store.rows("SELECT octets FROM certificates WHERE scheme = ?", Scheme.SMIME.value)
        found = [octets for (octets,) in known if smime.belongs(key, octets)]
        if not found:
            reason = (
                "a private key without its certificate: import the certificate first, or a .p12 with both"
            )
            return [ImportResult(ImportAction.REFUSED, reason=reason)]
        return [self._take(der, key, origin) for der in found]

    def _renewed(self, offered: Certificate) -> smime.PrivateKey | None:
        """The own key, where this is one more certificate of it for the same addresses, as authorities renew.

        With other addresses it is taken for a stranger's: anybody can have any key certified.
        """
        own = self._store.own(Scheme.SMIME)
        if any(row.fingerprint == offered.fingerprint for row in own):
            return None
        for row in own:
            addresses = smime.certificate(row.octets).addresses
            if smime.same_key(row.octets, offered.octets) and set(offered.addresses) <= set(addresses):
                return self._vault.smime_key(row.fingerprint).private
        return None

    def _stored(self, offered: Certificate, key: smime.SecretKey | None, origin: Origin) -> ImportResult:
        with self._store.transaction():
            old = self._store.certificate(offered.fingerprint)
            trust = trust_given(old, origin, secret=key is not None)
            rivals = []
            if old is None and key is None and origin.trust is None:
                rivals = rivals_of(
                    offered,
                    offered.addresses,
                    self._store,
                    self._judge,
                    level=origin.level,
                    now=origin.now,
                    together=origin.added | renewed_by(offered, self._store),
                    imported=origin.imported,
                )
            found = replace(offered, source=old.source if old else origin.source, trust=trust)
            new_key = key is not None and (old is None or old.holder is not Holder.OWN)
            if old is None or old.trust is not found.trust or new_key:
                self._write(found, key if new_key else None, origin)
                action = ImportAction.UPDATED if old else ImportAction.ADDED
                origin.added.update(() if old else (found.fingerprint,))
            else:
                action = ImportAction.UNCHANGED
            hold(self._store, found.fingerprint, rivals, origin, owned=key is not None)
        return ImportResult(
            action,
            found.fingerprint,
            found.addresses,
            found.user_ids,
            secret=key is not None or (old is not None and old.holder is not Holder.NONE),
            reason=self._remark(found, origin, rivals),
        )

    def _remark(self, found: Certificate, origin: Origin, rivals: Sequence[Rival]) -> str:
        if smime.facts(found.octets).is_authority:
            return (
                "a certificate authority's, kept to be sent along with signatures; it is believed only if "
                "you say so (see docs/keys.md, who vouches)"
            )
        encrypts = self._judge(found, Purpose.ENCRYPT, origin.now, None)
        if not encrypts.usable:
            return f"kept, but not for encryption: {encrypts.explanation}"
        return "; ".join(one.remark for one in rivals)

    def _write(self, found: Certificate, key: smime.SecretKey | None, origin: Origin) -> None:
        row = StoredCertificate(
            found.fingerprint, found.octets, found.trust, found.source, Holder.NONE, Scheme.SMIME
        )
        self._store.put(row, addresses=found.addresses, keys=[found.fingerprint], now=origin.now)
        self._table.add(found.fingerprint, found.octets)
        if key is not None:
            self._store.put_secret(self._vault.wrapped(key))
            self._requests.fulfilled(found.octets)


def renewed_by(offered: Certificate, store: Store) -> frozenset[Fingerprint]:
    """The stored certificates of the same key: with one more of those, nobody else can read the mail."""
    rows = (store.certificate(one) for address in offered.addresses for one in store.by_address(address))
    return frozenset(
        row.fingerprint
        for row in rows
        if row and row.scheme is Scheme.SMIME and smime.same_key(row.octets, offered.octets)
    )
