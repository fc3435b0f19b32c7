"""The IMAP keywords that say what was verified, and which messages of a mailbox have them. PURE.

Only the proxy sets them: nobody else's word for them counts, whatever a server stores or a mail client asks
for. They follow from the verdict that is fixed for a message, and from how far its signer's certificate is
trusted now, so they may change as flags do, which the verdict field never does. A message that has not been
opened has none.

Standards: RFC 9051 section 2.3.2 (keywords), whose names have no case.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field

from keystore.model import Trust
from secmailproxy.model import Verdict

SIGNED = b"$SecmailSigned"
"""A valid signature over the whole message, bound to the From that is shown."""
VERIFIED = b"$SecmailVerified"
"""Signed, and its owner has verified the signer's certificate."""
ENCRYPTED = b"$SecmailEncrypted"
"""It came encrypted and was opened, its integrity proven."""
BAD = b"$SecmailBad"
"""It carries a signature that is broken, not acceptable, or not by whom From shows."""
NAMES = (SIGNED, VERIFIED, ENCRYPTED, BAD)
LOWERED = frozenset(name.lower() for name in NAMES)
TRACE = b"$secmail"
"""What all of the names begin with, in lower case."""

_OPENED = frozenset({b"encrypted", b"signed+encrypted"})
_SPOILED = frozenset({Verdict.INVALID, Verdict.MISMATCH, Verdict.UNACCEPTABLE})
_STATUS = re.compile(rb"[^:;]+: ([^;]*);")
_ITEM = re.compile(rb";\s+(signature|trust|fpr)=([A-Za-z0-9-]+)(?=;|\s)")


@dataclass(frozen=True, slots=True)
class Claims:
    """What of a verdict the keywords follow from."""

    opened: bool
    verdict: Verdict
    trust: Trust
    """In the signer's certificate, when the message was opened."""
    fingerprint: str
    """Of the signer's certificate; nothing where there is none."""


def claims_of(field: bytes) -> Claims:
    """What a verdict field of ours claims; of one that cannot be read, nothing."""
    status = _STATUS.match(field)
    items = {name: value.decode() for name, value in reversed(_ITEM.findall(field))}
    try:
        verdict = Verdict(items.get(b"signature", Verdict.NONE.value))
        trust = Trust(items.get(b"trust", Trust.UNKNOWN.value))
    except ValueError:
        verdict, trust = Verdict.NONE, Trust.UNKNOWN
    return Claims(status is not None and status[1] in _OPENED, verdict, trust, items.get(b"fpr", ""))


def keywords_of(claims: Claims, trust: Trust) -> tuple[bytes, ...]:
    """The keywords of a message, with the trust in its signer's certificate as it is now."""
    signed = claims.verdict is Verdict.VALID and trust is not Trust.REJECTED
    bad = claims.verdict in _SPOILED or (claims.verdict is Verdict.VALID and not signed)
    given = (signed, signed and trust is Trust.VERIFIED, claims.opened, bad)
    return tuple(name for name, is_given in zip(NAMES, given, strict=True) if is_given)


@dataclass(slots=True)
class Marks:
    """The keywords of one mailbox's messages, by UID; shared by all of its sessions."""

    words: dict[int, bytes] = field(default_factory=dict)
    """The keywords of each message that was judged, with blanks between."""
    changes: list[int] = field(default_factory=list)
    """Each UID whose keywords may have changed, in order; sessions remember how far they have read.

    Also those that have no keyword: what the server is asked because of a change must not tell what came of
    opening a message.
    """
    _claims: dict[int, Claims] = field(default_factory=dict)
    _new: list[int] = field(default_factory=list)
    complete: Hashable = None
    """What stood for the state of the store when all of it was judged; None when it never was."""
    _version: Hashable = None
    _trusts: dict[str, Trust] = field(default_factory=dict)
    """In the certificates of all that is in `words`, when that was last made of all of them."""

    def knows(self, uid: int) -> bool:
        """Whether the message has been judged."""
        return uid in self._claims

    def judged(self, uid: int, field: bytes) -> None:
        """Note the verdict field of a message; `settle` makes the keywords of it."""
        self._claims[uid] = claims_of(field)
        self._new.append(uid)

    def settle(self, trust_of: Callable[[str], Trust], version: Hashable = None) -> None:
        """Make the keywords of what was judged since; of all, when `version` (of the trust) is another."""
        new, self._new = self._new, []
        trusts: dict[str, Trust] = {}

        def words_of(uid: int) -> bytes:
            claims = self._claims[uid]
            if claims.fingerprint not in trusts:
                trusts[claims.fingerprint] = trust_of(claims.fingerprint)
            return b" ".join(keywords_of(claims, trusts[claims.fingerprint]))

        self.words.update((uid, words_of(uid)) for uid in new)
        self.changes += new
        self._trusts = trusts | self._trusts
        if version is None or version == self._version:
            return
        self._version = version
        # Most changes of a keystore concern nobody here, and there may be many messages.
        trusts = {fingerprint: trust_of(fingerprint) for fingerprint in self._trusts}
        if trusts != self._trusts:
            self._trusts = trusts
            before = dict(self.words)
            self.words.update((uid, words_of(uid)) for uid in self._claims)
            if self.words != before:
                self.changes += self._claims

    def having(self, name: bytes) -> Iterator[int]:
        """The messages with a keyword, in any case."""
        wanted = name.lower()
        for uid, words in list(self.words.items()):
            if wanted in words.lower().split():
                yield uid
