"""Flag lists: our keywords taken out of what server and client say, and put in where they belong. PURE.

A list is found by its name in the line that it stands in, outside of quoted strings; what else is in the line
keeps its octets.

Standards: RFC 9051 sections 2.3.2, 6.4.6 (STORE), 7.1 (PERMANENTFLAGS), 7.3.5 (FLAGS) and 7.5.2 (FETCH).
"""

from __future__ import annotations

import re

from secmailproxy.imap.grammar import GrammarError
from secmailproxy.keywords import LOWERED, NAMES, TRACE

_STRAY = rb"\$(?P<stray>%b)(?![^\x00-\x20()\x7f])" % b"|".join(name[1:] for name in NAMES)
_LIST = re.compile(
    rb'"(?:[^"\\]|\\.)*"|(?<=[ (])(?P<name>FLAGS) *\((?:(?P<flags>[^()"{}\r\n]*)\))?|' + _STRAY,
    re.IGNORECASE | re.DOTALL,
)
_UIDS = re.compile(rb'"(?:[^"\\]|\\.)*"|(?<=[ (])UID +(\d+)(?=[ )])', re.IGNORECASE | re.DOTALL)
_CUT = re.compile(rb"[ (]FLAGS *\([^()]*\{\d+\+?\}\r?\n\Z", re.IGNORECASE)
_OF_MAILBOX = re.compile(rb"(\* FLAGS |\* OK \[PERMANENTFLAGS )\(([^()\r\n]*)\)", re.IGNORECASE)
_UPLOAD = re.compile(rb'\(([^()\r\n]*)\)((?: "[^"\r\n]*")? ~?\{\d+\+?\}\r?\n)\Z')
_STORE = re.compile(
    rb" (?P<set>[0-9:,*$]+)(?P<modifiers> \([^()]*\))? (?P<how>[+-]?FLAGS)(?P<silent>\.SILENT)?"
    rb" (?P<open>\()?(?P<flags>[^()\x22{}\r\n]*)(?(open)\))\r?\n",
    re.IGNORECASE,
)
_UNREADABLE = b"X-FLAGS ("
"""Takes the place of a list that could hide one of our keywords; no client knows it."""


def mentions(octets: bytes) -> bool:
    """Whether one of our keywords may be in there."""
    return b"$" in octets and TRACE in octets.lower()


def without(flags: bytes) -> bytes:
    """The flags, which have blanks between, without our keywords."""
    if not mentions(flags):
        return flags
    return b" ".join(flag for flag in flags.split() if flag.lower() not in LOWERED)


def _with(flags: bytes, words: bytes) -> bytes:
    return without(flags) + (b" " if words and flags.strip() else b"") + words


def of_mailbox(line: bytes, *, shown: bool) -> bytes:
    """FLAGS and PERMANENTFLAGS, to which our keywords are added where they are `shown`.

    A mailbox in which no flag can be changed for good stays so.
    """
    match = _OF_MAILBOX.match(line)
    if match is None:
        return line
    flags = without(match[2])
    if shown and flags:
        flags += b" " + b" ".join(NAMES)
    return match[1] + b"(" + flags + b")" + line[match.end() :]


def uid_of(line: bytes) -> int | None:
    """The one UID that the line of a FETCH response tells; None where there is none, or several."""
    found = [int(match[1]) for match in _UIDS.finditer(line) if match[1] is not None]
    return found[0] if len(found) == 1 else None


def has_list(line: bytes) -> bool:
    """Whether flags are told in the line of a FETCH response."""
    return b"FLAGS" in line.upper()


def of_message(line: bytes, words: bytes) -> bytes:
    """A line of a FETCH response with `words` as the only keywords of ours in its flags.

    Where flags are told twice, readers would differ in which they take, and there are none of ours. Where
    our names stand beside a list, by our reading, they are spoiled: a lenient reader could find a list there.
    """
    if not words and not mentions(line) and not (line.endswith(b"}\r\n") and has_list(line)):
        return line
    told = [match for match in _LIST.finditer(line) if match["name"] is not None]
    if len(told) > 1:
        words = b""

    def rewritten(match: re.Match[bytes]) -> bytes:
        if match["name"] is None:
            return b"X" + match["stray"] if match["stray"] else match[0]
        if match["flags"] is None:
            return _UNREADABLE if mentions(line) or _CUT.search(line) else match[0]
        return match["name"] + b" (" + _with(match["flags"], words) + b")"

    return _LIST.sub(rewritten, line)


def elsewhere(line: bytes) -> bytes:
    """A line that is no FETCH response to us, with our names spoiled where it may be one to others."""
    return of_message(line, b"") if mentions(line) and b"FETCH" in line.upper() else line


def announced(line: bytes) -> bytes:
    """The line before an appended message, its flags without our keywords."""
    if not mentions(line):
        return line
    return _UPLOAD.sub(lambda match: b"(" + without(match[1]) + b")" + match[2], line)


def store(arguments: bytes, *, by_uid: bool, marked: bool) -> bytes | None:
    """The command, without its tag, to send in the place of STORE with these `arguments`; None for itself.

    Our keywords are left out. Where the client takes for granted what it asked for (.SILENT) and that is not
    what it gets, it is told the flags; `marked` says that some message may have a keyword of ours. Raises
    `GrammarError` for what cannot be read.
    """
    match = _STORE.fullmatch(arguments)
    if match is None:
        if mentions(arguments):
            raise GrammarError("a set of message numbers and a list of flags expected")
        return None
    ours = without(match["flags"]) != match["flags"]
    replaces_silently = match["silent"] is not None and match["how"].upper() == b"FLAGS"
    if not ours and not (marked and replaces_silently):
        return None
    flags = without(match["flags"])
    modifiers = match["modifiers"] or b""
    verb, numbers = b"UID " if by_uid else b"", b" " + match["set"] + b" "
    if not flags and match["how"][:1] in b"+-":
        modseq = b" MODSEQ" if modifiers else b""
        return verb + b"FETCH" + numbers + b"(" + (b"UID " if by_uid else b"") + b"FLAGS" + modseq + b")\r\n"
    return verb + b"STORE" + numbers[:-1] + modifiers + b" " + match["how"] + b" (" + flags + b")\r\n"
