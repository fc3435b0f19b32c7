"""What a long-running process owes its surroundings: one instance, no core dumps, "ready" when it is ready.

Standards: sd_notify(3) of systemd.
Security: a core file would hold unlocked keys and plaintext.
"""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from secmailproxy.errors import ConfigError, UsageError
from secmailproxy.folders import make_private

LOCK = "serve.lock"
"""In the state folder: held by the process that serves, whose number is in it."""


def keep_private() -> None:
    """Files for the owner alone; no core dumps."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def harden_process() -> None:
    """Files for the owner alone; no core dumps; as many connections as the system grants.

    SIGHUP is ignored until `serve` takes it, so that a reload asked for too early does no harm.
    """
    keep_private()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def only_instance(state: Path) -> Iterator[None]:
    """Hold the lock of this installation. Raises ConfigError when another process serves it."""
    make_private(state)
    path = state / LOCK
    with path.open("a+", encoding="ascii") as lock:
        if not _locked(lock):
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise ConfigError(
                f"secmailproxy already serves this configuration (process {owner}); stop it, or set "
                "SECMAILPROXY_HOME to another folder."
            )
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def _locked(lock: IO[str]) -> bool:
    """Whether the lock is ours now. `secmailproxy status` may have it for a moment, to see whether it can."""
    for pause in (0.01, 0.1, 0.4, None):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is not None:
                time.sleep(pause)
        else:
            return True
    return False


class Supervisor:
    """Whoever started us: a file descriptor that waits for one line, systemd, both or neither."""

    def __init__(self, ready_fd: int | None = None) -> None:
        self._ready_fd = ready_fd
        self._socket = os.environ.get("NOTIFY_SOCKET", "")

    def ready(self, line: str) -> None:
        """Say that everything listens; `line` goes to the descriptor, which is then closed."""
        self._notify("READY=1")
        if self._ready_fd is None:
            return
        descriptor, self._ready_fd = self._ready_fd, None
        try:
            os.write(descriptor, f"{line}\n".encode())
            os.close(descriptor)
        except OSError as error:
            raise UsageError(f"--ready-fd {descriptor} cannot be written: {error.strerror}.") from None

    def reloading(self) -> None:
        """Say that the configuration is read again; `ready` follows."""
        self._notify("RELOADING=1")

    def stopping(self) -> None:
        """Say that no new work is taken."""
        self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        if not self._socket:
            return
        # An abstract socket is written with "@" for its leading NUL.
        address = "\0" + self._socket[1:] if self._socket.startswith("@") else self._socket
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(state.encode(), address)
            except OSError:
                # The supervisor is gone; serving goes on without it.
                return
