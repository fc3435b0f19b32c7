"""The search program of SEARCH, SORT and THREAD: read, changed at some keys, and written again. PURE.

Only keys whose answer depends on the content of messages are understood (`Asked`); every other one keeps its
octets. A key that we do not know is refused: its arguments cannot be told from keys.

Standards: RFC 9051 section 6.4.4; RFC 4731, 5032 (WITHIN), 5182 (`$`), 7162 section 3.1.5, 8474, 8514.
Security: nesting and the number of keys are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date

from secmailproxy.imap.grammar import GrammarError, Source
from secmailproxy.imap.sending import Pieces
from secmailproxy.keywords import LOWERED
from secmailproxy.searchable import Key, fold

DEPTH_MOST = 50
ASKED_MOST = 200

_TEXT = frozenset("SUBJECT FROM TO CC BCC BODY TEXT".split())
_SIZES = frozenset({"LARGER", "SMALLER"})
_SENT = frozenset({"SENTBEFORE", "SENTON", "SENTSINCE"})
_ALONE = frozenset(
    """ALL ANSWERED DELETED DRAFT FLAGGED NEW OLD RECENT SEEN UNANSWERED UNDELETED UNDRAFT UNFLAGGED UNSEEN
    SAVEDATESUPPORTED""".split()
)
_ONE_ARGUMENT = frozenset(
    """KEYWORD UNKEYWORD BEFORE ON SINCE SAVEDBEFORE SAVEDON SAVEDSINCE OLDER YOUNGER EMAILID THREADID
    X-GM-MSGID X-GM-THRID X-GM-LABELS""".split()
)
_MARKS = frozenset({"KEYWORD", "UNKEYWORD"})
FOREIGN = "X-GM-RAW"
"""A language of the server's own: only the server can answer, of what it has."""
_MONTHS = {
    name: number for number, name in enumerate("JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split(), 1)
}

_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9=.-]*")
_SET = re.compile(rb"[0-9*][0-9:,*]*|\$")
_ARGUMENT = re.compile(rb"\\?[^\s(){}\"]+")
_NUMBER = re.compile(rb"\d{1,20}")
_DATE = re.compile(rb'"?(\d{1,2})-([A-Za-z]{3})-(\d{4})"?')
_RETURN = re.compile(rb" RETURN (?=\()", re.IGNORECASE)
_CHARSET = re.compile(rb" CHARSET ", re.IGNORECASE)
_ENTRY = re.compile(rb"(?:PRIV|SHARED|ALL) ", re.IGNORECASE)
_QUOTED_OR_LITERAL = re.compile(rb'"(?:[^"\\\r\n]|\\["\\])*"|(~?\{(\d+))\+?(\}\r?\n)')


class UnknownCharset(Exception):
    """The program is in a charset that cannot be read here."""


@dataclass(frozen=True, slots=True)
class Written:
    """A key that stays as it is."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A key that the presented forms answer, or that asks for a keyword of ours."""

    octets: bytes
    key: Key

    @property
    def is_mark(self) -> bool:
        """Whether it asks for a keyword; its name is the key's term, in lower case."""
        return self.key.name in _MARKS


@dataclass(frozen=True, slots=True)
class Group:
    """NOT, OR and a parenthesised list: `before` is b"NOT ", b"OR " or nothing."""

    before: bytes
    parts: tuple[Node, ...]


Node = Written | Asked | Group
Replace = Callable[[Asked], bytes]


