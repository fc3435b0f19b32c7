"""The reply guard at work: what is about to leave is held against what came encrypted (SMTP-20).

In the process that serves, whatever process protects: only it has the memory. What leaves encrypted costs a
row in the database, and many that leave at once are written together; what leaves in clear costs one reading.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from secmailproxy import wishes
from secmailproxy.decision import OutboundSettings, our_errors
from secmailproxy.encryptedids import EncryptedIds
from secmailproxy.errors import NotAllowed
from secmailproxy.mime import header
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import Entity, parse
from secmailproxy.model import Protection
from secmailproxy.replyguard import REFUSAL, Leaving, is_in_clear, must_not_be_known, named_ids, own_ids
from secmailproxy.rules import Protect
from secmailproxy.wishes import SubjectWord

_READ_AT_ONCE = 64 * 1024
"""Octets of a message that is read faster than a thread is woken."""
_WISHES = {Protect.NEVER, Protect.SIGN}


class ReplyGuard:
    """Of one installation, in one event loop."""

    def __init__(self, ids: EncryptedIds) -> None:
        self._ids = ids
        self._pending: set[bytes] = set()
        self._writing = asyncio.Lock()

    async def check(
        self,
        message: bytes,
        product: bytes,
        protection: Protection,
        *,
        account: str,
        settings: OutboundSettings,
    ) -> None:
        """Before `product`, made of `message` as it was submitted to `account`, leaves.

        Raises NotAllowed when it answers what came encrypted, KeystoreLocked, SecMailProxyError. What leaves
        encrypted is remembered: answers to one's own mail quote it, too.
        """
        with our_errors():
            if not is_in_clear(protection):
                await self._remember(own_ids(product[: header.section_end(product, 0, len(product))]))
                return
            arguments = (message, protection, account.lower() not in settings.unguarded, settings)
            small = len(message) <= _READ_AT_ONCE
            leaving = _leaving(*arguments) if small else await asyncio.to_thread(_leaving, *arguments)
            if asked := must_not_be_known(leaving):
                is_known = await asyncio.to_thread(self._ids.any_known, asked)
                if is_known:
                    raise NotAllowed(REFUSAL)

    async def _remember(self, ids: frozenset[bytes]) -> None:
        self._pending |= ids
        async with self._writing:
            if not self._pending:
                return  # written together with those of another message
            writing, self._pending = self._pending, set()
            try:
                await asyncio.to_thread(self._ids.remember, writing)
            except BaseException:
                # Whoever waits for one of these fails as well, or succeeds where this one did not.
                self._pending |= writing
                raise


def _leaving(message: bytes, protection: Protection, guarded: bool, settings: OutboundSettings) -> Leaving:
    root = parse(crlf(message))
    return Leaving(protection, guarded, _is_wished(root, settings.words), named_ids(root))


def _is_wished(root: Entity, words: Sequence[SubjectWord]) -> bool:
    """Whether the writer of this message wishes it in clear: by a field, or a word that begins the subject.

    A word at its end may stem from the message that is answered, whose sender must not decide this.
    """
    first = (header.text(root, "Subject") or "").split(maxsplit=1)[:1]
    spoken = [
        one.wish.protect for one in words if [one.word.casefold()] == [word.casefold() for word in first]
    ]
    return wishes.read(root, ()).protect in _WISHES or any(one in _WISHES for one in spoken)
