"""A process that works for `workers`: `python -m secmailproxy.worker`, at one end of a pair of sockets.

First comes a `Start`, then `Task`s; each is answered by its outcome.

Security: no core dumps, and no swap where the system allows it; nothing but answers goes to the socket; its
end is the end of the process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import BinaryIO, cast

# What tasks are made of: imported before the first one comes.
import secmailproxy.imap.rendering
import secmailproxy.outbound  # noqa: F401
from keystore.keystore import Keystore
from secmailproxy.logs import place, start_logging
from secmailproxy.memory import keep_in_memory
from secmailproxy.supervision import keep_private
from secmailproxy.workers import WRITE_BUFFER, Start, Task, program, receive, send

log = logging.getLogger(__name__)


def main() -> None:
    """Serve until the socket ends."""
    keep_private()
    keep_in_memory()
    # A terminal sends these to every process; it is for the one that started us to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    questions = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb", buffering=WRITE_BUFFER)
    os.dup2(2, 1)
    try:
        _serve(questions, answers)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # Who started us has gone; what is left to be written has nowhere to go.
        os._exit(0)


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    start = receive(questions)
    assert isinstance(start, Start), "it comes first"
    start_logging(start.log_level)
    if start.program not in ("", program()):
        log.error("secmailproxy was updated while it runs, and is slower until it is started again")
        raise EOFError
    keystore = Keystore.open(start.keystore, start.secrets)
    send(answers, None)
    while True:
        send(answers, _outcome(cast("Task", receive(questions)), keystore))


def _outcome(task: Task, keystore: Keystore) -> object:
    try:
        return task.carry_out(keystore)
    except Exception as error:  # noqa: BLE001  its text could be mail; who asked will see for itself
        log.error("a task could not be carried out", extra=place(error))
        return None


if __name__ == "__main__":
    main()
