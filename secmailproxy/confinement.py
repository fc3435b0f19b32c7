"""What one message may cost the process that opens it: processor time and memory.

A backstop behind the bounds of the readers themselves (depth, parts, packets, expansion), for a message that
costs more than anybody has thought of. What counts is processor time: a machine that is busy or asleep
exceeds nothing.

Security: exceeding the processor time ends the process (SIGXCPU); memory is refused, which raises MemoryError
or ends the process (SIGABRT). Only processes that do nothing else are confined (`workers`).
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MIB = 1024 * 1024
_SECONDS = 30
"""Fifteen times what the worst known message takes on an ordinary machine."""
_MEMORY = 1024 * _MIB
_MEMORY_FOR_EACH_OCTET = 8

BY_ITS_FAULT: dict[int | None, str] = {
    signal.SIGXCPU: "it takes too long to open",
    signal.SIGSEGV: "opening it ends the program",
    signal.SIGBUS: "opening it ends the program",
    signal.SIGILL: "opening it ends the program",
    signal.SIGFPE: "opening it ends the program",
    signal.SIGABRT: "opening it ends the program",
}
"""The signals that end a process because of what it does, and what people are told of the message then."""
TOO_MUCH_MEMORY = "it takes too much memory to open"


def seconds(octets: int) -> int:
    """Seconds of a processor for a message of so many octets."""
    return _SECONDS + octets // _MIB


def memory(octets: int) -> int:
    """Octets of memory for a message of so many octets, beside what the process has already."""
    return _MEMORY + _MEMORY_FOR_EACH_OCTET * octets


def has_room(octets: int, meminfo: Path = Path("/proc/meminfo")) -> bool:
    """Whether the machine could give now what a message of so many octets may take.

    What it keeps of files meanwhile it would give up: soon after its start no machine has much that is free.
    """
    stated = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
    return int(stated["MemAvailable"].split()[0]) * 1024 >= memory(octets)


@contextmanager
def confined(octets: int, allowed: int | None = None) -> Iterator[None]:
    """Bound this process while it opens a message of so many octets; `allowed` are other seconds."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    bounds = {
        resource.RLIMIT_CPU: int(time.process_time()) + 1 + (seconds(octets) if allowed is None else allowed),
        resource.RLIMIT_AS: pages * os.sysconf("SC_PAGE_SIZE") + memory(octets),
    }
    before = {which: resource.getrlimit(which) for which in bounds}
    for which, bound in bounds.items():
        soft, hard = before[which]
        stricter = [one for one in (soft, bound) if one != resource.RLIM_INFINITY]
        resource.setrlimit(which, (min(stricter), hard))
    try:
        yield
    finally:
        for which, limits in before.items():
            resource.setrlimit(which, limits)
