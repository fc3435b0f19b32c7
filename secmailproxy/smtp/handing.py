"""Hands one message to the intake of a running proxy, by its Unix socket.

So programs of users send who cannot read the keystore: the proxy runs as another user, and its socket is open
to them. The file system says who may connect. Who listens must be root, this user, or the owner of the
socket's folder: nobody is given a message for having put a socket there first.

Standards: RFC 5321, RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator

from secmailproxy.errors import SecMailProxyError, UpstreamLost, UpstreamUnavailable
from secmailproxy.localuser import user_at
from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.replies import NotSmtp, ReplyReader
from secmailproxy.smtp.wire import dot_stuffed

PATIENCE = 60.0
FINAL_PATIENCE = 600.0
"""For the reply to the message (RFC 5321 section 4.5.3.2.6)."""


class UnknownRecipient(SecMailProxyError):
    """The machine does not take mail for a recipient."""

    smtp_code = 550
    enhanced_status = "5.1.1"
    exit_status = 67


def hand_over(path: str, envelope: Envelope, octets: bytes) -> None:
    """Returns when the intake at `path` has the message (CRLF) for all recipients. Blocks.

    Raises UnknownRecipient or UpstreamUnavailable: then it has it for none (UpstreamLost: nobody knows).
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(path)
            _refuse_stranger(connection, path)
            _transaction(connection, _replies(connection), path, envelope, octets)
    except (OSError, NotSmtp, StopIteration) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it broke the connection"
        raise UpstreamUnavailable(
            f"cannot hand the message to {path}: {why}; is secmailproxy running?"
        ) from None


def _refuse_stranger(connection: socket.socket, path: str) -> None:
    """Raises UpstreamUnavailable unless root, this user or the owner of the folder listens.

    In a folder where everybody can make files, such as /tmp, its owner says nothing.
    """
    folder = os.stat(os.path.dirname(os.path.abspath(path)))
    user, trusted = user_at(connection), {0, os.geteuid()}
    if not folder.st_mode & stat.S_IWOTH:
        trusted.add(folder.st_uid)
    if user is not None and user not in trusted:
        raise UpstreamUnavailable(
            f"{path} was made by user {user}, to whom its folder does not belong: nothing is handed over; "
            "see docs/system-mail.md, Instead of sendmail"
        )


def _transaction(
    connection: socket.socket, replies: Iterator[Reply], path: str, envelope: Envelope, octets: bytes
) -> None:
    def say(command: str) -> Reply:
        connection.sendall(command.encode() + b"\r\n")
        return next(replies)

    _demand(next(replies), 220, path)
    _demand(say("EHLO localhost"), 250, path)
    utf8 = "" if all(one.isascii() for one in (envelope.mail_from, *envelope.rcpt_tos)) else " SMTPUTF8"
    _demand(say(f"MAIL FROM:<{envelope.mail_from}> BODY=8BITMIME{utf8}"), 250, path)
    for rcpt_to in envelope.rcpt_tos:
        reply = say(f"RCPT TO:<{rcpt_to}>")
        if 500 <= reply.code < 600:
            raise UnknownRecipient(
                f"there is no recipient {rcpt_to} here: system mail goes to users of this machine and to "
                "[[forward.targets]], to nobody else; see forward.listen.recipients"
            )
        _demand(reply, 250, path)
    _demand(say("DATA"), 354, path)
    connection.settimeout(FINAL_PATIENCE)
    try:
        connection.sendall(dot_stuffed(octets))
        reply = next(replies)
    except (OSError, NotSmtp, StopIteration):
        raise UpstreamLost(f"{path} ended before it said whether it has the message") from None
    _demand(reply, 250, path)


def _demand(reply: Reply, code: int, path: str) -> None:
    if reply.code != code:
        raise UpstreamUnavailable(
            f"{path} did not take the message: {reply.code} {reply.text.splitlines()[0]}"
        )


def _replies(connection: socket.socket) -> Iterator[Reply]:
    reader = ReplyReader()
    while octets := connection.recv(65536):
        yield from reader.feed(octets)
