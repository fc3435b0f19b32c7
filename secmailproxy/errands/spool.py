"""Notifications that wait for delivery: one sealed file each, on the disk before anybody relies on it.

A file is there whole or not at all, and is removed by `drop` alone. Its first line names the account and the
time in clear, so that `secmailproxy doctor` can tell what waits while the keystore is locked.

Security: the rest is sealed by the keystore (AEAD), bound to the name of the file and to that line.
"""

from __future__ import annotations

import contextlib
import json
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from keystore.files import replace_file, sync_folder
from secmailproxy.encryptedids import Sealer
from secmailproxy.errands.reminder import Reminder, is_reminder
from secmailproxy.errors import SecMailProxyError
from secmailproxy.folders import make_private
from secmailproxy.smtp.notification import Notification

_SUFFIX = ".notification"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A notification that has not been delivered."""

    name: str
    account: str
    since: datetime


class SpoolDamaged(SecMailProxyError):
    """A file of the spool is not what was written."""


@dataclass(frozen=True, slots=True)
class Spool:
    """A folder of notifications. Methods block."""

    folder: Path
    sealer: Sealer

    def put(self, name: str, notification: Notification | Reminder, now: datetime) -> None:
        """Keep it, under a name not used before; it is on the disk when this returns.

        Raises OSError, ConfigError for a folder that cannot be used, KeystoreError.
        """
        make_private(self.folder)
        # The folder's own name too must outlast a power cut.
        sync_folder(self.folder.parent)
        line = json.dumps({"account": notification.account, "since": now.isoformat()}).encode()
        sealed = self.sealer.seal(notification.to_octets(), _context(name, line))
        replace_file(self._path(name), line + b"\n" + sealed)

    def read(self, name: str) -> Notification | Reminder:
        """Raises KeystoreError while it cannot be unsealed, SpoolDamaged, OSError."""
        line, _, sealed = self._path(name).read_bytes().partition(b"\n")
        try:
            octets = self.sealer.unseal(sealed, _context(name, line))
            return Reminder.from_octets(octets) if is_reminder(octets) else Notification.from_octets(octets)
        except ValueError:
            raise SpoolDamaged(f"{self._path(name)} is damaged.") from None

    def drop(self, name: str) -> None:
        """It has been delivered; it stays gone. Raises OSError."""
        if self._path(name).exists():
            self._path(name).unlink()
            sync_folder(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"


def waiting(folder: Path) -> list[Waiting]:
    """What waits in this folder, the oldest first; a file that cannot be read waits for nobody known.

    Raises OSError for a folder that cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"[!.]*{_SUFFIX}")):
        with contextlib.suppress(FileNotFoundError):
            account, since = _told(path)
            found.append(Waiting(path.name.removesuffix(_SUFFIX), account, since))
    return sorted(found, key=lambda one: one.since)


def _told(path: Path) -> tuple[str, datetime]:
    stood = path.stat()
    try:
        if not stat.S_ISREG(stood.st_mode):
            raise ValueError  # a pipe would keep us waiting
        with path.open("rb") as file:
            told = json.loads(file.readline(4096))
        # Without a zone it could not be compared with the others.
        return str(told["account"]), datetime.fromisoformat(told["since"]).astimezone()
    except FileNotFoundError:
        raise
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError, OSError):
        return "", datetime.fromtimestamp(stood.st_mtime).astimezone()


def _context(name: str, line: bytes) -> bytes:
    return b"notification\0" + name.encode() + b"\0" + line
