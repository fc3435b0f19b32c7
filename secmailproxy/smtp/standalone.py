"""SMTP on standard input and output, as `sendmail -bs` speaks it to the program that started it.

PURE: octets in, octets out, and messages to be taken in between. There is no login and no TLS: whoever could
start us is the user we run as.

Standards: RFC 5321, RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
RFC 3461 (DSN, whose options are dropped: what fails is told to whoever reads the encrypted mail).
Security: a message ends at a line of a lone "." and nowhere else. NUL and a bare CR stay in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.commands import Path, Refused, mail_path, rcpt_path
from secmailproxy.smtp.replies import render, with_status
from secmailproxy.smtp.wire import Gathered, LineFault, Wire

_OFFERED = frozenset({"DSN", "SMTPUTF8"})
_RECIPIENTS_MOST = 1000
_FAULTS_MOST = 20
_LINE_FEED = re.compile(rb"(?<!\r)\n")

Take = Callable[[bytes, Envelope], Reply]
"""Takes a message (CRLF) and says with which reply."""


@dataclass(slots=True)
class StandAlone:
    """One session. Write `greeting`, then what `receive` gives, until `is_over`."""

    host: str
    take: Take
    size_limit: int
    is_over: bool = False
    _wire: Wire = field(default_factory=Wire)
    _after_cr: bool = False
    _mail: Path | None = None
    _rcpt_tos: list[str] = field(default_factory=list)
    _gathering: bool = False
    _faults: int = 0

    def greeting(self) -> bytes:
        """The first line."""
        return render(Reply(220, f"{self.host} ESMTP"))

    def receive(self, octets: bytes) -> bytes:
        """The replies to what has come, in order. Blocks as `take` does."""
        self._wire.feed(self._with_line_ends(octets))
        replies = bytearray()
        while not self.is_over and (reply := self._next()) is not None:
            replies += render(reply)
            self._faults += 400 < reply.code < 600
            if self._faults > _FAULTS_MOST:
                replies += render(Reply(421, "4.7.0 too many errors"))
                self.is_over = True
        return bytes(replies)

    def _with_line_ends(self, octets: bytes) -> bytes:
        """CRLF for LF: programs write what they call lines into a pipe, and nobody is between to deceive."""
        before = b"\r" if self._after_cr else b""
        self._after_cr = (before + octets).endswith(b"\r")
        return _LINE_FEED.sub(b"\r\n", before + octets)[len(before) :]

    def _next(self) -> Reply | None:
        """The reply to the next command or message, None when more must come first."""
        if self._gathering:
            gathered = self._wire.message(self.size_limit)
            if gathered is None:
                return None
            self._gathering = False
            return with_status(self._taken(gathered))
        try:
            line = self._wire.line()
            if line is None:
                return None
            verb, _, argument = line.decode("utf-8").partition(" ")
            if (name := verb.upper()) in ("EHLO", "HELO"):
                return self._hello(name == "EHLO")
            return with_status(self._command(name, argument))
        except (LineFault, UnicodeDecodeError):
            return Reply(500, "5.5.2 a line that is no command")
        except Refused as refused:
            return with_status(refused.reply)

    def _command(self, verb: str, argument: str) -> Reply:
        match verb:
            case "MAIL":
                return self._mail_from(argument)
            case "RCPT":
                return self._rcpt_to(argument)
            case "DATA":
                return self._data(argument)
            case "RSET":
                self._forget()
                return Reply(250, "2.0.0 forgotten")
            case "NOOP":
                return Reply(250, "2.0.0 nothing done")
            case "VRFY":
                return Reply(252, "2.0.0 send mail, and see")
            case "QUIT":
                self.is_over = True
                return Reply(221, "2.0.0 bye")
            case _:
                return Reply(500, "5.5.2 command not recognized")

    def _hello(self, extended: bool) -> Reply:
        """A keyword begins each line: this reply has no status (RFC 2034 section 4)."""
        self._forget()
        keywords = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES", f"SIZE {self.size_limit}"]
        return Reply(250, "\n".join([self.host, *([*keywords, *sorted(_OFFERED)] if extended else ())]))

    def _mail_from(self, argument: str) -> Reply:
        if self._mail is not None:
            raise Refused(503, "5.5.1 nested MAIL")
        path = mail_path(argument, _OFFERED, local=True)
        if path.size > self.size_limit:
            raise Refused(552, f"5.3.4 more than {self.size_limit} octets")
        self._mail = path
        return Reply(250, "2.1.0 sender ok")

    def _rcpt_to(self, argument: str) -> Reply:
        if self._mail is None:
            raise Refused(503, "5.5.1 MAIL first")
        path = rcpt_path(argument, _OFFERED, smtputf8=self._mail.smtputf8, local=True)
        if path.address.startswith("-") or "@-" in path.address:
            raise Refused(553, "5.1.3 an address that begins with a hyphen is refused")
        if len(self._rcpt_tos) >= _RECIPIENTS_MOST:
            raise Refused(452, "4.5.3 too many recipients")
        self._rcpt_tos.append(path.address)
        return Reply(250, "2.1.5 recipient ok")

    def _data(self, argument: str) -> Reply:
        if argument:
            raise Refused(501, "5.5.4 DATA has no argument")
        if self._mail is None or not self._rcpt_tos:
            raise Refused(503, "5.5.1 no valid recipients")
        self._gathering = True
        return Reply(354, "end with <CRLF>.<CRLF>")

    def _taken(self, gathered: Gathered) -> Reply:
        assert self._mail is not None
        envelope = Envelope(self._mail.address, tuple(dict.fromkeys(self._rcpt_tos)))
        self._forget()
        if gathered.too_large:
            return Reply(552, f"5.3.4 more than {self.size_limit} octets")
        return self.take(gathered.octets, envelope)

    def _forget(self) -> None:
        self._mail, self._rcpt_tos = None, []
