"""The aliases file of this machine, read when a message needs it."""

from __future__ import annotations

import errno
import os
import stat

from secmailproxy.errors import ConfigError
from secmailproxy.forward.aliases import Resolved, read_aliases, resolve

_OCTETS_MOST = 4 * 1024 * 1024


def resolve_name(name: str, path: str) -> Resolved:
    """What stands behind the local name `name` in the file at `path`.

    Raises ConfigError when the file cannot be read, LimitExceeded.
    """
    try:
        text = _text(path)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read the aliases in {path}: {why}; correct forward.aliases") from None
    return resolve(name, read_aliases(text, path), _text)


def _text(path: str) -> str:
    # Whoever owns an included file could make a named pipe of it, on which everything would wait.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        octets = file.read(_OCTETS_MOST + 1)
    if len(octets) > _OCTETS_MOST:
        raise OSError(errno.EFBIG, f"it has more than {_OCTETS_MOST} octets")
    return octets.decode("utf-8")
