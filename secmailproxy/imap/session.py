"""One logged-in IMAP session: octets of both sides in, octets and work out. PURE.

Rules of the session:
- answers leave in the server's order; what we do not understand in them passes octet for octet;
- commands that touch no protected content are forwarded as they are, up to `IN_FLIGHT` at once; any other is
  a *task* that runs alone, after all that were sent before it are answered, but for reading protected mail by
  UID, which goes on side by side with more of its kind;
- a task asks the server questions under tags of our own, whose answers the client does not see, and hands
  work (storage, cryptography) to the shell; what fails becomes a tagged NO for that one command.

Standards: RFC 9051 sections 5.5 (pipelining), 6, 7; RFC 2177 (IDLE); RFC 7888 (literals).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from secmailproxy.imap import appending, capability, flags, grammar, keywording
from secmailproxy.imap.appending import Planner
from secmailproxy.imap.commands import Answer, Commands, Forward, Run, Settings
from secmailproxy.imap.grammar import GrammarError, Verb
from secmailproxy.imap.keywording import Keywords
from secmailproxy.imap.mask import Mask, token_of
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.outgoing import Outgoing
from secmailproxy.imap.passing import Passing
from secmailproxy.imap.running import Runner
from secmailproxy.imap.selection import Selection
from secmailproxy.imap.sending import Sender, pieces_of
from secmailproxy.imap.specialuse import Overheard
from secmailproxy.imap.steps import Task, Work
from secmailproxy.imap.streaming import Stream
from secmailproxy.imap.wire import (
    Chunk,
    ClientEvent,
    Command,
    CommandReader,
    Fragment,
    LiteralAhead,
    LiteralPart,
    ResponseSplitter,
)

IN_FLIGHT = 64
"""Forwarded commands that may wait for their answers."""
UNREAD_LIMIT = 256 * 1024
"""Octets of commands that may wait while a task runs; then we stop reading from the client."""
_LITERAL_LIMIT = 64 * 1024

_TAGGED = re.compile(rb"([^\s*+]+) ((?:OK|NO|BAD)\b[^\r\n]*\r?\n)", re.IGNORECASE)


@dataclass(slots=True)
class Actions:
    """What the shell shall do now, in any order between the fields."""

    to_client: bytes = b""
    to_upstream: bytes = b""
    work: list[tuple[int, Work]] = field(default_factory=list)
    """Each with the number that `work_done` or `work_failed` wants back."""
    faults: list[Exception] = field(default_factory=list)
    """Of ours, for the log; the commands that they were for have failed."""
    overheard: list[bytes] = field(default_factory=list)
    """Header sections of messages in clear that have passed, for `Openings.overheard`."""
    close: bool = False


class Session:
    """Drive it with `from_client`, `from_upstream` and `work_done`; carry out what each returns."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = CommandReader()
        self._mask = Mask(token_of(settings.field_name))
        self._splitter = ResponseSplitter()
        self._in_flight: dict[bytes, str] = {}
        self._parked: Command | LiteralAhead | None = None
        self._preceded: Command | None = None
        """The command before which the client was told what is new."""
        self._idle = ""
        self._actions = Actions()
        self._outgoing = Outgoing()
        self._out = self._outgoing.ours
        self._overheard = Overheard(settings.special_use)
        self._passing = Passing()
        self._dropping = False
        self._up: list[bytes] = []
        self._sender = Sender(self._up, literal_plus=settings.literal_plus)
        self._planner = Planner(settings.special_use, settings.field_name)
        self._stream = Stream(self._reader, self._sender, self._up, self._out, self._planner, self._in_flight)
        self._runner = Runner(self._sender, self._out, settings.tag_prefix)
        self.selection = Selection(inline_pgp=settings.inline_pgp, opens_signed=settings.opens_signed)
        self._keywords = Keywords(shown=settings.keywords)
        self._commands = Commands(settings, self._planner, self.selection)

    # What the shell calls

    def from_client(self, data: bytes) -> Actions:
        """Octets from the mail client. Raises `WireError` when it breaks framing limits."""
        self._reader.feed(data)
        self._advance()
        return self._flush()

    def from_upstream(self, data: bytes) -> Actions:
        """Octets from the server. Raises `WireError` when it breaks framing limits."""
        for piece in self._splitter.feed(self._mask.feed(data)):
            if isinstance(piece, Chunk):
                self._passing.passes(piece.octets)
                self._keep_or_pass(piece.octets)
            else:
                self._response_fragment(piece)
        self._advance()
        return self._flush()

    def work_done(self, numbers: Sequence[int], result: object) -> Actions:
        """The one result of works that were handed out and done together."""
        for number in numbers:
            self._runner.resume(number, result)
        self._advance()
        return self._flush()

    def work_failed(self, numbers: Sequence[int], error: Exception) -> Actions:
        """Works that were handed out raised `error`."""
        for number in numbers:
            self._runner.throw(number, error)
        self._advance()
        return self._flush()

    @property
    def held(self) -> int:
        """Octets of the server's answers that are kept, or announced, until they are worked on."""
        return self._runner.held

    def no_room(self) -> Actions:
        """What is `held` is too much: the command that the response coming in is for will fail."""
        self._runner.no_room()
        return self._flush()

    def upstream_gone(self) -> Actions:
        """The server is gone: the commands owed get NO, then BYE; nothing is retried (IMAP-19)."""
        if not self._splitter.mid_response or self._runner.collecting:
            owed = [*self._in_flight, *filter(None, self._runner.tags)]
            self._out += [
                tag + b" NO [UNAVAILABLE] The mail server closed the connection.\r\n" for tag in owed
            ]
            self._out.append(b"* BYE The mail server closed the connection.\r\n")
        self._in_flight.clear()
        self._actions.close = True
        return self._flush()

    @property
    def wants_client(self) -> bool:
        """Whether to read more from the client now."""
        return self._reader.pending < UNREAD_LIMIT

    @property
    def owes(self) -> bool:
        """Whether any command other than IDLE has not been answered."""
        waiting = any(name != "IDLE" for name in self._in_flight.values())
        return waiting or len(self._runner) > 0 or self._stream.takes

    @property
    def interjection(self) -> bytes:
        """An untagged OK for a client that waits; empty when there is none, or a response is half-way out."""
        return b"" if self.mid_response else self._runner.interjection

    @property
    def mid_response(self) -> bool:
        """Whether a response is half-way out to the client."""
        return self._splitter.mid_response and not self._runner.collecting

    # Commands

    def _advance(self) -> None:
        """Begin what can begin."""
        while not (self._actions.close or self._runner.exclusive or self._sender.waits):
            if self._idle:
                line = self._reader.take_line() if self._idle == "idling" else None
                if line is None:
                    return
                self._idle = "done"
                self._up.append(line)
            elif self._parked is not None:
                if self._busy:
                    return
                parked, self._parked = self._parked, None
                self._begin(parked)
            elif len(self._in_flight) + len(self._runner) >= IN_FLIGHT or self._stream.waits:
                return
            else:
                event = self._reader.next_event()
                if event is None:
                    return
                self._event(event)

    def _event(self, event: ClientEvent) -> None:
        if isinstance(event, LiteralAhead):
            event.command.fragments[-1] = flags.announced(event.command.fragments[-1])
        if self._stream.takes:
            self._streamed(self._stream.take(event))
        elif not isinstance(event, LiteralPart):
            self._begin(event)

    def _streamed(self, result: Command | Task | None) -> None:
        """What became of a message that the client has sent: nothing to do, or ours to store."""
        if isinstance(result, Command):
            del self._in_flight[grammar.parse_verb(result).tag]
            self._begin(result)
        elif result is not None:
            self._runner.run(b"", result)

    def _begin(self, event: Command | LiteralAhead) -> None:
        command = event.command if isinstance(event, LiteralAhead) else event
        try:
            verb = grammar.parse_verb(command)
        except GrammarError as error:
            self._answer_literal(event, grammar.tag_of(command) + b" BAD " + str(error).encode() + b"\r\n")
            return
        try:
            if isinstance(event, LiteralAhead):
                self._literal(event, verb)
            else:
                self._command(event, verb)
        except GrammarError as error:
            self._answer_literal(event, verb.tag + b" BAD " + str(error).encode() + b"\r\n")

    def _answer_literal(self, event: Command | LiteralAhead, answer: bytes) -> None:
        """Refuse a command; the octets of a literal that is on its way regardless are dropped with it."""
        self._out.append(answer)
        if isinstance(event, LiteralAhead):
            if event.synchronising:
                self._reader.refuse()
            else:
                self._actions.close = True

    def _literal(self, ahead: LiteralAhead, verb: Verb) -> None:
        upload = appending.upload_so_far(ahead.command, verb) if verb.name in appending.COMMANDS else None
        if upload is not None:
            if self._planner.streams(ahead, upload):
                if not self._park(ahead):
                    self._stream.begin(verb.tag, ahead, upload)
                return
        elif ahead.size > _LITERAL_LIMIT:
            raise GrammarError("the literal is too long")
        self._collect(go_ahead=ahead.synchronising)

    def _collect(self, *, go_ahead: bool = True) -> None:
        self._reader.collect()
        if go_ahead:
            self._out.append(b"+ OK\r\n")

    def _command(self, command: Command, verb: Verb) -> None:
        if len(self._runner) and verb.name != "UID FETCH":
            # Reading by UID may overtake reading by UID; nothing else may overtake anything.
            self._parked = command
            return
        if self._is_preceded(command, verb):
            return
        match self._commands.decide(command, verb, self._may_share):
            case Answer(octets):
                self._out.append(octets)
            case Forward(octets, alone):
                if not (alone and self._park(command)):
                    self._forward(command, verb, octets)
            case Run(task, shared, progress):
                if shared is not None or not self._park(command):
                    self._runner.run(verb.tag, task, shared, progress)

    def _is_preceded(self, command: Command, verb: Verb) -> bool:
        """Whether the client is told something before the command, which is parked then."""
        selection = self.selection
        selection.aware = selection.aware or keywording.is_aware(command.fragments[0])
        if self._busy or self._preceded is command:
            return False
        news = keywording.news(selection.selected, verb, aware=selection.aware)
        if news is None:
            return False
        self._preceded = self._parked = command
        self._runner.run(b"", news)
        return True

    def _may_share(self, uids: Numbers) -> bool:
        passing = all(name == "UID FETCH" for name in self._in_flight.values())
        return passing and not self._runner.reads(uids)

    def _park(self, command: Command | LiteralAhead) -> bool:
        """Set a command aside until all before it are answered; False when it may begin now."""
        if self._busy:
            self._parked = command
        return self._busy

    @property
    def _busy(self) -> bool:
        return bool(self._in_flight) or len(self._runner) > 0

    def _forward(self, command: Command, verb: Verb, octets: bytes | None = None) -> None:
        if verb.tag in self._in_flight or verb.tag.startswith(self._settings.tag_prefix):
            self._out.append(verb.tag + b" BAD This tag is in use.\r\n")
            return
        self._in_flight[verb.tag] = verb.name
        if verb.name == "IDLE":
            self._idle = "asked"
        elif verb.name == "CREATE":
            self._settings.special_use.notice(command.octets, verb)
        if octets is not None:
            self._up.append(octets)
        elif not command.literals:
            self._up.append(command.fragments[0])
        else:
            self._sender.send(verb.tag, pieces_of(command))

    # Responses

    def _response_fragment(self, fragment: Fragment) -> None:
        octets = self._keywords.rewritten(fragment, self.selection.selected)
        if fragment.first:
            self._outgoing.between()
            self._dropping = False
            self._overheard.begins(octets)
            self._response_begins(octets)
        else:
            self._keep_or_pass(octets)
        if self._runner.collecting:
            self._runner.expect(self._splitter.literal_left)
            self._passing.stop()
        elif not fragment.last:
            self._passing.announced(fragment.octets)
        if fragment.last:
            self._overheard.ends()
            if self._runner.collecting:
                self._runner.kept()

    def _keep_or_pass(self, octets: bytes) -> None:
        if self._runner.collecting:
            self._runner.keep(octets)
        elif not self._dropping:
            self._overheard.goes_on(octets)
            self._outgoing.theirs(octets)

    def _response_begins(self, line: bytes) -> None:
        if line.startswith(b"* "):
            if not self._runner.takes(line):
                self._outgoing.theirs(self._untagged(line))
        elif line.startswith(b"+"):
            self._continuation(line)
        else:
            self._tagged(line)

    def _untagged(self, line: bytes) -> bytes:
        if not self.selection.hear(line):
            self._actions.close = True
        return capability.rewrite(line) if b"CAPABILITY" in line[:24].upper() else line

    def _continuation(self, line: bytes) -> None:
        if self._sender.continuation():
            return
        if self._stream.go_ahead():
            return
        # To say it at any other time is to make the client send a message that we may be about to refuse.
        if self._idle == "asked":
            self._idle = "idling"
            self._outgoing.theirs(line)

    def _tagged(self, line: bytes) -> None:
        match = _TAGGED.match(line)
        tag = match[1] if match is not None else b""
        self._sender.completed(tag)
        if match is not None and self._runner.completed(tag, match[2]):
            return
        name = self._in_flight.pop(tag, None)
        if name == "IDLE":
            self._idle = ""
        line = capability.rewrite(line)
        ours = self._stream.refused(tag, line)
        if name is None and line.strip():
            # Of a command that nobody has sent, or a second time. A client that believes it goes on with
            # its next command, which would be taken for the message that this one announced.
            self._dropping = True
        elif not ours:
            self._outgoing.theirs(line)

    def _flush(self) -> Actions:
        actions, self._actions = self._actions, Actions()
        actions.work, self._runner.work = self._runner.work, []
        actions.faults, self._runner.faults = self._runner.faults, []
        actions.overheard, self._passing.sections = self._passing.sections, []
        half_out = self._splitter.half_out and not (self._runner.collecting or self._dropping)
        actions.to_client, actions.to_upstream = self._outgoing.take(half_out=half_out), b"".join(self._up)
        self._up.clear()
        return actions
