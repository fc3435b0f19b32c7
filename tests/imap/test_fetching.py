"""FETCH of pages (RFC 9394): which messages are meant is for the server to say, and is asked first."""

from __future__ import annotations

import pytest

from secmailproxy.imap import answers, fetching, grammar
from secmailproxy.imap.commands import Settings
from secmailproxy.imap.selected import Selected
from secmailproxy.imap.session import Session
from secmailproxy.imap.steps import Ask, Completion, LoadViews, OpenMailbox
from secmailproxy.imap.wire import Command
from secmailproxy.views import Kind, Mailbox, View

FORM = View(Kind.FORM, b"V: 1\r\n", 20, b"V: 1\r\nS: 1\r\n\r\n", octets=b"V: 1\r\nS: 1\r\n\r\nbody")
DONE = [Completion(b"OK Fetch completed.\r\n")]


def parsed(line: bytes) -> grammar.FetchCommand:
    command = Command([line + b"\r\n"])
    return grammar.parse_fetch(command, grammar.parse_verb(command))


@pytest.mark.parametrize(
    ("modifiers", "partial", "others"),
    [
        (b"", b"", b""),
        (b" (PARTIAL 1:5)", b"PARTIAL 1:5", b""),
        (b" (partial -1:-30 CHANGEDSINCE 98305)", b"partial -1:-30", b" (CHANGEDSINCE 98305)"),
        (b" (CHANGEDSINCE 98305 PARTIAL 30:1)", b"PARTIAL 30:1", b" (CHANGEDSINCE 98305)"),
        (b" (PARTIAL -1:5)", b"", b" (PARTIAL -1:5)"),
        (b" (LIST (1  2))", b"", b" (LIST (1  2))"),
    ],
)
def test_the_modifier(modifiers: bytes, partial: bytes, others: bytes) -> None:
    command = parsed(b"a UID FETCH 1:9 (FLAGS)" + modifiers)
    assert (command.partial, command.other_modifiers) == (partial, others)


@pytest.mark.parametrize("uid", [True, False])
def test_a_page_of_plain_and_protected_mail(uid: bool) -> None:
    verb = b"UID FETCH " if uid else b"FETCH "
    command = parsed(b"a " + verb + b"1:100 (UID BODY.PEEK[]) (PARTIAL -1:-2 CHANGEDSINCE 5)")
    box = Mailbox(1, "a", b"INBOX", 1, b"1:100", {12: Kind.FORM, 13: Kind.FORM})
    task = fetching.fetch(Selected(box, 90, 101), command, b"V", 6)
    step = next(task)
    assert isinstance(step, Ask)
    assert step.commands == [(verb + b"1:100 (UID) (PARTIAL -1:-2)\r\n",)]
    assert step.on_fetch is not None
    for number, found in ((10, 11), (9, 12)):
        assert step.on_fetch(grammar.FetchResponse(number, {"UID": b"%d" % found})) == b""
    step = task.send(DONE)
    assert step == Ask([(verb + (b"11" if uid else b"10") + b" (UID BODY.PEEK[]) (CHANGEDSINCE 5)\r\n",)])
    step = task.send(DONE)
    assert step == LoadViews(box, [12], octets=True)
    step = task.send({12: FORM})
    assert isinstance(step, Ask)
    assert step.commands == [(verb + (b"12" if uid else b"9") + b" (UID) (CHANGEDSINCE 5)\r\n",)]
    assert step.on_fetch is not None
    answer = step.on_fetch(grammar.FetchResponse(9, {"UID": b"12", "MODSEQ": b"(7)"}))
    assert answer == b"* 9 FETCH (UID 12 MODSEQ (7) BODY[] {18}\r\nV: 1\r\nS: 1\r\n\r\nbody)\r\n"
    with pytest.raises(StopIteration) as stop:
        task.send(DONE)
    assert stop.value.value == DONE[0].octets


def test_pages_do_not_go_with_vanished() -> None:
    """What has vanished is told of the whole set, which is not what is asked of the server."""
    session = Session(Settings(b"V-12345678901234567890", 6))
    tag = session.from_client(b"a SELECT INBOX\r\n").to_upstream.split()[0]
    ((number, work),) = session.from_upstream(b"* OK [UIDVALIDITY 1] x\r\n" + tag + b" OK x\r\n").work
    assert isinstance(work, OpenMailbox)
    session.work_done([number], Mailbox(1, "a", b"INBOX", 1, b""))
    modifiers = b" (CHANGEDSINCE 5 VANISHED PARTIAL 1:5)\r\n"
    assert session.from_client(b"b UID FETCH 1:9 BODY[]" + modifiers).to_client.startswith(b"b BAD")
    assert session.from_client(b"c UID FETCH 1:9 FLAGS" + modifiers).to_upstream.startswith(b"c UID FETCH")


@pytest.mark.parametrize("name", ["RFC822.SIZE", "BINARY.SIZE[]"])
@pytest.mark.parametrize("raw", [b"(1)", b"NIL", b"{1}\r\nx"])
def test_a_size_that_is_no_number_fails_the_command_only(name: str, raw: bytes) -> None:
    item = grammar.FetchItem(name)
    request = answers.PrefixRequest((item,), b"V-1", 6, b"V-0")
    with pytest.raises(grammar.GrammarError):
        request.answer(grammar.FetchResponse(1, {name: raw}), b"V-1: \r\n", with_uid=False)
