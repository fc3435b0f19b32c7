"""Delivery into a Maildir: whole or not at all, and once.

The name is chosen before anything is written, so that a second try finds what the first has done, also when a
reader has moved it from new to cur meanwhile.

Standards: the maildir page of its author (cr.yp.to/proto/maildir.html), Maildir++ for folders below.
"""

from __future__ import annotations

import os
import socket
import time
from itertools import count
from pathlib import Path

from keystore.files import sync_folder

_COUNTER = count()


def new_name() -> str:
    """A name that no other delivery has: time, process, place in this process, host."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    host = socket.gethostname().replace("/", r"\057").replace(":", r"\072")
    return f"{seconds}.M{nanoseconds // 1000}P{os.getpid()}Q{next(_COUNTER)}.{host}"


def deliver(folder: Path, name: str, octets: bytes) -> None:
    """Have the message `octets` (LF) in `folder` under `name`, on the disk. Nothing where it is already.

    The Maildir is made where there is none; the folder above must exist. Raises OSError.
    """
    for part in (folder, folder / "cur", folder / "new", folder / "tmp"):
        if not part.is_dir():
            part.mkdir(mode=0o700, exist_ok=True)
            sync_folder(part.parent)
    new, temporary = folder / "new", folder / "tmp" / name
    if is_there(folder, name):
        return
    # What a try before this one has left is not whole.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(new / name)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(new)


def is_there(folder: Path, name: str) -> bool:
    """Whether it was delivered, read or not."""
    return (folder / "new" / name).exists() or any(
        found == name or found.startswith(f"{name}:") for found in os.listdir(folder / "cur")
    )
