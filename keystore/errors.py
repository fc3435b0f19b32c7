"""The errors of the keystore.

    KeystoreError
    +-- StoreLocked          a secret cannot be reached now; trying later may work
    +-- StoreDamaged         the store on disk is not what this program wrote
    +-- KeyRefused           what was offered for import or use is no usable key; the text says why
    +-- NotReadable          a ciphertext or signature cannot be read with what we have

Texts are for people: they name the file, fingerprint or address and the remedy, never a secret and never
message text. Missing certificates are data (`keystore.model.Selection`), not errors.
"""


class KeystoreError(Exception):
    """The base of all errors that `keystore` raises on purpose."""


class StoreLocked(KeystoreError):
    """A holder of secret keys is locked or absent: temporary, never a reason to go on in clear."""


class StoreDamaged(KeystoreError):
    """The database or a wrapped secret fails its integrity check."""


class KeyRefused(KeystoreError):
    """A key or certificate was refused; the text says which and why."""


class NotReadable(KeystoreError):
    """A ciphertext cannot be opened: no secret key for it, no integrity protection, or damaged."""

    def __init__(self, text: str, *, reason: str = "damaged") -> None:
        """`reason` is one of no-secret-key, no-integrity, damaged, too-large, unsupported, passphrase (only
        somebody who knows one could open it) and not-encrypted (there is nothing to open or to verify)."""
        super().__init__(text)
        self.reason = reason
