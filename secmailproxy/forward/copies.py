"""The plain copies that rules keep on this machine: the only place where system mail stays in clear.

A copy is on the disk before the encrypted message leaves. Where that fails afterwards and the message comes
again, the copy that is there already is known by the notes of the first try (`traces`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from secmailproxy.forward import maildir, mbox
from secmailproxy.forward.model import Keep, SystemMail
from secmailproxy.forward.traces import Trace, trace_of


@dataclass(frozen=True, slots=True)
class Copying:
    """One try to store the copies of one message."""

    mail: SystemMail
    trace: Trace
    patience: float

    def keep(self, action: Keep) -> None:
        """Returns when the copy is on the disk, from this try or an earlier one. Blocks.

        Raises OSError, ConfigError for a path that is no mailbox, MailboxBusy.
        """
        step = f"{action.form}:{action.path}"
        if action.form == "maildir":
            self._to_maildir(Path(action.path), step)
        else:
            self._to_mbox(Path(action.path), step)

    def finish(self) -> None:
        """The message is through. Raises OSError."""
        self.trace.finish()

    def _to_maildir(self, folder: Path, step: str) -> None:
        note = self.trace.note(step)
        name = note if isinstance(note, str) and "/" not in note else maildir.new_name()
        if note == name and self.trace.note(f"done {step}"):
            return
        self.trace.put(step, name)
        maildir.deliver(folder, name, _lines(self.mail.octets))
        self.trace.put(f"done {step}", True)

    def _to_mbox(self, path: Path, step: str) -> None:
        if self.trace.note(f"done {step}"):
            return
        note = self.trace.note(step)
        place, began = note if isinstance(note, list) and len(note) == 2 else (None, int(time.time()))
        octets = mbox.entry(_lines(self.mail.octets), self.mail.mail_from, began)
        mbox.deliver(path, octets, place, lambda at: self.trace.put(step, [at, began]), self.patience)
        self.trace.put(f"done {step}", True)


@dataclass(frozen=True, slots=True)
class Copies:
    """A `model.Keeper`. `traces` is the folder of the notes; it is made when it is needed."""

    traces: Path
    patience: float = mbox.PATIENCE
    """Seconds to wait for the lock of an mbox."""

    @contextmanager
    def attempt(self, mail: SystemMail) -> Iterator[Copying]:
        """One try to store the copies of `mail`. Raises ConfigError, OSError."""
        with trace_of(self.traces, mail) as trace:
            yield Copying(mail, trace, self.patience)


def _lines(octets: bytes) -> bytes:
    """With the line ends of files."""
    return octets.replace(b"\r\n", b"\n")
