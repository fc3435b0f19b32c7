"""Just enough of the IMAP grammar: commands that we read, FETCH data items, responses that we rewrite. PURE.

A `Source` is a run of octets in which each literal's octets follow its "{n}" line, as on the wire; the same
form serves commands and responses. What we do not understand raises `GrammarError`; the caller decides
whether that means BAD (commands) or passing the octets on (responses).

Standards: RFC 9051 sections 6.4.5, 7.5.2, 9; RFC 7162, 9394 (modifiers); RFC 3516, 8970 (items).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from secmailproxy.imap.wire import Command
from secmailproxy.mime.section import SectionText

_SECTION_TEXTS: tuple[SectionText, ...] = ("HEADER.FIELDS.NOT", "HEADER.FIELDS", "HEADER", "TEXT", "MIME")
_TAG = re.compile(rb"([^\s(){}\"\\%*+]+) ((?:UID )?[A-Za-z][A-Za-z0-9.=-]*)(?= |\r?\n)", re.IGNORECASE)
LITERAL_HEAD = re.compile(rb"~?\{(\d+)\+?\}\r?\n")
_QUOTABLE_ESCAPED = re.compile(rb"[^\r\n\0\x80-\xff]*")
_LITERAL_HEAD_AT_END = re.compile(LITERAL_HEAD.pattern + rb"\Z")
_ONLY_TAG = re.compile(rb"([^\s(){}\"\\%*+]+)(?= |\r?\n)")
_QUOTED = re.compile(rb'"((?:[^"\\\r\n]|\\["\\])*)"')
_QUOTABLE = re.compile(rb"[ !#-\[\]-~]*")
_ASTRING = re.compile(rb"[^\s(){}\"\\%*]+")
_NUMBERS = re.compile(rb" ([0-9:,*]+|\$) ")
_ITEM_NAME = re.compile(rb"[A-Za-z0-9.\-]+")
_PARTIAL = re.compile(rb"<(\d+)\.(\d+)>")
_PICK = re.compile(rb"\bPARTIAL (?:\d+:\d+|-\d+:-\d+)(?=[ )]|\Z)", re.IGNORECASE)
_ORIGIN = re.compile(rb"<(\d+)>")
_LAZY = re.compile(rb" \(LAZY\)", re.IGNORECASE)
_WITH_SECTION = frozenset({"BODY", "BODY.PEEK", "BINARY", "BINARY.PEEK", "BINARY.SIZE"})
_PATH = re.compile(rb"(\d+(?:\.\d+)*)(?:\.|(?=\]))")


class GrammarError(Exception):
    """The octets are not what the grammar allows; the text is short and holds none of them."""


@dataclass(slots=True)
class Source:
    """A cursor over octets."""

    octets: bytes
    at: int = 0

    def match(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        """Match here and step over it."""
        found = pattern.match(self.octets, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def literally(self, text: bytes) -> bool:
        """Step over `text` (any case) if it is here."""
        if self.octets[self.at : self.at + len(text)].upper() == text.upper():
            self.at += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        """Step over `text` or raise."""
        if not self.literally(text):
            raise GrammarError(f"{text.decode()!r} expected")

    @property
    def at_end(self) -> bool:
        """Whether only the line ending is left."""
        return self.octets[self.at :] in (b"\r\n", b"\n", b"")

    def string(self) -> bytes | None:
        """A quoted string or literal, unquoted; None when there is neither here."""
        quoted = self.match(_QUOTED)
        if quoted is not None:
            return re.sub(rb"\\(.)", rb"\1", quoted[1])
        head = self.match(LITERAL_HEAD)
        if head is None:
            return None
        size = int(head[1])
        value = self.octets[self.at : self.at + size]
        if len(value) < size:
            raise GrammarError("literal cut short")
        self.at += size
        return value

    def astring(self) -> bytes:
        """An atom, quoted string or literal."""
        value = self.string()
        if value is not None:
            return value
        atom = self.match(_ASTRING)
        if atom is None:
            raise GrammarError("string expected")
        return atom[0]

    def parenthesised(self) -> bytes:
        """A balanced parenthesised list as it stands; strings in it may hold anything."""
        start = self.at
        self.expect(b"(")
        depth = 1
        while depth:
            if self.string() is not None:
                continue
            octet = self.octets[self.at : self.at + 1]
            if not octet or octet in b"\r\n":
                raise GrammarError("list not closed")
            depth += (octet == b"(") - (octet == b")")
            self.at += 1
        return self.octets[start : self.at]


@dataclass(frozen=True, slots=True)
class Verb:
    """The head of a command. `name` is upper case; "UID FETCH" and its kin are one name."""

    tag: bytes
    name: str
    arguments: int
    """Where the arguments begin in the command's octets."""


