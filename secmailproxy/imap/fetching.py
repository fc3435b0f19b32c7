"""The task that answers a FETCH which may touch protected messages. PURE.

It resolves which messages are meant, learns which of them are protected (one extra question for those never
seen before), makes sure that each protected one has its fixed view, and then asks the server for the rest of
the answer: plain messages as the client asked, protected ones by `answers`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence

from secmailproxy.errors import SecMailProxyError
from secmailproxy.imap import answers
from secmailproxy.imap.grammar import FetchCommand, FetchItem, FetchResponse
from secmailproxy.imap.mask import Mask, token_of
from secmailproxy.imap.numbers import Numbers
from secmailproxy.imap.reading import Reader, Refused, Steps, batches, check, pass_on
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.steps import Ask, Progress, Step, Task
from secmailproxy.mime.binary import UnknownEncoding
from secmailproxy.views import Kind, View

_OUTLINES_AT_ONCE = 500
_OK = b"OK Fetch completed.\r\n"
_UNKNOWN_CTE = b"NO [UNKNOWN-CTE] A message has a transfer encoding that is not known.\r\n"

Answer = Callable[[FetchResponse, View | None], bytes]
"""From the server's response and what is kept of the message to the response for the client."""


def fetch(
    selected: Selected,
    command: FetchCommand,
    verdict_field: bytes,
    verdict_length: int,
    shared: Numbers | None = None,
    progress: Progress | None = None,
) -> Task:
    """The task. Returns the completion of the client's command.

    With `shared` (what `only_protected` gave) it may run beside others of its kind. `progress` is told how
    far it has come.
    """
    try:
        return (yield from _Fetch(selected, command, verdict_field, verdict_length, shared, progress).run())
    except Refused as refused:
        return refused.completion.octets


class _Fetch:
    def __init__(
        self,
        selected: Selected,
        command: FetchCommand,
        field_name: bytes,
        length: int,
        shared: Numbers | None,
        progress: Progress | None,
    ) -> None:
        self.shared = shared
        self.selected = selected
        self.box = selected.mailbox
        self.command = command
        self.items = command.items
        self.field_name = field_name
        self.masked_name = Mask(token_of(field_name)).struck(field_name)
        self.verdict_length = length
        self.with_uid = command.uid or any(item.name == "UID" for item in command.items)
        self.reader = Reader(
            selected, by_uid=command.uid, with_uid=self.with_uid, shared=shared, progress=progress
        )
        self.completion = _OK
        self.refusal = b""

    def run(self) -> Generator[Step, object, bytes]:
        kinds = self.box.kinds
        if self.shared:
            special = list(self.shared)
        else:
            wanted = yield from self.reader.wanted(self.command.numbers, self.command.partial)
            special = [uid for uid in kinds if uid in wanted]
            plain = wanted.difference(Numbers.each(special))
            yield from self._ask(plain, self.command.items_octets, None)
        signed_too = bool(answers.kept_octets(self.items, self.field_name))
        yield from self.reader.present_some(sorted(special, reverse=True), signed_too=signed_too)
        yield from self._answer_opaque(sorted(uid for uid in special if kinds[uid] is Kind.OPAQUE))
        yield from self._answer_signed(sorted(uid for uid in special if kinds[uid] is Kind.SIGNED))
        forms = sorted(uid for uid in special if kinds[uid] is Kind.FORM)
        yield from self._answer_kept(forms, self.items, answers.form_request(self.items), self._form_answer)
        if self.reader.failed is not None:
            # After the messages that can be read: one that cannot does not keep them from the client.
            raise self.reader.failed
        return self.refusal or self.completion

    # The answer

    def _ask(self, uids: Numbers, items: bytes, on_fetch: Callable[[FetchResponse], bytes] | None) -> Steps:
        tail = b" " + items + self.command.other_modifiers + b"\r\n"
        commands = [(self.reader.verb + text + tail,) for text in self.reader.texts(uids)]
        if commands:
            result = check((yield Ask(commands, on_fetch, self.shared)))
            self.completion = result[-1].octets

    def _answer_opaque(self, uids: list[int]) -> Steps:
        if not uids:
            return
        views = yield from self.reader.load(uids, octets=False)
        request = self._prefix_request()

        def answer(response: FetchResponse, view: View | None) -> bytes:
            return request.answer(response, view.verdict if view else None, with_uid=self.with_uid)

        yield from self._answer_batch(views, request.octets, answer)

    def _answer_signed(self, uids: list[int]) -> Steps:
        if not uids:
            return
        request = self._prefix_request()
        asked = answers.signed_request(self.items, self.field_name)

        def answer(response: FetchResponse, view: View | None) -> bytes:
            return answers.signed_answer(response, self.items, view, request, with_uid=self.with_uid)

        ours = answers.kept_octets(self.items, self.field_name)
        if ours:
            yield from self._answer_kept(uids, ours, asked, answer)
        else:
            yield from self._answer_batch(dict.fromkeys(uids), asked, answer)

    def _form_answer(self, response: FetchResponse, view: View | None) -> bytes:
        assert view is not None, "loaded before"
        return answers.form_answer(response, self.items, view, with_uid=self.with_uid)

    def _prefix_request(self) -> answers.PrefixRequest:
        return answers.PrefixRequest(self.items, self.field_name, self.verdict_length, self.masked_name)

    def _answer_kept(self, uids: list[int], ours: Sequence[FetchItem], asked: bytes, answer: Answer) -> Steps:
        """Answer from what is kept: the outline, or the octets of some messages at a time."""
        need_octets = answers.needs_octets(ours)
        if need_octets and len(uids) == 1:
            yield from self._answer_batch((yield from self.reader.load(uids, octets=True)), asked, answer)
            return
        for at in range(0, len(uids), _OUTLINES_AT_ONCE):
            some = uids[at : at + _OUTLINES_AT_ONCE]
            outlines = yield from self.reader.load(some, octets=False)
            sizes = {uid: outlines[uid].size if need_octets else 0 for uid in outlines}
            for batch in batches(sorted(outlines), sizes.__getitem__, _OUTLINES_AT_ONCE):
                views = {uid: outlines[uid] for uid in batch}
                if need_octets:
                    views = yield from self.reader.load(batch, octets=True)
                yield from self._answer_batch(views, asked, answer)

    def _answer_batch(self, views: Mapping[int, View | None], asked: bytes, answer: Answer) -> Steps:
        waiting = set(views)
        if not waiting.isdisjoint(self.selected.news()) and all(i.name != "FLAGS" for i in self.items):
            # Their keywords are news, perhaps because we have just opened them.
            asked = asked[:-1] + b" FLAGS)"

        def on_fetch(response: FetchResponse) -> bytes:
            uid = response.uid
            if uid is None or uid not in waiting:
                return pass_on(response)
            waiting.discard(uid)
            try:
                return answer(response, views[uid])
            except UnknownEncoding:
                self.refusal = _UNKNOWN_CTE
                return answers.leftover(response, with_uid=self.with_uid)

        yield from self._ask(Numbers.each(views), asked, on_fetch)


def failure(error: SecMailProxyError) -> bytes:
    """The completion that tells the client of `error` (RFC 5530)."""
    code = f"[{error.imap_code}] " if error.imap_code else ""
    return f"NO {code}{error.text}\r\n".encode("ascii", "replace")
