"""The aliases file of this machine, read when a message needs it."""

from __future__ import annotations

import errno
import os
import stat

from secmailproxy.errors import ConfigError
from secmailproxy.forward.aliases import Resolved, read_aliases, resolve, wrong_lines

_OCTETS_MOST = 4 * 1024 * 1024


def resolve_name(name: str, path: str) -> Resolved:
    """What stands behind the local name `name` in the file at `path`.

    Raises ConfigError when the file cannot be read, LimitExceeded.
    """
    return resolve(name, read_aliases(_table(path)), _text)


def mistakes(path: str) -> tuple[int, ...]:
    """The numbers of the lines in the file at `path` that are no alias. Raises ConfigError as above."""
    return wrong_lines(_table(path))


def _table(path: str) -> str:
    try:
        return _text(path)
    except OSError as error:
        raise ConfigError(
            f"cannot read the aliases in {path}: {error.strerror}; correct forward.aliases"
        ) from None


def _text(path: str) -> str:
    # Whoever owns an included file could make a named pipe of it, on which everything would wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        octets = file.read(_OCTETS_MOST + 1)
    if len(octets) > _OCTETS_MOST:
        raise OSError(errno.EFBIG, f"it has more than {_OCTETS_MOST} octets")
    # What is no UTF-8 stands in comments of old files; elsewhere it makes no address.
    return octets.decode("utf-8-sig", "surrogateescape")