def parse_verb(command: Command) -> Verb:
    """The tag and name. Raises `GrammarError` when there is no tag or no name."""
    match = _TAG.match(command.fragments[0])
    if match is None:
        raise GrammarError("a command begins with a tag and a name")
    return Verb(match[1], match[2].upper().decode(), match.end())


def tag_of(command: Command) -> bytes:
    """What answers a command that has no name: its tag, or "*" where there is none either."""
    match = _ONLY_TAG.match(command.fragments[0])
    return match[1] if match is not None else b"*"


def quoted(command: Command) -> Command:
    """The command with quoted strings for its literals, so that it is one line.

    Raises `GrammarError` for a literal that no quoted string can hold (RFC 9051 section 4.3).
    """
    if not command.literals:
        return command
    line = b""
    for fragment, octets in zip(command.fragments, command.literals, strict=False):
        if not _QUOTABLE_ESCAPED.fullmatch(octets):
            raise GrammarError("a literal holds octets that cannot be quoted")
        line += _LITERAL_HEAD_AT_END.sub(b"", fragment) + b'"' + re.sub(rb'(["\\])', rb"\\\1", octets) + b'"'
    return Command([line + command.fragments[-1]])


@dataclass(frozen=True, slots=True)
class FetchItem:
    """One data item of FETCH. `path`, `text` and `names` hold the section of BODY[...], else nothing."""

    name: str
    """Upper case, without ".PEEK"; "BODY[]", "BINARY[]" or "BINARY.SIZE[]" for every form with a section."""
    peek: bool = False
    path: tuple[int, ...] = ()
    text: SectionText = ""
    """"", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME."""
    names: tuple[bytes, ...] = ()
    spelling: bytes = b""
    """What stands between the brackets, as the client wrote it."""
    partial: tuple[int, int] | None = None
    """Origin and length."""
    lazy: bool = False
    """Of PREVIEW: whether the answer may be NIL."""


@dataclass(frozen=True, slots=True)
class FetchCommand:
    """A FETCH or UID FETCH. `modifiers` keeps its leading blank and parentheses, or is empty."""

    tag: bytes
    uid: bool
    numbers: bytes
    items: tuple[FetchItem, ...]
    items_octets: bytes
    modifiers: bytes

    @property
    def partial(self) -> bytes:
        """The modifier that picks some of the messages found (RFC 9394), as written; empty without one."""
        found = _PICK.search(self.modifiers)
        return found[0] if found is not None else b""

    @property
    def other_modifiers(self) -> bytes:
        """`modifiers` without `partial`."""
        if not self.partial:
            return self.modifiers
        rest = _PICK.sub(b"", self.modifiers[2:-1]).split()
        return b" (" + b" ".join(rest) + b")" if rest else b""


_MACROS = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}


def parse_fetch(command: Command, verb: Verb) -> FetchCommand:
    """Read the arguments of FETCH or UID FETCH (RFC 9051 section 6.4.5)."""
    octets = command.octets
    numbers = _NUMBERS.match(octets, verb.arguments)
    if numbers is None:
        raise GrammarError("a set of message numbers and items expected")
    items, items_octets, modifiers = _after_numbers(octets[numbers.end() :])
    return FetchCommand(verb.tag, verb.name == "UID FETCH", numbers[1], items, items_octets, modifiers)


@lru_cache(maxsize=256)
def _after_numbers(octets: bytes) -> tuple[tuple[FetchItem, ...], bytes, bytes]:
    """Items, their octets, and modifiers. Clients ask for the same of message after message."""
    source = Source(octets)
    items = _fetch_items(source)
    items_octets = octets[: source.at]
    modifiers = b""
    if not source.at_end:
        start = source.at
        source.expect(b" ")
        source.parenthesised()
        modifiers = octets[start : source.at]
    if not source.at_end:
        raise GrammarError("too many arguments")
    return items, items_octets, modifiers


def _fetch_items(source: Source) -> tuple[FetchItem, ...]:
    if not source.literally(b"("):
        item = _fetch_item(source)
        if item.name in _MACROS:
            return tuple(FetchItem(name) for name in _MACROS[item.name])
        return (item,)
    items = [_fetch_item(source)]
    while not source.literally(b")"):
        source.expect(b" ")
        items.append(_fetch_item(source))
    return tuple(items)


def _fetch_item(source: Source) -> FetchItem:
    match = source.match(_ITEM_NAME)
    if match is None:
        raise GrammarError("a FETCH data item expected")
    name = match[0].upper().decode()
    peek = name.endswith(".PEEK")
    if source.octets[source.at : source.at + 1] != b"[":
        return FetchItem(
            name.removesuffix(".PEEK"), peek, lazy=name == "PREVIEW" and source.match(_LAZY) is not None
        )
    if name not in _WITH_SECTION:
        raise GrammarError("only BODY and BINARY take a section")
    source.expect(b"[")
    start = source.at
    path, text, names = _section(source)
    if text and not name.startswith("BODY"):
        raise GrammarError("BINARY takes part numbers only")
    spelling = source.octets[start : source.at]
    source.expect(b"]")
    partial = source.match(_PARTIAL) if name != "BINARY.SIZE" else None
    bounds = None if partial is None else (int(partial[1]), int(partial[2]))
    return FetchItem(name.removesuffix(".PEEK") + "[]", peek, path, text, names, spelling, bounds)


