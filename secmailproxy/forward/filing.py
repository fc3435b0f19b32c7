"""How a file comes into our own queue, whoever brings it: written, synced, renamed, its folder synced.

`spool` says what is in it; `quick` puts one in for a pipe that must not import `spool`.
"""

# Imported by pipes: see `plan`.
import os
import time

MAIL = ".mail"
"""The ending of files that are in the queue."""
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME_DIGITS, _RANDOM_DIGITS = 11, 4


def new_name() -> str:
    """Names sort by time. The random digits keep those of one microsecond apart."""
    number = time.time_ns() // 1000
    number = (number << 5 * _RANDOM_DIGITS) + int.from_bytes(os.urandom(4), "big") % (1 << 5 * _RANDOM_DIGITS)
    digits = [_DIGITS[number >> 5 * at & 31] for at in range(_TIME_DIGITS + _RANDOM_DIGITS)]
    return "".join(reversed(digits))


def temporary(name: str) -> str:
    """What the file of this name is called while it is written."""
    return f".{name}.new"


def write(path: str | os.PathLike[str], *pieces: bytes) -> None:
    """A file for its owner alone, on the disk when this returns; its name may not be. Raises OSError."""
    flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        for octets in pieces:
            left = memoryview(octets)
            while left:
                left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
