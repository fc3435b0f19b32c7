"""The client's side of Assuan, against a peer that says what a test has written down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from keystore.assuan import Conversation, Ended, Refused
from keystore.errors import StoreLocked
from tests.fixtures.processes import service_folder

Peer = Callable[[list[bytes]], tuple[Path, list[bytes]]]


@pytest.fixture
def peer() -> Iterator[Peer]:
    """Listens, and says one piece at first and one for each line that it gets; then it hangs up."""
    with service_folder("assuan") as folder, ExitStack() as stack:

        def make(pieces: list[bytes]) -> tuple[Path, list[bytes]]:
            path, heard = folder / "socket", []
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen()

            def serve() -> None:
                connection, _ = listener.accept()
                with connection, connection.makefile("rb") as lines, suppress(OSError):
                    for piece in pieces[:-1]:
                        connection.sendall(piece)
                        heard.append(lines.readline())
                    connection.sendall(pieces[-1])

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            stack.callback(thread.join, 10)
            return path, heard

        yield make


def test_data_status_and_comments(peer: Peer) -> None:
    path, heard = peer(
        [b"OK Pleased to meet you\n", b"# a comment\nS KEY one two\nD a%25b%0A\nD %0Dc\nS\nOK done\n", b""]
    )
    with Conversation(path, 10) as agent:
        answer = agent.ask("GIVE me")
    assert (answer.octets, answer.status) == (b"a%b\n\rc", ("KEY one two", ""))
    assert heard[0] == b"GIVE me\n"


def test_what_the_other_side_asks_for(peer: Peer) -> None:
    """Long octets come in lines of at most 1000; what was not given along is declined."""
    asking = b"S INQUIRE_MAXLEN 4096\nINQUIRE CIPHERTEXT\n"
    path, heard = peer([b"OK\n", b"INQUIRE PASSPHRASE\n", asking, b"", b"", b"OK\n", b""])
    octets = b"%\r\n" * 200
    with Conversation(path, 10) as agent:
        agent.ask("PKDECRYPT", {"CIPHERTEXT": octets})
    assert heard[1] == b"CAN\n"
    assert heard[2:5] == [*heard[2:4], b"END\n"]
    assert b"".join(line[2:-1] for line in heard[2:4]) == b"%25%0D%0A" * 200
    assert all(len(line) <= 1000 for line in heard)


@pytest.mark.parametrize(
    ("line", "code"), [(b"ERR 67108881 No secret key <GPG Agent>", 17), (b"ERR", 0), (b"ERR x", 0)]
)
def test_errors_are_numbers(peer: Peer, line: bytes, code: int) -> None:
    path, _ = peer([b"OK\n", line + b"\n", b"OK\n", b""])
    with Conversation(path, 10) as agent:
        with pytest.raises(Refused) as caught:
            agent.ask("PKSIGN")
        assert caught.value.code == code
        assert agent.ask("RESET").octets == b""


def test_an_end_in_the_middle(peer: Peer) -> None:
    path, _ = peer([b"OK\n", b"D half"])
    with Conversation(path, 10) as agent, pytest.raises(Ended):
        agent.ask("PKSIGN")


def test_silence(peer: Peer) -> None:
    path, _ = peer([b"OK\n", b"", b""])
    with Conversation(path, 0.1) as agent, pytest.raises(StoreLocked, match="within 0 seconds"):
        agent.ask("PKSIGN")


def test_no_end(peer: Peer) -> None:
    path, _ = peer([b"OK\n", (b"D " + b"x" * 900 + b"\n") * 1200, b""])
    with Conversation(path, 10) as agent, pytest.raises(StoreLocked, match="does not come to an end"):
        agent.ask("KEYINFO --list")


def test_a_file_in_place_of_the_socket(peer: Peer, tmp_path: Path) -> None:
    path, _ = peer([b"OK\n", b"OK\n", b""])
    named = tmp_path / "S.gpg-agent"
    named.write_text(f"%Assuan%\nsocket={path}\n")
    with Conversation(named, 10) as agent:
        assert agent.ask("NOP").octets == b""
