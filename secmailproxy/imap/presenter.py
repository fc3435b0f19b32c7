"""The work that a session hands out: storage and cryptography for presented forms, in a thread.

Security: a locked key holder raises `KeystoreLocked` and fixes nothing, so that ciphertext is never presented
for a message that could be read later (IMAP-04).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from keystore.errors import KeystoreError
from keystore.keystore import Keystore
from secmailproxy import inbound, verdict
from secmailproxy.errors import LimitExceeded, SecMailProxyError
from secmailproxy.imap.numbers import Numbers, parse_ranges
from secmailproxy.imap.steps import (
    Classify,
    EncryptToSelf,
    FixAppended,
    LoadViews,
    OpenMailbox,
    Present,
    Search,
    Work,
)
from secmailproxy.logs import place
from secmailproxy.mime import entity, header, structure
from secmailproxy.mime.presented import settled, storable
from secmailproxy.model import CryptoSummary, DecryptionState, Protection, Verdict
from secmailproxy.outbound import Outbound
from secmailproxy.searchindex import SearchIndex
from secmailproxy.views import Kind, Mailbox, View, Views, message_hash

_FEW = 16
"""So few views are read faster than a thread is woken."""
_LOCKED_TRIES = 3
"""Messages that may fail for want of a key, in one go; each may have asked somebody for a passphrase."""

log = logging.getLogger(__name__)


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

    async def carry_out(self, work: Work) -> object:
        """The result that the step promises. Raises SecMailProxyError or KeystoreError."""
        match work:
            case EncryptToSelf(message, sign):
                return await self._encrypt(message, sign=sign)
            case LoadViews(_, uids, _) if len(uids) <= _FEW:
                return self._carry_out(work)
            case _:
                return await asyncio.to_thread(self._carry_out, work)

    def _carry_out(self, work: Work) -> object:
        match work:
            case OpenMailbox(name, uidvalidity):
                # Without UIDVALIDITY no UID means the same in two sessions (RFC 9051 section 2.3.1.1).
                return self.views.mailbox(self.account, name, uidvalidity or -1 - secrets.randbelow(2**62))
            case Classify(mailbox, covered, kinds):
                self.views.classify(mailbox, covered, kinds)
            case Present(mailbox, messages):
                self._present(mailbox, messages)
            case LoadViews(mailbox, uids, octets):
                loaded = ((uid, self.views.view(mailbox, uid, octets=octets)) for uid in uids)
                return {uid: view for uid, view in loaded if view is not None}
            case Search(mailbox, keys, kinds):
                assert self.index is not None, "the session searches only where there is one"
                return self.index.search(mailbox, kinds, keys)
            case FixAppended():
                self._fix_appended(work)
            case EncryptToSelf():
                raise AssertionError("carried out in the loop")
        return None

    def _present(self, mailbox: Mailbox, messages: Mapping[int, bytes | None]) -> None:
        """Fix the views that can be had now; then raise what kept others from it."""
        hashes = {uid: message_hash(octets) for uid, octets in messages.items() if octets is not None}
        known = self.views.forms(self.account, hashes.values())
        views: dict[int, tuple[bytes, View | None]] = {}
        failures: list[SecMailProxyError | KeystoreError] = []
        for uid, octets in messages.items():
            if octets is None:
                views[uid] = (b"", self._failed("too large"))
            elif hashes[uid] in known:
                views[uid] = (hashes[uid], None)
            else:
                signed = mailbox.kinds.get(uid) is Kind.SIGNED
                try:
                    views[uid] = (hashes[uid], self._view_or_failure(octets, signed=signed))
                except (SecMailProxyError, KeystoreError) as error:
                    failures.append(error)
                    if len(failures) == _LOCKED_TRIES:
                        break
        self.views.fix(mailbox, views)
        if failures:
            raise failures[0]

    def _view_or_failure(self, octets: bytes, *, signed: bool) -> View:
        """What we fail on is shown as it is, and does not keep others from being read (IMAP-22)."""
        try:
            return self._view(octets, signed=signed)
        except (SecMailProxyError, KeystoreError):
            raise
        except Exception as error:  # noqa: BLE001 - any; its text may be mail
            log.error("a message could not be presented", extra=place(error))
            return self._failed("internal error of secmailproxy", octets, signed=signed)

    def _failed(self, reason: str, octets: bytes = b"", *, signed: bool = False) -> View:
        summary = (
            CryptoSummary(protection=Protection.SIGNED, verdict=Verdict.UNACCEPTABLE, verdict_reason=reason)
            if signed
            else CryptoSummary(
                protection=Protection.ENCRYPTED,
                decryption=DecryptionState.FAILED,
                decryption_reason=reason,
            )
        )
        field = verdict.render(summary, self.field_name)
        without = header.remove_fields(octets, (self.field_name,))
        if without != octets:
            return form_of(field, storable(without))
        return View(Kind.OPAQUE, field)

    def _view(self, octets: bytes, *, signed: bool) -> View:
        field_name = self.field_name
        unprotected = inbound.unprotect(octets, self.keystore, self.clock(), field_name)
        field = verdict.render(unprotected.summary, field_name)
        if signed:
            return replace(form_of(field, octets), kind=Kind.SIGNED)
        presented = unprotected.presented
        if presented is None:
            presented = header.remove_fields(octets, (field_name,))
            if presented == octets:
                return View(Kind.OPAQUE, field)
        return form_of(field, presented)

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
        self.views.fix(mailbox, {work.uid: (message_hash(work.stored), None)})


def _kept(appended: bytes) -> bytes:
    """An appended message as a server may answer it: of parts with NUL nothing is lost (RFC 3516)."""
    if b"\0" not in appended:
        return storable(appended)
    try:
        return settled(entity.parse(appended), entity.Limits()).octets
    except LimitExceeded:
        return storable(appended)


def form_of(field: bytes, presented: bytes) -> View:
    """The presented form of `presented` (CRLF) after the verdict field (may be empty)."""
    octets = field + presented
    message = entity.parse_or_leaf(octets)
    body, bodystructure = structure.structures(message)
    return View(
        Kind.FORM,
        field,
        len(octets),
        message.header,
        structure.imap_envelope(message),
        body,
        bodystructure,
        octets,
    )
