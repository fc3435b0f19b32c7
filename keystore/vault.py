"""The keystore key, and our own secret keys under it.

The keystore key (32 octets, base64 among the secrets as `keystore-key`) is fetched when it is first needed.
It wraps every secret key together with the fingerprint of its certificate, and seals messages through a key
derived from it. A check value in the store tells a wrong key from a damaged wrap.

Security: unlocked keys live in memory only, until `close`. A store that has met its key never gets another.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keystore import openpgp, wrap
from keystore.errors import KeyRefused, StoreDamaged, StoreLocked
from keystore.model import Fingerprint, Holder, Scheme
from keystore.secrets import HandedOver, Secrets
from keystore.store import Store, StoredSecret

KEY_NAME = "keystore-key"
_CHECK = "keystore-key-check"
_SEALING = "secmailproxy sealing"

if TYPE_CHECKING:
    from keystore import smime
    from keystore.letterbox import Letterbox
    from keystore.token import Token

    SecretKey = openpgp.SecretKey | smime.SecretKey


class Vault:
    """Own secret keys. Methods raise StoreLocked when the keystore key is out of reach, StoreDamaged when a
    wrap does not open."""

    def __init__(self, store: Store, secrets: Secrets, token: Token | None = None) -> None:
        """`token` holds the secret keys of which the store says so."""
        self._store = store
        self._secrets = secrets
        self.token = token
        self._key: bytes | None = None
        self._sealing: tuple[bytes, bytes] | None = None
        """The keystore key, and what is derived from it for sealing."""
        self._unlocked: dict[Fingerprint, tuple[StoredSecret, SecretKey]] = {}
        self._rows: list[StoredSecret] = []
        self._seen: tuple[int, int] | None = None

    def close(self) -> None:
        """Forget all keys."""
        with self._store.lock:
            self._key = self._sealing = None
            self._unlocked.clear()
            self._rows, self._seen = [], None
        if self.token is not None:
            self.token.close()

    def unlock(self) -> None:
        """Fetch the keystore key (a new store gets a new one) and unwrap every own secret key."""
        self.fetch_key()
        self._opened()

    def fetch_key(self) -> None:
        """Fetch the keystore key, which may ask a person: to be done before a transaction needs it."""
        self._keystore_key()

    def hand_over(self, also: Sequence[str] = ()) -> HandedOver:
        """Return what opens the same vault in another process of this program, with the secrets `also`."""
        others = tuple((name, self._secrets.get(name) or "") for name in also)
        return HandedOver(KEY_NAME, base64.b64encode(self._keystore_key()).decode("ascii"), others)

    def keys(self) -> list[openpgp.SecretKey]:
        """Return all own secret keys of OpenPGP; without any, no keystore key is needed."""
        return [key for key in self._opened(Scheme.OPENPGP) if isinstance(key, openpgp.SecretKey)]

    def key(self, fingerprint: Fingerprint) -> openpgp.SecretKey:
        """Return one own secret key of OpenPGP; KeyRefused when there is none."""
        key = self._one(fingerprint)
        if not isinstance(key, openpgp.SecretKey):
            raise KeyRefused(f"{fingerprint} is an S/MIME key")
        return key

    def smime_key(self, fingerprint: Fingerprint) -> smime.SecretKey:
        """Return one own secret key of S/MIME, ours or the token's; KeyRefused when there is none."""
        held = self._held_by_token(fingerprint)
        if held is not None:
            if self.token is None:
                raise StoreLocked(
                    f"a token holds the key {fingerprint}, and none is configured: name its module in the "
                    "section [pkcs11]"
                )
            from keystore.tokenkeys import secret_key  # few have a token

            return secret_key(self.token, held.certificate)
        key = self._one(fingerprint)
        if isinstance(key, openpgp.SecretKey):
            raise KeyRefused(f"{fingerprint} is an OpenPGP key")
        return key

    def held_by(self, holder: Holder) -> list[Fingerprint]:
        """Return the certificates whose secret keys are held so."""
        with self._store.lock:
            return [secret.fingerprint for secret in self._secrets_stored() if secret.holder is holder]

    def adopt(self, key: str) -> bool:
        """Take the keystore key of a backup (base64), unless there is another; whether it is that one now.

        One that was lost comes back so, to the store that was made with it.

        Raises KeystoreError where the backend cannot keep it.
        """
        with self._store.lock:
            known = self._secrets.get(KEY_NAME)
            stored = self._store.fact(_CHECK)
            if known is None and stored in (None, _check(base64.b64decode(key))):
                self._secrets.set(KEY_NAME, key)
                return True
            return known == key

    def taken_over(self, secret: StoredSecret, key: bytes) -> StoredSecret:
        """Return an own key that is wrapped under another keystore key, wrapped under this one.

        Raises StoreDamaged where that is not the key it is wrapped under.
        """
        octets = wrap.unwrap(key, secret.wrapped or b"", _context(secret.fingerprint))
        wrapped = wrap.wrap(self._keystore_key(), octets, _context(secret.fingerprint))
        return StoredSecret(secret.fingerprint, Holder.OWN, wrapped)

    def united(self, secret: StoredSecret, key: bytes) -> StoredSecret:
        """Return an own OpenPGP key with its secret halves of here and those under another keystore key."""
        octets = wrap.unwrap(key, secret.wrapped or b"", _context(secret.fingerprint))
        other = openpgp.SecretKey.from_octets(octets).with_certificate(secret.certificate)
        return self.wrapped(openpgp.united(self.key(secret.fingerprint), other))

    def wrapped(self, key: SecretKey) -> StoredSecret:
        """Return the row that keeps `key`."""
        octets = wrap.wrap(self._keystore_key(), key.to_octets(), _context(key.fingerprint))
        return StoredSecret(key.fingerprint, Holder.OWN, octets)

    def resealed(self, sealed: bytes, context: bytes, key: bytes) -> bytes:
        """Return what was sealed under another keystore key, sealed under this one.

        Raises StoreDamaged where that is not the key it is sealed under.
        """
        return self.seal(wrap.unseal(wrap.derive(key, _SEALING), sealed, context), context)

    def seal(self, octets: bytes, context: bytes) -> bytes:
        """Encrypt octets of any kind, bound to `context`."""
        return wrap.seal(self._sealing_key(), octets, context)

    def unseal(self, sealed: bytes, context: bytes) -> bytes:
        """Return what `seal` was given; StoreDamaged for another context or changed octets."""
        return wrap.unseal(self._sealing_key(), sealed, context)

    def agreed(self, name: str, proposal: bytes) -> bytes:
        """What all who share the store have agreed on under `name`: the first proposal, kept sealed."""
        context = b"agreed\0" + name.encode()
        self.fetch_key()
        with self._store.transaction():
            if self._store.fact(name) is None:
                self._store.put_fact(name, self.seal(proposal, context))
            return self.unseal(self._store.fact(name) or b"", context)

    def letterbox(self) -> Letterbox:
        """Return what opens letters put through the slot; it is derived from the keystore key alone."""
        from keystore.letterbox import Letterbox  # few have a use for it

        return Letterbox(wrap.derive(self._keystore_key(), "secmailproxy letter box"))

    def _secrets_stored(self) -> list[StoredSecret]:
        version = self._store.version()
        if version != self._seen:
            self._rows, self._seen = self._store.secrets(), version
        return self._rows

    def _opened(self, scheme: Scheme | None = None) -> list[SecretKey]:
        with self._store.lock:
            return [
                self._open(secret)
                for secret in self._secrets_stored()
                if secret.wrapped is not None and scheme in (None, secret.scheme)
            ]

    def _held_by_token(self, fingerprint: Fingerprint) -> StoredSecret | None:
        with self._store.lock:
            held = (one for one in self._secrets_stored() if one.holder is Holder.PKCS11)
            return next((one for one in held if one.fingerprint == fingerprint), None)

    def _one(self, fingerprint: Fingerprint) -> SecretKey:
        with self._store.lock:
            for secret in self._secrets_stored():
                if secret.fingerprint == fingerprint and secret.wrapped is not None:
                    return self._open(secret)
        raise KeyRefused(f"there is no secret key for {fingerprint} in this keystore")

    def _open(self, secret: StoredSecret) -> SecretKey:
        known = self._unlocked.get(secret.fingerprint)
        if known is not None and known[0] == secret:
            return known[1]
        try:
            octets = wrap.unwrap(self._keystore_key(), secret.wrapped or b"", _context(secret.fingerprint))
            key = _parsed(octets, secret)
        except (StoreDamaged, KeyRefused):
            raise StoreDamaged(
                f"the stored secret key {secret.fingerprint} is damaged: restore the keystore from a backup, "
                "or delete that key and import it again"
            ) from None
        self._unlocked[secret.fingerprint] = (secret, key)
        return key

    def _sealing_key(self) -> bytes:
        key = self._keystore_key()
        if self._sealing is None or self._sealing[0] is not key:
            self._sealing = (key, wrap.derive(key, _SEALING))
        return self._sealing[1]

    def _keystore_key(self) -> bytes:
        with self._store.lock:
            if self._key is None:
                self._key = self._checked(self._fetch() or self._create())
            return self._key

    def _fetch(self) -> bytes | None:
        text = self._secrets.get(KEY_NAME)
        if text is None:
            return None
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != wrap.KEY_LENGTH:
            raise StoreLocked(f"the secret {KEY_NAME!r} is not 32 octets in base64: restore it from a backup")
        return key

    def _create(self) -> bytes:
        # Inside a transaction, so that of two processes one makes the key and the other finds it.
        with self._store.transaction():
            found = self._fetch()
            if found is not None:
                return found
            if self._store.fact(_CHECK) is not None:
                raise StoreLocked(
                    f"the secret {KEY_NAME!r} that opens this keystore is missing: restore it, or choose the "
                    "secrets backend that has it"
                )
            key = wrap.new_key()
            self._secrets.set(KEY_NAME, base64.b64encode(key).decode("ascii"))
            return key

    def _checked(self, key: bytes) -> bytes:
        check = _check(key)
        stored = self._store.fact(_CHECK) or self._first_check(check)
        if not hmac.compare_digest(stored, check):
            raise StoreLocked(
                f"the secret {KEY_NAME!r} is not the one that this keystore was made with: restore the "
                "right one, or choose the secrets backend that has it"
            )
        return key

    def _first_check(self, check: bytes) -> bytes:
        with self._store.transaction():
            stored = self._store.fact(_CHECK)
            if stored is None:
                self._store.put_fact(_CHECK, check)
            return stored or check


def _check(key: bytes) -> bytes:
    """What tells a keystore key from another one; it tells nothing of the key."""
    return wrap.derive(key, "secmailproxy keystore key check")


def _parsed(octets: bytes, secret: StoredSecret) -> SecretKey:
    if secret.scheme is Scheme.SMIME:
        from keystore import smime  # its libraries take long to import, and many have no use for them

        return smime.SecretKey.from_octets(octets, secret.certificate)
    # Renewals are merged into the stored certificate, not into the wrapped key.
    return openpgp.SecretKey.from_octets(octets).with_certificate(secret.certificate)


def _context(fingerprint: Fingerprint) -> bytes:
    return b"secret key " + fingerprint.encode("ascii")
