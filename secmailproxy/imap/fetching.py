"""The task that answers a FETCH which may touch protected messages. PURE.

It resolves which messages are meant, learns which of them are protected (one extra question for those never
seen before), makes sure that each protected one has its fixed view, and then asks the server for the rest of
the answer: plain messages as the client asked, protected ones by `answers`.

Questions go as FETCH inside a FETCH and as UID FETCH inside a UID FETCH, so that the server announces an
EXPUNGE only where the client expects one (RFC 9051 section 7.5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import cast

from secmailproxy import inbound
from secmailproxy.errors import SecMailProxyError
from secmailproxy.imap import answers
from secmailproxy.imap.grammar import FetchCommand, FetchItem, FetchResponse, attribute_key, string_value
from secmailproxy.imap.mask import Mask, token_of
from secmailproxy.imap.numbers import STAR, Numbers, parse_ranges
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.steps import Ask, Classify, Completion, LoadViews, Present, Step, Task
from secmailproxy.views import Kind, View

MESSAGE_LIMIT = 100 * 1024 * 1024
"""Octets of a protected message that we open; larger ones are presented as they are (IMAP-22)."""
_BATCH_OCTETS = 16 * 1024 * 1024
_BATCH_MESSAGES = 64
_OUTLINES_AT_ONCE = 500
_AROUND = 250
"""Messages before and after an unknown one that are classified with it."""

_OK = b"OK Fetch completed.\r\n"

Steps = Generator[Step, object, None]
Answer = Callable[[FetchResponse, View | None], bytes]
"""From the server's response and what is kept of the message to the response for the client."""


class _Failed(Exception):
    """A way out of nested generators: the server refused a question of ours."""

    def __init__(self, completion: Completion) -> None:
        self.completion = completion


def fetch(
    selected: Selected,
    command: FetchCommand,
    verdict_field: bytes,
    verdict_length: int,
    shared: Numbers | None = None,
) -> Task:
    """The task. Returns the completion of the client's command.

    With `shared` (what `only_protected` gave) it may run beside others of its kind.
    """
    try:
        return (yield from _Fetch(selected, command, verdict_field, verdict_length, shared).run())
    except _Failed as failed:
        return failed.completion.octets


