"""With what the program ends: one table for docs/cli.md and the man pages.

Standards: sysexits.h for 64 to 78; shells for 130 and 141 (128 and the number of the signal).
"""

from __future__ import annotations

EXIT_STATUSES = {
    0: "done",
    1: "`doctor` found something that fails, `demo` a step that did not hold",
    3: "`status`: the proxy does not run",
    64: "the command was called in a way that cannot work, or names what is not there",
    65: "a message or key is malformed, or was refused",
    67: "`sendmail`: a recipient that the machine's proxy does not know",
    69: "no usable certificate, key or keyring",
    70: "internal error, or a damaged store; `SECMAILPROXY_DEBUG=1` shows the traceback",
    74: "something cannot be read or written: a full disk, a closed output",
    75: "try again later: a server, the keyring or an agent is away (`forward`: anything but success)",
    77: "not allowed: a rule forbids it, or a server refused the login",
    78: "the configuration is missing or wrong",
    130: "interrupted",
    141: "whoever read the output has gone",
}
"""Status -> meaning, with words of the program in backticks."""
