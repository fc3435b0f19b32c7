"""Our own queue: the side that looks at what waits, delivers it and takes it out (`spool` puts it in).

Whoever changes anything about a queued message holds the lock of its file, which ends with the process. What
is no queued message, or a damaged one, is moved to the folder `aside`, named in the log, and never deleted.
Nothing here needs a key: addresses, sizes and times are in clear, the messages are ciphertext.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import logging
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keystore.files import sync_folder
from secmailproxy.errors import SecMailProxyError, UsageError
from secmailproxy.forward.attempts import BY_HAND, Progress
from secmailproxy.forward.filing import MAIL
from secmailproxy.forward.model import Product
from secmailproxy.forward.spool import FORMAT, LINE_MOST, STATE, Route
from secmailproxy.model import Envelope

log = logging.getLogger(__name__)

ASIDE = "aside"
_UNFINISHED_AFTER = 3600.0
"""Seconds after which nobody writes on at a file any more."""
_DAMAGED = frozenset({errno.EACCES, errno.EPERM, errno.ELOOP, errno.EISDIR, errno.ENXIO})
"""What opening says of a file that is none of ours."""


class NotQueued(UsageError):
    """There is no queued message with this id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no message with the id {name!r} is in the queue; see: secmailproxy queue list")


class BeingDelivered(SecMailProxyError):
    """Somebody else has the message at this moment."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the message {name} is being delivered at this moment; try again")


class Damaged(SecMailProxyError):
    """A file of the queue is not what was written."""


class Unreadable(Damaged):
    """A file of the queue cannot be read at this moment; later it may be."""

    def __init__(self, name: str, error: OSError) -> None:
        super().__init__(f"{name} cannot be read: {error.strerror}")


@dataclass(frozen=True, slots=True)
class Message:
    """One of the messages of a file: its envelope, and where it lies."""

    envelope: Envelope
    start: int
    octets: int
    crc: int
    is_notice: bool


@dataclass(frozen=True, slots=True)
class Queued:
    """A queued message as the first line of its file tells it; several, where several came together."""

    name: str
    arrived: float
    """Seconds since 1970."""
    route: Route
    bounces: str
    held: str
    """Why it is held from the beginning; "" when it is not."""
    messages: tuple[Message, ...]

    @property
    def octets(self) -> int:
        """Of all messages."""
        return sum(one.octets for one in self.messages)

    def left(self, progress: Progress) -> list[tuple[int, str]]:
        """Recipients that are not settled."""
        everybody = [(at, to) for at, one in enumerate(self.messages) for to in one.envelope.rcpt_tos]
        return [one for one in everybody if one not in progress.settled]


@dataclass(slots=True)
class Taken:
    """A queued message that nobody else touches."""

    queue: Queue
    queued: Queued
    progress: Progress
    _descriptor: int

    def product(self, at: int) -> Product:
        """One of its messages, read from the disk. Raises Damaged, OSError."""
        message = self.queued.messages[at]
        octets = os.pread(self._descriptor, message.octets, message.start)
        if len(octets) != message.octets or zlib.crc32(octets) != message.crc:
            raise Damaged(f"{self.queue.folder / self.queued.name}{MAIL} is damaged")
        return Product(octets, message.envelope, is_notice=message.is_notice)

    def save(self, progress: Progress, *, durable: bool = True) -> None:
        """Keep how far it is; not `durable`: a power cut may lose a try. Raises OSError."""
        # Whom it has reached already must never be forgotten, nor how often nobody knew.
        durable = durable or bool(progress.settled or progress.unknown)
        path = self.queue.folder / (self.queued.name + STATE)
        temporary = path.with_name(f".{path.name}")
        descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            left = memoryview(_written(progress))
            while left:  # of what a disk that is almost full takes, the first part is no state
                left = left[os.write(descriptor, left) :]
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
        if durable:
            sync_folder(self.queue.folder)
        self.progress = progress

    def remove(self) -> None:
        """Out of the queue, for good. Raises OSError."""
        os.unlink(self.queue.folder / (self.queued.name + MAIL))
        sync_folder(self.queue.folder)
        with suppress(FileNotFoundError):
            os.unlink(self.queue.folder / (self.queued.name + STATE))


@dataclass(frozen=True, slots=True)
class Queue:
    """The folder of a `spool.Spool`. Methods block; they raise OSError when it cannot be read or written."""

    folder: Path
    told: Callable[[str], None] = lambda text: log.error("%s", text)
    """Hears of each file that is set aside."""

    def names(self) -> list[str]:
        """The ids, the oldest first."""
        try:
            with os.scandir(self.folder) as entries:
                found = [one.name for one in entries if _is_mail(one.name)]
        except FileNotFoundError:
            return []
        return sorted(one.removesuffix(MAIL) for one in found)

    def progress(self, name: str) -> Progress:
        """How far the message is; from the beginning, where that is not told. Raises Unreadable."""
        try:
            return _read_state((self.folder / (name + STATE)).read_bytes())
        except FileNotFoundError:
            return self._at_first(name)
        except OSError as error:
            # It may be held, or have reached somebody.
            raise Unreadable(name + STATE, error) from None
        except (ValueError, TypeError, LookupError):
            # What is not known of the past may have been an attempt.
            return Progress(begun=True)

    def _at_first(self, name: str) -> Progress:
        try:
            descriptor = self._open(name)
        except (NotQueued, Damaged):
            return Progress()
        except OSError as error:
            raise Unreadable(name + MAIL, error) from None
        try:
            return Progress(held=_first_line(name, descriptor).held)
        except Unreadable:
            raise
        except Damaged:
            return Progress()
        finally:
            os.close(descriptor)

    def look(self, name: str) -> tuple[Queued, Progress]:
        """Without a lock, for showing. Raises NotQueued, Damaged."""
        descriptor = self._open(name)
        try:
            return _first_line(name, descriptor), self.progress(name)
        finally:
            os.close(descriptor)

    @contextmanager
    def taken(self, name: str) -> Iterator[Taken]:
        """The message, and nobody else has it within the block. Raises NotQueued, BeingDelivered, Damaged."""
        descriptor = self._open(name)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BeingDelivered(name) from None
            if os.fstat(descriptor).st_nlink == 0:
                raise NotQueued(name)
            yield Taken(self, _first_line(name, descriptor), self.progress(name), descriptor)
        finally:
            os.close(descriptor)

    def hold(self, name: str) -> None:
        """Not tried any more until it is released."""
        with self.taken(name) as taken:
            taken.save(dataclasses.replace(taken.progress, held=taken.progress.held or BY_HAND))

    def release(self, name: str) -> None:
        """To be tried again, now, with all the patience that a new message has."""
        with self.taken(name) as taken:
            taken.save(Progress(settled=taken.progress.settled, why=taken.progress.why))

    def hasten(self, name: str) -> None:
        """To be tried now."""
        with self.taken(name) as taken:
            taken.save(dataclasses.replace(taken.progress, again=0.0))

    def drop(self, name: str) -> None:
        """Deleted, undelivered."""
        with self.taken(name) as taken:
            taken.remove()

    def set_aside(self, file: str, why: str) -> None:
        """Move a file that is no queued message out of the way."""
        aside = self.folder / ASIDE
        aside.mkdir(0o700, exist_ok=True)
        place = aside / file
        number = 0
        while os.path.lexists(place):
            number += 1
            place = aside / f"{file}.{number}"
        with suppress(FileNotFoundError):
            os.rename(self.folder / file, place)
            sync_folder(self.folder)
            self.told(f"{self.folder / file} {why}; it was moved to {place}")

    def tidy(self) -> None:
        """Set aside what is none of ours, and remove what was left behind by a process that was killed."""
        try:
            with os.scandir(self.folder) as entries:
                found = [one.name for one in entries]
        except FileNotFoundError:
            return
        names = set(found)
        for file in found:
            path = self.folder / file
            with suppress(OSError):  # what cannot be moved stays; it keeps no message waiting
                if file.startswith("."):
                    self._remove_unfinished(path)
                elif file.endswith(STATE):
                    if file.removesuffix(STATE) + MAIL not in names and not _exists(path.with_suffix(MAIL)):
                        path.unlink()
                elif file != ASIDE and not _is_mail(file):
                    self.set_aside(file, "does not belong to the queue")

    def _remove_unfinished(self, path: Path) -> None:
        told = path.lstat()
        # Of one that was not finished nobody was told that it is queued.
        if path.suffix in (".new", STATE) and time.time() - told.st_mtime > _UNFINISHED_AFTER:
            path.unlink()

    def _open(self, name: str) -> int:
        path = self.folder / (name + MAIL)
        if not _is_mail(path.name) or path.parent != self.folder:
            raise NotQueued(name)
        try:
            # A pipe would keep us waiting; nobody leads us elsewhere by a link.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotQueued(name) from None
        except OSError as error:
            if error.errno in _DAMAGED:
                raise Damaged(f"{path} cannot be read: {error.strerror}") from None
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise Damaged(f"{path} is no file")
        return descriptor


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


def _is_mail(file: str) -> bool:
    return file.endswith(MAIL) and len(file) > len(MAIL) and file[0] not in "./" and "/" not in file


def _first_line(name: str, descriptor: int) -> Queued:
    try:
        head = os.pread(descriptor, LINE_MOST, 0)
    except OSError as error:
        raise Unreadable(name + MAIL, error) from None
    line, end, _ = head.partition(b"\n")
    try:
        told = json.loads(line)
        if not end or told["format"] != FORMAT:
            raise ValueError
        start = len(line) + 1
        messages = []
        for one in told["messages"]:
            messages.append(_message(one, start))
            start += messages[-1].octets
        if start != os.fstat(descriptor).st_size or not messages:
            raise ValueError
        via, way = told["route"]
        texts = str(told["bounces"]), str(told["held"])
        return Queued(name, float(told["arrived"]), Route(via, str(way)), *texts, tuple(messages))
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        raise Damaged(f"{name}{MAIL} is damaged, or was written by another version") from None


def _message(told: Any, start: int) -> Message:
    envelope = Envelope(
        str(told["from"]),
        tuple(map(str, told["to"])),
        tuple(map(str, told["mail_options"])),
        tuple(tuple(map(str, one)) for one in told["rcpt_options"]),
    )
    octets = int(told["octets"])
    if octets < 0:
        raise ValueError
    return Message(envelope, start, octets, int(told["crc"]), bool(told["notice"]))


def _written(progress: Progress) -> bytes:
    told = dataclasses.asdict(progress) | {"settled": sorted(progress.settled)}
    return json.dumps(told, separators=(",", ":")).encode()


def _read_state(octets: bytes) -> Progress:
    told = json.loads(octets)
    return Progress(
        tries=int(told["tries"]),
        again=float(told["again"]),
        why=str(told["why"]),
        held=str(told["held"]),
        settled=frozenset((int(at), str(to)) for at, to in told["settled"]),
        begun=bool(told["begun"]),
        unknown=int(told["unknown"]),
    )
