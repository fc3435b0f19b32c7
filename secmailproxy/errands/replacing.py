"""Replacing the messages of one mailbox, one by one, so that an interruption loses and doubles none.

Each step is in the journal, on the disk, before it is done (see `plan` for the states). Originals are deleted
some at a time, by UID EXPUNGE only, after their copies were read back and proven.

Standards: RFC 9051, RFC 4315 (UIDPLUS).
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from secmailproxy.errands.client import Client, Refused
from secmailproxy.errands.facts import Facts, Selection, same_moment
from secmailproxy.errands.forms import Copy, Form, digest_sign, is_copy
from secmailproxy.errands.journal import Entry, Journal
from secmailproxy.errands.plan import (
    FAILURES,
    Candidate,
    Errand,
    Left,
    State,
    Step,
    are_sound,
    flag_change,
    leave,
    next_step,
)
from secmailproxy.errors import NotAllowed, SecMailProxyError, UpstreamLost, UpstreamUnavailable
from secmailproxy.inbound import TELLING_FIELDS

_DELETED = rb"\Deleted"
_AT_ONCE = 20
"""Messages of which copy and original are on the server at the same time."""
_HEADER = f"BODY.PEEK[HEADER.FIELDS ({b' '.join(TELLING_FIELDS).decode()})]"
_MARKS = "BODY.PEEK[HEADER.FIELDS (CONTENT-TYPE CONTENT-ID)]"
"""Where the mark of a copy stands."""
_TRIES = 3


@dataclass(slots=True)
class Outcome:
    """What became of the messages of a mailbox."""

    replaced: int = 0
    """With a dry run: that would be replaced."""
    resumed: int = 0
    """Replacements that an interrupted run had begun."""
    left: Counter[Left] = field(default_factory=Counter)
    failed: list[int] = field(default_factory=list)
    """UIDs of messages that could not be replaced, and were left as they are."""


class Replacing:
    """One errand on one mailbox."""

    def __init__(
        self,
        client: Client,
        mailbox: bytes,
        forms: Mapping[Errand, Form],
        journal: Journal,
        progress: Callable[[int, int], None],
    ) -> None:
        """`forms`: what each errand makes; an interrupted one is finished whatever is to be done now.

        `progress` is called with the messages done and all messages.
        """
        self._client = client
        self._mailbox = mailbox
        self._forms = forms
        self._journal = journal
        self._progress = progress
        self._proven: list[Entry] = []
        """Replacements whose original is to be deleted next."""
        self._floor = 0
        self.outcome = Outcome()

    async def run(self, errand: Errand, selection: Selection) -> Outcome:
        """Finish what was begun, then replace what is to be. Raises SecMailProxyError, with nothing lost."""
        if selection.read_only:
            raise NotAllowed("The mail server lets us only read this mailbox.")
        self._floor = selection.uidnext
        self._journal.check(selection.uidvalidity)
        await self._resume()
        self._journal.begin(errand, selection.uidvalidity)
        form = self._forms[errand]
        wanted = await self._wanted(form, selection)
        for done, uid in enumerate(wanted):
            self._progress(done, len(wanted))
            await self._replace(form, uid)
        await self._delete()
        self._progress(len(wanted), len(wanted))
        self._journal.finish()
        return self.outcome

    async def look(self, errand: Errand, selection: Selection) -> Outcome:
        """A dry run: what would be replaced. Changes nothing on the server."""
        self._journal.check(selection.uidvalidity)
        self.outcome.resumed = len(self._journal.entries)
        form = self._forms[errand]
        begun = self._journal.entries
        wanted = [uid for uid in await self._wanted(form, selection) if uid not in begun]
        if errand is Errand.ENCRYPT:
            self.outcome.replaced = len(wanted)  # nothing that reading them could change
            return self.outcome
        for done, uid in enumerate(wanted):
            self._progress(done, len(wanted))
            message = await self._client.message(uid)
            made = Left.GONE if message is None else await form.make(message)
            if isinstance(made, Left):
                self._leave(uid, made)
            else:
                self.outcome.replaced += 1
        self._progress(len(wanted), len(wanted))
        return self.outcome

    async def _wanted(self, form: Form, selection: Selection) -> list[int]:
        """The messages that must be read."""
        uids = await self._client.existing(selection)
        concerned = [uid for uid in uids if form.concerns(uid)]
        if len(concerned) < len(uids):
            self.outcome.left[Left.NOTHING_NEW] += len(uids) - len(concerned)
        facts = await self._client.facts(concerned, f"RFC822.SIZE {_HEADER}")
        wanted = []
        for uid in concerned:
            told = facts.get(uid)
            reason: Left | None = Left.GONE
            if told is not None:
                candidate = Candidate(told.flags, told.deleted, told.size, told.header)
                reason = leave(form.errand, candidate, self._client.size_limit)
            if reason is None:
                wanted.append(uid)
            else:
                self._leave(uid, reason)
        return wanted

    def _leave(self, uid: int, reason: Left) -> None:
        self.outcome.left[reason] += 1
        if reason in FAILURES:
            self.outcome.failed.append(uid)

    # One message

    async def _replace(self, form: Form, uid: int) -> None:
        message = await self._client.message(uid)
        made = await self._made(form, message)
        if isinstance(made, Left) or message is None:
            self._leave(uid, made if isinstance(made, Left) else Left.GONE)
            return
        await form.prepare(message, made)
        entry = Entry(uid, State.COPYING, made.sign, self._floor, message.flags)
        try:
            copied = await self._copy(form, message, made, entry)
        except Refused as refused:
            self._journal.settle([uid])
            if refused.code not in ("TOOBIG", "LIMIT"):
                await self._delete()
                raise
            self._leave(uid, Left.TOO_LARGE)
            return
        await self._verify(form, message, copied)
        if len(self._proven) >= _AT_ONCE:
            await self._delete()

    async def _made(self, form: Form, message: Facts | None) -> Copy | Left:
        if message is None:
            return Left.GONE
        if message.deleted:
            return Left.DELETED
        return await form.make(message) if are_sound(message.flags) else Left.ODD_FLAGS

    async def _copy(self, form: Form, message: Facts, copy: Copy, entry: Entry) -> Entry:
        """Have the copy stored. Raises Refused when it was not."""
        self._journal.note(entry)
        try:
            uid = await self._store(form, message, copy)
        except Refused as refused:
            if refused.code != "OVERQUOTA" or not self._proven:
                raise
            # There is room when the originals are gone whose copies are there already.
            await self._delete()
            uid = await self._store(form, message, copy)
        if uid < entry.floor:
            raise UpstreamLost("The mail server gives what it has stored the UID of an older message.")
        copied = replace(entry, state=State.COPIED, copy=uid)
        self._floor = max(self._floor, uid + 1)
        self._journal.note(copied)
        return copied

    async def _store(self, form: Form, message: Facts, copy: Copy) -> int:
        if form.errand is Errand.REPROCESS:
            try:
                return await self._client.copy(message.uid, self._mailbox)
            except Refused as refused:
                if refused.code == "OVERQUOTA":
                    raise
        return await self._client.append(self._mailbox, copy.octets, message.flags, message.date)

    async def _verify(self, form: Form, message: Facts, entry: Entry) -> None:
        """Read the copy back and compare; a copy that is not right is withdrawn."""
        assert entry.copy is not None
        stored = await self._client.message(entry.copy)
        if stored is None:
            # Some tell of what is new only when they are asked.
            await self._client.sync()
            stored = await self._client.message(entry.copy)
        if stored is None:
            self._settle(entry, Left.GONE)
            return
        right = same_moment(stored.date, message.date) and await form.proven(message, stored)
        if right and await self._has_flags(entry, entry.copy, stored.flags):
            self._proven.append(entry)
            return
        if not right and not is_copy(entry.sign, message, stored):
            self._settle(entry, Left.DOUBLED)
            raise UpstreamUnavailable(
                f"The mail server has another message under UID {entry.copy} than what it was to keep there. "
                f"Nothing was deleted; look for a double of the message with UID {entry.uid}."
            )
        await self._withdraw(entry, Left.CHANGED)
        self._give_up_if_useless()

    async def _has_flags(self, entry: Entry, copy: int, flags: frozenset[bytes]) -> bool:
        """Give the copy the flags that it lacks; whether it has them then."""
        if entry.flags <= flags:
            return True
        with contextlib.suppress(Refused):
            await self._client.store([copy], "+", entry.flags - flags)
        told = (await self._client.facts([copy])).get(copy)
        return told is not None and entry.flags <= told.flags

    def _settle(self, entry: Entry, reason: Left) -> None:
        """Leave both, original and copy, as far as they are there."""
        self._journal.settle([entry.uid])
        self._leave(entry.uid, reason)

    def _give_up_if_useless(self) -> None:
        """A server that keeps no copy as it is would only be kept busy. Raises UpstreamUnavailable."""
        failed = len(self.outcome.failed)
        if failed >= _TRIES and not self._proven and not self.outcome.replaced:
            raise UpstreamUnavailable(
                f"The mail server kept none of {failed} messages as it was stored, with its date and flags; "
                "all are as they were."
            )

    async def _withdraw(self, entry: Entry, reason: Left) -> None:
        """Delete the copy; the original, if it is there, stays."""
        assert entry.copy is not None
        self._journal.note(replace(entry, state=State.WITHDRAWING))
        await self._client.store([entry.copy], "+", [_DELETED])
        await self._client.expunge([entry.copy])
        self._journal.settle([entry.uid])
        self._leave(entry.uid, reason)

    # Some messages at a time

    async def _delete(self) -> None:
        """Delete the originals of all proven copies."""
        entries, self._proven = self._proven, []
        entries = await self._still_there(entries)
        if not entries:
            return
        self._journal.note(*(replace(one, state=State.DELETING) for one in entries))
        await self._expunge(entries)

    async def _still_there(self, entries: list[Entry]) -> list[Entry]:
        """Those of which nobody has deleted anything meanwhile; without its original a copy is withdrawn."""
        if not entries:
            return []
        await self._client.sync()
        told = await self._client.facts(
            uid for one in entries for uid in (one.uid, one.copy) if uid is not None
        )
        kept = []
        for entry in entries:
            found, copy = told.get(entry.uid), told.get(entry.copy or 0)
            if copy is None or copy.deleted:
                self._settle(entry, Left.GONE)
            elif found is None or found.deleted:
                await self._withdraw(entry, Left.GONE if found is None else Left.DELETED)
            else:
                kept.append(entry)
        return kept

    async def _expunge(self, entries: list[Entry]) -> None:
        """Delete originals, bringing to the copies what changed in their flags up to the last moment."""
        left = {one.uid: one for one in entries}
        for _ in range(_TRIES):
            await self._client.store(left, "+", [_DELETED])
            await self._bring_flags(left.values())
            await self._client.expunge(left)
            there = await self._client.facts(left)
            gone = [uid for uid in left if uid not in there]
            self._journal.settle(gone)
            self.outcome.replaced += len(gone)
            left = {uid: entry for uid, entry in left.items() if uid in there}
            if not left:
                return
        raise UpstreamLost(
            "The mail server does not delete messages that were replaced; run this again later."
        )

    async def _bring_flags(self, entries: Iterable[Entry]) -> None:
        told = await self._client.facts(one.uid for one in entries)
        for entry in entries:
            found = told.get(entry.uid)
            if found is None or entry.copy is None:
                continue
            change = flag_change(entry.flags, found.flags)
            if change.add:
                await self._client.store([entry.copy], "+", change.add)
            if change.remove:
                await self._client.store([entry.copy], "-", change.remove)

    # After an interruption

    async def _resume(self) -> None:
        entries = list(self._journal.entries.values())
        if not entries:
            return
        if self._journal.errand is None:
            raise SecMailProxyError(f"{self._journal.path} does not say what was begun; see docs/mailbox.md.")
        form = self._forms[self._journal.errand]
        deleting = []
        for entry in entries:
            entry = await self._found(entry)
            there = await self._client.facts([entry.uid] if entry.copy is None else [entry.uid, entry.copy])
            step = next_step(entry.state, original=entry.uid in there, copy=entry.copy in there)
            if step is Step.DELETE and await self._is_proven(form, entry):
                deleting.append(entry)
            else:
                await self._take(step, form, entry)
        if deleting:
            await self._expunge(deleting)
        await self._delete()
        self.outcome.resumed, self.outcome.replaced = len(entries), 0
        for reason in set(self.outcome.left) - FAILURES - {Left.KEPT}:
            del self.outcome.left[reason]

    async def _is_proven(self, form: Form, entry: Entry) -> bool:
        """Whether the copy is right, for the journal may be of a backup, or the server wrong about UIDs."""
        assert entry.copy is not None
        message = await self._client.message(entry.uid)
        stored = await self._client.message(entry.copy)
        return message is not None and stored is not None and await form.proven(message, stored)

    async def _take(self, step: Step, form: Form, entry: Entry) -> None:
        message = await self._client.message(entry.uid)
        match step:
            case Step.WITHDRAW if entry.copy is not None:
                stored = await self._client.message(entry.copy)
                if stored is not None and is_copy(entry.sign, message, stored):
                    await self._withdraw(entry, Left.GONE)
                else:
                    self._settle(entry, Left.DOUBLED)
            case Step.VERIFY if message is not None and not message.deleted:
                self._journal.note(replace(entry, state=State.COPIED))
                await self._verify(form, message, replace(entry, state=State.COPIED))
            case Step.VERIFY | Step.KEEP:
                self._settle(entry, Left.KEPT)
            case Step.RESTORE | Step.DELETE:
                await self._client.store([entry.uid], "-", [_DELETED])
                self._settle(entry, Left.DOUBLED if step is Step.DELETE else Left.GONE)
            case _:
                self._journal.settle([entry.uid])

    async def _found(self, entry: Entry) -> Entry:
        """The entry with the UID of its copy, if that is on the server at all."""
        if entry.copy is not None:
            return entry
        uids = await self._client.existing_from(entry.floor)
        kind, _, sign = entry.sign.partition(":")
        if kind == "boundary":
            facts = await self._client.facts(uids, _MARKS)
            found = [uid for uid in uids if uid in facts and sign.encode() in facts[uid].header]
        else:
            found = await self._with_digest(uids, entry)
        if not found:
            return entry
        self._floor = max(self._floor, found[0] + 1)
        return replace(entry, copy=found[0])

    async def _with_digest(self, uids: list[int], entry: Entry) -> list[int]:
        size = int(entry.sign.rpartition(":")[2])
        facts = await self._client.facts(uids, "RFC822.SIZE")
        for uid in uids:
            if uid in facts and facts[uid].size == size:
                message = await self._client.message(uid)
                if message is not None and digest_sign(message.octets) == entry.sign:
                    return [uid]
        return []
