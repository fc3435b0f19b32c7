"""The work that a session hands out: storage and cryptography for presented forms, in a thread.

Security: a locked key holder raises `KeystoreLocked` and fixes nothing, so that ciphertext is never presented
for a message that could be read later (IMAP-04).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from keystore.keystore import Keystore
from secmailproxy.errors import KeystoreLocked, LimitExceeded, SecMailProxyError
from secmailproxy.imap.numbers import Numbers, parse_ranges
from secmailproxy.imap.openings import Openings
from secmailproxy.imap.rendering import Job, Locked, Renderer, form_of
from secmailproxy.imap.steps import (
    Classify,
    Compute,
    EncryptToSelf,
    FixAppended,
    LoadViews,
    Mark,
    OpenMailbox,
    Present,
    Search,
    Work,
)
from secmailproxy.logs import place
from secmailproxy.mime import entity, header
from secmailproxy.mime.presented import settled, storable
from secmailproxy.outbound import Outbound
from secmailproxy.searchindex import SearchIndex
from secmailproxy.views import Kind, Mailbox, View, Views, message_hash

log = logging.getLogger(__name__)

_FEW = 16
"""So few views are read faster than a thread is woken."""


@dataclass(frozen=True, slots=True)
class Presenter:
    """Carries out `Work` for one account."""

    account: str
    views: Views
    keystore: Keystore
    outbound: Outbound
    field_name: str
    """Of the verdict field of this installation."""
    clock: Callable[[], datetime]
    index: SearchIndex | None = None
    """None where no account searches in presented forms."""
    openings: Openings = field(default_factory=Openings)
    """Shared by all that serve an account."""
    inline_pgp: bool = False
    """Whether texts that are one armored block are opened."""
    keywords: bool = True
    """Whether its messages have keywords of ours."""
    subject_mark: str = ""
    """The secret word before the Subject of what is rightly signed; nothing without."""

    @property
    def _renderer(self) -> Renderer:
        return Renderer(self.keystore, self.field_name, self.clock, self.inline_pgp, self.subject_mark)

    async def carry_out(self, work: Work) -> object:
        """The result that the step promises. Raises SecMailProxyError or KeystoreError."""
        try:
            return await self._done(work)
        except OSError as error:
            log.error("the databases cannot be used", extra=place(error))
            raise SecMailProxyError(
                "The files of secmailproxy cannot be read or written; is the disk full?"
            ) from None

    async def _done(self, work: Work) -> object:
        match work:
            case EncryptToSelf(message, sign):
                return await self._encrypt(message, sign=sign)
            case Present(mailbox, messages):
                await self._present(mailbox, messages)
                return None
            case LoadViews(_, uids, _) if len(uids) <= _FEW:
                return self._carry_out(work)
            case _:
                return await asyncio.to_thread(self._carry_out, work)

    def _carry_out(self, work: Work) -> object:
        match work:
            case OpenMailbox(name, uidvalidity):
                # Without UIDVALIDITY no UID means the same in two sessions (RFC 9051 section 2.3.1.1).
                box = self.views.mailbox(self.account, name, uidvalidity or -1 - secrets.randbelow(2**62))
                self._mark(box)
                return box
            case Mark(mailbox):
                self._mark(mailbox)
            case Classify(mailbox, covered, kinds):
                self.views.classify(mailbox, covered, kinds)
            case LoadViews(mailbox, uids, octets):
                loaded = ((uid, self.views.view(mailbox, uid, octets=octets)) for uid in uids)
                return {uid: view for uid, view in loaded if view is not None}
            case Search(mailbox, keys, kinds):
                assert self.index is not None, "the session searches only where there is one"
                return self.index.search(mailbox, kinds, keys)
            case Compute(call):
                return call()
            case FixAppended():
                self._fix_appended(work)
            case EncryptToSelf() | Present():
                raise AssertionError("carried out in the loop")
        return None

    def _mark(self, mailbox: Mailbox) -> None:
        if self.keywords:
            self.views.mark(mailbox, self.keystore.trust, self.keystore.version)

    def _fix(self, mailbox: Mailbox, views: Mapping[int, tuple[bytes, View | None]]) -> None:
        self.views.fix(mailbox, views)
        if self.keywords:
            self.views.mark(mailbox, self.keystore.trust, uids=views)

    async def _present(self, mailbox: Mailbox, messages: Mapping[int, bytes | None]) -> None:
        """Open each message once, whoever asks for it (by its hash), and fix its view.

        What can be had now is fixed; then it is raised what kept others from it.
        """
        too_large = {
            uid: (b"", self._renderer.failed("too large"))
            for uid, octets in messages.items()
            if octets is None
        }
        if too_large:
            await asyncio.to_thread(self._fix, mailbox, too_large)
        sealed = {uid: octets for uid, octets in messages.items() if octets is not None}
        locked: Locked | None = None
        while sealed:
            hashes = {uid: message_hash(octets) for uid, octets in sealed.items()}
            with self.openings.claim(self.account, hashes.values()) as opening:
                mine = {uid: octets for uid, octets in sealed.items() if hashes[uid] in opening.mine}
                if mine:
                    locked = await self._open_and_fix(mailbox, mine, hashes) or locked
            # What others are opening is looked at again when they are done, and found.
            await opening.others_done()
            sealed = {uid: octets for uid, octets in sealed.items() if uid not in mine}
        if locked is not None:
            raise KeystoreLocked(locked.text)

    async def _open_and_fix(
        self, mailbox: Mailbox, messages: Mapping[int, bytes], hashes: Mapping[int, bytes]
    ) -> Locked | None:
        """What kept a message from being opened, if something did."""
        known = await asyncio.to_thread(self.views.forms, self.account, [hashes[uid] for uid in messages])
        new = {hashes[uid]: uid for uid in messages if hashes[uid] not in known}
        jobs = [Job(messages[uid], mailbox.kinds.get(uid) is Kind.SIGNED) for uid in new.values()]
        views: dict[bytes, View | None] = dict.fromkeys(known)
        locked: Locked | None = None
        for one, outcome in zip(new, await self.openings.views(self._renderer, jobs), strict=True):
            if isinstance(outcome, Locked):
                locked = outcome
            else:
                views[one] = outcome
        fixed = {uid: (hashes[uid], views[hashes[uid]]) for uid in messages if hashes[uid] in views}
        await asyncio.to_thread(self._fix, mailbox, fixed)
        return locked

    async def _encrypt(self, message: bytes, *, sign: bool) -> bytes:
        """The octets to store. What the client wrote is kept as their presented form first."""
        stored = await self.outbound.protect_to_self(self.account, message, sign=sign)
        if stored != message:
            await asyncio.to_thread(self._keep_appended, stored, message)
        return stored

    def _keep_appended(self, stored: bytes, original: bytes) -> None:
        octets = header.remove_fields(_kept(original), (self.field_name,))
        self.views.keep_form(self.account, message_hash(stored), form_of(b"", octets))

    def _fix_appended(self, work: FixAppended) -> None:
        mailbox = self.views.mailbox(self.account, work.mailbox, work.uidvalidity)
        covered = Numbers.of(parse_ranges(mailbox.covered) or ()) if mailbox.covered else Numbers()
        covered = covered.union(Numbers.each([work.uid]))
        self.views.classify(mailbox, bytes(covered), {work.uid: Kind.SEALED})
        self._fix(mailbox, {work.uid: (message_hash(work.stored), None)})


def _kept(appended: bytes) -> bytes:
    """An appended message as a server may answer it: of parts with NUL nothing is lost (RFC 3516)."""
    if b"\0" not in appended:
        return storable(appended)
    try:
        return settled(entity.parse(appended), entity.Limits()).octets
    except LimitExceeded:
        return storable(appended)
