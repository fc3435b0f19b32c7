"""Delivery into an mbox file that other programs read and write at the same time.

Both kinds of lock are taken that Debian asks for: fcntl on the file, then FILE.lock beside it. Neither is
waited for while the other is held, for programs that take them the other way round. Where the folder cannot
be written to, the lock of the file alone must do, as with every mail program.

Standards: RFC 4155 and its mboxrd form (">" before every line that is "From " after any number of ">");
Debian Policy section 11.6 (locks).
Security: no link and nothing but a regular file is written to. A message cannot begin another one, nor set
what readers keep in fields of an mbox (Content-Length, Status, X-UID and the like are left out of the copy).
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import re
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from keystore.files import sync_folder
from secmailproxy.errors import ConfigError, SecMailProxyError
from secmailproxy.mime.header import remove_fields

PATIENCE = 60.0
"""Seconds to wait for a lock."""
_STALE_AFTER = 300.0
"""Seconds after which a lock file without the number of a living process is nobody's."""
_READERS_FIELDS = (
    "Content-Length",
    "Status",
    "X-Status",
    "X-Keywords",
    "X-UID",
    "X-UIDL",
    "X-IMAP",
    "X-IMAPbase",
)
_QUOTED = re.compile(rb"^(?=>*From )", re.MULTILINE)
_UNSAFE = re.compile(r"[^!-~]+")

_one_at_a_time = threading.Lock()
"""The fcntl locks of one process are all one lock, and end with the first descriptor that is closed."""


class MailboxBusy(SecMailProxyError):
    """Somebody else has the mailbox, for too long: temporary."""


def entry(octets: bytes, mail_from: str, seconds: float) -> bytes:
    """The message `octets` (LF) as it stands in an mbox: From_ line, quoted text, blank line."""
    sender = _UNSAFE.sub("-", mail_from) or "MAILER-DAEMON"
    separator = f"From {sender} {time.asctime(time.gmtime(seconds))}\n".encode("ascii")
    text = _QUOTED.sub(b">", remove_fields(octets, _READERS_FIELDS))
    return separator + text + (b"\n" if text.endswith(b"\n") else b"\n\n")


def deliver(
    path: Path, octets: bytes, place: int | None, put_place: Callable[[int], None], patience: float = PATIENCE
) -> None:
    """Have the entry `octets` in the mbox at `path`, on the disk.

    `put_place` is told where it will begin before anything is written; a second try brings this as `place`,
    and nothing is written where the entry stands there already. Raises MailboxBusy, OSError.
    """
    with _locked(path, patience) as descriptor:
        size = os.fstat(descriptor).st_size
        if place is not None and place < size:
            stands = os.pread(descriptor, len(octets), place)
            if stands == octets:
                return
            if octets.startswith(stands) and place + len(stands) == size:
                # The beginning of it is the end of the file: the try before was cut off there.
                os.ftruncate(descriptor, place)
                size = place
        lead = _lead(descriptor, size)
        put_place(size + len(lead))
        try:
            _write(descriptor, lead + octets, size)
            os.fsync(descriptor)
        except BaseException:
            os.ftruncate(descriptor, size)
            raise
    sync_folder(path.parent)


def _lead(descriptor: int, size: int) -> bytes:
    """What must stand before the From_ line so that a blank line is above it."""
    end = os.pread(descriptor, 2, max(0, size - 2))
    if not end or end == b"\n\n":
        return b""
    return b"\n" if end.endswith(b"\n") else b"\n\n"


def _write(descriptor: int, octets: bytes, place: int) -> None:
    view = memoryview(octets)
    while view:
        written = os.pwrite(descriptor, view, place)
        place += written
        view = view[written:]


@contextmanager
def _locked(path: Path, patience: float) -> Iterator[int]:
    """The file, made where there is none, with every lock. Raises MailboxBusy, ConfigError, OSError."""
    until = time.monotonic() + patience
    busy = f"the mailbox {path} is locked by another program; if none has it, remove {path}.lock"
    if not _one_at_a_time.acquire(timeout=patience):
        raise MailboxBusy(busy)
    try:
        while True:
            descriptor = _opened(path)
            try:
                with _both_locks(descriptor, path) as have:
                    if have:
                        yield descriptor
                        return
            finally:
                os.close(descriptor)
            if time.monotonic() > until:
                raise MailboxBusy(busy)
            time.sleep(random.uniform(0.01, 0.1))  # noqa: S311  # so that two do not meet again and again
    finally:
        _one_at_a_time.release()


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        try:
            descriptor = os.open(path, flags)
        except FileNotFoundError:
            # Not at once with O_CREAT: in a folder such as /var/mail that is refused for files of others.
            descriptor = os.open(path, flags | os.O_CREAT, 0o600)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise ConfigError(f"{path} is no mbox file but a link or a folder; correct the rule") from None
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise ConfigError(f"{path} is no mbox file, or has a second name; correct the rule")
    return descriptor


@contextmanager
def _both_locks(descriptor: int, path: Path) -> Iterator[bool]:
    """Whether both locks are ours; nothing is waited for. The lock of the file ends when it is closed."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        yield False
        return
    lock = Path(f"{path}.lock")
    took = _took(lock)
    try:
        # A reader may have put a new file in the place of the one that was opened.
        yield took is not _Took.BUSY and _is_still(descriptor, path)
    finally:
        if took is _Took.OURS:
            lock.unlink(missing_ok=True)


class _Took(Enum):
    OURS = 1
    BUSY = 2
    IMPOSSIBLE = 3
    """In a folder that cannot be written to there are no lock files for us."""


def _took(lock: Path) -> _Took:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(lock, flags, 0o644)
    except FileExistsError:
        if _is_stale(lock):
            # Nobody else of us does the same now: the lock of the file is ours.
            lock.unlink(missing_ok=True)
        return _Took.BUSY
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return _Took.IMPOSSIBLE
        raise
    try:
        os.write(descriptor, b"%d\n" % os.getpid())
    finally:
        os.close(descriptor)
    return _Took.OURS


def _is_stale(lock: Path) -> bool:
    """Whether whoever made it is gone. Some write their process into it, some do not."""
    try:
        if time.time() - lock.stat().st_mtime < _STALE_AFTER:
            return False
        owner = int(lock.read_bytes()[:20].split()[0])
    except OSError:
        return False
    except (ValueError, IndexError):
        return True
    return owner <= 0 or not _lives(owner)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass  # somebody else's, and alive
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    opened = os.fstat(descriptor)
    try:
        named = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (opened.st_dev, opened.st_ino) == (named.st_dev, named.st_ino)
