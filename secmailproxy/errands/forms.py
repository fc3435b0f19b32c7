"""What each errand makes of a message, and how its copy is proven and recognised.

Security: a copy is compared as the server gives it back, after decryption, octet for octet.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from keystore.errors import KeystoreError, NotReadable, StoreLocked
from keystore.keystore import Keystore
from secmailproxy import inbound, verdict
from secmailproxy.errands.facts import Facts
from secmailproxy.errands.plan import Errand, Left
from secmailproxy.errors import KeystoreLocked, MalformedMessage
from secmailproxy.imap.grammar import mailbox_key
from secmailproxy.imap.rendering import form_of
from secmailproxy.mime import encrypted, header, pkcs7
from secmailproxy.mime.entity import Entity, parse, parse_or_leaf
from secmailproxy.mime.kept import original
from secmailproxy.mime.presented import storable
from secmailproxy.model import DecryptionState, Verdict
from secmailproxy.outbound import Outbound
from secmailproxy.preparation import ProofFailed
from secmailproxy.views import Kind, Mailbox, View, Views, message_hash

_MARK = "boundary"
"""Journals of older versions know no other mark."""
_UNKNOWN_KEY = b"signature=" + Verdict.UNKNOWN_KEY.value.encode()
_NOT_READ_THEN = b"received S/MIME is not read yet"
"""What former versions said of each S/MIME signature."""


@dataclass(frozen=True, slots=True)
class Plaintext:
    """What was in a ciphertext."""

    octets: bytes
    authenticated: bool = True
    """Whether its integrity is proven."""

    @property
    def original(self) -> bytes | None:
        """The message that we have put there; None where it is another's, or may have been changed."""
        return original(self.octets) if self.authenticated else None


@dataclass(frozen=True, slots=True)
class Tools:
    """What the errands work with, for one account."""

    address: str
    keystore: Keystore
    outbound: Outbound
    views: Views
    field_name: str
    """Of the verdict field."""
    clock: Callable[[], datetime]
    inline_pgp: bool = False
    """Whether texts that are one armored block are opened."""

    def unprotected(self, message: bytes) -> inbound.Unprotected:
        """As it is presented from now on. Raises KeystoreLocked."""
        limits = inbound.InboundLimits(inline_pgp=self.inline_pgp)
        return inbound.unprotect(message, self.keystore, self.clock(), self.field_name, limits)

    def decrypted(self, message: bytes) -> Plaintext | None:
        """The plaintext of a message; None when it has none for us. Raises KeystoreLocked."""
        try:
            root = parse(message)
            envelope = pkcs7.cms_octets(root)
            if envelope is not None:
                opened = self.keystore.smime.decrypt(envelope)
                return Plaintext(opened.octets, opened.authenticated)
            ciphertext = encrypted.take_apart(root)
            if ciphertext is None:
                return None
            inside = self.keystore.decrypt(ciphertext.ciphertext, self.clock())
            return Plaintext(inside.octets) if inside.encrypted else None
        except (MalformedMessage, NotReadable):
            return None
        except (StoreLocked, KeystoreError) as error:
            raise KeystoreLocked(str(error)) from None


@dataclass(frozen=True, slots=True)
class Copy:
    """What takes the place of a message. `sign` recognises it on the server."""

    octets: bytes
    sign: str


class Form(Protocol):
    """One errand on one mailbox."""

    errand: Errand

    def concerns(self, uid: int) -> bool:
        """Whether the message may need anything done, by what is known here."""

    async def make(self, message: Facts) -> Copy | Left:
        """The copy, or why the message is left alone. Changes nothing. Raises KeystoreLocked."""

    async def prepare(self, message: Facts, copy: Copy) -> None:
        """What must be known here before the copy is on the server."""

    async def proven(self, message: Facts, stored: Facts) -> bool:
        """Whether what the server has `stored` gives back all that the message is."""


def digest_sign(octets: bytes) -> str:
    """The sign of octets that are unlike any others."""
    return f"sha256:{hashlib.sha256(octets).hexdigest()}:{len(octets)}"


def is_copy(sign: str, original: Facts | None, stored: Facts) -> bool:
    """Whether `stored` is, for all that can be told, the copy with this sign, of `original` if that is known.

    A server may change what it stores. So a copy is also what has the Message-ID of its original.
    """
    kind, _, mark = sign.partition(":")
    if kind == _MARK:
        recognised = mark.encode() in _head(stored.octets)
    else:
        recognised = digest_sign(stored.octets) == sign
    if recognised or original is None:
        return recognised
    known = _message_id(original.octets)
    return bool(known) and known == _message_id(stored.octets)


def _message_id(octets: bytes) -> bytes:
    root = parse_or_leaf(_head(octets))
    found = header.find(root, "message-id")
    return found.value(root.octets).strip() if found is not None else b""


def form_for(errand: Errand, tools: Tools, mailbox: bytes, uidvalidity: int, *, any_sender: bool) -> Form:
    """The errand on the mailbox of this name. `any_sender`: decrypt what others have encrypted too."""
    match errand:
        case Errand.ENCRYPT:
            return Encrypting(tools, mailbox, uidvalidity)
        case Errand.DECRYPT:
            return Decrypting(tools, any_sender)
        case Errand.REPROCESS:
            return Reprocessing(tools, mailbox, uidvalidity)


