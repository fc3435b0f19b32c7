"""The task that answers a SEARCH whose keys depend on what protected messages say. PURE.

The server goes on deciding: each key K that reads the content of messages is sent as

    (OR (K NOT UID <presented forms>) UID <those of them that match in the clear>)

so that flags, dates, message sets, NOT, OR and result options stay its own, and ciphertext is never a hit.
The command goes out under the client's own tag. What does not fit into one line is asked for window by window
of the UIDs, and the union of the answers is put to the server once more, with the client's result options.

With terms kept from the server, a text key becomes `UID <matches>` alone: no other message is found by it.

Standards: RFC 9051 sections 6.4.4, 7.3.4; RFC 4731 (ESEARCH), RFC 5182 (SAVE and `$`), RFC 5530 (codes).
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from secmailproxy.imap import flags
from secmailproxy.imap.grammar import GrammarError, Verb
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.reading import Reader, Refused, check
from secmailproxy.imap.searchprogram import (
    FOREIGN,
    Asked,
    Program,
    UnknownCharset,
    parse_search,
    pieces,
)
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.steps import Ask, Completion, Search, Step, Task
from secmailproxy.model import SearchScope
from secmailproxy.searchable import Found, Key, fold
from secmailproxy.views import Kind

COMMAND_MOST = 8000
"""Octets that our rewriting may add up to; servers take at least 8192 (RFC 7162 section 4)."""
_RESULT_MOST = 60_000
"""Octets of a result that is put to the server again; one that takes less says so."""
_TOP = 2**32 - 1
_SIZES = frozenset({"LARGER", "SMALLER"})
_DAYS = frozenset({"SENTBEFORE", "SENTON", "SENTSINCE"})
# Identifiers of the outer header, which the server has in clear anyway; clients that sync look for them.
_OPEN_FIELDS = frozenset({b"MESSAGE-ID", b"X-TUID", b"X-OFFLINEIMAP"})
# Some servers leave a blank at the end.
_RESULT = re.compile(rb"\* SEARCH((?: +\d+)*) *(?:\(MODSEQ (\d+)\))? *\r?\n", re.IGNORECASE)
_NOTHING = b"NOT ALL"
_TELLS = b"NO [CANNOT] This search key would tell the server what is searched for.\r\n"
_TOO_LONG = b"NO [LIMIT] Too much is found among protected messages; search for less at a time.\r\n"
UNKNOWN_CHARSET = b"NO [BADCHARSET (US-ASCII UTF-8)] The charset is unknown here.\r\n"


@dataclass(frozen=True, slots=True)
class Searching:
    """What a search must know of the session."""

    scope: SearchScope
    field_name: bytes
    """Of the verdict field."""
    verdict_length: int


def search(selected: Selected | None, octets: bytes, verb: Verb, how: Searching) -> Task | None:
    """The task for the SEARCH or UID SEARCH `octets`; None where the server's own answer is right as it is.

    Raises GrammarError.
    """
    if how.scope is SearchScope.SERVER and not flags.mentions(octets):
        return None
    if selected is None:
        return without_mailbox(how)
    try:
        program = parse_search(octets, verb.arguments)
    except UnknownCharset:
        return refuse(UNKNOWN_CHARSET)
    return _search(_Search(selected, verb, program, how)) if needs_rewriting(program, how) else None


def needs_rewriting(program: Program, how: Searching) -> bool:
    """Whether any key may have to be put to the server in other words."""
    return bool(program.marks or (program.asked and how.scope is not SearchScope.SERVER))


def without_mailbox(how: Searching) -> Task | None:
    """What becomes of a search while no mailbox is selected: the server says no, if it may see the terms."""
    return refuse(b"BAD No mailbox is selected.\r\n") if how.scope is SearchScope.PRIVATE else None


def refuse(completion: bytes) -> Task:
    """A task that only says no."""
    yield from ()
    return completion


def _search(one: _Search) -> Task:
    try:
        return (yield from one.run())
    except Refused as refused:
        return refused.completion.octets


def rewritten(
    selected: Selected, reader: Reader, program: Program, how: Searching
) -> Generator[Step, object, Rewriting | None]:
    """Learn what the keys of `program` match; None when the server's own answer is right as it is.

    Keywords are those of the messages that have been opened, as FETCH tells them: none is opened for them.
    """
    rewriting = None
    if program.asked and how.scope is not SearchScope.SERVER:
        rewriting = yield from _contents(selected, reader, program, how)
    if not program.marks:
        return rewriting
    rewriting = rewriting or Rewriting(program, how, {}, Numbers(), Numbers(), None)
    marks = selected.mailbox.marks
    return replace(
        rewriting,
        marked={asked.key.term: Numbers.each(marks.having(asked.key.term)) for asked in program.marks},
    )


def _contents(
    selected: Selected, reader: Reader, program: Program, how: Searching
) -> Generator[Step, object, Rewriting | None]:
    """Learn what the keys about content match."""
    box = selected.mailbox
    private = how.scope is SearchScope.PRIVATE
    if private and any(asked.key.name == FOREIGN for asked in program.asked):
        raise Refused(
            Completion(b"NO [CANNOT] This search key would tell the server what is searched for.\r\n")
        )
    keys = list(dict.fromkeys(asked.key for asked in program.asked))
    if selected.exists == 0:
        nothing = dict.fromkeys(keys, Numbers())
        return Rewriting(program, how, nothing, Numbers(), Numbers(), None) if private else None
    sealed = [uid for uid, kind in box.kinds.items() if kind is Kind.SEALED]
    guarded = not selected.fully_covered
    if guarded or (sealed and not reader.by_uid):
        yield from reader.wanted(b"1:*")
        sealed = [uid for uid, kind in box.kinds.items() if kind is Kind.SEALED]
    yield from reader.present(sorted(sealed, reverse=True), signed_too=False)
    if not box.kinds and not private and not guarded:
        return None
    verdict_name = fold(how.field_name.decode("latin-1"))
    signed_too = private or any(
        asked.key.name == "TEXT" or asked.key.field == verdict_name for asked in program.asked
    )
    kinds = frozenset({Kind.FORM, Kind.SIGNED, Kind.OPAQUE} if signed_too else {Kind.FORM})
    found = cast("Found", (yield Search(box, tuple(keys), kinds)))
    if found.missing:
        if not reader.by_uid and not reader.sequence:
            yield from reader.wanted(b"1:*")
        yield from reader.present(sorted(found.missing, reverse=True), signed_too=True)
        found = cast("Found", (yield Search(box, tuple(keys), kinds)))
    matches = dict(zip(keys, map(Numbers.each, found.uids), strict=True))
    top = selected.covered.highest if guarded else None
    return Rewriting(program, how, matches, _of(box.kinds, Kind.FORM), _of(box.kinds, Kind.SIGNED), top)


def _of(kinds: Mapping[int, Kind], kind: Kind) -> Numbers:
    """For SIGNED all that stand after a verdict field as they came; else what is not for the server."""
    also = {Kind.SIGNED, Kind.OPAQUE} if kind is Kind.SIGNED else {Kind.FORM, Kind.SEALED}
    return Numbers.each(uid for uid, one in list(kinds.items()) if one in also)


@dataclass(frozen=True)
class Rewriting:
    """How each key of a program is put to the server."""

    program: Program
    how: Searching
    matches: Mapping[Key, Numbers]
    """Key to the UIDs of protected messages that it matches."""
    forms: Numbers
    prefixed: Numbers
    """The messages that are shown as they came, after a verdict field."""
    top: int | None
    """The highest UID that is classified, when there may be more."""
    marked: Mapping[bytes, Numbers] = field(default_factory=dict)
    """Keyword to the UIDs of the messages that have it."""

    def keys(self, window: Numbers | None = None) -> bytes:
        """The program's keys, to be put to the server; `window` is the UIDs that it shall look at."""
        keys = self.program.written(lambda asked: self._key(asked, window))
        return keys if window is None else b"UID " + bytes(window) + b" " + keys

    def windows(self) -> list[Numbers | None]:
        """Windows of UIDs whose commands are short enough; None alone when one command will do."""
        if len(self.keys()) <= self._room:
            return [None]
        out: list[Numbers | None] = []
        waiting = [(1, _TOP)]
        involved = self.forms.union(self.prefixed)
        for uids in self.marked.values():
            involved = involved.union(uids)
        while waiting:
            low, high = waiting.pop()
            window = Numbers(((low, high),))
            inside = list(involved.intersection(window))
            if len(inside) < 2 or len(self.keys(window)) <= self._room:
                out.append(window)
            else:
                middle = inside[len(inside) // 2]
                waiting += [(middle, high), (low, middle - 1)]
        return out

    @property
    def _room(self) -> int:
        return COMMAND_MOST + len(self.program.written(lambda asked: asked.octets))

    def _key(self, asked: Asked, window: Numbers | None) -> bytes:
        key = asked.key
        if asked.is_mark:
            having = _set(_within(self.marked[key.term], window))
            if key.name == "KEYWORD":
                return having or _NOTHING
            return b"NOT " + having if having else b"ALL"
        if key not in self.matches:
            return asked.octets
        matching = _within(self.matches[key], window)
        if key.field == fold(self.how.field_name.decode("latin-1")):
            # A copy of the field in the server's mail means nothing, and the server need not learn the name.
            return _set(matching) or _NOTHING
        if key.name in _SIZES:
            return self._size(asked, matching, window)
        is_open = key.name in _DAYS or key.field in _OPEN_FIELDS
        if self.how.scope is SearchScope.PRIVATE and not is_open:
            return _set(matching) or _NOTHING
        return _either([self._theirs(asked.octets, self.forms, window), _set(matching)])

    def _theirs(self, octets: bytes, without: Numbers, window: Numbers | None) -> bytes:
        """The key as the server answers it, for the messages that it can answer for."""
        parts = [octets]
        if self.top is not None:
            parts.append(b"UID 1:%d" % max(1, self.top))
        excluded = _set(_within(without, window))
        if excluded:
            parts.append(b"NOT " + excluded)
        return octets if len(parts) == 1 else b"(" + b" ".join(parts) + b")"

    def _size(self, asked: Asked, forms: Numbers, window: Numbers | None) -> bytes:
        """Sizes with the verdict field before them, which the server does not count."""
        key, length = asked.key, self.how.verdict_length
        prefixed = _set(_within(self.prefixed, window))
        theirs = self._theirs(asked.octets, self.forms.union(self.prefixed), window)
        if key.number > length:
            shifted = b"%b %d" % (key.name.encode(), key.number - length)
            after = b"(%b %b)" % (shifted, prefixed) if prefixed else b""
        elif key.name == "LARGER" and key.number < length:
            after = prefixed
        elif key.name == "LARGER":
            after = b"(LARGER 0 %b)" % prefixed if prefixed else b""
        else:
            after = b""
        return _either([theirs, after, _set(_within(forms.intersection(self.forms), window))])


def _within(numbers: Numbers, window: Numbers | None) -> Numbers:
    return numbers if window is None else numbers.intersection(window)


def _set(uids: Numbers) -> bytes:
    return b"UID " + bytes(uids) if uids else b""


def _either(keys: list[bytes]) -> bytes:
    """The keys joined by OR; empty ones are left out."""
    kept = [key for key in keys if key]
    if len(kept) == 1:
        # Dovecot 2.3 goes wrong at NOT before a list, but not before an OR.
        return kept[0] if not kept[0].startswith(b"(") else b"(OR " + kept[0] + b" " + _NOTHING + b")"
    *rest, last = kept
    for key in reversed(rest):
        last = b"(OR " + key + b" " + last + b")"
    return last


def search_result(octets: bytes) -> tuple[list[int], bytes]:
    """The numbers of an untagged SEARCH, and its MODSEQ or nothing. Raises GrammarError for anything else."""
    match = _RESULT.fullmatch(octets)
    if match is None:
        raise GrammarError("a SEARCH response expected")
    return [int(number) for number in match[1].split()], match[2] or b""


def short_keys(rewriting: Rewriting, name: bytes, charset: bytes) -> Generator[Step, object, bytes]:
    """The rewritten keys; where they are too long, the messages that they mean, asked for window by window.

    `name` is SEARCH or UID SEARCH, `charset` is CHARSET and its name with a blank before, or nothing.
    """
    windows = rewriting.windows()
    if windows == [None]:
        return rewriting.keys()
    found: list[int] = []

    def on_result(octets: bytes) -> None:
        found.extend(search_result(octets)[0])

    # Without the client's result options: what is found may not be saved piece by piece.
    commands = [pieces(name + charset + b" " + rewriting.keys(window) + b"\r\n") for window in windows]
    check((yield Ask(commands, on_result=on_result)))
    text = bytes(Numbers.each(found))
    if len(text) > _RESULT_MOST:
        raise Refused(Completion(_TOO_LONG))
    keys = (b"UID " + text if name.startswith(b"UID ") else text) if text else _NOTHING
    return keys + (b" MODSEQ 1" if rewriting.program.has_modseq else b"")


class _Search:
    def __init__(self, selected: Selected, verb: Verb, program: Program, how: Searching) -> None:
        self.selected = selected
        self.tag = verb.tag
        self.name = verb.name.encode()
        self.by_uid = verb.name.startswith("UID ")
        self.program = program
        self.how = how

    def run(self) -> Generator[Step, object, bytes]:
        reader = Reader(self.selected, by_uid=self.by_uid, with_uid=self.by_uid)
        rewriting = yield from rewritten(self.selected, reader, self.program, self.how)
        if rewriting is None:
            return (yield from self._forward(self.program.written(lambda asked: asked.octets)))
        keys = yield from short_keys(rewriting, self.name, self.program.charset)
        return (yield from self._forward(keys))

    def _forward(self, keys: bytes) -> Generator[Step, object, bytes]:
        """Let the server answer the client."""
        program = self.program
        command = pieces(self.name + program.options + program.charset + b" " + keys + b"\r\n")
        (completion,) = cast("list[Completion]", (yield Ask([command], tag=self.tag)))
        return completion.octets
