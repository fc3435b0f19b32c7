"""Conversations with GnuPG's agent: the client's side of the Assuan protocol, over a Unix socket.

A conversation is one connection, for one piece of work; each `ask` is a command with its answer. The agent
asks back with INQUIRE: what was given along is sent, anything else is declined.

Security: what is said here may be a session key. Errors carry the agent's number and never its octets.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from keystore.errors import StoreLocked

Result = TypeVar("Result")

_MOST_IN_LINE = 1000
"""Octets of a line, its end included: the protocol's own limit."""
_MOST_ANSWERED = 1024 * 1024
_REDIRECTION = b"%Assuan%\nsocket="


class Refused(Exception):
    """The agent said ERR. `code` is libgpg-error's number, without the source that it names."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the agent refused with error {code}")
        self.code = code


class Ended(StoreLocked):
    """The agent went away in the middle of a conversation."""

    def __init__(self) -> None:
        super().__init__("GnuPG's agent was ended before it was done; try again")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came before OK."""

    octets: bytes
    """Data lines, unescaped and joined."""
    status: tuple[str, ...]
    """Status lines without their "S "."""


class Conversation:
    """One connection. Raises StoreLocked when the other side is silent for too long, or goes."""

    def __init__(self, path: Path, seconds: float) -> None:
        """Connect, and read the greeting. `seconds` is for everything that is asked. Raises OSError too."""
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._buffered = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(seconds)
            self._socket.connect(str(_redirected(path)))
            self._answer({})
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *_: object) -> None:
        # The agent notices, and takes away what it has put on a screen.
        self._socket.close()

    def ask(self, command: str, inquired: Mapping[str, bytes] | None = None) -> Answer:
        """Send a command; `inquired` has what the agent may ask for, by keyword. Raises Refused."""
        self._send(command.encode("utf-8"))
        return self._answer(inquired or {})

    def _answer(self, inquired: Mapping[str, bytes]) -> Answer:
        octets: list[bytes] = []
        status: list[str] = []
        length = 0
        while True:
            line = self._line()
            length += len(line)
            if length > _MOST_ANSWERED:
                raise StoreLocked("GnuPG's agent does not come to an end")
            keyword, _, rest = line.partition(b" ")
            match keyword:
                case b"OK":
                    return Answer(b"".join(octets), tuple(status))
                case b"ERR":
                    number = rest.split(b" ")[0]
                    raise Refused(int(number) & 0xFFFF if number.isdigit() else 0)
                case b"D":
                    octets.append(_unescaped(rest))
                case b"S":
                    status.append(rest.decode("utf-8", "replace"))
                case b"INQUIRE":
                    self._give(inquired.get(rest.split(b" ")[0].decode("ascii", "replace")))
                case _:  # a comment, or what is yet to be invented
                    pass

    def _give(self, octets: bytes | None) -> None:
        if octets is None:
            self._send(b"CAN")
            return
        # An escaped octet is three.
        step = (_MOST_IN_LINE - 3) // 3
        for at in range(0, len(octets), step):
            self._send(b"D " + _escaped(octets[at : at + step]))
        self._send(b"END")

    def _send(self, line: bytes) -> None:
        if len(line) >= _MOST_IN_LINE:
            raise ValueError("a line beyond the protocol's limit")
        self._waiting(lambda: self._socket.sendall(line + b"\n"))

    def _line(self) -> bytes:
        while b"\n" not in self._buffered:
            piece = self._waiting(lambda: self._socket.recv(65536))
            if not piece:
                raise Ended
            self._buffered += piece
            if len(self._buffered) > _MOST_ANSWERED:
                raise StoreLocked("GnuPG's agent does not come to an end")
        line, _, self._buffered = self._buffered.partition(b"\n")
        return line

    def _waiting(self, action: Callable[[], Result]) -> Result:
        try:
            self._socket.settimeout(max(self._deadline - time.monotonic(), 0.001))
            return action()
        except TimeoutError:
            raise StoreLocked(
                f"GnuPG did not answer within {self._seconds:.0f} seconds; is a passphrase prompt waiting?"
            ) from None
        except OSError:
            raise Ended from None


def _redirected(path: Path) -> Path:
    """Where the socket is: a file in its place may name another, for folders with long names."""
    if not path.is_file():
        return path
    with path.open("rb") as file:
        text = file.read(4096)
    if not text.startswith(_REDIRECTION):
        return path
    return Path(text.removeprefix(_REDIRECTION).split(b"\n")[0].decode())


def _escaped(octets: bytes) -> bytes:
    return octets.replace(b"%", b"%25").replace(b"\r", b"%0D").replace(b"\n", b"%0A")


def _unescaped(octets: bytes) -> bytes:
    first, *rest = octets.split(b"%")
    return first + b"".join(bytes.fromhex(one[:2].decode("ascii", "replace")) + one[2:] for one in rest)
