"""Delivery into a Maildir: whole or not at all, and once.

The name is chosen before anything is written, so that a second try finds what the first has done, also when a
reader has moved it from new to cur meanwhile.

Security: no link is followed at the Maildir or below it. Whoever owns a Maildir to which root writes could
have files put into any folder.

Standards: the maildir page of its author (cr.yp.to/proto/maildir.html), Maildir++ for folders below.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path

from keystore.files import sync_folder
from secmailproxy.errors import ConfigError

_COUNTER = count()


def new_name() -> str:
    """A name that no other delivery has: time, process, place in this process, host."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    return f"{seconds}.M{nanoseconds // 1000}P{os.getpid()}Q{next(_COUNTER)}.{host}"


def deliver(folder: Path, name: str, octets: bytes) -> None:
    """Have the message `octets` (LF) in `folder` under `name`, on the disk. Nothing where it is already.

    The Maildir is made where there is none; the folder above must exist. Raises OSError, ConfigError.
    """
    with ExitStack() as stack:
        root = _made(folder, folder.parent, None, stack)
        cur, new, tmp = (_made(Path(one), folder, root, stack) for one in ("cur", "new", "tmp"))
        if _is_in(cur, new, name):
            return
        # What a try before this one has left is not whole.
        _forget(tmp, name)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=tmp)
        try:
            with open(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(file.fileno())
            os.rename(name, name, src_dir_fd=tmp, dst_dir_fd=new)
        except BaseException:
            _forget(tmp, name)
            raise
        os.fsync(new)


def _is_in(cur: int, new: int, name: str) -> bool:
    return name in os.listdir(new) or any(
        found == name or found.startswith(f"{name}:") for found in os.listdir(cur)
    )


def _made(path: Path, above: Path, at: int | None, stack: ExitStack) -> int:
    """The folder `path`, below the open folder `at`; made where there is none."""
    try:
        return _opened(path, at, stack)
    except FileNotFoundError:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700, dir_fd=at)
        if at is None:
            sync_folder(above)
        else:
            os.fsync(at)
        return _opened(path, at, stack)


def _opened(path: Path, at: int | None, stack: ExitStack) -> int:
    """A folder, until the end of `stack`; no link, which could lead to where only we may write."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, dir_fd=at)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            why = "is no folder of a Maildir but a link or a file; correct the rule"
            raise ConfigError(f"{path} {why}") from None
        raise
    stack.callback(os.close, descriptor)
    return descriptor


def _forget(folder: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
