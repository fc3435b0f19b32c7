"""What a server can say at the wrong time, and that we do not: nothing of ours goes into its responses."""

from __future__ import annotations

import pytest

from secmailproxy.imap.session import Session, Settings

HALF = b"* 1 FETCH (BODY[] {10}\r\nabc"
REST = b"defghij)\r\na OK done\r\n"


def session() -> Session:
    return Session(Settings(b"Secmail-Verdict-4711", 384))


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"b FOO\r\n", b"b BAD Command unknown or not available here.\r\n"),
        (b"b SELECT {5}\r\n", b"+ OK\r\n"),
        (b"b ENABLE X\r\n", b"* ENABLED\r\nb OK Nothing enabled.\r\n"),
        (b"b FETCH 1 X\r\n", b"b BAD FETCH item X is not available here\r\n"),
        (b"a NOOP\r\n", b"a BAD This tag is in use.\r\n"),
        (b"b\r\n", b"b BAD a command begins with a tag and a name\r\n"),
    ],
)
@pytest.mark.parametrize("cut", [1, len(REST)])
def test_an_answer_of_ours_waits_for_the_end_of_the_servers(command: bytes, answer: bytes, cut: int) -> None:
    one = session()
    one.from_client(b"a FETCH 1 BODY[]\r\n")
    heard = one.from_upstream(HALF).to_client
    heard += one.from_client(command).to_client
    for at in range(0, len(REST), cut):
        heard += one.from_upstream(REST[at : at + cut]).to_client
    response, completion = HALF + REST[: REST.index(b"a OK")], REST[REST.index(b"a OK") :]
    assert heard in (response + answer + completion, response + completion + answer)


def test_a_line_that_has_only_begun_holds_nothing_up() -> None:
    one = session()
    one.from_client(b"a NOOP\r\n")
    assert one.from_upstream(b"* 3 EX").to_client == b""
    assert one.from_client(b"b FOO\r\n").to_client.startswith(b"b BAD")
    assert one.from_upstream(b"ISTS\r\n").to_client == b"* 3 EXISTS\r\n"


@pytest.mark.parametrize("before", [b"", b"a NOOP\r\n", b"a IDLE\r\n", b"a APPEND x {3}\r\n"])
def test_the_client_is_told_to_go_on_when_we_say_so(before: bytes) -> None:
    """What it sent at the server's word, and we then refused, would be taken for commands."""
    one = session()
    one.from_client(before)
    first = one.from_upstream(b"+ go\r\n").to_client
    assert first == (b"+ go\r\n" if b"IDLE" in before else b"")
    assert one.from_upstream(b"+ go\r\n").to_client == b""


@pytest.mark.parametrize("lie", [b"b NO no\r\n", b"b  NO no\r\n", b"b OK {4}\r\n", b"b {3}\r\nabc\r\n"])
def test_a_command_that_the_server_has_not_seen_is_not_answered_by_it(lie: bytes) -> None:
    """A client that is told NO sends its next command, which would be taken for the message."""
    one = session()
    one.from_client(b"a NOOP\r\nb APPEND x {10}\r\n")
    assert one.from_upstream(lie).to_client == b""
    assert one.from_upstream(b"* 1 EXISTS\r\na OK\r\n").to_client == b"* 1 EXISTS\r\na OK\r\n+ OK\r\n"
