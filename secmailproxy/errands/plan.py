"""What an errand does with each message, and how it goes on after an interruption. PURE.

A message cannot be changed on an IMAP server; it is replaced. A copy in another form is stored, read back and
compared, and only then is the original deleted. The journal knows for each message how far that went:

    COPYING      the copy may be stored or not
    COPIED       it is stored under a UID that we know; the original is whole
    DELETING     the copy is proven; the original is being deleted
    WITHDRAWING  the copy is being deleted, the original stays

What is found on the server together with this decides the next step, so that there is one of each message in
the end, wherever it stopped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from secmailproxy import inbound
from secmailproxy.mime.entity import parse_or_leaf
from secmailproxy.mime.layers import LayerKind, layer_kind

MESSAGE_LIMIT = 100 * 1024 * 1024
"""Octets; larger messages are left alone."""
GROWTH = 1.5
"""An encrypted message is at most so much larger: base64, and a copy of some of its header."""

_FLAG = re.compile(rb'\\?[^\x00-\x20\x7f-\xff(){}%*"\\\]]+')


class Errand(Enum):
    """What is done to a mailbox."""

    ENCRYPT = "encrypt"
    DECRYPT = "decrypt"
    REPROCESS = "reprocess"


class State(Enum):
    """How far the replacement of one message has come; the value is what the journal says."""

    COPYING = "copying"
    COPIED = "copied"
    DELETING = "deleting"
    WITHDRAWING = "withdrawing"


class Step(Enum):
    """What is to be done next about a replacement that was begun."""

    VERIFY = "compare the copy with the original, then delete the original"
    DELETE = "go on deleting the original"
    WITHDRAW = "delete the copy"
    RESTORE = "take the mark of deletion from the original"
    KEEP = "leave the copy, as the original is gone"
    FORGET = "nothing is begun any more"
    DONE = "the copy is in the place of the original"


_STEPS: dict[tuple[State, bool, bool], Step] = {
    # (state, is the original there, is the copy there)
    (State.COPYING, True, True): Step.VERIFY,
    (State.COPYING, True, False): Step.FORGET,
    # Somebody else has moved or deleted it meanwhile, or we did: the journal may be of a backup.
    (State.COPYING, False, True): Step.KEEP,
    (State.COPYING, False, False): Step.FORGET,
    (State.COPIED, True, True): Step.VERIFY,
    (State.COPIED, True, False): Step.FORGET,
    (State.COPIED, False, True): Step.KEEP,
    (State.COPIED, False, False): Step.FORGET,
    (State.DELETING, True, True): Step.DELETE,
    # Somebody else has deleted the copy: better one message too many than one lost.
    (State.DELETING, True, False): Step.RESTORE,
    (State.DELETING, False, True): Step.DONE,
    (State.DELETING, False, False): Step.DONE,
    (State.WITHDRAWING, True, True): Step.WITHDRAW,
    (State.WITHDRAWING, True, False): Step.FORGET,
    (State.WITHDRAWING, False, True): Step.WITHDRAW,
    (State.WITHDRAWING, False, False): Step.FORGET,
}


def next_step(state: State, *, original: bool, copy: bool) -> Step:
    """How a replacement in `state` goes on, by what there is on the server."""
    return _STEPS[state, original, copy]


class Left(Enum):
    """Why a message was left alone; the value is for people."""

    PROTECTED = "encrypted already"
    CLEAR = "not encrypted"
    DELETED = "marked as deleted"
    TOO_LARGE = "too large"
    ODD_FLAGS = "flags that IMAP does not allow"
    NOT_OURS = "not encrypted by secmailproxy"
    UNREADABLE = "cannot be decrypted"
    MALFORMED = "beyond the limits, or too malformed"
    NOTHING_NEW = "nothing new to show"
    GONE = "deleted or moved meanwhile"
    CHANGED = "the server does not keep the new form as it is"
    DOUBLED = "there twice, perhaps: what the server keeps as the new form may be another message"
    KEPT = "kept, though the original was deleted, moved or marked while the errand was interrupted"


FAILURES = frozenset({Left.CHANGED, Left.DOUBLED})
"""After these the errand did not end well."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a message before it is read."""

    flags: frozenset[bytes]
    deleted: bool
    size: int
    content_type: bytes
    """The header section with the Content-Type field only."""


def leave(errand: Errand, message: Candidate, size_limit: int) -> Left | None:
    """Why the message is left alone without reading it; None when it must be read.

    `size_limit` is what the server accepts, in octets.
    """
    if message.deleted:
        return Left.DELETED
    if not are_sound(message.flags):
        return Left.ODD_FLAGS
    encrypted = is_encrypted(message.content_type)
    if errand is Errand.ENCRYPT and encrypted:
        return Left.PROTECTED
    if errand is Errand.DECRYPT and not encrypted:
        return Left.CLEAR
    grown = GROWTH if errand is Errand.ENCRYPT else 1
    if message.size > MESSAGE_LIMIT or message.size * grown > size_limit:
        return Left.TOO_LARGE
    return None


def are_sound(flags: frozenset[bytes]) -> bool:
    """Whether these are flags that can be written in a command."""
    return all(_FLAG.fullmatch(flag) for flag in flags)


def is_encrypted(header_octets: bytes) -> bool:
    """Whether a Content-Type says that nobody without a key can read the message."""
    if inbound.classify(header_octets, "") is not inbound.MessageClass.ENCRYPTED:
        return False
    return layer_kind(parse_or_leaf(header_octets)) is not LayerKind.SMIME_SIGNED


@dataclass(frozen=True, slots=True)
class FlagChange:
    """What must happen to the flags of a copy."""

    add: frozenset[bytes]
    remove: frozenset[bytes]


def flag_change(before: frozenset[bytes], now: frozenset[bytes]) -> FlagChange:
    """What changed at the original since it was copied, to be done to the copy too."""
    return FlagChange(frozenset(filter(_FLAG.fullmatch, now - before)), before - now)
