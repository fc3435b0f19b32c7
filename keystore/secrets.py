"""Where named secrets live: the desktop's keyring, an encrypted file, or systemd credentials.

The choice is the configuration's and explicit: no backend stands in for another, and none keeps a secret in
clear. Names in use: `keystore-key`, `certificate-key`, `password:<address>`, `local-password:<address>`.
Values are text.

Security: errors name the backend, the name and the remedy, never a value. This is the only importer of
`keyring`, and imports it late, since it searches the machine for backends.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, assert_never

from keystore.errors import KeystoreError, StoreLocked
from keystore.secretsfile import FileSecrets

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "secmailproxy"
Result = TypeVar("Result")
_REMEDY = (
    "Use a file encrypted under a passphrase (`secmailproxy setup --secrets file`, or in the configuration "
    '[secrets] backend = "file", with passphrase_file on a server) or systemd credentials '
    '("systemd"); before there is a configuration, a passphrase option chooses the file.'
)


@dataclass(frozen=True, slots=True)
class SecretsSettings:
    """Which backend, and what it needs. `path` and `passphrase` belong to the backend "file".

    `passphrase` is called at most once while it is right; it may ask a person.
    """

    backend: Literal["keyring", "file", "systemd"]
    path: Path | None = None
    passphrase: Callable[[], str] | None = None


class Secrets(Protocol):
    """Named secrets. All methods raise StoreLocked when the backend cannot be reached or opened now."""

    def get(self, name: str) -> str | None:
        """Return the value, or None when there is none."""

    def set(self, name: str, value: str) -> None:
        """Store the value for good, or raise KeystoreError."""

    def delete(self, name: str) -> None:
        """Remove the value; nothing happens when there is none."""


def open_secrets(settings: SecretsSettings) -> Secrets:
    """Return the backend that `settings` name; KeystoreError with the remedy when it cannot keep secrets.

    A passphrase is asked for when a secret is first needed, not here.
    """
    match settings.backend:
        case "keyring":
            return KeyringSecrets(_trusted_keyring())
        case "file":
            if settings.path is None:
                raise KeystoreError('the secrets backend "file" needs a path')
            return FileSecrets(settings.path, settings.passphrase)
        case "systemd":
            return SystemdSecrets.from_environment()
        case _:
            assert_never(settings.backend)


@dataclass(frozen=True, slots=True)
class HandedOver:
    """Secrets in memory: what `Keystore.hand_over` gives to another process of this program."""

    name: str
    value: str = field(repr=False)
    others: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    def get(self, name: str) -> str | None:
        """Return the value of a secret that was handed over."""
        return self.value if name == self.name else dict(self.others).get(name)

    def set(self, name: str, value: str) -> None:
        """Raise KeystoreError: nothing is stored for good here."""
        raise KeystoreError(f"the secret {name!r} cannot be stored by this process")

    def delete(self, name: str) -> None:
        """Raise KeystoreError: nothing is stored here."""
        raise KeystoreError(f"the secret {name!r} cannot be removed by this process")


class KeyringSecrets:
    """Secrets in the desktop's keyring: Secret Service, KWallet, Keychain, Credential Locker."""

    def __init__(self, keyring: KeyringBackend) -> None:
        self._keyring = keyring

    def get(self, name: str) -> str | None:
        """Return the value, or None when there is none."""
        return self._call("read", name, lambda: self._keyring.get_password(SERVICE, name))

    def set(self, name: str, value: str) -> None:
        """Store the value and read it back; some backends drop what they cannot keep."""
        self._call("store", name, lambda: self._keyring.set_password(SERVICE, name, value))
        if self.get(name) != value:
            raise KeystoreError(f"the keyring did not keep the secret {name!r}. {_REMEDY}")

    def delete(self, name: str) -> None:
        """Remove the value; nothing happens when there is none."""
        if self.get(name) is not None:
            self._call("delete", name, lambda: self._keyring.delete_password(SERVICE, name))

    def _call(self, verb: str, name: str, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except Exception as error:
            # Backends raise errors of their own (D-Bus, the system's), undeclared.
            kind = type(error).__name__
            raise StoreLocked(
                f"the keyring cannot {verb} the secret {name!r} ({kind}): unlock it, or run in the desktop "
                f"session that owns it. {_REMEDY}"
            ) from error


def _trusted_keyring() -> KeyringBackend:
    import keyring
    import keyring.core

    try:
        backend = keyring.get_keyring()
        in_use = [backend, *getattr(backend, "backends", [])]
        recommended = all(keyring.core.recommended(one) for one in in_use)
    except Exception as error:
        # A configured backend that cannot start raises anything.
        kind = type(error).__name__
        raise StoreLocked(
            f"the keyring configured on this machine cannot start ({kind}). {_REMEDY}"
        ) from error
    # Keyring gives its null and failing backends a priority of 0 or less, and those that write clear text
    # less than 1; a name is looked at too, since a priority is only the backend's own claim.
    classes = {cls.__name__ for one in in_use for cls in type(one).__mro__}
    plain = any("plaintext" in name.lower() for name in classes)
    if plain or not recommended:
        name = f"{type(backend).__module__}.{type(backend).__qualname__}"
        what = "keeps secrets in clear" if plain else "cannot keep secrets safely"
        raise KeystoreError(f"no usable keyring on this machine: {name} {what}. {_REMEDY}")
    return backend


class SystemdSecrets:
    """Read-only secrets from `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredentialEncrypted=).

    A credential's name cannot hold a colon: `password:a@example.org` is the file `password.a@example.org`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def from_environment(cls) -> SystemdSecrets:
        """KeystoreError when the process was not started with credentials."""
        folder = os.environ.get("CREDENTIALS_DIRECTORY", "")
        if not folder:
            raise KeystoreError(
                "the secrets backend is systemd, but CREDENTIALS_DIRECTORY is not set: start secmailproxy "
                "from a unit with LoadCredentialEncrypted= lines"
            )
        return cls(Path(folder))

    def get(self, name: str) -> str | None:
        """Return the credential without a final line feed, or None when there is none."""
        path = self._folder / _credential(name)
        try:
            return path.read_text(encoding="utf-8").removesuffix("\n")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise StoreLocked(f"the credential {path} cannot be read: {type(error).__name__}") from error

    def set(self, name: str, value: str) -> None:
        """Refuse: credentials are made outside, by `systemd-creds`."""
        if self.get(name) == value:
            return
        raise KeystoreError(
            f"systemd credentials are read-only: store the secret {name!r} with "
            f"`systemd-creds encrypt --name={_credential(name)} - FILE` and name FILE in the unit's "
            "LoadCredentialEncrypted="
        )

    def delete(self, name: str) -> None:
        """Refuse, unless there is nothing to delete."""
        if self.get(name) is not None:
            raise KeystoreError(
                f"systemd credentials are read-only: remove {_credential(name)!r} from the unit's "
                "LoadCredentialEncrypted= lines"
            )


def _credential(name: str) -> str:
    credential = name.replace(":", ".")
    if "/" in credential or credential in {"", ".", ".."}:
        raise KeystoreError(f"a secret cannot be named {name!r}")
    return credential
