"""Logs: one line for each event, `key=value`, on stderr.

Security: no message text and no secret may reach a log. Our own records are written with that in mind; of
a library's record only its logger's name and level are shown, of an exception only its type and place, unless
SECMAILPROXY_DEBUG=1 asks for everything on a machine where that does no harm.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping

OURS = ("secmailproxy", "keystore")
_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def start_logging(level: str) -> None:
    """Send the records of this process to stderr. Called once, by commands that run for long."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter(shows_everything=bool(os.environ.get("SECMAILPROXY_DEBUG"))))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    set_level(level)


def set_level(level: str) -> None:
    """Change the least level of our own records: debug, info, warning or error."""
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())


class KeyValueFormatter(logging.Formatter):
    """`2026-01-02T03:04:05Z level=info from=smtp.server event="..." key=value ...`"""

    def __init__(self, *, shows_everything: bool = False) -> None:
        super().__init__()
        self._shows_everything = shows_everything

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the record holds; with `shows_everything`, a traceback may follow."""
        is_ours = record.name.partition(".")[0] in OURS
        pairs: dict[str, object] = {
            "level": record.levelname.lower(),
            "from": record.name.removeprefix("secmailproxy."),
        }
        if is_ours or self._shows_everything:
            pairs["event"] = record.getMessage()
            pairs.update(_extra(record))
        else:
            pairs["event"] = "a library reported a problem"
        if record.exc_info and record.exc_info[1] is not None:
            pairs.update(place(record.exc_info[1]))
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        line = " ".join([stamp, *(f"{key}={_value(value)}" for key, value in pairs.items())])
        if self._shows_everything and record.exc_info and record.exc_info[1] is not None:
            line += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        return line


def _extra(record: logging.LogRecord) -> Mapping[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _PLAIN}


def place(error: BaseException) -> Mapping[str, object]:
    """The type of an exception and where it was raised, for `extra`; its text could quote a message."""
    found = {"exception": type(error).__name__}
    if frames := traceback.extract_tb(error.__traceback__):
        found["at"] = f"{os.path.basename(frames[-1].filename)}:{frames[-1].lineno}"
    return found


def _value(value: object) -> str:
    text = str(value)
    is_plain = text.isascii() and text.isprintable() and not any(one in text for one in " \"'=\\")
    return text if is_plain and text else json.dumps(text)
