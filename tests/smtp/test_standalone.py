"""FWD-04, FWD-07: SMTP on standard input and output (`sendmail -bs`), octet for octet."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.model import Envelope, Reply
from secmailproxy.smtp.standalone import StandAlone


def session(reply: Reply | None = None) -> tuple[StandAlone, list[tuple[bytes, Envelope]]]:
    """A session, and what it hands over."""
    taken: list[tuple[bytes, Envelope]] = []

    def take(octets: bytes, envelope: Envelope) -> Reply:
        taken.append((octets, envelope))
        return reply or Reply(250, "2.0.0 taken")

    return StandAlone("host.example", take, 1000), taken


def codes(octets: bytes) -> list[int]:
    """The codes of replies, the last line of each."""
    return [int(line[:3]) for line in octets.splitlines() if line[3:4] == b" "]


WHOLE = (
    b"EHLO me\r\nMAIL FROM:<root> BODY=8BITMIME\r\nRCPT TO:<root>\r\nRCPT TO:<a@b.example>\r\n"
    b"RCPT TO:<root>\r\nDATA\r\nSubject: x\r\n\r\n..dot \xff\r\n.\r\nQUIT\r\n"
)
EXPECTED = (b"Subject: x\r\n\r\n.dot \xff\r\n", Envelope("root", ("root", "a@b.example")))


@given(st.lists(st.integers(0, len(WHOLE)), max_size=8), st.booleans())
def test_fwd_07_a_whole_session_however_it_comes(cuts: list[int], by_lines: bool) -> None:
    """Cut anywhere, with CRLF or with LF: the same replies, the same message."""
    whole = WHOLE.replace(b"\r\n", b"\n") if by_lines else WHOLE
    talk, taken = session()
    assert talk.greeting() == b"220 host.example ESMTP\r\n"
    places = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    replies = b"".join(talk.receive(whole[one:two]) for one, two in pairwise(places))
    assert codes(replies) == [250, 250, 250, 250, 250, 354, 250, 221]
    assert taken == [EXPECTED]
    assert talk.is_over


def test_fwd_07_a_client_finds_the_extensions() -> None:
    """The reply to EHLO has a keyword at the beginning of each line, and no status in front of it."""
    talk, _ = session()
    assert talk.receive(b"EHLO me\r\n").splitlines() == [
        b"250-host.example",
        b"250-PIPELINING",
        b"250-8BITMIME",
        b"250-ENHANCEDSTATUSCODES",
        b"250-SIZE 1000",
        b"250-DSN",
        b"250 SMTPUTF8",
    ]
    assert talk.receive(b"HELO me\r\n") == b"250 host.example\r\n"


DIALOGUES = [
    ([b"MAIL FROM:<>", b"RCPT TO:<root>", b"RSET", b"RCPT TO:<root>"], [250, 250, 250, 503]),
    ([b"HELO x", b"NOOP", b"VRFY root", b"HELP", b"EXPN root"], [250, 250, 252, 500, 500]),
    ([b"DATA", b"MAIL FROM:<a@b>", b"DATA", b"MAIL FROM:<a@b>"], [503, 250, 503, 503]),
    ([b"MAIL FROM:<a@b> SIZE=1001", b"MAIL FROM:a@b", b"MAIL FROM:<a@b> X=1"], [552, 501, 555]),
    ([b"MAIL FROM:<a@b>", b"RCPT TO:<>", b"RCPT TO:<-t@x>", b"RCPT TO:<a@-x>"], [250, 501, 553, 553]),
    ([b"MAIL FROM:<a@b>", b"RCPT TO:<-t>", b"RCPT TO:<|cat>", b"DATA"], [250, 501, 501, 503]),
    ([b"\xff", b"MAIL\x01"], [500, 500]),
    ([b"QUIT", b"NOOP"], [221]),
    ([b"NOPE"] * 30, [500] * 21 + [421]),
]


@pytest.mark.parametrize(("lines", "expected"), DIALOGUES)
def test_commands(lines: list[bytes], expected: list[int]) -> None:
    talk, taken = session()
    assert codes(talk.receive(b"".join(line + b"\r\n" for line in lines))) == expected
    assert taken == []


BEGIN = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<root>\r\nDATA\r\n"
MESSAGES = [
    (b"x\r\n.\r\n", 250, 1),
    (b".\r\n", 250, 1),
    (b"x" * 1001 + b"\r\n.\r\n", 552, 0),
    (b"bare\rCR\r.\r\n\r.\r\r\n.\r\n", 250, 1),
    (b"NUL\0\r\n.\r\n", 250, 1),
]


@pytest.mark.parametrize(("octets", "code", "number"), MESSAGES)
def test_messages(octets: bytes, code: int, number: int) -> None:
    talk, taken = session()
    replies = codes(talk.receive(BEGIN + octets + b"NOOP\r\n"))
    assert replies[3] == code
    assert len(taken) == number
    assert replies[4:] == [250]


def test_a_message_that_is_refused_ends_nothing() -> None:
    talk, taken = session(Reply(451, "4.7.5 locked"))
    assert codes(talk.receive(BEGIN + b"x\r\n.\r\n" + BEGIN + b"y\r\n.\r\n")) == [250, 250, 354, 451] * 2
    assert [octets for octets, _ in taken] == [b"x\r\n", b"y\r\n"]
    assert not talk.is_over


def test_the_end_in_the_middle_hands_nothing_over() -> None:
    talk, taken = session()
    talk.receive(BEGIN + b"half of it\r\n.")
    assert taken == []
