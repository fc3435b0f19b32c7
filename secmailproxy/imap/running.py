"""Runs tasks: sends their questions, gathers the answers, hands their work to the shell. PURE."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from keystore.errors import KeystoreError
from secmailproxy.errors import KeystoreLocked, LimitExceeded, SecMailProxyError
from secmailproxy.imap import answers, capability, fetching, grammar, reading
from secmailproxy.imap.grammar import FetchResponse, GrammarError
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.sending import Sender
from secmailproxy.imap.steps import Ask, Completion, Progress, Step, Task, Tell, Work

COLLECT_LIMIT = reading.MESSAGE_LIMIT + 8 * 1024 * 1024
"""Octets of the answers to one question of ours."""
_SMALL = 1024
"""Octets of an answer, below which it is not counted: there is one for each message of a mailbox."""
ANSWERS_MOST = 2_000_000
"""Answers to one question, and numbers in them: more messages than anybody has in a mailbox."""
# Only before any string, where a sender could have written "UID 7" too.
_UID = re.compile(
    rb"\* \d+ FETCH \("
    rb'(?:FLAGS \([^()"{]*\) |MODSEQ \(\d+\) |RFC822\.SIZE \d+ |INTERNALDATE "[^"]*" )*UID (\d+)',
    re.IGNORECASE,
)
_INTERNAL = SecMailProxyError("Internal error in secmailproxy.")
_RESULT = re.compile(rb"\* (?:E?SEARCH|SORT|THREAD)\b", re.IGNORECASE)


@dataclass(slots=True, eq=False)
class _Question:
    ask: Ask
    waiting: list[bytes]
    works: bool
    """Whether the shell has not finished what is done meanwhile."""
    completions: dict[bytes, Completion] = field(default_factory=dict)
    failed: Exception | None = None
    held: int = 0
    """Octets of its answers so far."""
    answers: int = 0

    def counts(self, answers: int) -> bool:
        """Note so many answers; False when nothing more is wanted."""
        self.answers += answers
        if self.answers > ANSWERS_MOST:
            self.failed = self.failed or GrammarError("the server answers without end")
        return self.failed is None

    def claims(self, uid: int | None) -> bool:
        """Whether a FETCH response for this message is (or may be) an answer to the question."""
        if self.ask.on_fetch is None:
            return False
        return self.ask.uids is None or (uid is not None and uid in self.ask.uids)


@dataclass(slots=True)
class _Running:
    tag: bytes
    task: Task
    uids: Numbers
    progress: Progress
    question: _Question | None = None
    held: int = 0
    """Octets of answers that it has got and not had worked on."""


@dataclass(slots=True)
class _Incoming:
    """The response that is kept from the client, as far as it is here."""

    questions: list[_Question]
    """Those that it may answer."""
    is_result: bool = False
    """Whether it is the result of a search, else a FETCH response."""
    parts: list[bytes] = field(default_factory=list)
    octets: int = 0
    announced: int = 0
    """Octets of the literal that is still to come."""
    fault: Exception | None = None
    """Why it is not kept, but read to its end and forgotten."""

    def keep(self, octets: bytes) -> None:
        self.octets += len(octets)
        self.announced = max(0, self.announced - len(octets))
        if self.fault is None:
            self.parts.append(octets)

    def drop(self, fault: Exception) -> None:
        self.fault = fault
        self.parts.clear()
        for question in self.questions:
            question.failed = question.failed or fault


class Runner:
    """Tasks in work; the completion of each goes to the client under the tag of its command.

    An exclusive task is alone; others run side by side, each reading messages of its own.
    """

    def __init__(self, sender: Sender, out: list[bytes], tag_prefix: bytes) -> None:
        """`out` takes octets for the client."""
        self._sender = sender
        self._out = out
        self._tag_prefix = tag_prefix
        self._serial = 0
        self._running: dict[int, _Running] = {}
        self._reading: set[int] = set()
        self._asking: list[_Question] = []
        self._incoming: _Incoming | None = None
        self.exclusive = False
        """Whether the task in work is alone."""
        self.work: list[tuple[int, Work]] = []
        """For the shell, with the number to hand back; whoever takes it clears it."""
        self.faults: list[Exception] = []
        """What tasks raised that they should not have; likewise."""

    def __len__(self) -> int:
        """How many tasks are in work."""
        return len(self._running)

    def reads(self, uids: Numbers) -> bool:
        """Whether a task in work reads any of these; servers answer commands in the order that suits them."""
        return any(uid in self._reading for uid in uids)

    @property
    def tags(self) -> list[bytes]:
        """Of the client's commands in work."""
        return [running.tag for running in self._running.values()]

    @property
    def collecting(self) -> bool:
        """Whether the response that is coming in is kept from the client."""
        return self._incoming is not None

    @property
    def held(self) -> int:
        """Octets of answers that are kept, or announced, until tasks have had them worked on."""
        incoming = self._incoming
        held = incoming.octets + incoming.announced if incoming is not None and not incoming.fault else 0
        for running in self._running.values():
            held += running.held + (running.question.held if running.question is not None else 0)
        return held

    @property
    def interjection(self) -> bytes:
        """An untagged OK that tells how far the command longest in work has come (RFC 9585), or nothing."""
        for running in self._running.values():
            progress = running.progress
            state = b"%d %d" % (progress.done, progress.total) if progress.total else b"NIL NIL"
            return b'* OK [INPROGRESS ("%b" %b)] Still working.\r\n' % (running.tag, state)
        return b""

    def run(
        self, tag: bytes, task: Task, uids: Numbers | None = None, progress: Progress | None = None
    ) -> None:
        """Begin a task: one that reads `uids` only, or else an exclusive one. It may tell its `progress`."""
        self._serial += 1
        self.exclusive = uids is None
        self._running[self._serial] = _Running(tag, task, uids or Numbers(), progress or Progress())
        self._reading.update(uids or ())
        self.resume(self._serial, None)

    def resume(self, number: int, result: object) -> None:
        """The work of a task is done, or what went on beside its question."""
        running = self._running.get(number)
        if running is not None:
            running.held = 0
            if running.question is not None:
                self._meanwhile_done(number, running, None)
            else:
                self._drive(number, running, lambda: running.task.send(result))

    def throw(self, number: int, error: Exception) -> None:
        """The work of a task failed, or what went on beside its question."""
        running = self._running.get(number)
        if running is not None:
            running.held = 0
            if running.question is not None:
                self._meanwhile_done(number, running, error)
            else:
                self._drive(number, running, lambda: running.task.throw(error))

    def _drive(self, number: int, running: _Running, go: Callable[[], Step]) -> None:
        try:
            step = go()
        except StopIteration as stop:
            self._finish(number, stop.value)
        except SecMailProxyError as error:
            self._finish(number, fetching.failure(error))
        except KeystoreError as error:
            self._finish(number, fetching.failure(KeystoreLocked(str(error))))
        except GrammarError:
            self._finish(number, b"NO [SERVERBUG] The mail server's answer could not be understood.\r\n")
        except Exception as error:  # noqa: BLE001 - fails one command, not the connection; the shell logs it
            self.faults.append(error)
            self._finish(number, fetching.failure(_INTERNAL))
        else:
            self._carry_out(number, running, step)

    def _finish(self, number: int, completion: bytes) -> None:
        done = self._running.pop(number)
        self._reading.difference_update(done.uids)
        if completion and done.tag:
            self._out.append(done.tag + b" " + capability.rewrite(completion))
        self.exclusive = False

    def _carry_out(self, number: int, running: _Running, step: Step) -> None:
        if isinstance(step, Tell):
            self._out.append(step.octets)
            self.resume(number, None)
            return
        if not isinstance(step, Ask):
            self.work.append((number, step))
            return
        first = self._serial + 1
        self._serial += len(step.commands)
        tags = [b"%b%d" % (self._tag_prefix, serial) for serial in range(first, self._serial + 1)]
        if step.tag is not None:
            (_,) = tags
            tags = [step.tag]
        question = running.question = _Question(step, list(tags), works=step.meanwhile is not None)
        if step.meanwhile is not None:
            self.work.append((number, step.meanwhile))
        if step.on_fetch is not None or step.on_result is not None:
            self._asking.append(question)
        for tag, command in zip(tags, step.commands, strict=True):
            self._sender.send(tag, (tag + b" " + command[0], *command[1:]))

    # Answers

    def takes(self, first_line: bytes) -> bool:
        """Offer the first fragment of an untagged response; True when the whole response shall come here."""
        if not self._asking:
            return False
        if self._is_result(first_line):
            searching = [question for question in self._asking if question.ask.on_result is not None]
            self._incoming = _Incoming(searching, is_result=True)
            self.keep(first_line)
            return True
        if not grammar.is_fetch(first_line):
            return False
        uid = _UID.match(first_line)
        asking = [one for one in self._asking if one.claims(int(uid[1]))] if uid else list(self._asking)
        if not asking:
            return False
        self._incoming = _Incoming(asking)
        if all(question.failed for question in asking):
            self._incoming.drop(GrammarError("nobody waits for it any more"))
        self.keep(first_line)
        return True

    def _is_result(self, first_line: bytes) -> bool:
        wanted = any(question.ask.on_result is not None for question in self._asking)
        return wanted and _RESULT.match(first_line) is not None

    def keep(self, octets: bytes) -> None:
        """More of the response that was taken."""
        assert self._incoming is not None, "takes() said True"
        self._incoming.keep(octets)

    def expect(self, announced: int) -> None:
        """So many octets of a literal come next in the response that was taken."""
        incoming = self._incoming
        assert incoming is not None, "takes() said True"
        incoming.announced = announced
        before = max(question.held for question in incoming.questions)
        if before + incoming.octets + announced > COLLECT_LIMIT:
            incoming.drop(GrammarError("an answer is too large"))

    def no_room(self) -> None:
        """The response that was taken cannot be kept: there is too much in work."""
        if self._incoming is not None:
            self._incoming.drop(LimitExceeded("Too much mail is being opened at once; try again."))

    def kept(self) -> None:
        """The response that was taken is whole."""
        incoming, self._incoming = self._incoming, None
        assert incoming is not None, "takes() said True"
        if incoming.fault is not None:
            return
        octets = b"".join(incoming.parts)
        try:
            if incoming.is_result:
                self._take_result(octets)
                return
            response = grammar.parse_fetch_response(octets)
        except GrammarError as error:
            incoming.drop(error)
            return
        for question in self._asking:
            if question.claims(response.uid):
                question.held += len(octets) if len(octets) >= _SMALL else 0
                self._answer(question, response)
                return
        # Nobody's answer: news of flags, or plain mail whose UID came late.
        self._out.append(octets if response.uid else answers.leftover(response, with_uid=True))

    def _take_result(self, octets: bytes) -> None:
        for question in self._asking:
            if question.ask.on_result is not None:
                if question.counts(octets.count(b" ")):
                    question.ask.on_result(octets)
                return

    def _answer(self, question: _Question, response: FetchResponse) -> None:
        assert question.ask.on_fetch is not None, "it claimed the response"
        if question.counts(1):
            try:
                self._out.append(question.ask.on_fetch(response))
            except GrammarError as error:
                question.failed = error
            except Exception as error:  # noqa: BLE001 - as in _drive
                self.faults.append(error)
                question.failed = _INTERNAL

    def completed(self, tag: bytes, octets: bytes) -> bool:
        """Offer a tagged response, `octets` without the tag; False when it is not an answer to a question."""
        for number, running in self._running.items():
            question = running.question
            if question is not None and tag in question.waiting:
                question.waiting.remove(tag)
                question.completions[tag] = Completion(octets)
                self._next_if_done(number, running, question)
                return True
        return False

    def _meanwhile_done(self, number: int, running: _Running, error: Exception | None) -> None:
        question = running.question
        assert question is not None, "looked at before"
        question.works = False
        question.failed = question.failed or error
        self._next_if_done(number, running, question)

    def _next_if_done(self, number: int, running: _Running, question: _Question) -> None:
        if question.waiting or question.works:
            return
        running.question, running.held = None, running.held + question.held
        if question in self._asking:
            self._asking.remove(question)
        task, failed = running.task, question.failed
        if failed is not None:
            self._drive(number, running, lambda: task.throw(failed))
        else:
            self._drive(number, running, lambda: task.send(list(question.completions.values())))
