"""Messages that wait for a digest: one sealed file each, on the disk before anybody relies on it.

    collected/NAME/TIME-RANDOM.collected    one message, put through the slot of the keystore's letter box
    collected/NAME.done                     what has left in digests of that name: entries, marks of messages;
                                            lines that begin with "?" are room for what is about to leave

To put a message in takes no secret, so a pipe does it while the keystore is locked; to make the digest
takes the keystore key. An entry is there whole or not at all. It is removed only when the mail that carries
it is in safe hands and that is noted in the `done` file, so whenever a process dies nothing is lost, and at
most one mail comes twice.

A mail program that tries a message again, octet for octet the same, collects it twice. The maker of the
digest knows it again, by its mark, for `_REMEMBERED` days; there is no hash on the disk by which a content
could be guessed. Only messages that have a Message-ID or a Received field are known so: two others may well
be the same.

Security: the name of an entry is bound to its content; nothing of a message is in a name.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keystore.errors import StoreDamaged
from keystore.files import replace_file, sync_folder
from secmailproxy.folders import Folders, make_private
from secmailproxy.forward.digest import CollectedMail
from secmailproxy.forward.model import Collect, Entrance, SystemMail
from secmailproxy.mime import header
from secmailproxy.mime.entity import parse_or_leaf

if TYPE_CHECKING:
    from keystore.letterbox import Letterbox, Slot

_SUFFIX = ".collected"
_DONE = ".done"
_ROOM = "?"
_TIME = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(r"(\d{8}T\d{12}Z)-[0-9a-f]{16}")
_REMEMBERED = timedelta(days=10)
"""Longer than mail programs try a message again."""
_ABANDONED = timedelta(days=1)
"""After which a temporary file is one that nobody writes any more."""


class HasLetterbox(Protocol):
    """What is needed of the keystore."""

    def letterbox(self) -> Letterbox:
        """Raises KeystoreError while it is locked."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file."""

    digest: str
    name: str
    at: datetime
    size: int
    """Octets on the disk."""


