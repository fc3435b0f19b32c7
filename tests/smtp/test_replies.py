"""Replies: error mapping, enhanced codes, octets (SMTP-18)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import NotReadable, StoreLocked
from secmailproxy import errors
from secmailproxy.model import Reply
from secmailproxy.smtp.replies import NotSmtp, ReplyReader, render, reply_for, split_status, with_status


@pytest.mark.parametrize(
    ("error", "reply"),
    [
        (
            errors.NoUsableCertificate("no encryption key for <a@b> (key expired 2026-01-02)"),
            "550 5.7.5 no encryption key for <a@b> (key expired 2026-01-02)",
        ),
        (errors.SigningKeyUnusable("the key of <a@b> has expired"), "554 5.7.5 the key of <a@b> has expired"),
        (errors.NotAllowed("a rule forbids it"), "554 5.7.1 a rule forbids it"),
        (errors.MalformedMessage("bare LF"), "554 5.6.0 bare LF"),
        (errors.LimitExceeded("too large"), "552 5.3.4 too large"),
        (errors.KeystoreLocked("unlock the keyring"), "451 4.7.5 unlock the keyring"),
        (StoreLocked("unlock the keyring"), "451 4.7.5 unlock the keyring"),
        (errors.UpstreamUnavailable("cannot be reached"), "451 4.4.1 cannot be reached"),
        (errors.UpstreamLost("closed the connection"), "451 4.4.2 closed the connection"),
        (errors.LoginRefused("sorry"), "535 5.7.8 sorry"),
        (errors.LoginRefused("later", smtp_code=454, enhanced_status="4.7.0"), "454 4.7.0 later"),
        (errors.SecMailProxyError("try again"), "451 4.3.0 try again"),
        (ValueError("hunter2"), "451 4.3.0 internal error (ref 1f2e)"),
        (KeyError("message text"), "451 4.3.0 internal error (ref 1f2e)"),
        (NotReadable("damaged"), "451 4.3.0 internal error (ref 1f2e)"),
        (errors.NotAllowed("zwei\r\nZeilen\0 für\x1b[1m Jürgen"), "554 5.7.1 zwei Zeilen f?r [1m J?rgen"),
        (errors.NotAllowed("x" * 5000), "554 5.7.1 " + "x" * 500),
    ],
)
def test_the_reply_to_an_error_is_one_line_of_ascii(error: Exception, reply: str) -> None:
    """SMTP-18: no exception text but our own, at most 512 octets."""
    assert render(reply_for(error, "1f2e")) == reply.encode("ascii") + b"\r\n"


@pytest.mark.parametrize(
    ("reply", "octets"),
    [
        (Reply(250, "2.1.0 Ok"), b"250 2.1.0 Ok\r\n"),
        (Reply(250, "Ok"), b"250 2.0.0 Ok\r\n"),
        (Reply(550, "User unknown"), b"550 5.0.0 User unknown\r\n"),
        (Reply(451, "Greylisted"), b"451 4.0.0 Greylisted\r\n"),
        (
            Reply(550, "5.1.1 <b@x>: unknown\n5.1.1 see https://x"),
            b"550-5.1.1 <b@x>: unknown\r\n550 5.1.1 see https://x\r\n",
        ),
        (Reply(550, "5.1.1 first\nsecond"), b"550-5.1.1 first\r\n550 5.1.1 second\r\n"),
        (Reply(250, ""), b"250 2.0.0\r\n"),
        (Reply(354, "go"), b"354 go\r\n"),
        (Reply(334, "VXNlcg=="), b"334 VXNlcg==\r\n"),
        (Reply(503, "bad sequence"), b"503 5.5.1 bad sequence\r\n"),
        (Reply(550, "5.1 no code"), b"550 5.0.0 5.1 no code\r\n"),
        (Reply(550, "x\r250 ok\x00"), b"550 5.0.0 x 250 ok\r\n"),
    ],
)
def test_the_smarthosts_reply_is_passed_on(reply: Reply, octets: bytes) -> None:
    """Code and text stay; an enhanced code is added where none is; no control characters."""
    assert render(with_status(reply)) == octets


@given(st.integers(200, 599), st.text())
def test_no_text_can_forge_a_second_reply(code: int, text: str) -> None:
    """SMTP-18: printable ASCII, each line with the same code, at most 512 octets."""
    octets = render(with_status(Reply(code, text)))
    lines = octets.split(b"\r\n")
    assert lines.pop() == b""
    assert all(line.startswith(f"{code}".encode()) and len(line) <= 510 for line in lines)
    assert all(0x20 <= octet < 0x7F for line in lines for octet in line)
    assert [line[3:4] for line in lines] == [b"-"] * (len(lines) - 1) + [b" "]


@pytest.mark.parametrize(
    ("text", "parts"),
    [("5.7.8 no", ("5.7.8", "no")), ("no", ("", "no")), ("5.7.8", ("5.7.8", "")), ("5.7.8x", ("", "5.7.8x"))],
)
def test_split_status(text: str, parts: tuple[str, str]) -> None:
    """RFC 2034 section 4."""
    assert split_status(text) == parts


REPLIES = {
    b"250 ok\r\n": Reply(250, "ok"),
    b"250\r\n": Reply(250, ""),
    b"250 lf only\n": Reply(250, "lf only"),
    b"250-a\r\n250-\r\n250 b\r\n": Reply(250, "a\n\nb"),
    b"550-two\r\n550 three\r\n": Reply(550, "two\nthree"),
    b"550 \xff\xc3\xbc\r\n": Reply(550, "\udcffü"),
    b"354 go\r\n": Reply(354, "go"),
}


@given(st.permutations(list(REPLIES)), st.lists(st.integers(1, 9)))
def test_replies_are_cut_alike_for_any_segments(octets: list[bytes], sizes: list[int]) -> None:
    """What comes in one piece or octet by octet is the same; what is not complete is none."""
    stream = b"".join(octets) + b"250-half\r\n250"
    reader, found = ReplyReader(), []
    for size in sizes:
        found += reader.feed(stream[:size])
        stream = stream[size:]
    found += reader.feed(stream)
    assert found == [REPLIES[one] for one in octets]


@pytest.mark.parametrize(
    "octets",
    [
        b"\r\n",
        b"hello\r\n",
        b"25 0\r\n",
        b"2500 x\r\n",
        b"150 x\r\n",
        b"650 x\r\n",
        b"\xb2\xb5\xb0 x\r\n",
        b"250_x\r\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nb\r\n",
        b"250-" + b"x" * 40_000,
        b"250 " + b"x" * 40_000 + b"\r\n",
        b"250-\r\n" * 40_000,
    ],
)
def test_what_is_no_reply_is_told_apart(octets: bytes) -> None:
    """After the replies before it; nothing after it is read, and no more than a limit is kept."""
    found = []
    with pytest.raises(NotSmtp):
        found.extend(ReplyReader().feed(b"220 hello\r\n" + octets))
    reader = ReplyReader()
    assert next(reader.feed(b"220 hello\r\n" + octets)) == Reply(220, "hello")