class _WithViews:
    """Knows how messages of the mailbox are presented."""

    def __init__(self, tools: Tools, mailbox: bytes, uidvalidity: int) -> None:
        self._tools = tools
        self._box: Mailbox = tools.views.mailbox(tools.address, mailbox_key(mailbox), uidvalidity)

    def _view(self, uid: int, *, octets: bool) -> View | None:
        try:
            return self._tools.views.view(self._box, uid, octets=octets)
        except KeystoreError as error:
            raise KeystoreLocked(str(error)) from None


class Encrypting(_WithViews):
    """To the owner of the mailbox; the proxy presents the message as before."""

    errand = Errand.ENCRYPT

    def concerns(self, uid: int) -> bool:
        return True

    async def make(self, message: Facts) -> Copy | Left:
        try:
            octets = await self._tools.outbound.protect_at_rest(self._tools.address, message.octets)
        except (MalformedMessage, ProofFailed):
            return Left.MALFORMED
        return Copy(octets, f"{_MARK}:{_mark(parse(octets))}")

    async def prepare(self, message: Facts, copy: Copy) -> None:
        await asyncio.to_thread(self._keep, message, copy.octets)

    async def proven(self, message: Facts, stored: Facts) -> bool:
        plaintext = await asyncio.to_thread(self._tools.decrypted, stored.octets)
        if plaintext is None or plaintext.original != message.octets:
            return False
        # The same as before, unless the server has changed something that does not matter.
        await asyncio.to_thread(self._keep, message, stored.octets)
        return True

    def _keep(self, message: Facts, stored: bytes) -> None:
        views, address = self._tools.views, self._tools.address
        if not views.forms(address, [message_hash(stored)]):
            views.keep_form(address, message_hash(stored), self._as_before(message))

    def _as_before(self, message: Facts) -> View:
        """How the message was presented until now, else how it would be."""
        tools = self._tools
        fixed = self._view(message.uid, octets=True)
        if fixed is not None and fixed.octets is not None:
            return replace(fixed, kind=Kind.FORM)
        field = fixed.verdict or b"" if fixed is not None else b""
        octets = header.remove_fields(storable(message.octets), (tools.field_name,))
        if not field and inbound.classify(_head(octets), "") is not inbound.MessageClass.PLAIN:
            field = verdict.render(tools.unprotected(message.octets).summary, tools.field_name)
        return form_of(field, octets)


class Decrypting:
    """Back to plaintext: the original where it was kept, else what the proxy presents."""

    errand = Errand.DECRYPT

    def __init__(self, tools: Tools, any_sender: bool) -> None:
        self._tools = tools
        self._any_sender = any_sender

    def concerns(self, uid: int) -> bool:
        return True

    async def make(self, message: Facts) -> Copy | Left:
        made = await asyncio.to_thread(self._plain, message.octets, self._any_sender)
        return made if isinstance(made, Left) else Copy(made, digest_sign(made))

    async def prepare(self, message: Facts, copy: Copy) -> None:
        pass

    async def proven(self, message: Facts, stored: Facts) -> bool:
        return stored.octets == await asyncio.to_thread(self._plain, message.octets, True)

    def _plain(self, message: bytes, any_sender: bool) -> bytes | Left:
        plaintext = self._tools.decrypted(message)
        if plaintext is None:
            return Left.UNREADABLE
        if plaintext.original is not None:
            return plaintext.original
        if not any_sender:
            return Left.NOT_OURS
        opened = self._tools.unprotected(message)
        return Left.UNREADABLE if opened.presented is None else opened.presented


class Reprocessing(_WithViews):
    """The same octets under a new UID, for which the presented form is not fixed yet (IMAP-03)."""

    errand = Errand.REPROCESS

    def concerns(self, uid: int) -> bool:
        fixed = self._view(uid, octets=False) if uid in self._box.kinds else None
        if fixed is None:
            return False
        return fixed.stayed_closed or any(one in _said(fixed) for one in (_UNKNOWN_KEY, _NOT_READ_THEN))

    async def make(self, message: Facts) -> Copy | Left:
        better = await asyncio.to_thread(self._is_better, message)
        return Copy(message.octets, digest_sign(message.octets)) if better else Left.NOTHING_NEW

    async def prepare(self, message: Facts, copy: Copy) -> None:
        views = self._tools.views
        await asyncio.to_thread(views.set_aside, self._tools.address, message_hash(copy.octets))

    async def proven(self, message: Facts, stored: Facts) -> bool:
        return stored.octets == message.octets

    def _is_better(self, message: Facts) -> bool:
        """Whether it can be read now and could not, or its signature judged now and could not."""
        fixed = self._view(message.uid, octets=False)
        if fixed is None:
            return False
        opened = self._tools.unprotected(message.octets)
        if _NOT_READ_THEN in _said(fixed):
            return opened.presented is not None or opened.summary.verdict is not Verdict.NONE
        if _UNKNOWN_KEY in _said(fixed):
            return opened.summary.verdict is not Verdict.UNKNOWN_KEY
        return opened.presented is not None and opened.summary.decryption is DecryptionState.OK


def _said(fixed: View) -> bytes:
    return b" ".join((fixed.verdict or b"").split())


def _head(octets: bytes) -> bytes:
    """The header section of a message."""
    return octets[: header.section_end(octets, 0, len(octets)) or len(octets)]


def _mark(copy: Entity) -> str:
    """What no other message has in its header, and servers keep: the boundary, or with S/MIME Content-ID."""
    named = header.values(copy, "content-id")
    return named[0].decode("ascii") if named else copy.content_type.param("boundary") or ""
