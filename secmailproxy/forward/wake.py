"""One runner at a time, told that there is something new, and started where none runs.

The lock of the runner is on a file of the queue's folder and ends with the process. A pipe that has put a
message in tries to get it. If it gets it, nobody runs: it hands the lock on to the runner that it starts,
which ends when the queue is empty. If not, whoever has it looks at the queue before it waits, after each poke
through a named pipe, and once more after it has given the lock away; so no message is overlooked.
"""

# Imported by pipes: see `plan`.
import fcntl
import os
import stat
import sys

LOCK, POKE = ".runner.lock", ".runner.poke"
LOCK_VARIABLE = "SECMAILPROXY_RUNNER_LOCK"
"""In the environment of a runner that was started here: the descriptor of the lock."""
HANDED_OVER = "SECMAILPROXY_HANDED_OVER"
"""In the environment of a sendmail program that we call; see `handover`."""
NEWS, HASTE = b"n", b"h"
"""What is said in a poke: look again; and do not spare a next hop that could not be reached."""

_Folder = str | os.PathLike[str]


def lock(folder: _Folder) -> int | None:
    """The lock of the runner, a descriptor to be closed or handed on; None when somebody has it.

    Raises OSError.
    """
    descriptor = os.open(
        os.path.join(folder, LOCK), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def inherited_lock() -> int | None:
    """The lock that `start` has handed on to this process, once; None when nobody has."""
    told = os.environ.pop(LOCK_VARIABLE, "")
    if not told.isdigit():
        return None
    try:
        os.set_inheritable(int(told), False)
    except OSError:
        return None
    return int(told)


def poke(folder: _Folder, word: bytes = NEWS) -> bool:
    """Wake the runner that waits; whether there is one."""
    try:
        descriptor = os.open(
            os.path.join(folder, POKE), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
        )
    except OSError:
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return False
        os.write(descriptor, word)
    except (BlockingIOError, BrokenPipeError):
        return True  # a full pipe has woken it already
    finally:
        os.close(descriptor)
    return True


def see_to_delivery(folder: _Folder, options: list[str] | tuple[str, ...] = ()) -> None:
    """Have somebody deliver what was just put in. Never raises: the message is safe, and a timer comes too.

    `options` go to `secmailproxy queue run`.
    """
    try:
        held = lock(folder)
        if held is None:
            poke(folder)
            return
        try:
            start(held, options)
        finally:
            os.close(held)
    except OSError:
        return


def start(held: int, options: list[str] | tuple[str, ...] = ()) -> int:
    """Start a runner that lives on its own, with the lock `held`; its process number. Raises OSError.

    It keeps nothing that its starter had open: a mail program waits until its pipes are closed.
    """
    for descriptor in _open_descriptors():
        if descriptor > 2:
            try:
                os.set_inheritable(descriptor, descriptor == held)
            except OSError:
                continue  # the one by which they were listed
    words = [sys.executable, "-m", "secmailproxy", "queue", "run", *options]
    environment = {**os.environ, LOCK_VARIABLE: str(held)}
    # It delivers messages of others, who did not come here by a sendmail program of ours.
    environment.pop(HANDED_OVER, None)
    nothing = [(os.POSIX_SPAWN_OPEN, one, os.devnull, os.O_RDWR, 0) for one in (0, 1, 2)]
    try:
        return os.posix_spawn(sys.executable, words, environment, file_actions=nothing, setsid=True)
    finally:
        os.set_inheritable(held, False)


def _open_descriptors() -> list[int]:
    try:
        return [int(one) for one in os.listdir("/dev/fd")]
    except OSError:
        return list(range(256))