def now_utc() -> datetime:
    """The clock of the machine."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Collected:
    """A `model.Collector`, and what the maker of digests needs. Methods block and raise OSError."""

    folder: Path
    slot: Callable[[], Slot]
    clock: Callable[[], datetime] = now_utc

    def collect(self, mail: SystemMail, action: Collect) -> None:
        """Returns when the message is on the disk, sealed. Raises KeystoreError without a slot."""
        folder = self.folder / action.digest
        self._prepare(folder)
        name = f"{self.clock().astimezone(UTC):{_TIME}}-{secrets.token_hex(8)}"
        letter = self.slot().put(_to_octets(mail), _context(action.digest, name))
        replace_file(folder / f"{name}{_SUFFIX}", letter)

    def digests(self) -> list[str]:
        """The names of all digests for which something was ever kept, also of those no longer configured."""
        if not self.folder.is_dir():
            return []
        return sorted(one.name for one in self.folder.iterdir() if one.is_dir())

    def entries(self, digest: str) -> list[Entry]:
        """What waits for `digest`, the oldest first."""
        folder = self.folder / digest
        found = []
        for path in folder.glob(f"*{_SUFFIX}") if folder.is_dir() else ():
            name = path.name.removesuffix(_SUFFIX)
            # None of ours, or gone meanwhile: it is nothing that waits.
            with suppress(ValueError, FileNotFoundError):
                if matched := _NAME.fullmatch(name):
                    at = datetime.strptime(matched[1], _TIME).replace(tzinfo=UTC)
                    found.append(Entry(digest, name, at, path.stat().st_size))
        return sorted(found, key=lambda one: one.name)

    def read(self, entry: Entry, letterbox: Letterbox) -> CollectedMail:
        """Raises StoreDamaged for an entry that does not open."""
        letter = self._path(entry).read_bytes()
        octets = letterbox.open(letter, _context(entry.digest, entry.name))
        return CollectedMail(entry.name, entry.at, _from_octets(octets))

    def left(self, digest: str) -> set[str]:
        """Names and marks of what has left in digests of this name already."""
        try:
            lines = self._done(digest).read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return set()
        # The last line may be cut off; then its entry is still there and goes out again.
        told = [line.partition(" ") for line in lines if not line.startswith(_ROOM)]
        return {mark for _, _, mark in told if mark}

    @contextmanager
    def noting(self, digest: str, marks: Iterable[str], now: datetime) -> Iterator[None]:
        """These leave within the block: that is on the disk at its end.

        The disk has room for it before the block begins, for what left and could not be noted would leave
        again and again.
        """
        path, lines = self._done(digest), [f"{now:%Y-%m-%d} {mark}\n" for mark in marks]
        is_new = not path.exists()
        with open(path, "r+b", buffering=0, opener=_privately) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                # A line of its own, whatever a process that died has left unfinished.
                _write(file.fileno(), "".join(["\n", *(_ROOM + one[1:] for one in lines)]), size)
                if is_new:
                    sync_folder(path.parent)
                yield
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(file.fileno(), size)
                raise
            _write(file.fileno(), "".join(["\n", *lines]), size)

    def drop(self, entries: Sequence[Entry]) -> None:
        """Remove what has left, for good."""
        for entry in entries:
            self._path(entry).unlink(missing_ok=True)
        for folder in {self._path(entry).parent for entry in entries}:
            sync_folder(folder)

    def tidy(self, digest: str, now: datetime) -> None:
        """Forget marks that no retry can bear any more, and what has been left half written."""
        path, oldest = self._done(digest), f"{now - _REMEMBERED:%Y-%m-%d}"
        lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
        kept = [line for line in lines if line >= oldest and not line.startswith(_ROOM)]
        if len(kept) < len([line for line in lines if line]):
            replace_file(path, "".join(f"{line}\n" for line in kept).encode("ascii"))
        for half in (self.folder / digest).glob(f".*{_SUFFIX}.*"):
            if datetime.fromtimestamp(half.stat().st_mtime, UTC) < now - _ABANDONED:
                half.unlink(missing_ok=True)

    def _prepare(self, folder: Path) -> None:
        if folder.is_dir():
            return
        make_private(self.folder)
        make_private(folder)
        for one in (self.folder.parent, self.folder):
            sync_folder(one)

    def _path(self, entry: Entry) -> Path:
        return self.folder / entry.digest / f"{entry.name}{_SUFFIX}"

    def _done(self, digest: str) -> Path:
        return self.folder / f"{digest}{_DONE}"


def mark_of(message: CollectedMail, letterbox: Letterbox) -> str:
    """By what the same message is known again; "" for one that may rightly come twice."""
    root = parse_or_leaf(message.mail.octets)
    if header.find(root, "Message-ID") is None and header.find(root, "Received") is None:
        return ""
    return letterbox.mark(message.mail.octets).hex()


def collected_of(folders: Folders, keystore: HasLetterbox) -> Collected:
    """Those of this installation."""
    return Collected(folders.collected, lambda: known_slot(folders.slot, keystore.letterbox))


def known_slot(path: Path, letterbox: Callable[[], Letterbox]) -> Slot:
    """The slot as it is kept in the file `path`; where there is none yet, it is asked for and kept.

    Raises KeystoreError when it is needed and the keystore is locked.
    """
    from keystore.letterbox import Slot  # its libraries take time to import, and few messages are collected

    try:
        return Slot.from_octets(path.read_bytes())
    except (FileNotFoundError, StoreDamaged):
        return keep_slot(path, letterbox())


def keep_slot(path: Path, letterbox: Letterbox) -> Slot:
    """Keep the slot of this letter box in the file `path`, if another one or none is there."""
    wanted = letterbox.slot.to_octets()
    try:
        is_kept = path.read_bytes() == wanted
    except FileNotFoundError:
        is_kept = False
    if not is_kept:
        make_private(path.parent)
        replace_file(path, wanted)
    return letterbox.slot


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o600)


def _write(descriptor: int, text: str, place: int) -> None:
    """On the disk when this returns."""
    left = memoryview(text.encode("ascii"))
    while left:
        written = os.pwrite(descriptor, left, place)
        left, place = left[written:], place + written
    os.fsync(descriptor)


def _context(digest: str, name: str) -> bytes:
    return b"collected\0" + digest.encode() + b"\0" + name.encode()


def _to_octets(mail: SystemMail) -> bytes:
    told = {"mail_from": mail.mail_from, "rcpt_tos": mail.rcpt_tos, "entrance": mail.entrance.value}
    return json.dumps(told).encode("ascii") + b"\n" + mail.octets


def _from_octets(octets: bytes) -> SystemMail:
    line, _, message = octets.partition(b"\n")
    try:
        told = json.loads(line)
        rcpt_tos = tuple(map(str, told["rcpt_tos"]))
        return SystemMail(message, str(told["mail_from"]), rcpt_tos, Entrance(told["entrance"]))
    except (ValueError, LookupError, TypeError):
        raise StoreDamaged("a collected message is not what was written") from None