@dataclass(frozen=True, slots=True)
class Program:
    """A whole program: its keys are all to match."""

    options: bytes
    """RETURN and its list as written, with a blank before; or nothing."""
    charset: bytes
    """CHARSET and its name as written, with a blank before; or nothing."""
    keys: tuple[Node, ...]

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The keys that presented forms answer, in order."""
        return tuple(node for node in _leaves(self.keys) if isinstance(node, Asked) and not node.is_mark)

    @property
    def marks(self) -> tuple[Asked, ...]:
        """The keys that ask for keywords of ours, in order."""
        return tuple(node for node in _leaves(self.keys) if isinstance(node, Asked) and node.is_mark)

    @property
    def option_names(self) -> list[bytes]:
        """What RETURN lists, in capitals."""
        return self.options.upper().removeprefix(b" RETURN ").strip(b"()").split()

    @property
    def has_modseq(self) -> bool:
        """Whether the answer shall tell a modification sequence (RFC 7162 section 3.1.5)."""
        return any(node.octets[:6].upper() == b"MODSEQ" for node in _leaves(self.keys))

    def written(self, replace: Replace) -> bytes:
        """The keys again, each `Asked` as `replace` has it."""
        return b" ".join(_written(node, replace) for node in self.keys)


def parse_search(octets: bytes, at: int) -> Program:
    """The arguments of SEARCH, which begin at `at` of the command. Raises GrammarError, UnknownCharset."""
    source = Source(octets, at)
    options = parse_options(source)
    start = source.at
    charset = "utf-8"
    if source.match(_CHARSET):
        charset = charset_of(source.astring())
    named = octets[start : source.at]
    return Program(options, named, parse_keys(source, charset))


def parse_keys(source: Source, charset: str) -> tuple[Node, ...]:
    """The keys up to the end of the command, each after a blank."""
    reader = _Reader(source, charset)
    keys = []
    while not source.at_end:
        source.expect(b" ")
        keys.append(reader.key(0))
    if not keys:
        raise GrammarError("a search key expected")
    return tuple(keys)


def parse_options(source: Source) -> bytes:
    """RETURN and its list as written, with the blank before; nothing when there is none."""
    start = source.at
    if source.match(_RETURN):
        source.parenthesised()
    return source.octets[start : source.at]


def charset_of(name: bytes) -> str:
    """The codec of a charset. Raises UnknownCharset."""
    charset = name.decode("ascii", "replace").lower()
    try:
        # Some codecs are not for text, and say so only when there is something to decode.
        "x".encode(charset)
        b"x".decode(charset, "replace")
    except (LookupError, ValueError):
        raise UnknownCharset from None
    return "utf-8" if charset in {"us-ascii", "ascii"} else charset


class _Reader:
    def __init__(self, source: Source, charset: str) -> None:
        self.source = source
        self.charset = charset
        self.asked = 0

    def key(self, depth: int) -> Node:
        if depth > DEPTH_MOST:
            raise GrammarError("search keys are nested too deeply")
        source = self.source
        start = source.at
        if source.literally(b"("):
            return self._list(depth + 1)
        if source.match(_SET):
            return Written(source.octets[start : source.at])
        match = source.match(_NAME)
        name = match[0].upper().decode() if match is not None else ""
        match name:
            case "NOT":
                source.expect(b" ")
                return Group(b"NOT ", (self.key(depth + 1),))
            case "OR":
                source.expect(b" ")
                one = self.key(depth + 1)
                source.expect(b" ")
                return Group(b"OR ", (one, self.key(depth + 1)))
            case _:
                return self._leaf(name, start)

    def _list(self, depth: int) -> Group:
        parts = [self.key(depth)]
        while not self.source.literally(b")"):
            self.source.expect(b" ")
            parts.append(self.key(depth))
        return Group(b"", tuple(parts))

    def _leaf(self, name: str, start: int) -> Node:
        source = self.source
        key = None
        if name == "UID":
            source.expect(b" ")
            self._need(_SET)
        elif name == "MODSEQ":
            source.expect(b" ")
            if source.string() is not None:
                source.expect(b" ")
                self._need(_ENTRY)
            self._need(_NUMBER)
        elif name in _ONE_ARGUMENT:
            key = self._argument(name)
        elif name not in _ALONE:
            key = self._content(name)
        if key is not None:
            self.asked += 1
            if self.asked > ASKED_MOST:
                raise GrammarError("there are too many search keys")
        octets = source.octets[start : source.at]
        return Written(octets) if key is None else Asked(octets, key)

    def _argument(self, name: str) -> Key | None:
        """Step over the one argument of a key; the key, when that is a keyword of ours."""
        self.source.expect(b" ")
        argument = self.source.string()
        if argument is None:
            argument = self._need(_ARGUMENT)[0]
        is_mark = name in _MARKS and argument.lower() in LOWERED
        return Key(name, argument.lower()) if is_mark else None

    def _content(self, name: str) -> Key:
        source = self.source
        if name not in _TEXT | _SIZES | _SENT | {"HEADER", FOREIGN}:
            raise GrammarError("a search key is unknown or not available here")
        source.expect(b" ")
        if name in _SIZES:
            return Key(name, number=int(self._need(_NUMBER)[0]))
        if name in _SENT:
            return Key(name, number=_day(self._need(_DATE)))
        field = b""
        if name == "HEADER":
            field = fold(source.astring().decode("utf-8", "replace"))
            source.expect(b" ")
        return Key(name, self._term(), field)

    def _term(self) -> bytes:
        octets = self.source.astring()
        if b"\0" in octets:
            raise GrammarError("a search term holds NUL")
        try:
            return fold(octets.decode(self.charset))
        except UnicodeError:
            raise GrammarError("a search term is not in its charset") from None

    def _need(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        match = self.source.match(pattern)
        if match is None:
            raise GrammarError("a search key's argument is malformed")
        return match


def _day(match: re.Match[bytes]) -> int:
    try:
        month = _MONTHS[match[2].decode().upper()]
        return date(int(match[3]), month, int(match[1])).toordinal()
    except (KeyError, ValueError):
        raise GrammarError("a search key's date is malformed") from None


def _leaves(nodes: tuple[Node, ...]) -> Iterator[Written | Asked]:
    for node in nodes:
        if isinstance(node, Group):
            yield from _leaves(node.parts)
        else:
            yield node


def _written(node: Node, replace: Replace) -> bytes:
    match node:
        case Written(octets):
            return octets
        case Asked():
            return replace(node)
        case Group(b"", parts):
            return b"(" + b" ".join(_written(part, replace) for part in parts) + b")"
        case Group(before, parts):
            return before + b" ".join(_written(part, replace) for part in parts)


def pieces(octets: bytes) -> Pieces:
    """A whole command cut after each announcement of a literal, each made to wait."""
    out = []
    start = at = 0
    while match := _QUOTED_OR_LITERAL.search(octets, at):
        at = match.end()
        if match[2] is not None:
            out.append(octets[start : match.start()] + match[1] + match[3])
            start = at
            at += int(match[2])
    return (*out, octets[start:])
