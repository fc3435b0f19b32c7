"""The journal of one errand on one mailbox: what was begun, on the disk before it is done.

One line of JSON and its checksum for each change, synced to the disk; a line that a power cut tore is no
line, one that was changed is damage. It holds UIDs, flags and digests, never message text. The file is also
the lock: one errand at a time on a mailbox.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedRandom
from pathlib import Path
from typing import Any

from keystore.files import sync_folder
from secmailproxy.errands.plan import Errand, State
from secmailproxy.errors import SecMailProxyError, UsageError
from secmailproxy.folders import make_private


class MailboxRenewed(SecMailProxyError):
    """The UIDs in the journal mean nothing any more."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One replacement that was begun."""

    uid: int
    """Of the original."""
    state: State
    sign: str
    """By which the copy is recognised, if its UID is not known."""
    floor: int
    """The copy has at least this UID."""
    flags: frozenset[bytes]
    """Of the original when it was copied."""
    copy: int | None = None
    """The UID of the copy, once it is known."""


class Journal:
    """Replacements by the UID of the original, in the order in which they were begun."""

    def __init__(self, file: BufferedRandom) -> None:
        self._file = file
        self.path = Path(file.name)
        self.entries: dict[int, Entry] = {}
        self.errand: Errand | None = None
        """Of an errand that was not finished."""
        self._uidvalidity = 0
        self._read()

    def _read(self) -> None:
        end = 0
        for line in self._file:
            if not line.endswith(b"\n") and _told(line[:-1]) is None:
                break
            end += len(line)
            told = _told(line[:-1]) if line.endswith(b"\n") else None
            if told is not None:
                self._take(told)
            else:
                raise UsageError(
                    f"{self.path} is damaged. Look for doubles in the mailbox, remove the file, try again."
                )
        self._file.seek(end)
        self._file.truncate()

    def _take(self, told: dict[str, Any]) -> None:
        if "errand" in told:
            self.errand, self._uidvalidity = Errand(told["errand"]), told["uidvalidity"]
            return
        state = told["state"]
        if state is None:
            self.entries.pop(told["uid"], None)
            return
        flags = frozenset(one.encode("ascii") for one in told["flags"])
        entry = Entry(told["uid"], State(state), told["sign"], told["floor"], flags, told["copy"])
        self.entries[entry.uid] = entry

    def check(self, uidvalidity: int) -> None:
        """Whether what was not finished can be gone on with. Raises MailboxRenewed."""
        if self.entries and self._uidvalidity != uidvalidity:
            raise MailboxRenewed(
                f"The mail server has renewed the mailbox, so it is not known what became of "
                f"{len(self.entries)} message(s) that were being replaced. None was deleted before its copy "
                f"was proven. Look for doubles, remove {self.path}, and run the command again."
            )

    def begin(self, errand: Errand, uidvalidity: int) -> None:
        """Begin, when nothing is left of an errand before."""
        self._write([{"errand": errand.value, "uidvalidity": uidvalidity}])

    def note(self, *entries: Entry) -> None:
        """Put these on the disk before what they say is done."""
        self._write(
            {
                "uid": one.uid,
                "state": one.state.value,
                "sign": one.sign,
                "floor": one.floor,
                "flags": sorted(flag.decode("ascii") for flag in one.flags),
                "copy": one.copy,
            }
            for one in entries
        )

    def settle(self, uids: Iterable[int]) -> None:
        """Nothing is begun any more with these."""
        self._write({"uid": uid, "state": None} for uid in uids)

    def finish(self) -> None:
        """The errand ended; with nothing in the air the journal is empty again."""
        if not self.entries:
            self._file.seek(0)
            self._file.truncate()
            os.fsync(self._file.fileno())

    def _write(self, told: Iterable[dict[str, Any]]) -> None:
        lines = list(told)
        self._file.write(b"".join(_line(one) for one in lines))
        self._file.flush()
        os.fsync(self._file.fileno())
        for one in lines:
            self._take(one)


def _line(told: dict[str, Any]) -> bytes:
    octets = json.dumps(told).encode()
    return b"%b %08x\n" % (octets, zlib.crc32(octets))


def _told(line: bytes) -> dict[str, Any] | None:
    """What a line without its end says; None for one that is not as it was written."""
    octets, _, checksum = line.rpartition(b" ")
    if checksum != b"%08x" % zlib.crc32(octets):
        return None
    told: dict[str, Any] = json.loads(octets)
    return told


@contextmanager
def journal_of(state: Path, account: str, mailbox: bytes) -> Iterator[Journal]:
    """The journal of a mailbox, locked. Raises UsageError while another process has it."""
    folder = state / "errands"
    make_private(folder)
    name = hashlib.sha256(account.lower().encode() + b"\0" + mailbox).hexdigest()[:32]
    path = folder / f"{name}.journal"
    path.touch(mode=0o600)
    sync_folder(folder)
    with path.open("r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError("Another secmailproxy works on this mailbox; let it end first.") from None
        yield Journal(file)
