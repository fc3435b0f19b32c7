"""The encrypted secrets file: one JSON document under a passphrase.

    {"version": 1, "kdf": {"name": "argon2id", "salt": .., "iterations": .., "lanes": .., "memory_kib": ..},
     "secrets": "<base64 of a wrap of a JSON object, name -> value>"}

The KDF's parameters are authenticated with the secrets. A write goes to a new file of mode 0600 that is
synced and then takes the old one's place, under a lock that other processes respect.

Standards: RFC 9106 (Argon2id), RFC 8259 (JSON). Security: names and values are both hidden.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from keystore.errors import KeystoreError, StoreDamaged, StoreLocked
from keystore.files import replace_file
from keystore.wrap import PassphraseKdf, unwrap, wrap

_VERSION = 1


class FileSecrets:
    """Named secrets in one encrypted file; safe for threads and for several processes."""

    def __init__(self, path: Path, passphrase: Callable[[], str] | None) -> None:
        self.path = path
        """Of the file; there may be none yet."""
        self._passphrase = passphrase
        self._mutex = threading.RLock()
        self._kdf: PassphraseKdf | None = None
        self._key = b""
        self._values: dict[str, str] = {}
        self._seen: tuple[int, int, int] | None = None

    def get(self, name: str) -> str | None:
        """Return the value, or None when there is none; asks for the passphrase when the file exists."""
        with self._mutex:
            self._refresh()
            return self._values.get(name)

    def set(self, name: str, value: str) -> None:
        """Store the value; it is on the disk when this returns."""
        with self._mutex, self._exclusive():
            self._refresh()
            if self._values.get(name) != value:
                self._write({**self._values, name: value})

    def delete(self, name: str) -> None:
        """Remove the value; nothing happens when there is none."""
        with self._mutex, self._exclusive():
            self._refresh()
            if name in self._values:
                self._write({key: value for key, value in self._values.items() if key != name})

    def change_passphrase(self, passphrase: str) -> None:
        """Keep everything under another passphrase, with a fresh salt.

        Whatever happens meanwhile, the file is there whole and opens with the old passphrase or with the new
        one. Raises KeystoreError where there is no file, or the new passphrase is empty.
        """
        if not passphrase:
            raise KeystoreError(f"the passphrase of the secrets file {self.path} must not be empty")
        with self._mutex, self._exclusive():
            self._refresh()
            if self._seen is None:
                raise KeystoreError(f"there is no secrets file {self.path} yet")
            kdf = PassphraseKdf.fresh()
            self._replace(kdf, kdf.key(passphrase), self._values)

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._values, self._seen = {}, None
            return
        except OSError as error:
            raise StoreLocked(f"the secrets file {self.path} cannot be read: {error.strerror}") from error
        # Every write makes a new inode, so this changes with each.
        seen = (status.st_ino, status.st_mtime_ns, status.st_size)
        if seen != self._seen:
            self._read()
            self._seen = seen

    def _read(self) -> None:
        try:
            document = json.loads(self.path.read_bytes())
            kdf, wrapped = _take_apart(document)
        except OSError as error:
            raise StoreLocked(f"the secrets file {self.path} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreDamaged(f"{self.path} is no secrets file; restore it from a backup") from error
        key = self._key if kdf == self._kdf else kdf.key(self._ask())
        try:
            values = json.loads(unwrap(key, wrapped, _header(kdf)))
        except StoreDamaged:
            raise StoreLocked(
                f"the passphrase does not open the secrets file {self.path}, or the file is damaged; if the "
                "passphrase was changed while this ran, start it again"
            ) from None
        self._kdf, self._key, self._values = kdf, key, values

    def _ask(self) -> str:
        if self._passphrase is None:
            raise StoreLocked(
                f"the secrets file {self.path} needs its passphrase: use --passphrase-file, --passphrase-fd "
                "or [secrets] passphrase_file"
            )
        passphrase = self._passphrase()
        if not passphrase:
            raise KeystoreError(f"the passphrase of the secrets file {self.path} must not be empty")
        return passphrase

    def _write(self, values: dict[str, str]) -> None:
        kdf, key = self._kdf, self._key
        if kdf is None:
            kdf = PassphraseKdf.fresh()
            key = kdf.key(self._ask())
        self._replace(kdf, key, values)

    def _replace(self, kdf: PassphraseKdf, key: bytes, values: dict[str, str]) -> None:
        document = {
            **json.loads(_header(kdf)),
            "secrets": _text(wrap(key, json.dumps(values).encode(), _header(kdf))),
        }
        try:
            replace_file(self.path, json.dumps(document, indent=1).encode() + b"\n")
        except OSError as error:
            raise KeystoreError(f"{self.path} cannot be written: {error.strerror}") from error
        self._kdf, self._key, self._seen = kdf, key, None
        self._refresh()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        # The lock has a file of its own, since each write puts another file in the place of the secrets.
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise KeystoreError(
                f"the secrets file {self.path} cannot be written: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _header(kdf: PassphraseKdf) -> bytes:
    return json.dumps({"version": _VERSION, "kdf": kdf.values()}, sort_keys=True).encode()


def _take_apart(document: dict[str, Any]) -> tuple[PassphraseKdf, bytes]:
    if document["version"] != _VERSION:
        raise ValueError("unknown version")
    return PassphraseKdf.of(document["kdf"]), base64.b64decode(document["secrets"], validate=True)


def _text(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")
