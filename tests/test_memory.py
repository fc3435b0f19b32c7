"""Memory that holds keys stays out of swap where the system allows it, and out of everybody's sight."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from secmailproxy.memory import may_lock

IPC_LOCK = 1 << 14


@pytest.mark.parametrize(
    ("most", "capabilities", "may"),
    [
        (resource.RLIM_INFINITY, 0, True),
        (8 * 2**20, 0, False),
        (0, 0, False),
        (8 * 2**20, IPC_LOCK, True),
        (8 * 2**20, ~IPC_LOCK, False),
        (2**40, 0, False),
    ],
)
def test_locked_only_without_a_limit(most: int, capabilities: int, may: bool) -> None:
    assert may_lock(most, capabilities) is may


SCRIPT = """
import ctypes, os, resource, sys
from secmailproxy.memory import _capabilities, keep_in_memory, may_lock
resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if len(sys.argv) > 1 and os.geteuid() == 0:
    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print(may_lock(65536, _capabilities()), repr(keep_in_memory()))
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")))
data = bytearray(40 * 2**20)  # what was locked or not, there is memory to be had
print(len(data) // 2**20)
"""


def told(*words: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_locked_or_told_why_not() -> None:
    state, dumpable, locked, room = told()
    may = state.startswith("True")
    assert state.endswith("''") is may
    assert (int(locked) > 0) is may
    assert (dumpable, room) == ("0", "40")


def test_an_ordinary_user_is_told_what_is_in_the_way() -> None:
    state, dumpable, locked, room = told("ordinary")
    assert state == "False 'only 64 KiB may be locked (LimitMEMLOCK= of a systemd unit, ulimit -l)'"
    assert (dumpable, locked, room) == ("0", "0", "40")