class _Fetch:
    def __init__(
        self,
        selected: Selected,
        command: FetchCommand,
        field_name: bytes,
        length: int,
        shared: Numbers | None,
    ) -> None:
        self.shared = shared
        self.selected = selected
        self.box = selected.mailbox
        self.command = command
        self.items = command.items
        self.field_name = field_name
        self.masked_name = Mask(token_of(field_name)).struck(field_name)
        self.verdict_length = length
        self.sequence: dict[int, int] = {}
        self.with_uid = command.uid or any(item.name == "UID" for item in command.items)
        self.completion = _OK

    def run(self) -> Generator[Step, object, bytes]:
        kinds = self.box.kinds
        if self.shared:
            special = list(self.shared)
        else:
            wanted = yield from self._wanted()
            special = [uid for uid in kinds if uid in wanted]
            plain = wanted.difference(Numbers.each(special))
            yield from self._ask(plain, self.command.items_octets, None)
        yield from self._present(sorted(special, reverse=True))
        yield from self._answer_opaque(sorted(uid for uid in special if kinds[uid] is Kind.OPAQUE))
        yield from self._answer_signed(sorted(uid for uid in special if kinds[uid] is Kind.SIGNED))
        forms = sorted(uid for uid in special if kinds[uid] is Kind.FORM)
        yield from self._answer_kept(forms, self.items, answers.form_request(self.items), self._form_answer)
        return self.completion

    # Which messages

    def _wanted(self) -> Generator[Step, object, Numbers]:
        """The UIDs meant that exist and are classified."""
        if not self.command.uid or self.command.numbers == b"$":
            yield from self._resolve()
            found = Numbers.each(self.sequence)
            new = found.difference(self.selected.covered)
            if new:
                yield from self._classify(list(self._texts(new)), found)
            return found.intersection(self.selected.covered)
        ranges = parse_ranges(self.command.numbers)
        if ranges is None:
            raise _Failed(Completion(b"BAD Malformed message set.\r\n"))
        wanted = Numbers.of(ranges)
        top = self.selected.uid_next - 1 if self.selected.uid_next is not None else STAR
        new = wanted.intersection(Numbers(((1, top),)) if top else Numbers()).difference(
            self.selected.covered
        )
        star = any(high == STAR for _, high in ranges)
        if star and any(low > top for low, high in ranges if high == STAR):
            # "n:*" beyond the end means the last message; "top:*" always names it.
            new = new.union(Numbers(((max(top, 1), STAR),)))
        last = 0
        if new and not star:
            new = self._widened(new, top)
        if new:
            texts = [t.replace(b"%d" % STAR, b"*") for t in new.texts()]
            last = yield from self._classify(texts, new)
        if star and last:
            wanted = wanted.union(Numbers.each([last]))
        return wanted.intersection(self.selected.covered)

    def _widened(self, new: Numbers, top: int) -> Numbers:
        """Some more unknown messages around: clients that sync ask for one after the other."""
        around = Numbers(((max(1, new.ranges[0][0] - _AROUND), min(top, new.highest + _AROUND)),))
        return (
            new
            if around.highest - around.ranges[0][0] > 3 * _AROUND
            else around.difference(self.selected.covered)
        )

    def _resolve(self) -> Steps:
        def on_fetch(response: FetchResponse) -> bytes:
            if response.uid is None:
                return _pass_on(response)
            self.sequence[response.uid] = response.number
            return answers.leftover(response, with_uid=self.with_uid)

        result = yield Ask([(self._verb() + self.command.numbers + b" (UID)\r\n",)], on_fetch)
        _check(result)

    def _texts(self, uids: Numbers) -> Iterable[bytes]:
        """Message sets, by the kind of number the client uses."""
        if self.command.uid:
            return uids.texts()
        return Numbers.each(self.sequence[uid] for uid in uids if uid in self.sequence).texts()

    def _verb(self) -> bytes:
        return b"UID FETCH " if self.command.uid else b"FETCH "

    # What they are

    def _classify(self, texts: list[bytes], asked: Numbers) -> Generator[Step, object, int]:
        """Learn the kinds of these messages; returns the highest UID that answered."""
        key = attribute_key((), "HEADER.FIELDS", (b"CONTENT-TYPE",), None)
        headers = yield from self._collect(texts, b"(UID BODY.PEEK[HEADER.FIELDS (CONTENT-TYPE)])", key)
        kinds: dict[int, Kind] = {}
        for uid, octets in headers.items():
            match inbound.classify(octets, ""):
                case inbound.MessageClass.SIGNED:
                    kinds[uid] = Kind.SIGNED
                case inbound.MessageClass.ENCRYPTED:
                    kinds[uid] = Kind.SEALED
                case inbound.MessageClass.PLAIN | inbound.MessageClass.FORGED:
                    pass
        yield from self._look_inside(kinds)
        last = max(headers, default=0)
        top = max(last, self.selected.uid_next - 1 if self.selected.uid_next is not None else 0)
        covered = asked.intersection(Numbers(((1, top),)) if top else Numbers())
        covered = self.selected.covered.union(covered).union(Numbers.each(headers))
        yield Classify(self.box, bytes(covered), kinds)
        return last

    def _look_inside(self, kinds: dict[int, Kind]) -> Steps:
        """A signed message whose one signed part is encrypted is opened as an encrypted one."""
        signed = Numbers.each(uid for uid, kind in kinds.items() if kind is Kind.SIGNED)
        key = attribute_key((1,), "MIME", (), None)
        parts = yield from self._collect(self._texts(signed), b"(UID BODY.PEEK[1.MIME])", key)
        for uid, octets in parts.items():
            if inbound.classify(octets, "") is inbound.MessageClass.ENCRYPTED:
                kinds[uid] = Kind.SEALED

    def _collect(
        self, texts: Iterable[bytes], items: bytes, key: str
    ) -> Generator[Step, object, dict[int, bytes]]:
        """Ask for one item of each message: UID to value."""
        found: dict[int, bytes] = {}

        def on_fetch(response: FetchResponse) -> bytes:
            uid, raw = response.uid, response.attributes.get(key)
            if uid is None or raw is None:
                return _pass_on(response)
            found[uid] = raw if raw.isdigit() else string_value(raw) or b""
            self.sequence[uid] = response.number
            return answers.leftover(response, with_uid=self.with_uid)

        commands = [(self._verb() + text + b" " + items + b"\r\n",) for text in texts]
        if commands:
            _check((yield Ask(commands, on_fetch, self.shared)))
        return found

    # Their views

    def _present(self, special: list[int]) -> Steps:
        """Fix the views that the answer needs, newest first."""
        kinds = self.box.kinds
        missing = [uid for uid in special if kinds[uid] is Kind.SEALED]
        if answers.kept_octets(self.items, self.field_name):
            signed = [uid for uid in special if kinds[uid] is Kind.SIGNED]
            if signed:
                known = yield from self._load(signed, octets=False)
                missing += [uid for uid in signed if uid not in known]
        if not missing:
            return
        if len(missing) == 1:
            yield from self._present_one(missing[0])
            return
        sizes = yield from self._collect(
            self._texts(Numbers.each(missing)), b"(UID RFC822.SIZE)", "RFC822.SIZE"
        )
        octets_of = {uid: int(size) for uid, size in sizes.items()}
        too_large = [uid for uid, size in octets_of.items() if size > MESSAGE_LIMIT]
        if too_large:
            yield Present(self.box, dict.fromkeys(too_large))
        order = [uid for uid in sorted(missing, reverse=True) if octets_of.get(uid, STAR) <= MESSAGE_LIMIT]
        for batch in _batches(order, lambda uid: octets_of[uid]):
            key = attribute_key((), "", (), None)
            texts = self._texts(Numbers.each(batch))
            messages = yield from self._collect(texts, b"(UID BODY.PEEK[])", key)
            yield Present(self.box, {uid: messages[uid] for uid in batch if uid in messages})

    def _present_one(self, uid: int) -> Steps:
        """One octet more than the limit is asked for, which saves the question of how large it is."""
        items = b"(UID BODY.PEEK[]<0.%d>)" % (MESSAGE_LIMIT + 1)
        key = attribute_key((), "", (), 0)
        found = yield from self._collect(self._texts(Numbers.each([uid])), items, key)
        if uid in found:
            yield Present(self.box, {uid: found[uid] if len(found[uid]) <= MESSAGE_LIMIT else None})

    # The answer

    def _ask(self, uids: Numbers, items: bytes, on_fetch: Callable[[FetchResponse], bytes] | None) -> Steps:
        tail = b" " + items + self.command.modifiers + b"\r\n"
        commands = [(self._verb() + text + tail,) for text in self._texts(uids)]
        if commands:
            result = _check((yield Ask(commands, on_fetch, self.shared)))
            self.completion = result[-1].octets

    def _answer_opaque(self, uids: list[int]) -> Steps:
        if not uids:
            return
        views = yield from self._load(uids, octets=False)
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
            yield from self._answer_batch((yield from self._load(uids, octets=True)), asked, answer)
            return
        for at in range(0, len(uids), _OUTLINES_AT_ONCE):
            some = uids[at : at + _OUTLINES_AT_ONCE]
            outlines = yield from self._load(some, octets=False)
            sizes = {uid: outlines[uid].size if need_octets else 0 for uid in outlines}
            for batch in _batches(sorted(outlines), sizes.__getitem__, _OUTLINES_AT_ONCE):
                views = {uid: outlines[uid] for uid in batch}
                if need_octets:
                    views = yield from self._load(batch, octets=True)
                yield from self._answer_batch(views, asked, answer)

    def _load(self, uids: list[int], *, octets: bool) -> Generator[Step, object, dict[int, View]]:
        """The fixed views of these messages; the work may have been done for other tasks too."""
        loaded = cast("Mapping[int, View]", (yield LoadViews(self.box, uids, octets)))
        return {uid: loaded[uid] for uid in uids if uid in loaded}

    def _answer_batch(self, views: Mapping[int, View | None], asked: bytes, answer: Answer) -> Steps:
        waiting = set(views)

        def on_fetch(response: FetchResponse) -> bytes:
            uid = response.uid
            if uid is None or uid not in waiting:
                return _pass_on(response)
            waiting.discard(uid)
            return answer(response, views[uid])

        yield from self._ask(Numbers.each(views), asked, on_fetch)


def _batches(
    uids: list[int], size_of: Callable[[int], int], most: int = _BATCH_MESSAGES
) -> Iterable[list[int]]:
    batch: list[int] = []
    octets = 0
    for uid in uids:
        if batch and (len(batch) == most or octets + size_of(uid) > _BATCH_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(uid)
        octets += size_of(uid)
    if batch:
        yield batch


def _pass_on(response: FetchResponse) -> bytes:
    """An update that nobody asked for goes on, without any content it may carry."""
    return answers.leftover(response, with_uid=True)


def _check(result: object) -> list[Completion]:
    completions = cast("list[Completion]", result)
    for completion in completions:
        if not completion.ok:
            raise _Failed(completion)
    return completions


def failure(error: SecMailProxyError) -> bytes:
    """The completion that tells the client of `error` (RFC 5530)."""
    code = f"[{error.imap_code}] " if error.imap_code else ""
    return f"NO {code}{error.text}\r\n".encode("ascii", "replace")
