"""Keeps the memory of a process that holds keys and plaintext where it is: not in swap, not in core files.

Standards: mlockall(2), prctl(2), capabilities(7) of Linux; elsewhere nothing of this is done.
Security: a help against disks that are found later, no protection against the user's own programs.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

_CURRENT, _FUTURE, _ON_FAULT = 1, 2, 4
_SET_DUMPABLE = 4
_CAP_IPC_LOCK = 14


def may_lock(most: int, capabilities: int) -> bool:
    """Whether all memory can be locked, with at most `most` octets allowed and these capabilities (bits).

    Where there is a limit nothing is locked: as soon as the process grew beyond it, it would get no memory.
    """
    return most == resource.RLIM_INFINITY or bool(capabilities >> _CAP_IPC_LOCK & 1)


def keep_in_memory() -> str:
    """Lock all memory of this process, now and later, and let nobody look into it.

    Returns "", or why it is not locked, for people. Nothing of this lasts in programs that it starts.
    """
    if sys.platform != "linux":
        return "this system is not asked for it"
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_SET_DUMPABLE, 0, 0, 0, 0)
    _, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if not may_lock(most, _capabilities()):
        return f"only {most // 1024} KiB may be locked (LimitMEMLOCK= of a systemd unit, ulimit -l)"
    with suppress(OSError, ValueError):
        resource.setrlimit(
            resource.RLIMIT_MEMLOCK, (most, most)
        )  # a unit may forbid it; then it says why below
    if library.mlockall(_CURRENT | _FUTURE | _ON_FAULT):
        return os.strerror(ctypes.get_errno())
    return ""


def _capabilities() -> int:
    """Those in effect, as bits; none where they cannot be read."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace").splitlines()
        stated = dict(line.split(":", 1) for line in lines if ":" in line)
        return int(stated["CapEff"], 16)
    except (OSError, KeyError, ValueError):
        return 0
