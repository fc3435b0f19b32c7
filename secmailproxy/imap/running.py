"""Runs one task at a time: sends its questions, gathers the answers, hands its work to the shell. PURE."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from keystore.errors import KeystoreError
from secmailproxy.errors import KeystoreLocked, SecMailProxyError
from secmailproxy.imap import capability, fetching, grammar
from secmailproxy.imap.grammar import GrammarError
from secmailproxy.imap.sending import Sender
from secmailproxy.imap.steps import Ask, Completion, Step, Task, Work

COLLECT_LIMIT = fetching.MESSAGE_LIMIT + 8 * 1024 * 1024
"""Octets of one answer to a question of ours."""


@dataclass(slots=True)
class _Question:
    ask: Ask
    waiting: list[bytes]
    completions: dict[bytes, Completion] = field(default_factory=dict)
    failed: Exception | None = None


class Runner:
    """At most one task is in work; its completion goes to the client under the tag of the command."""

    def __init__(self, sender: Sender, out: list[bytes], tag_prefix: bytes) -> None:
        """`out` takes octets for the client."""
        self._sender = sender
        self._out = out
        self._tag_prefix = tag_prefix
        self._serial = 0
        self._task: Task | None = None
        self._question: _Question | None = None
        self._parts: list[bytes] | None = None
        self._octets = 0
        self.tag = b""
        """Of the client's command in work; empty when there is none."""
        self.work: Work | None = None
        """For the shell; whoever takes it sets None."""

    @property
    def busy(self) -> bool:
        """Whether a task is in work."""
        return self._task is not None

    @property
    def collecting(self) -> bool:
        """Whether the response that is coming in is kept from the client."""
        return self._parts is not None

    def run(self, tag: bytes, task: Task) -> None:
        """Begin a task."""
        self._task, self.tag = task, tag
        self._drive(task, lambda: task.send(None))

    def resume(self, result: object) -> None:
        """The step is done."""
        task = self._task
        if task is not None:
            self._drive(task, lambda: task.send(result))

    def throw(self, error: Exception) -> None:
        """The step failed."""
        task = self._task
        if task is not None:
            self._drive(task, lambda: task.throw(error))

    def _drive(self, task: Task, go: Callable[[], Step]) -> None:
        try:
            step = go()
        except StopIteration as stop:
            self._finish(stop.value)
        except SecMailProxyError as error:
            self._finish(fetching.failure(error))
        except KeystoreError as error:
            self._finish(fetching.failure(KeystoreLocked(str(error))))
        except GrammarError:
            self._finish(b"NO [SERVERBUG] The mail server's answer could not be understood.\r\n")
        else:
            self._carry_out(step)

    def _finish(self, completion: bytes) -> None:
        self._out.append(self.tag + b" " + capability.rewrite(completion))
        self._task, self.tag = None, b""

    def _carry_out(self, step: Step) -> None:
        if not isinstance(step, Ask):
            self.work = step
            return
        first = self._serial + 1
        self._serial += len(step.commands)
        tags = [b"%b%d" % (self._tag_prefix, serial) for serial in range(first, self._serial + 1)]
        self._question = _Question(step, list(tags))
        for tag, command in zip(tags, step.commands, strict=True):
            self._sender.send(tag, (tag + b" " + command[0], *command[1:]))

    # Answers

    def takes(self, first_line: bytes) -> bool:
        """Offer the first fragment of an untagged response; True when the whole response shall come here."""
        question = self._question
        if question is None or question.ask.on_fetch is None or not grammar.is_fetch(first_line):
            return False
        self._parts, self._octets = [], 0
        self.keep(first_line)
        return True

    def keep(self, octets: bytes) -> None:
        """More of the response that was taken."""
        assert self._parts is not None, "takes() said True"
        self._octets += len(octets)
        if self._octets <= COLLECT_LIMIT:
            self._parts.append(octets)
        elif self._question is not None:
            self._question.failed = GrammarError("an answer is too large")

    def kept(self) -> None:
        """The response that was taken is whole."""
        octets, self._parts = b"".join(self._parts or ()), None
        question = self._question
        if question is None or question.ask.on_fetch is None or question.failed is not None:
            return
        try:
            self._out.append(question.ask.on_fetch(grammar.parse_fetch_response(octets)))
        except GrammarError as error:
            question.failed = error

    def completed(self, tag: bytes, octets: bytes) -> bool:
        """Offer a tagged response, `octets` without the tag; False when it is not an answer to a question."""
        question = self._question
        if question is None or tag not in question.waiting:
            return False
        question.waiting.remove(tag)
        question.completions[tag] = Completion(octets)
        if not question.waiting:
            self._question = None
            if question.failed is not None:
                self.throw(question.failed)
            else:
                self.resume(list(question.completions.values()))
        return True
