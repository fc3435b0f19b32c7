"""What tasks do before they answer: find the messages meant, learn what they are, fix and load views. PURE.

Questions go as FETCH inside a command by sequence number and as UID FETCH inside a UID command, so that the
server announces an EXPUNGE only where the client expects one (RFC 9051 section 7.5.1).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from functools import partial
from typing import cast

from keystore.errors import KeystoreError
from secmailproxy import inbound
from secmailproxy.errors import SecMailProxyError
from secmailproxy.imap import answers
from secmailproxy.imap.grammar import FetchResponse, attribute_key, string_value
from secmailproxy.imap.numbers import STAR, Numbers, parse_ranges
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.steps import Ask, Classify, Completion, Compute, LoadViews, Present, Progress, Step
from secmailproxy.views import Kind, View

MESSAGE_LIMIT = 100 * 1024 * 1024
"""Octets of a protected message that we open; larger ones are presented as they are (IMAP-22)."""
_BATCH_OCTETS = 16 * 1024 * 1024
_BATCH_MESSAGES = 64
_BESIDE_OCTETS = 4 * 1024 * 1024
"""Of messages that are opened while others come in."""
_AROUND = 250
"""Messages before and after an unknown one that are classified with it."""

Steps = Generator[Step, object, None]


class Refused(Exception):
    """A way out of nested generators: the server refused a question of ours."""

    def __init__(self, completion: Completion) -> None:
        self.completion = completion


class Reader:
    """The questions of one command about the selected mailbox."""

    def __init__(
        self,
        selected: Selected,
        *,
        by_uid: bool,
        with_uid: bool,
        shared: Numbers | None = None,
        progress: Progress | None = None,
    ) -> None:
        """`by_uid`: the client's command is a UID command. `with_uid`: its answers tell UIDs.

        `shared`: the only messages it reads, when it runs beside others of its kind. `progress`: is told how
        many messages have been asked for to be opened.
        """
        self.selected = selected
        self.box = selected.mailbox
        self.by_uid = by_uid
        self.with_uid = with_uid
        self.shared = shared
        self.progress = progress or Progress()
        self.sequence: dict[int, int] = {}
        """UID to sequence number, of the messages that answered."""
        self.failed: SecMailProxyError | KeystoreError | None = None
        """What kept messages from being presented, where others were to be answered all the same."""
        self._void: set[int] = set()
        """UIDs whose answer was NIL: expunged by somebody else, and not to be judged by that."""

    # Which messages

    def wanted(self, numbers: bytes, partial: bytes = b"") -> Generator[Step, object, Numbers]:
        """The UIDs that the set `numbers` means, as far as they exist; all of them classified now.

        `partial` is a modifier by which the server picks some of them (RFC 9394), or empty.
        """
        if not self.by_uid or numbers == b"$" or partial:
            yield from self._resolve(numbers, b" (" + partial + b")" if partial else b"")
            found = Numbers.each(self.sequence)
            new = found.difference(self.selected.covered)
            if new:
                yield from self._classify(list(self.texts(new)), found)
            return found.intersection(self._known)
        ranges = parse_ranges(numbers)
        if ranges is None:
            raise Refused(Completion(b"BAD Malformed message set.\r\n"))
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
        return wanted.intersection(self._known)

    @property
    def _known(self) -> Numbers:
        """What is classified, and what seems to be gone, which the server may say by itself."""
        return self.selected.covered.union(Numbers.each(self._void))

    def _widened(self, new: Numbers, top: int) -> Numbers:
        """Some more unknown messages around: clients that sync ask for one after the other."""
        around = Numbers(((max(1, new.ranges[0][0] - _AROUND), min(top, new.highest + _AROUND)),))
        return (
            new
            if around.highest - around.ranges[0][0] > 3 * _AROUND
            else around.difference(self.selected.covered)
        )

    def _resolve(self, numbers: bytes, modifiers: bytes) -> Steps:
        def on_fetch(response: FetchResponse) -> bytes:
            if response.uid is None:
                return pass_on(response)
            self.sequence[response.uid] = response.number
            return answers.leftover(response, with_uid=self.with_uid)

        result = yield Ask([(self.verb + numbers + b" (UID)" + modifiers + b"\r\n",)], on_fetch)
        check(result)

    def texts(self, uids: Numbers) -> Iterable[bytes]:
        """Message sets, by the kind of number the client uses."""
        if self.by_uid:
            return uids.texts()
        return Numbers.each(self.sequence[uid] for uid in uids if uid in self.sequence).texts()

    @property
    def verb(self) -> bytes:
        """The name of our questions, with a blank."""
        return b"UID FETCH " if self.by_uid else b"FETCH "

    # What they are

    def _classify(self, texts: list[bytes], asked: Numbers) -> Generator[Step, object, int]:
        """Learn the kinds of these messages; returns the highest UID that answered."""
        key = attribute_key((), "HEADER.FIELDS", inbound.TELLING_FIELDS, None)
        names = b" ".join(inbound.TELLING_FIELDS)
        headers = yield from self.collect(texts, b"(UID BODY.PEEK[HEADER.FIELDS (%b)])" % names, key)
        kinds: dict[int, Kind] = {}
        for uid, octets in headers.items():
            match inbound.classify(octets, ""):
                case inbound.MessageClass.SIGNED:
                    kinds[uid] = Kind.SEALED if self.selected.opens_signed else Kind.SIGNED
                case inbound.MessageClass.ENCRYPTED:
                    kinds[uid] = Kind.SEALED
                case inbound.MessageClass.PLAIN | inbound.MessageClass.FORGED:
                    pass
        yield from self._look_inside(kinds)
        yield from self._look_at_bodies(headers, kinds)
        last = max([*headers, *self._void], default=0)
        top = max(last, self.selected.uid_next - 1 if self.selected.uid_next is not None else 0)
        covered = asked.intersection(Numbers(((1, top),)) if top else Numbers())
        covered = self.selected.covered.union(covered).union(Numbers.each(headers))
        covered = covered.difference(Numbers.each(self._void))
        yield Classify(self.box, bytes(covered), kinds)
        return last

    def _look_inside(self, kinds: dict[int, Kind]) -> Steps:
        """A signed message whose one signed part is encrypted is opened as an encrypted one."""
        signed = Numbers.each(uid for uid, kind in kinds.items() if kind is Kind.SIGNED)
        key = attribute_key((1,), "MIME", (), None)
        parts = yield from self.collect(self.texts(signed), b"(UID BODY.PEEK[1.MIME])", key)
        for uid, octets in parts.items():
            if inbound.classify(octets, "") is inbound.MessageClass.ENCRYPTED:
                kinds[uid] = Kind.SEALED

    def _look_at_bodies(self, headers: Mapping[int, bytes], kinds: dict[int, Kind]) -> Steps:
        """Where the header does not tell that a message is encrypted, the first octets of its body do."""
        inline_pgp = self.selected.inline_pgp
        wanted: dict[int, list[int]] = {}
        for uid, octets in headers.items():
            most = inbound.first_octets_wanted(octets, inline_pgp=inline_pgp)
            if most:
                wanted.setdefault(most, []).append(uid)
        key = attribute_key((), "TEXT", (), 0)
        suspects: list[int] = []
        for most, uids in wanted.items():
            items = b"(UID BODY.PEEK[TEXT]<0.%d>)" % most
            bodies = yield from self._bodies(uids, items, key)
            suspects += [
                uid
                for uid, body in bodies.items()
                if uid in headers and inbound.seems_protected(headers[uid], body, inline_pgp=inline_pgp)
            ]
        if suspects:
            yield from self._look_at_whole(suspects, kinds)

    def _bodies(self, uids: list[int], items: bytes, key: str) -> Generator[Step, object, dict[int, bytes]]:
        """One message that the server cannot read is no reason to keep all others from the client.

        It is not judged by that. Where none can be read, it is not for the sake of one.
        """
        try:
            return (yield from self.collect(self.texts(Numbers.each(uids)), items, key, may_lack=True))
        except Refused:
            texts = {uid: text for uid in uids for text in self.texts(Numbers.each([uid]))}
            refused: list[Completion] = []
            bodies = yield from self.collect(texts.values(), items, key, may_lack=True, refused=refused)
            if len(refused) == len(texts):
                raise
            self._void.update(texts.keys() - bodies.keys() if refused else ())
            return bodies

    def _look_at_whole(self, suspects: list[int], kinds: dict[int, Kind]) -> Steps:
        """Few messages come this far, and what is plain among them stays the server's (IMAP-01)."""
        sizes = yield from self.collect(
            self.texts(Numbers.each(suspects)), b"(UID RFC822.SIZE)", "RFC822.SIZE"
        )
        octets_of = {uid: int(size) for uid, size in sizes.items()}
        small = [uid for uid in suspects if octets_of.get(uid, STAR) <= MESSAGE_LIMIT]
        for batch in batches(small, lambda uid: octets_of[uid]):
            whole = yield from self._whole(batch, None)
            look = partial(_in_protected_form, whole, inline_pgp=self.selected.inline_pgp)
            found = cast("Iterable[int]", (yield Compute(look)))
            kinds.update(dict.fromkeys(found, Kind.SEALED))

    def collect(
        self,
        texts: Iterable[bytes],
        items: bytes,
        key: str,
        *,
        meanwhile: Present | None = None,
        may_lack: bool = False,
        refused: list[Completion] | None = None,
    ) -> Generator[Step, object, dict[int, bytes]]:
        """Ask for one item of each message: UID to value, strings without their quotes, NIL left out.

        NIL means that the message is gone, unless it `may_lack` what is asked for. With `refused`
        refusals are added there, else one is raised.
        """
        found: dict[int, bytes] = {}

        def on_fetch(response: FetchResponse) -> bytes:
            uid, raw = response.uid, response.attributes.get(key)
            if uid is None or raw is None:
                return pass_on(response)
            self.sequence[uid] = response.number
            value = raw if raw.isdigit() else string_value(raw)
            if value is not None:
                found[uid] = value
            elif not may_lack:
                self._void.add(uid)
            return answers.leftover(response, with_uid=self.with_uid)

        commands = [(self.verb + text + b" " + items + b"\r\n",) for text in texts]
        if commands:
            result = yield Ask(commands, on_fetch, self.shared, meanwhile=meanwhile)
            if refused is None:
                check(result)
            else:
                refused += [one for one in cast("list[Completion]", result) if not one.ok]
        elif meanwhile is not None:
            yield meanwhile
        return found

    # Their views

    def present_some(self, special: list[int], *, signed_too: bool) -> Steps:
        """As `present`, but what keeps messages from being presented is told by `failed`, not raised.

        Those messages stay without a view, and so without an answer.
        """
        try:
            yield from self.present(special, signed_too=signed_too)
        except (SecMailProxyError, KeystoreError) as error:
            self.failed = error

    def present(self, special: list[int], *, signed_too: bool) -> Steps:
        """Fix the views of these protected messages, newest first; of signed ones where they are needed."""
        kinds = self.box.kinds
        missing = [uid for uid in special if kinds[uid] is Kind.SEALED]
        sealed = frozenset(missing)
        if signed_too:
            signed = [uid for uid in special if kinds[uid] is Kind.SIGNED]
            if signed:
                known = yield from self.load(signed, octets=False)
                missing += [uid for uid in signed if uid not in known]
        if not missing:
            return
        if len(missing) == 1:
            yield from self._present_one(missing[0])
            return
        sizes = yield from self.collect(
            self.texts(Numbers.each(missing)), b"(UID RFC822.SIZE)", "RFC822.SIZE"
        )
        octets_of = {uid: int(size) for uid, size in sizes.items()}
        too_large = [uid for uid, size in octets_of.items() if size > MESSAGE_LIMIT]
        if too_large:
            yield Present(self.box, dict.fromkeys(too_large))
        order = [uid for uid in sorted(missing, reverse=True) if octets_of.get(uid, STAR) <= MESSAGE_LIMIT]
        self.progress.total = len(order)
        opening: Present | None = None
        for batch in batches(order, lambda uid: octets_of[uid]):
            # Another session may have opened some since; the rest come while those before are opened.
            closed = [uid for uid in batch if uid not in sealed or kinds[uid] is Kind.SEALED]
            opening = Present(self.box, (yield from self._whole(closed, opening)))
            self.progress.done += len(batch)
            if sum(octets_of[uid] for uid in batch) > _BESIDE_OCTETS:
                # Held alone: not while the next come in.
                yield opening
                opening = None
        if opening is not None:
            yield opening

    def _whole(self, uids: list[int], meanwhile: Present | None) -> Generator[Step, object, dict[int, bytes]]:
        key = attribute_key((), "", (), None)
        messages = yield from self.collect(
            self.texts(Numbers.each(uids)), b"(UID BODY.PEEK[])", key, meanwhile=meanwhile
        )
        return {uid: messages[uid] for uid in uids if uid in messages}

    def _present_one(self, uid: int) -> Steps:
        """One octet more than the limit is asked for, which saves the question of how large it is."""
        items = b"(UID BODY.PEEK[]<0.%d>)" % (MESSAGE_LIMIT + 1)
        key = attribute_key((), "", (), 0)
        found = yield from self.collect(self.texts(Numbers.each([uid])), items, key)
        if uid in found:
            yield Present(self.box, {uid: found[uid] if len(found[uid]) <= MESSAGE_LIMIT else None})

    def load(self, uids: list[int], *, octets: bool) -> Generator[Step, object, dict[int, View]]:
        """The fixed views of these messages; the work may have been done for other tasks too."""
        loaded = cast("Mapping[int, View]", (yield LoadViews(self.box, uids, octets)))
        return {uid: loaded[uid] for uid in uids if uid in loaded}


def _in_protected_form(messages: Mapping[int, bytes], *, inline_pgp: bool) -> list[int]:
    return [
        uid for uid, octets in messages.items() if inbound.is_in_protected_form(octets, inline_pgp=inline_pgp)
    ]


def batches(
    uids: list[int], size_of: Callable[[int], int], most: int = _BATCH_MESSAGES
) -> Iterable[list[int]]:
    """The messages in runs of at most `most` messages and some octets in all."""
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


def pass_on(response: FetchResponse) -> bytes:
    """An update that nobody asked for goes on, without any content it may carry."""
    return answers.leftover(response, with_uid=True)


def check(result: object) -> list[Completion]:
    """The completions of an `Ask`. Raises `Refused` when one of them is not OK."""
    completions = cast("list[Completion]", result)
    for completion in completions:
        if not completion.ok:
            raise Refused(completion)
    return completions
