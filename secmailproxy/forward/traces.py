"""What an earlier try of the same message has done already, so that the next one does not do it again.

A try that fails is made anew by whoever brought the message, with the same octets. Each step that must happen
once leaves a note before and after it; the notes go when the message is through. A message that comes while
another with the same octets is under way is another message: it has notes of its own.

One small file for each message under way, in a folder of its own; its lock tells that somebody is at it. The
file holds no word of the message: its name is a hash.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keystore.files import sync_folder
from secmailproxy.folders import make_private
from secmailproxy.forward.model import SystemMail

FORGOTTEN_AFTER = 8 * 24 * 3600.0
"""Seconds: mail servers try again for less, so what comes later is another message."""
_READ_MOST = 1024 * 1024


@dataclass(slots=True)
class Trace:
    """The notes of one message, while its lock is held."""

    descriptor: int
    path: Path
    notes: dict[str, Any] = field(default_factory=dict)

    def note(self, step: str) -> Any:
        """What was put down for `step`, None for nothing."""
        return self.notes.get(step)

    def put(self, step: str, value: Any) -> None:
        """Put down `value` (JSON) for `step`; it is on the disk when this returns. Raises OSError."""
        self.notes[step] = value
        octets = json.dumps(self.notes).encode()
        # In place, for the lock is of this file. A note cut off by a crash reads as none.
        os.pwrite(self.descriptor, octets, 0)
        os.ftruncate(self.descriptor, len(octets))
        os.fsync(self.descriptor)

    def finish(self) -> None:
        """The message is through: what is alike from now on is another one. Raises OSError."""
        self.path.unlink(missing_ok=True)


@contextmanager
def trace_of(folder: Path, mail: SystemMail) -> Iterator[Trace]:
    """The notes of this message in `folder`, which nobody else has meanwhile. Raises ConfigError, OSError."""
    make_private(folder)
    _sweep(folder)
    digest = hashlib.sha256(mail.mail_from.encode("utf-8", "surrogateescape") + b"\0" + mail.octets)
    descriptor, path = _locked(folder, digest.hexdigest())
    try:
        yield Trace(descriptor, path, _notes(descriptor))
    finally:
        if os.fstat(descriptor).st_size == 0:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(folder: Path, digest: str) -> tuple[int, Path]:
    """The first file of this message that nobody holds."""
    number = 0
    while True:
        path = folder / f"{digest}.{number}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever held it may have removed it meanwhile: then it is nobody's.
            if os.fstat(descriptor).st_nlink:
                sync_folder(folder)
                return descriptor, path
        except BlockingIOError:
            number += 1
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _notes(descriptor: int) -> dict[str, Any]:
    if time.time() - os.fstat(descriptor).st_mtime > FORGOTTEN_AFTER:
        return {}
    with contextlib.suppress(ValueError):
        notes = json.loads(os.pread(descriptor, _READ_MOST, 0))
        if isinstance(notes, dict):
            return notes
    return {}


def _sweep(folder: Path) -> None:
    """Remove what is too old to matter: notes of messages that nobody has brought again."""
    for path in folder.glob("*.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > FORGOTTEN_AFTER:
                path.unlink()
