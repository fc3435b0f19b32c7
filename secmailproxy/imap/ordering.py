"""The task that answers SORT and THREAD where protected messages are among those found. PURE.

The server finds the messages; where none of them is presented in a form of our own, it orders them, too. Else
what they are ordered by is asked of the server for the others and read from the form for these, and we order.

Standards: RFC 5256, RFC 5267 section 3 (ESORT), RFC 5957 (DISPLAYFROM, DISPLAYTO), RFC 7162.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass

from secmailproxy.imap import answers
from secmailproxy.imap.grammar import FetchResponse, GrammarError, Source, Verb, attribute_key, string_value
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.reading import Reader, Refused, check, pass_on
from secmailproxy.imap.searching import (
    COMMAND_MOST,
    UNKNOWN_CHARSET,
    Searching,
    needs_rewriting,
    refuse,
    rewritten,
    search_result,
    short_keys,
    without_mailbox,
)
from secmailproxy.imap.searchprogram import (
    Program,
    UnknownCharset,
    charset_of,
    parse_keys,
    parse_options,
    pieces,
)
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.sortkeys import CRITERIA, Sorted, internal_date, ordered
from secmailproxy.imap.steps import Ask, Completion, Compute, Step, Task, Tell
from secmailproxy.imap.threads import ALGORITHMS, by_references, by_subject
from secmailproxy.views import Kind, View

MOST = 50_000
"""Messages that we sort; the server sorts any number."""
_OPTIONS = frozenset({b"MIN", b"MAX", b"ALL", b"COUNT"})
_CRITERION = re.compile(rb"(REVERSE )?([A-Z]+)", re.IGNORECASE)
_TOO_MANY = b"NO [LIMIT] Too many messages to sort; search for less.\r\n"


@dataclass(frozen=True, slots=True)
class SortCommand:
    """SORT or THREAD, or their UID forms, read."""

    verb: Verb
    program: Program
    """Its charset is that of SORT: without the word CHARSET."""
    how_octets: bytes
    """The criteria or the algorithm, as written."""
    algorithm: str
    """Of THREAD, in capitals; nothing for SORT."""
    criteria: tuple[tuple[str, bool], ...]
    """Each with whether it is reversed; for THREAD what it goes by."""

    @property
    def by_uid(self) -> bool:
        """Whether it is a UID command."""
        return self.verb.name.startswith("UID ")


def sort(selected: Selected | None, octets: bytes, verb: Verb, how: Searching) -> Task | None:
    """The task for the command `octets`; None where the server's own answer is right as it is.

    Raises GrammarError.
    """
    if selected is None:
        return without_mailbox(how)
    try:
        command = _parse(octets, verb)
    except UnknownCharset:
        return refuse(UNKNOWN_CHARSET)
    return _run(_Sort(selected, command, how))


def _run(one: _Sort) -> Task:
    try:
        return (yield from one.run())
    except Refused as refused:
        return refused.completion.octets


def _parse(octets: bytes, verb: Verb) -> SortCommand:
    source = Source(octets, verb.arguments)
    options = parse_options(source)
    source.expect(b" ")
    start = source.at
    algorithm = ""
    if verb.name.endswith("THREAD"):
        algorithm = source.astring().upper().decode("ascii", "replace")
        if algorithm not in ALGORITHMS or options:
            raise GrammarError("this way to thread is unknown or not available here")
        criteria = _THREAD_CRITERIA[algorithm]
    else:
        criteria = _criteria(source.parenthesised())
    how_octets = octets[start : source.at]
    source.expect(b" ")
    start = source.at
    charset = charset_of(source.astring())
    named = octets[start : source.at]
    program = Program(options, named, parse_keys(source, charset))
    return SortCommand(verb, program, how_octets, algorithm, criteria)


def _criteria(octets: bytes) -> tuple[tuple[str, bool], ...]:
    found = []
    source = Source(octets, 1)
    while True:
        match = source.match(_CRITERION)
        name = match[2].upper().decode() if match is not None else ""
        if match is None or name not in CRITERIA:
            raise GrammarError("a sort criterion is unknown or not available here")
        found.append((name, match[1] is not None))
        if source.literally(b")"):
            return tuple(found)
        source.expect(b" ")


class _Sort:
    def __init__(self, selected: Selected, command: SortCommand, how: Searching) -> None:
        self.selected = selected
        self.box = selected.mailbox
        self.command = command
        self.how = how
        self.reader = Reader(selected, by_uid=command.by_uid, with_uid=command.by_uid)
        self.modseq = b""

    def run(self) -> Generator[Step, object, bytes]:
        keys = yield from self._keys()
        if self.selected.exists == 0 or (self.selected.fully_covered and not self.box.kinds):
            return (yield from self._forward(keys))
        found = yield from self._found(keys)
        uids = (yield from self._uids(found)) if found else Numbers()
        ours = [uid for uid in self.box.kinds if uid in uids]
        if not any(self._changes(self.box.kinds[uid]) for uid in ours):
            return (yield from self._forward(keys))
        if _count(found) > MOST:
            return _TOO_MANY
        self._check_options()
        yield from self.reader.present(sorted(ours, reverse=True), signed_too=False)
        messages = yield from self._messages(uids)
        response = yield Compute(lambda: self._response(messages))
        assert isinstance(response, bytes)
        yield Tell(response)
        return b"OK Thread completed.\r\n" if self.command.algorithm else b"OK Sort completed.\r\n"

    @property
    def _search_name(self) -> bytes:
        return b"UID SEARCH" if self.command.by_uid else b"SEARCH"

    def _keys(self) -> Generator[Step, object, bytes]:
        program = self.command.program
        if needs_rewriting(program, self.how):
            rewriting = yield from rewritten(self.selected, self.reader, program, self.how)
            if rewriting is not None:
                return (yield from short_keys(rewriting, self._search_name, b" CHARSET " + program.charset))
        return program.written(lambda asked: asked.octets)

    def _changes(self, kind: Kind) -> bool:
        """Whether a message of this kind is not where the server would put it."""
        if kind in {Kind.FORM, Kind.SEALED}:
            return True
        return any(criterion == "SIZE" for criterion, _ in self.command.criteria)

    def _forward(self, keys: bytes) -> Generator[Step, object, bytes]:
        """Let the server sort."""
        command, program = self.command, self.command.program
        head = command.verb.name.encode() + program.options + b" " + command.how_octets + b" "
        octets = head + program.charset + b" " + keys + b"\r\n"
        (completion,) = _completions((yield Ask([pieces(octets)], tag=command.verb.tag)))
        return completion.octets

    def _found(self, keys: bytes) -> Generator[Step, object, Numbers]:
        """The messages that match, by the client's kind of number."""
        found: list[int] = []

        def on_result(octets: bytes) -> None:
            numbers, modseq = search_result(octets)
            found.extend(numbers)
            self.modseq = modseq or self.modseq

        octets = self._search_name + b" CHARSET " + self.command.program.charset + b" " + keys + b"\r\n"
        check((yield Ask([pieces(octets)], on_result=on_result)))
        return Numbers.each(found)

    def _uids(self, found: Numbers) -> Generator[Step, object, Numbers]:
        """The UIDs of these messages, all of them classified now."""
        text = bytes(found)
        if self.command.by_uid:
            return (yield from self.reader.wanted(text))
        everything = yield from self.reader.wanted(text if len(text) <= COMMAND_MOST else b"1:*")
        number_of = self.reader.sequence
        return Numbers.each(uid for uid in everything if number_of.get(uid, 0) in found)

    def _messages(self, uids: Numbers) -> Generator[Step, object, list[Sorted]]:
        """What is sorted by: the server's for most, the outline's for forms."""
        criteria = {criterion for criterion, _ in self.command.criteria}
        forms = [uid for uid in uids if self.box.kinds.get(uid) is Kind.FORM]
        views = yield from self.reader.load(forms, octets=False)
        fields = sorted({_FIELD.get(criterion, criterion) for criterion in criteria} - {"ARRIVAL", "SIZE"})
        items = [b"UID"]
        if criteria & {"ARRIVAL", "DATE"}:
            items.append(b"INTERNALDATE")
        answer = self._answer(views, [field.encode() for field in fields], size="SIZE" in criteria)
        found: list[Sorted] = []
        theirs = list(items)
        if fields:
            theirs.append(b"BODY.PEEK[HEADER.FIELDS (" + " ".join(fields).encode() + b")]")
        if "SIZE" in criteria:
            theirs.append(b"RFC822.SIZE")
        for some, asked in ((uids.difference(Numbers.each(views)), theirs), (Numbers.each(views), items)):
            yield from self._fetch(some, asked, answer, found)
        return found

    def _fetch(
        self,
        uids: Numbers,
        items: list[bytes],
        answer: Callable[[FetchResponse], Sorted],
        found: list[Sorted],
    ) -> Generator[Step, object, None]:
        waiting = set(uids)

        def on_fetch(response: FetchResponse) -> bytes:
            if response.uid not in waiting:
                return pass_on(response)
            waiting.discard(response.uid)
            found.append(answer(response))
            return answers.leftover(response, with_uid=self.command.by_uid)

        commands = [
            (self.reader.verb + text + b" (" + b" ".join(items) + b")\r\n",)
            for text in self.reader.texts(uids)
        ]
        if commands:
            check((yield Ask(commands, on_fetch)))

    def _answer(
        self, views: Mapping[int, View], fields: list[bytes], *, size: bool
    ) -> Callable[[FetchResponse], Sorted]:
        key = attribute_key((), "HEADER.FIELDS", tuple(fields), None)

        def answer(response: FetchResponse) -> Sorted:
            uid = response.uid or 0
            number = uid if self.command.by_uid else response.number
            raw_date = response.attributes.get("INTERNALDATE")
            arrival = internal_date(raw_date) if raw_date is not None else 0
            view = views.get(uid)
            if view is not None:
                return Sorted(number, view.header, arrival, view.size)
            header = string_value(response.attributes[key]) or b"" if fields else b""
            octets = int(response.attributes["RFC822.SIZE"]) if size else 0
            if uid in self.box.kinds:
                octets += self.how.verdict_length
            return Sorted(number, header, arrival, octets)

        def understood(response: FetchResponse) -> Sorted:
            try:
                return answer(response)
            except (KeyError, ValueError):
                raise GrammarError("the server left something out") from None

        return understood

    def _check_options(self) -> None:
        asked = set(self.command.program.option_names)
        if not asked <= _OPTIONS:
            raise Refused(Completion(b"NO [CANNOT] This way to return a result is not available here.\r\n"))

    def _response(self, messages: list[Sorted]) -> bytes:
        match self.command.algorithm:
            case "REFERENCES":
                return b"* THREAD " + by_references(messages) + b"\r\n"
            case "ORDEREDSUBJECT":
                return b"* THREAD " + by_subject(messages) + b"\r\n"
            case _:
                return self._sorted(ordered(messages, self.command.criteria))

    def _sorted(self, numbers: list[int]) -> bytes:
        modseq = b" (MODSEQ " + self.modseq + b")" if self.modseq else b""
        program = self.command.program
        if not program.options:
            return b"* SORT" + b"".join(b" %d" % number for number in numbers) + modseq + b"\r\n"
        asked = program.option_names or [b"ALL"]
        parts = [b'* ESEARCH (TAG "' + self.command.verb.tag + b'")']
        if self.command.by_uid:
            parts.append(b"UID")
        if b"MIN" in asked and numbers:
            parts.append(b"MIN %d" % numbers[0])
        if b"MAX" in asked and numbers:
            parts.append(b"MAX %d" % numbers[-1])
        if b"ALL" in asked and numbers:
            parts.append(b"ALL " + _in_order(numbers))
        if b"COUNT" in asked:
            parts.append(b"COUNT %d" % len(numbers))
        if self.modseq:
            parts.append(b"MODSEQ " + self.modseq)
        return b" ".join(parts) + b"\r\n"


_FIELD = {"DISPLAYFROM": "FROM", "DISPLAYTO": "TO"}
"""The header field that a criterion reads, where its name is another one."""
_THREAD_CRITERIA = {
    "ORDEREDSUBJECT": (("SUBJECT", False), ("DATE", False)),
    "REFERENCES": tuple(
        (name, False) for name in ("MESSAGE-ID", "REFERENCES", "IN-REPLY-TO", "SUBJECT", "DATE")
    ),
}


def _in_order(numbers: list[int]) -> bytes:
    """A sequence-set that keeps the order; numbers that follow one another as a range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return b",".join(b":".join(b"%d" % end for end in run) for run in runs)


def _count(numbers: Numbers) -> int:
    return sum(high - low + 1 for low, high in numbers.ranges)


def _completions(result: object) -> list[Completion]:
    assert isinstance(result, list)
    return result
