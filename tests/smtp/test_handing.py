"""FWD-07: programs of users who cannot read the keystore hand over to the running proxy, by its socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from secmailproxy.errors import SecMailProxyError, UpstreamLost, UpstreamUnavailable
from secmailproxy.model import Envelope
from secmailproxy.smtp.handing import UnknownRecipient, hand_over
from secmailproxy.smtp.intake import IntakeServer, Take
from secmailproxy.smtp.settings import IntakeSettings
from tests.fixtures.processes import service_folder

OCTETS = b"Subject: x\r\n\r\n.dot \xff\r\n"


@pytest.fixture
def folder() -> Iterator[Path]:
    with service_folder("handing") as made:
        yield made


@contextlib.asynccontextmanager
async def intake(folder: Path, take: Take) -> AsyncIterator[str]:
    """A real intake, for bare names only; the path of its socket."""
    path = str(folder / "socket")
    server = IntakeServer(
        IntakeSettings(path, 0, lambda address: "@" not in address, 1000, name="smtp"), take
    )
    await server.start()
    try:
        yield path
    finally:
        await server.stop(5)


async def test_the_message_and_its_envelope_arrive(folder: Path) -> None:
    taken: list[tuple[bytes, Envelope]] = []
    envelope = Envelope("root@host.example", ("root", "cron"))
    async with intake(folder, lambda octets, envelope: taken.append((octets, envelope))) as path:
        await asyncio.to_thread(hand_over, path, envelope, OCTETS)
        await asyncio.to_thread(hand_over, path, Envelope("", ("root",)), OCTETS)
    assert [(octets, one.mail_from, one.rcpt_tos) for octets, one in taken] == [
        (OCTETS, "root@host.example", ("root", "cron")),
        (OCTETS, "", ("root",)),
    ]


async def test_what_is_refused_was_taken_by_nobody(folder: Path) -> None:
    taken: list[bytes] = []

    def take(octets: bytes, envelope: Envelope) -> None:
        taken.append(octets)
        raise SecMailProxyError("not now")

    async with intake(folder, take) as path:
        with pytest.raises(UnknownRecipient, match=r"no recipient a@b\.example") as unknown:
            await asyncio.to_thread(hand_over, path, Envelope("", ("root", "a@b.example")), OCTETS)
        assert unknown.value.exit_status == 67
        assert taken == []
        with pytest.raises(UpstreamUnavailable, match=r"did not take the message: 451 4\.3\.0 not now"):
            await asyncio.to_thread(hand_over, path, Envelope("", ("root",)), OCTETS)
        with pytest.raises(UpstreamUnavailable, match=r"552 5\.3\.4 more than 1000 octets"):
            await asyncio.to_thread(hand_over, path, Envelope("", ("root",)), OCTETS * 100)


def test_nobody_there(folder: Path) -> None:
    with pytest.raises(UpstreamUnavailable, match="No such file or directory; is secmailproxy running"):
        hand_over(str(folder / "none"), Envelope("", ("root",)), OCTETS)


SAYS = [
    (b"", UpstreamUnavailable, "it broke the connection"),
    (b"hello?\r\n", UpstreamUnavailable, "it broke the connection"),
    (b"421 4.3.2 too many\r\n", UpstreamUnavailable, "421 4.3.2 too many"),
    (b"220 x\r\n250 x\r\n250 x\r\n452 later\r\n", UpstreamUnavailable, "452 later"),
    (
        b"220 x\r\n250 x\r\n250 x\r\n250 x\r\n354 x\r\n",
        UpstreamLost,
        "before it said whether it has the message",
    ),
]


@pytest.mark.parametrize(("octets", "kind", "said"), SAYS)
def test_servers_that_fail(octets: bytes, kind: type[UpstreamUnavailable], said: str, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(octets)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(kind, match=said) as failed:
                hand_over(str(folder / "socket"), Envelope("", ("root",)), OCTETS)
            assert type(failed.value) is kind
        finally:
            thread.join()


SQUATTER = """
import os, socket, sys
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
place = socket.socket(socket.AF_UNIX)
place.bind(sys.argv[1])
place.listen()
print("listening", flush=True)
connection, _ = place.accept()
print(connection.recv(100), flush=True)
"""
STRANGER = 65534


def test_a_socket_that_somebody_else_has_put_there_first_gets_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in /tmp while the proxy is not running."""
    folder.chmod(0o1777)
    path = str(folder / "socket")
    words = [sys.executable, "-I", "-c", SQUATTER, path, *([str(STRANGER)] if os.geteuid() == 0 else [])]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as squatter:
        assert squatter.stdout is not None
        assert squatter.stdout.readline() == "listening\n"
        if os.geteuid() != 0:  # nobody else can be had: then it is we who are somebody else
            monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
        with pytest.raises(UpstreamUnavailable, match="does not belong"):
            hand_over(path, Envelope("", ("root",)), OCTETS)
        assert squatter.stdout.readline() == "b''\n"
