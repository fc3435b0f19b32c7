"""Certificates taken from a PKCS #11 token, which keeps their secret keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from keystore.holding import Judge
from keystore.importing import Origin
from keystore.importing_x509 import X509Importer
from keystore.model import Holder, ImportAction, ImportResult, Trust
from keystore.store import Store, StoredSecret
from keystore.token import demand_token
from keystore.vault import Vault


def take_from_token(
    vault: Vault, store: Store, judge: Judge, origin: Origin, pin: Callable[[], str] | None
) -> list[ImportResult]:
    """Import every certificate whose secret key is on the token, which from then on signs and decrypts.

    Raises StoreLocked where the token does not answer, KeyRefused where none is configured.
    """
    token = demand_token(vault.token)
    token.log_in(pin)
    importer = X509Importer(store, vault, judge)
    results = []
    for der in token.certificates():
        with store.transaction():
            taken = importer.take_all(der, origin, None)
            results += [_held(store, one, origin) for one in taken]
    return results


def _held(store: Store, result: ImportResult, origin: Origin) -> ImportResult:
    """The certificate just taken is held by the token, unless its secret key is here."""
    row = store.certificate(result.fingerprint) if result.fingerprint else None
    if row is None or row.holder is not Holder.NONE:
        return result
    store.put_secret(StoredSecret(row.fingerprint, Holder.PKCS11, None))
    if origin.trust is None and row.trust is not Trust.REJECTED:
        # Who owns the secret half needs nobody's word for it.
        store.set_trust(row.fingerprint, Trust.VERIFIED)
    action = ImportAction.ADDED if result.action is ImportAction.ADDED else ImportAction.UPDATED
    return replace(result, action=action, secret=True)
