"""APPEND and REPLACE: what their heads say, and the task that stores messages encrypted to their owner. PURE.

What goes to a drafts or sent mailbox, or has the flag \\Draft, is stored as ciphertext (IMAP-16). Afterwards
the client reads what it wrote, octet for octet. All messages of one command are encrypted before the first
octet goes to the server, so that all are stored or none.

Some clients move mail by appending what they hold: mail that was decrypted for them. It carries our verdict
field, which never goes to the server, and is encrypted wherever it goes.

Standards: RFC 9051 section 6.3.12; RFC 3502 (MULTIAPPEND); RFC 8508 (REPLACE); RFC 4315 (APPENDUID); RFC 3516
section 4.4 (literal8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from secmailproxy.imap.grammar import LITERAL_HEAD, GrammarError, Source, Verb, mailbox_key
from secmailproxy.imap.reading import MESSAGE_LIMIT
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.imap.steps import Ask, Completion, EncryptToSelf, FixAppended, Task
from secmailproxy.imap.wire import Command, LiteralAhead
from secmailproxy.mime import header

COMMANDS = frozenset({"APPEND", "REPLACE", "UID REPLACE"})
_COLLECTED_LIMIT = 64 * 1024
"""Octets of messages that come without waiting and are kept until the command is whole."""
_OPTIONS = re.compile(rb'((?: \([^()\r\n]*\))?(?: "[^"\r\n]*")?) (~?)\{\d+\+?\}\r?\n')
_NUMBER = re.compile(rb" (?:\d+|\*)(?= )")
_APPENDUID = re.compile(rb"OK \[APPENDUID (\d+) ([\d:,]+)\]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Announced:
    """A message as the line before its octets announces it."""

    options: bytes
    """Flags and date with their leading blanks, as written."""
    draft: bool
    literal8: bool


@dataclass(frozen=True, slots=True)
class Upload:
    """The head of an APPEND or REPLACE."""

    verb: bytes
    """With the number of the message to replace."""
    mailbox: bytes
    messages: tuple[Announced, ...]
    """Those announced so far, or all."""


@lru_cache(maxsize=1024)
def announcement(line: bytes) -> Announced:
    """Read the line before a message. Raises `GrammarError` for CATENATE, UTF8 and what we do not offer."""
    options = _OPTIONS.fullmatch(line)
    if options is None:
        raise GrammarError("a message is announced by flags, a date and a literal")
    return Announced(options[1], rb"\draft" in options[1].lower(), bool(options[2]))


def upload_so_far(so_far: Command, verb: Verb) -> Upload | None:
    """The head of a command that ends in the announcement of a literal; None while that is the mailbox.

    Raises `GrammarError` for forms that we do not offer.
    """
    first, *later = so_far.fragments
    source = Source(first, verb.arguments)
    name = verb.name.encode()
    if verb.name != "APPEND":
        number = source.match(_NUMBER)
        if number is None:
            raise GrammarError("REPLACE takes one message number")
        name += number[0]
    source.expect(b" ")
    head = LITERAL_HEAD.match(first, source.at)
    if head is not None and head.end() == len(first):
        if not later:
            return None
        mailbox, lines = so_far.literals[0], later
    else:
        mailbox = source.astring()
        lines = [first[source.at :], *later]
    if len(lines) > 1 and verb.name != "APPEND":
        raise GrammarError("REPLACE takes one message")
    return Upload(name, mailbox, tuple(map(announcement, lines)))


def upload_of(command: Command, verb: Verb) -> Upload:
    """The head of a whole command. Raises `GrammarError` for forms that we do not offer."""
    if not command.literals or command.fragments[-1] not in (b"\r\n", b"\n"):
        raise GrammarError(f"{verb.name} ends with a message literal")
    head = upload_so_far(Command(command.fragments[:-1], command.literals[:-1]), verb)
    if head is None:
        raise GrammarError(f"{verb.name} takes a mailbox and a message literal")
    return head


@dataclass(frozen=True, slots=True)
class Plan:
    """How a message is stored that does not pass as it is."""

    message: bytes
    """What the client wrote, without our verdict field."""
    encrypt: bool
    sign: bool


@dataclass(frozen=True, slots=True)
class Planner:
    """Decides which messages are encrypted or changed before they are stored."""

    special_use: SpecialUse
    field_name: bytes
    """Of the verdict field."""

    def plan(self, mailbox: bytes, announced: Announced, message: bytes) -> Plan | None:
        """What to do with an appended message (or its beginning); None when it passes as it is."""
        status = presented_status(message, self.field_name)
        to_folder = self.special_use.encrypts(mailbox, draft=announced.draft)
        if status is None:
            sign = self.special_use.is_sent(mailbox) and not announced.draft
            return Plan(message, encrypt=True, sign=sign) if to_folder else None
        without = header.remove_fields(message, (self.field_name.decode(),))
        # What others wrote is not signed by us; what was only signed verifies as before without our field.
        return Plan(without, encrypt=to_folder or b"encrypted" in status, sign=False)

    def plans(self, upload: Upload, literals: Sequence[bytes]) -> list[Plan | None]:
        """Of each message of a command; its literals may begin with the name of the mailbox."""
        return list(self._planned(upload, literals))

    def _planned(self, upload: Upload, literals: Sequence[bytes]) -> Iterator[Plan | None]:
        messages = literals[-len(upload.messages) :]
        for announced, message in zip(upload.messages, messages, strict=True):
            yield self.plan(upload.mailbox, announced, message)

    def streams(self, ahead: LiteralAhead, upload: Upload) -> bool:
        """Whether the message ahead passes straight through; else it is kept until the command is whole.

        Raises `GrammarError` when there is too much to keep.
        """
        literals = ahead.command.literals
        kept = sum(map(len, literals)) + ahead.size
        if not any(self._planned(upload, [*literals, b""])):
            return ahead.synchronising or kept > _COLLECTED_LIMIT
        if kept > MESSAGE_LIMIT:
            raise GrammarError("[TOOBIG] the message is too large to encrypt")
        return False


def presented_status(message: bytes, field_name: bytes) -> bytes | None:
    """What our verdict field in the header section of `message` begins with; None without the field.

    `message` may be the beginning of one.
    """
    ends = [at for at in (message.find(b"\r\n\r\n"), message.find(b"\n\n")) if at >= 0]
    found = re.search(
        rb"^" + re.escape(field_name) + rb":([^;]*)",
        message[: min(ends, default=len(message))],
        re.IGNORECASE | re.MULTILINE,
    )
    return None if found is None else found[1].strip().lower()


def store(upload: Upload, literals: Sequence[bytes], planned: Sequence[Plan | None]) -> Task:
    """Encrypt where planned, store, and fix the views of what was stored before the client hears of it."""
    messages = literals[-len(upload.messages) :]
    written = [
        message if one is None else one.message for message, one in zip(messages, planned, strict=True)
    ]
    stored: list[bytes] = []
    for message, one in zip(written, planned, strict=True):
        octets: object = message
        if one is not None and one.encrypt:
            octets = yield EncryptToSelf(message, one.sign)
        assert isinstance(octets, bytes)
        stored.append(octets)
    result = yield Ask([_pieces(upload, messages, stored)])
    assert isinstance(result, list)
    completion: Completion = result[0]
    told = _APPENDUID.match(completion.octets)
    uids = _each(told[2]) if told is not None else []
    if told is not None and len(uids) == len(stored):
        for uid, octets, message in zip(uids, stored, written, strict=True):
            if octets != message:
                yield FixAppended(mailbox_key(upload.mailbox), int(told[1]), uid, octets, message)
    return completion.octets


def _pieces(upload: Upload, messages: Sequence[bytes], stored: Sequence[bytes]) -> tuple[bytes, ...]:
    pieces = [upload.verb + b" {%d}\r\n" % len(upload.mailbox)]
    before = upload.mailbox
    for message, octets, announced in zip(messages, stored, upload.messages, strict=True):
        mark = b"~" if announced.literal8 and octets is message else b""
        pieces.append(before + announced.options + b" %b{%d}\r\n" % (mark, len(octets)))
        before = octets
    return (*pieces, before + b"\r\n")


def _each(uids: bytes) -> list[int]:
    """The UIDs of APPENDUID, in their order (RFC 3502: that of the messages)."""
    found: list[int] = []
    for part in uids.split(b","):
        low, _, high = part.partition(b":")
        if not low.isdigit() or (high and not high.isdigit()):
            return []
        first, last = sorted((int(low), int(high or low)))
        if last - first > 100_000:
            return []
        found += range(first, last + 1)
    return found
