"""The command line of sendmail, as Postfix reads it. PURE, and light: nothing of it takes time to import.

Options come in front of the recipients, alone or bundled (`-ti`), their values glued or apart (`-fme`,
`-f me`); `--` ends them. What only a mail server could do is refused.

Standards: Postfix sendmail(1), LSB sendmail; exit status EX_USAGE of sysexits.
Security: an address that begins with "-" is refused wherever it stands: further on it could be an option.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from secmailproxy.errors import MalformedMessage, UsageError
from secmailproxy.forward.recipients import mailboxes

_WITH_VALUE = frozenset("ABCFLNORVXbefhopqr")
_ALONE = frozenset("GIUcimntvx")
_ENCODINGS = frozenset({"7BIT", "8BITMIME"})


class Mode(Enum):
    """What the program is asked to do."""

    DELIVER = "deliver"
    """Take the message on standard input."""
    SMTP = "smtp"
    """Speak SMTP on standard input and output (-bs)."""
    LIST = "list"
    """List the queue (-bp, or called as mailq)."""
    FLUSH = "flush"
    """Try what is in the queue now (-q, -qI, -qR)."""
    NOTHING = "nothing"
    """Succeed: what it asks for has no meaning here (-q30m, -bh, -bH)."""


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What the arguments say."""

    mode: Mode = Mode.DELIVER
    sender: str | None = None
    """An address or a bare local name; "" is the null sender, None whoever calls."""
    full_name: str = ""
    rcpt_tos: tuple[str, ...] = ()
    """Addresses and bare local names."""
    from_header: bool = False
    """The fields To, Cc and Bcc name recipients too (-t)."""
    ends_at_dot: bool = True
    """A line of a lone "." is the end of the message (unless -i)."""
    queue_id: str = ""
    """The only message to be tried (-qI); "" for all."""


@dataclass(slots=True)
class _Read:
    """What has been read so far, before it is judged as a whole."""

    line: CommandLine
    refused: str = ""
    flushes: bool = False
    idles: bool = False
    arguments: list[str] = field(default_factory=list)


def command_line(program: str, arguments: Sequence[str]) -> CommandLine:
    """What `arguments` ask of the program that was called as `program` (a path or a name).

    Raises UsageError, with a text that quotes no argument.
    """
    name = program.rpartition("/")[2]
    read = _Read(CommandLine(Mode.LIST if name == "mailq" else Mode.DELIVER))
    if name == "newaliases":
        read.refused = "aliases are read anew for each message: there is nothing to initialize"
    for letter, value in _options(arguments, read.arguments):
        _take(read, letter, value)
    if read.refused:
        raise UsageError(read.refused)
    return _judged(read)


def _options(arguments: Sequence[str], rest: list[str]) -> Iterator[tuple[str, str]]:
    """Letters with their values, "" where there is none; what follows them goes to `rest`."""
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        if argument == "-" or not argument.startswith("-"):
            break
        position += 1
        if argument == "--":
            break
        if argument == "-q":  # the one whose value may be absent
            yield "q", ""
            continue
        for at, letter in enumerate(argument[1:], 2):
            if letter in _ALONE:
                yield letter, ""
                continue
            if letter not in _WITH_VALUE:
                raise UsageError("an option is not known; see: man sendmail")
            value = argument[at:]
            if not value:
                if position == len(arguments):
                    raise UsageError(f"-{letter} needs a value")
                value = arguments[position]
                position += 1
            yield letter, value
            break
    rest += arguments[position:]


def _take(read: _Read, letter: str, value: str) -> None:
    match letter:
        case "t":
            read.line = replace(read.line, from_header=True)
        case "i":
            read.line = replace(read.line, ends_at_dot=False)
        case "o" if value == "i":
            read.line = replace(read.line, ends_at_dot=False)
        case "f" | "r":
            read.line = replace(read.line, sender=_sender(value))
        case "F":
            read.line = replace(read.line, full_name=value)
        case "b":
            _take_mode(read, value)
        case "q":
            _take_queue(read, value)
        case "B" if value not in _ENCODINGS:
            read.refused = "-B needs 7BIT or 8BITMIME"
        case "I":
            read.refused = "-I is not supported: aliases are read anew for each message"
        case "X":
            read.refused = "-X is not supported"
        case _:
            pass  # known, and without a meaning here


def _take_mode(read: _Read, value: str) -> None:
    match value[:1]:
        case "m":
            read.line = replace(read.line, mode=Mode.DELIVER)
        case "s":
            read.line = replace(read.line, mode=Mode.SMTP)
        case "p":
            read.line = replace(read.line, mode=Mode.LIST)
        case "h" | "H":
            read.line = replace(read.line, mode=Mode.NOTHING)
        case "d" | "l":
            read.refused = "there is no daemon to start by this name; run: secmailproxy serve"
        case "i":
            read.refused = "-bi is not supported: aliases are read anew for each message"
        case _:
            read.refused = "this mode of -b is not supported"


def _take_queue(read: _Read, value: str) -> None:
    kind, name = value[:1], value[1:]
    if not value:
        read.line = replace(read.line, mode=Mode.FLUSH)
    elif kind.isascii() and kind.isdigit():
        read.idles = True
    elif kind in ("I", "R") and name:
        # Sites have no queue of their own: all of it is tried.
        read.flushes = True
        read.line = replace(read.line, queue_id=name if kind == "I" else read.line.queue_id)
    else:
        read.refused = "-q takes nothing, an interval, I with a queue ID or R with a site"


def _judged(read: _Read) -> CommandLine:
    """The whole, as far as its parts go together."""
    line = read.line
    delivers = line.mode is Mode.DELIVER
    if line.from_header and not delivers:
        raise UsageError("-t can be used only to deliver a message")
    if read.flushes and not delivers:
        raise UsageError("-qI and -qR go with no other mode")
    if read.idles:
        return replace(line, mode=Mode.NOTHING)
    if read.flushes:
        line = replace(line, mode=Mode.FLUSH)
    if line.mode is not Mode.DELIVER:
        if read.arguments and line.mode is not Mode.NOTHING:
            raise UsageError("this mode takes no recipients")
        return line
    rcpt_tos = tuple(address for argument in read.arguments for address in _recipients(argument))
    if not rcpt_tos and not line.from_header:
        raise UsageError("there is no recipient: give one, or -t to read the header")
    return replace(line, rcpt_tos=rcpt_tos)


def _sender(value: str) -> str:
    try:
        found = mailboxes(value.encode("utf-8", "surrogateescape"))
    except MalformedMessage:
        raise UsageError("the sender (-f) cannot be read as an address") from None
    return found[0] if found else ""


def _recipients(argument: str) -> tuple[str, ...]:
    """One argument may be a list, or an address with a name, as in a header field."""
    try:
        found = mailboxes(argument.encode("utf-8", "surrogateescape"))
    except MalformedMessage:
        raise UsageError("a recipient cannot be read as an address") from None
    if not found:
        raise UsageError("a recipient is empty")
    return found
