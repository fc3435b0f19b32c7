"""A process that opens messages for `workers`: `python -m secmailproxy.imap.worker`, between two pipes.

First comes a `Start`, then lists of `Job`s; each is answered by a list of views, some of them `Locked`.

Security: no core dumps; nothing but answers goes to the pipe; the end of the pipe is the end of the process.
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, datetime
from typing import BinaryIO

from keystore.keystore import Keystore
from secmailproxy.imap.rendering import Renderer
from secmailproxy.imap.workers import Start, receive, send
from secmailproxy.logs import start_logging
from secmailproxy.supervision import keep_private


def main() -> None:
    """Serve until the pipe ends."""
    keep_private()
    # A terminal sends these to every process; it is for the one that started us to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    questions = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        _serve(questions, answers)
    except (EOFError, BrokenPipeError):
        # Who started us has gone; what is left to be written has nowhere to go.
        os._exit(0)


def _serve(questions: BinaryIO, answers: BinaryIO) -> None:
    start = receive(questions)
    assert isinstance(start, Start), "it comes first"
    start_logging(start.log_level)
    keystore = Keystore.open(start.keystore, start.secrets)
    renderer = Renderer(keystore, start.field_name, lambda: datetime.now(UTC))
    send(answers, [])
    while True:
        jobs = receive(questions)
        assert isinstance(jobs, list), "nothing else comes"
        send(answers, renderer.views(jobs))


if __name__ == "__main__":
    main()
