"""The heads of APPEND and REPLACE."""

from __future__ import annotations

import pytest

from secmailproxy.imap import appending
from secmailproxy.imap.appending import Announced, Planner, Upload
from secmailproxy.imap.grammar import GrammarError, parse_verb
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.imap.steps import Ask, Completion, EncryptToSelf, FixAppended
from secmailproxy.imap.wire import Command, CommandReader, LiteralAhead

PLANNER = Planner(SpecialUse(), b"Secmail-Verdict-1")


def command(*pieces: bytes) -> Command:
    """Fragments and literals in turn."""
    return Command(list(pieces[::2]), list(pieces[1::2]))


def so_far(*pieces: bytes) -> Upload | None:
    parsed = command(*pieces)
    return appending.upload_so_far(parsed, parse_verb(parsed))


def message(options: bytes = b"", *, draft: bool = False, literal8: bool = False) -> Announced:
    return Announced(options, draft, literal8)


@pytest.mark.parametrize(
    ("pieces", "upload"),
    [
        ((b"a APPEND Sent {5}\r\n",), Upload(b"APPEND", b"Sent", (message(),))),
        (
            (b'a append "My \\"Drafts\\"" (\\Draft \\Seen) {5}\r\n',),
            Upload(b"APPEND", b'My "Drafts"', (message(b" (\\Draft \\Seen)", draft=True),)),
        ),
        (
            (b'a APPEND x (\\Seen) "17-Jul-1996 02:44:25 -0700" ~{5+}\r\n',),
            Upload(b"APPEND", b"x", (message(b' (\\Seen) "17-Jul-1996 02:44:25 -0700"', literal8=True),)),
        ),
        ((b"a APPEND {4}\r\n", b"S nt", b" () {5}\r\n"), Upload(b"APPEND", b"S nt", (message(b" ()"),))),
        ((b"a APPEND {4}\r\n",), None),
        (
            (b"a APPEND x {1}\r\n", b"1", b" (\\draft) {2+}\r\n", b"22", b" ~{3}\r\n"),
            Upload(b"APPEND", b"x", (message(), message(b" (\\draft)", draft=True), message(literal8=True))),
        ),
        (
            (b"a REPLACE 4 Drafts (\\Seen) {9}\r\n",),
            Upload(b"REPLACE 4", b"Drafts", (message(b" (\\Seen)"),)),
        ),
        ((b"a uid replace * {1}\r\n", b"x", b" {9}\r\n"), Upload(b"UID REPLACE *", b"x", (message(),))),
    ],
)
def test_heads(pieces: tuple[bytes, ...], upload: Upload | None) -> None:
    assert so_far(*pieces) == upload


@pytest.mark.parametrize(
    "pieces",
    [
        (b"a APPEND x CATENATE (TEXT {5}\r\n",),
        (b"a APPEND x UTF8 (~{5}\r\n",),
        (b"a APPEND x (\\Seen {5}\r\n",),
        (b"a APPEND x {1}\r\n", b"1", b" CATENATE (TEXT {5}\r\n"),
        (b"a REPLACE Drafts {5}\r\n",),
        (b"a REPLACE 1:2 Drafts {5}\r\n",),
        (b"a REPLACE 1 Drafts {1}\r\n", b"1", b" {5}\r\n"),
    ],
)
def test_forms_that_are_not_offered(pieces: tuple[bytes, ...]) -> None:
    with pytest.raises(GrammarError):
        so_far(*pieces)


@pytest.mark.parametrize("pieces", [(b"a APPEND x\r\n",), (b"a APPEND x {1}\r\n", b"1", b" junk\r\n")])
def test_whole_commands_end_with_a_message(pieces: tuple[bytes, ...]) -> None:
    parsed = command(*pieces)
    with pytest.raises(GrammarError):
        appending.upload_of(parsed, parse_verb(parsed))


@pytest.mark.parametrize(
    ("octets", "streams"),
    [
        (b"a APPEND x {5}\r\n", True),
        (b"a APPEND x {5+}\r\n", False),
        (b"a APPEND Drafts {5}\r\n", False),
        (b"a APPEND x (\\Draft) {5}\r\n", False),
        (b"a APPEND x {5+}\r\n12345 {5}\r\n", True),
        (b"a APPEND x {28+}\r\nSecmail-Verdict-1: encrypted {5}\r\n", False),
        (b"a REPLACE 1 x {5}\r\n", True),
        (b"a APPEND x" + (b" {4096+}\r\n" + b"x" * 4096) * 16 + b" {5+}\r\n", True),
    ],
)
def test_what_passes_straight_through(octets: bytes, streams: bool) -> None:
    reader = CommandReader()
    reader.feed(octets)
    ahead = reader.next_event()
    while reader.pending:
        reader.collect()
        ahead = reader.next_event()
    assert isinstance(ahead, LiteralAhead)
    upload = appending.upload_so_far(ahead.command, parse_verb(ahead.command))
    assert upload is not None
    assert PLANNER.streams(ahead, upload) == streams


def test_all_of_a_command_is_kept_in_memory_up_to_a_limit() -> None:
    ahead = LiteralAhead(
        command(b"a APPEND Drafts {1}\r\n", b"x", b" {%d}\r\n" % (100 << 20)), 100 << 20, True
    )
    upload = appending.upload_so_far(ahead.command, parse_verb(ahead.command))
    assert upload is not None
    with pytest.raises(GrammarError, match="TOOBIG"):
        PLANNER.streams(ahead, upload)


@pytest.mark.parametrize(
    ("told", "uids"),
    [
        (b"OK [APPENDUID 7 304:305,300] Done.\r\n", [304, 305, 300]),
        (b"OK [APPENDUID 7 305:304,9] Done.\r\n", [304, 305, 9]),
        (b"OK [APPENDUID 7 1:4294967295] Done.\r\n", []),
        (b"OK [APPENDUID 7 304] Done.\r\n", []),
        (b"OK Done.\r\n", []),
        (b"NO [OVERQUOTA] Full.\r\n", []),
    ],
)
def test_each_message_is_encrypted_before_the_first_is_sent(told: bytes, uids: list[int]) -> None:
    whole = command(b"a APPEND Drafts {1}\r\n", b"1", b" (\\Seen) {1}\r\n", b"2", b" {1}\r\n", b"3", b"\r\n")
    upload = appending.upload_of(whole, parse_verb(whole))
    plans = PLANNER.plans(upload, whole.literals)
    task = appending.store(upload, whole.literals, [plans[0], None, plans[2]])
    assert next(task) == EncryptToSelf(b"1", sign=False)
    assert task.send(b"one") == EncryptToSelf(b"3", sign=False)
    ask = task.send(b"three")
    assert ask == Ask(
        [(b"APPEND {6}\r\n", b"Drafts {3}\r\n", b"one (\\Seen) {1}\r\n", b"2 {5}\r\n", b"three\r\n")]
    )
    fixed = []
    for uid, original in [(uids[0], b"1"), (uids[2], b"3")] if uids else []:
        fixed.append(task.send(None if fixed else [Completion(told)]))
        assert isinstance(fixed[-1], FixAppended)
        assert (fixed[-1].uid, fixed[-1].original) == (uid, original)
    with pytest.raises(StopIteration) as stop:
        task.send(None if fixed else [Completion(told)])
    assert stop.value.value == told
