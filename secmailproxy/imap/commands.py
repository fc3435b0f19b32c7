"""What becomes of each command, forwarded, answered at once, or a task; `session` then does it. PURE.

Standards: RFC 9051 section 6; which commands there are is `capability`'s to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from secmailproxy.imap import (
    answers,
    appending,
    capability,
    fetching,
    flags,
    grammar,
    ordering,
    searching,
    selected,
)
from secmailproxy.imap.appending import Planner
from secmailproxy.imap.grammar import GrammarError, Verb
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.searching import Searching
from secmailproxy.imap.selection import Selection
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.imap.steps import Progress, Task
from secmailproxy.imap.wire import Command
from secmailproxy.model import SearchScope


@dataclass(frozen=True, slots=True)
class Settings:
    """What a session must know of its account and server."""

    field_name: bytes
    """Of the verdict field."""
    verdict_length: int
    literal_plus: bool = False
    """Whether the server takes non-synchronising literals of any size."""
    special_use: SpecialUse = field(default_factory=SpecialUse)
    searching: Searching | None = None
    """None leaves SEARCH to the server."""
    inline_pgp: bool = False
    """Whether texts that are one armored block are opened."""
    keywords: bool = True
    """Whether messages have keywords that tell their verdicts."""
    opens_signed: bool = False
    """Whether what is only signed is opened for a list of messages, since its Subject depends on it."""
    tag_prefix: bytes = b"smp"
    """Of our own tags; the shell makes it unguessable, so that no client uses it by accident."""


@dataclass(frozen=True, slots=True)
class Forward:
    """The server shall answer it."""

    octets: bytes | None = None
    """The command in our words; None sends it as it came."""
    alone: bool = False
    """Whether it waits until all before it are answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """We answer it now, with these whole responses."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """A task answers it."""

    task: Task
    shared: Numbers | None = None
    """The messages that it reads beside others of its kind; None when it waits until all before it are
    answered, and all after it wait."""
    progress: Progress = field(default_factory=Progress)


Decision = Forward | Answer | Run


class Commands:
    """Decides on whole commands. A decision that has to wait is made again when its time has come."""

    def __init__(self, settings: Settings, planner: Planner, selection: Selection) -> None:
        self._settings = settings
        self._planner = planner
        self._selection = selection

    def decide(self, command: Command, verb: Verb, may_share: Callable[[Numbers], bool]) -> Decision:
        """What becomes of the command.

        `may_share` tells whether protected messages may be read now, beside what is in work. Raises
        `GrammarError`, whose text is for the client.
        """
        match verb.name:
            case "FETCH" | "UID FETCH":
                return self._fetch(command, verb, may_share)
            case name if name in appending.COMMANDS:
                return self._upload(command, verb)
            case "IDLE":
                return Forward(alone=True)
            case "ENABLE":
                return _enable(command, verb)
            case name if name in capability.STATE_COMMANDS:
                return Run(self._selection.change(command, verb))
            case "SEARCH" | "UID SEARCH":
                return self._search(command, verb)
            case "SORT" | "UID SORT" | "THREAD" | "UID THREAD":
                return self._sort(command, verb)
            case "STORE" | "UID STORE":
                return self._store(command, verb)
            case name if name in capability.PASSED_COMMANDS:
                return Forward()
            case _:
                return Answer(verb.tag + b" BAD Command unknown or not available here.\r\n")

    def _fetch(self, command: Command, verb: Verb, may_share: Callable[[Numbers], bool]) -> Decision:
        one_line = grammar.quoted(command)
        fetch = grammar.parse_fetch(one_line, verb)
        unknown = answers.unknown_item(fetch.items)
        if unknown is not None:
            raise GrammarError(f"FETCH item {unknown[:40]} is not available here")
        box = self._selection.selected
        if box is None or not answers.has_content(fetch.items):
            return Forward(one_line.octets)
        if fetch.partial and b"VANISHED" in fetch.modifiers.upper():
            raise GrammarError("PARTIAL does not go with VANISHED here")
        plain = selected.plain_set(box, fetch)
        if plain is not None:
            head = verb.tag + (b" UID FETCH " if fetch.uid else b" FETCH ")
            rewritten = head + plain + b" " + fetch.items_octets + fetch.modifiers + b"\r\n"
            return Forward(one_line.octets if plain == fetch.numbers else rewritten)
        shared = selected.only_protected(box, fetch)
        if shared is not None and not may_share(shared):
            shared = None
        settings, progress = self._settings, Progress()
        task = fetching.fetch(box, fetch, settings.field_name, settings.verdict_length, shared, progress)
        return Run(task, shared, progress)

    def _store(self, command: Command, verb: Verb) -> Decision:
        box = self._selection.selected
        instead = flags.store(
            command.octets[verb.arguments :],
            by_uid=verb.name == "UID STORE",
            marked=box is not None and bool(box.mailbox.marks.words),
        )
        return Forward() if instead is None else Forward(verb.tag + b" " + instead)

    def _search(self, command: Command, verb: Verb) -> Decision:
        task = searching.search(self._selection.selected, command.octets, verb, self._how)
        return Run(task) if task is not None else Forward()

    def _sort(self, command: Command, verb: Verb) -> Decision:
        task = ordering.sort(self._selection.selected, command.octets, verb, self._how)
        return Run(task) if task is not None else Forward()

    @property
    def _how(self) -> Searching:
        settings = self._settings
        return settings.searching or Searching(
            SearchScope.SERVER, settings.field_name, settings.verdict_length
        )

    def _upload(self, command: Command, verb: Verb) -> Decision:
        upload = appending.upload_of(command, verb)
        plans = self._planner.plans(upload, command.literals)
        return Run(appending.store(upload, command.literals, plans)) if any(plans) else Forward()


def _enable(command: Command, verb: Verb) -> Decision:
    admitted = capability.admit_enable(command.octets[verb.arguments :])
    if admitted:
        return Forward(verb.tag + b" ENABLE " + admitted + b"\r\n")
    return Answer(b"* ENABLED\r\n" + verb.tag + b" OK Nothing enabled.\r\n")
