"""The reply guard at work: what is about to leave is held against what came encrypted (SMTP-20).

In the process that serves, whatever process protects: only it has the memory. Synchronous, takes microseconds
for what left encrypted, and one reading of the message for what leaves in clear.
"""

from __future__ import annotations

from dataclasses import dataclass

from secmailproxy import wishes
from secmailproxy.decision import OutboundSettings, our_errors
from secmailproxy.encryptedids import EncryptedIds
from secmailproxy.errors import NotAllowed
from secmailproxy.mime import header
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import parse
from secmailproxy.model import Protection
from secmailproxy.replyguard import REFUSAL, Leaving, named_ids, own_ids, refused
from secmailproxy.rules import Protect


@dataclass(frozen=True, slots=True)
class ReplyGuard:
    """Of one installation."""

    ids: EncryptedIds

    @our_errors()
    def check(
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
        if protection not in {Protection.NONE, Protection.SIGNED}:
            self.ids.remember(own_ids(product[: header.section_end(product, 0, len(product))]))
            return
        root = parse(crlf(message))
        wished = wishes.read(root, settings.words).protect in {Protect.NEVER, Protect.SIGN}
        leaving = Leaving(protection, account.lower() not in settings.unguarded, wished)
        if refused(leaving, lambda: self.ids.any_known(named_ids(root))):
            raise NotAllowed(REFUSAL)
