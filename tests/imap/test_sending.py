"""Commands with literals: each piece waits for its continuation, and nothing overtakes it."""

from __future__ import annotations

from secmailproxy.imap.sending import Sender, pieces_of
from secmailproxy.imap.wire import Command

APPEND = (b"a APPEND x {3}\r\n", b"one {3}\r\n", b"two\r\n")


def sender(*, literal_plus: bool = False) -> tuple[Sender, list[bytes]]:
    out: list[bytes] = []
    return Sender(out, literal_plus=literal_plus), out


def test_pieces_wait_and_later_commands_too() -> None:
    one, out = sender()
    one.send(b"a", APPEND)
    one.send(b"b", (b"b NOOP\r\n",))
    assert out == [APPEND[0]]
    assert one.waits
    assert one.continuation()
    assert out == [*APPEND[:2]]
    assert one.continuation()
    assert out == [*APPEND, b"b NOOP\r\n"]
    assert not one.waits
    assert not one.continuation()


def test_a_refused_command_is_not_continued() -> None:
    one, out = sender()
    one.send(b"a", APPEND)
    one.send(b"b", (b"b NOOP\r\n",))
    one.completed(b"other")
    assert one.waits
    one.completed(b"a")
    assert out == [APPEND[0], b"b NOOP\r\n"]
    assert not one.continuation()


def test_a_server_with_literal_plus_gets_all_at_once() -> None:
    one, out = sender(literal_plus=True)
    one.send(b"a", APPEND)
    assert out == [b"a APPEND x {3+}\r\none {3+}\r\ntwo\r\n"]
    assert not one.waits


def test_a_clients_command_in_pieces() -> None:
    command = Command([b"a LOGIN {3+}\r\n", b" {4}\r\n", b" x\r\n"], [b"{1}", b"two+"])
    assert pieces_of(command) == (b"a LOGIN {3}\r\n", b"{1} {4}\r\n", b"two+ x\r\n")
    assert pieces_of(command, skip=2) == (b"LOGIN {3}\r\n", b"{1} {4}\r\n", b"two+ x\r\n")
    assert pieces_of(Command([b"a NOOP\r\n"])) == (b"a NOOP\r\n",)