def _section(source: Source) -> tuple[tuple[int, ...], SectionText, tuple[bytes, ...]]:
    path_match = source.match(_PATH)
    path = tuple(int(n) for n in path_match[1].split(b".")) if path_match is not None else ()
    text: SectionText
    for text in _SECTION_TEXTS:
        if source.literally(text.encode()):
            break
    else:
        return path, "", ()
    if text == "MIME" and not path:
        raise GrammarError("MIME wants a part number")
    if not text.startswith("HEADER.FIELDS"):
        return path, text, ()
    source.expect(b" (")
    names = [source.astring()]
    while not source.literally(b")"):
        source.expect(b" ")
        names.append(source.astring())
    return path, text, tuple(names)


@dataclass(frozen=True, slots=True)
class FetchResponse:
    """An untagged FETCH. `attributes` maps the upper-case item (with section and origin) to its raw value."""

    number: int
    attributes: dict[str, bytes]

    @property
    def uid(self) -> int | None:
        """The UID, if it was reported."""
        value = self.attributes.get("UID")
        return int(value) if value is not None and value.isdigit() else None


_FETCH = re.compile(rb"\* (\d+) FETCH \(", re.IGNORECASE)
_VALUE = re.compile(rb"[^\s()\"]+")


def is_fetch(first_fragment: bytes) -> bool:
    """Whether a response is an untagged FETCH."""
    return _FETCH.match(first_fragment) is not None


def parse_fetch_response(octets: bytes) -> FetchResponse:
    """Read a whole FETCH response, literals included."""
    source = Source(octets)
    head = source.match(_FETCH)
    if head is None:
        raise GrammarError("not a FETCH response")
    attributes: dict[str, bytes] = {}
    while not source.literally(b")"):
        source.literally(b" ")
        key = _attribute_key(source)
        source.expect(b" ")
        start = source.at
        if source.string() is None:
            if source.octets[source.at : source.at + 1] == b"(":
                source.parenthesised()
            elif source.match(_VALUE) is None:
                raise GrammarError("a value expected")
        attributes[key] = source.octets[start : source.at]
    return FetchResponse(int(head[1]), attributes)


def _attribute_key(source: Source) -> str:
    name = source.match(_ITEM_NAME)
    if name is None:
        raise GrammarError("an item name expected")
    if not source.literally(b"["):
        return name[0].upper().decode()
    path, text, names = _section(source)
    source.expect(b"]")
    origin = source.match(_ORIGIN)
    return attribute_key(path, text, names, int(origin[1]) if origin is not None else None, of=name[0])


def attribute_key(
    path: tuple[int, ...], text: str, names: tuple[bytes, ...], origin: int | None, *, of: bytes = b"BODY"
) -> str:
    """How `FetchResponse.attributes` names a section of `of` (BODY or another), whatever its spelling."""
    section = ".".join([*map(str, path), *([text] if text else [])])
    fields = " ".join(sorted(name.upper().decode("latin-1") for name in names))
    bracket = f"[{section}{' ' + fields if fields else ''}]" + (f"<{origin}>" if origin is not None else "")
    return of.upper().decode() + bracket


def string_value(raw: bytes) -> bytes | None:
    """The octets of a raw string value; None for NIL. Raises `GrammarError` for anything else."""
    if raw.upper() == b"NIL":
        return None
    value = Source(raw).string()
    if value is None:
        raise GrammarError("a string expected")
    return value


def literal(octets: bytes) -> bytes:
    """`octets` as a literal, which is how every section is answered (NeoMutt accepts nothing else)."""
    return b"{%d}\r\n%b" % (len(octets), octets)


def literal8(octets: bytes) -> bytes:
    """`octets` as a literal that may hold NUL, where they do (RFC 3516 section 4.3)."""
    return (b"~" if b"\0" in octets else b"") + literal(octets)


def nstring(octets: bytes) -> bytes:
    """`octets` as a quoted string, or as a literal where they are not plain ASCII text."""
    if _QUOTABLE.fullmatch(octets):
        return b'"' + octets + b'"'
    return literal(octets)


def parse_mailbox(command: Command, verb: Verb) -> bytes:
    """The first argument of SELECT, EXAMINE and the like; INBOX in capitals."""
    source = Source(command.octets, verb.arguments)
    source.expect(b" ")
    return mailbox_key(source.astring())


def mailbox_key(name: bytes) -> bytes:
    """The name by which we remember a mailbox: INBOX has no case (RFC 9051 section 5.1)."""
    return b"INBOX" if name.upper() == b"INBOX" else name
