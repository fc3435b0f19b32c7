"""The pipe's end of the door (`door`): hands a message to the daemon that runs already.

    ->  SECMAILPROXY-FORWARD 1 <octets of the options> <octets of the message> LF
    <-  "+" when it is our turn; anything else: do it yourself
    ->  the options, joined by NUL, and the message
    <-  "0": it cannot be lost any more;  "75 " and why: nothing was sent;  "-": do it yourself; each with LF

Security: the other end must be of the same user, or root. It does nothing with a part of a message, so until
the last octet has gone the message is ours alone; from then on only its answer counts. Without one nobody
knows, and the message must stay where it came from.
"""

# Imported by pipes: see `plan`. `socket` is made of this private module, and takes ten times as long.
import _socket
import os
import stat
import sys

GREETING = b"SECMAILPROXY-FORWARD 1 "
TURN, REFUSAL = b"+", b"-"
MESSAGE_MOST = 64 * 1024 * 1024
TRY_LATER = 75

_ANSWER_MOST = 4096
_TURN_SECONDS = 60
"""How long to wait for one's turn; after that the daemon is thought to be stuck."""
_ANSWER_SECONDS = 600
_UNKNOWN = b"4.3.0 the daemon did not say whether it has sent the message; see its log"


def at_door(path: str, words: list[str], octets: bytes) -> tuple[int, bytes] | None:
    """The exit status and the line to print; None when the daemon certainly does nothing with the message."""
    if not octets:
        return None  # the first line would be all there is, and so be taken for a whole message
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode) or len(octets) > MESSAGE_MOST:
            return None
        connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    except OSError:
        return None
    try:
        return _handed_over(connection, path, b"\0".join(os.fsencode(one) for one in words), octets)
    finally:
        connection.close()


def _handed_over(
    connection: _socket.socket, path: str, options: bytes, octets: bytes
) -> tuple[int, bytes] | None:
    try:
        _be_patient(connection, _TURN_SECONDS)
        connection.connect(path)
        if not _is_trusted(connection):
            return None
        connection.sendall(b"%s%d %d\n" % (GREETING, len(options), len(octets)))
        if connection.recv(1) != TURN:
            return None
        connection.sendall(options + octets)
    except OSError:
        return None
    try:
        _be_patient(connection, _ANSWER_SECONDS)
        return _understood(_answer(connection))
    except OSError:
        return TRY_LATER, _UNKNOWN


def _be_patient(connection: _socket.socket, seconds: int) -> None:
    # A timeout of Python's own would make connect fail at once where many are waiting.
    interval = seconds.to_bytes(8, sys.byteorder) + bytes(8)
    for option in (_socket.SO_RCVTIMEO, _socket.SO_SNDTIMEO):
        connection.setsockopt(_socket.SOL_SOCKET, option, interval)


def _is_trusted(connection: _socket.socket) -> bool:
    """Whether who listens may see the message (unix(7), SO_PEERCRED: process, user, group)."""
    credentials = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[4:8], sys.byteorder) in (0, os.geteuid())


def _answer(connection: _socket.socket) -> bytes:
    answer = b""
    while len(answer) < _ANSWER_MOST and (piece := connection.recv(_ANSWER_MOST)):
        answer += piece
    return answer


def _understood(answer: bytes) -> tuple[int, bytes] | None:
    if answer == b"0\n":
        return 0, b""
    if answer == REFUSAL + b"\n":
        return None
    if answer.startswith(b"75 ") and answer.endswith(b"\n"):
        return TRY_LATER, answer[3:-1]
    return TRY_LATER, _UNKNOWN
