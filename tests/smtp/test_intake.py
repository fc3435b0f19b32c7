"""System mail by SMTP and LMTP: who may be written to, what is answered, what is handed over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import smtplib
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from keystore.errors import StoreDamaged, StoreLocked
from secmailproxy.admission import Admission, Limits
from secmailproxy.errors import (
    ConfigError,
    KeystoreLocked,
    LimitExceeded,
    MalformedMessage,
    NotAllowed,
    NoUsableCertificate,
    UpstreamUnavailable,
)
from secmailproxy.model import Envelope
from secmailproxy.smtp.intake import Intake, IntakeServer, LocalIntake
from secmailproxy.smtp.settings import IntakeSettings
from tests.fixtures.processes import service_folder
from tests.smtp.peers import DOT, MESSAGE, Client, until

ROOT = "root@host.example.test"
OTHER = "postmaster@host.example.test"
STRANGER = 65534
"""A user who is not the one that runs the tests."""


@dataclass
class Desk:
    """Takes messages, and refuses those for the recipients that have an error here."""

    taken: list[tuple[bytes, Envelope]] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def take(self, octets: bytes, envelope: Envelope) -> None:
        """As `Desk.process`: all or an error."""
        self.open.wait(10)
        for rcpt_to in envelope.rcpt_tos:
            if rcpt_to in self.errors:
                raise self.errors[rcpt_to]
        self.taken.append((octets, envelope))


@dataclass
class Front:
    """A listener, and what stands behind it."""

    desk: Desk
    server: IntakeServer
    place: tuple[str, int]
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> Client:
        """A raw client that has heard the greeting."""
        host, port = self.place
        opened = asyncio.open_connection(host, port) if port else asyncio.open_unix_connection(host)
        client = Client(*await opened)
        self.writers.append(client.writer)
        assert (await client.reply()).startswith(b"220 ")
        return client

    async def end(self) -> None:
        """Close every client, then the listener."""
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self.server.stop(0)


Fronts = Callable[..., object]


@pytest.fixture
async def front() -> AsyncIterator[Callable[..., object]]:
    """Start listeners: `front(LocalIntake, desk, size_limit=…)`."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(kind: type[Intake] = Intake, desk: Desk | None = None, **more: object) -> Front:
            desk = desk or Desk()
            settings = {"host": "127.0.0.1", "port": 0, "accepts": {ROOT, OTHER, "root"}.__contains__, **more}
            name = "lmtp" if kind is LocalIntake else "smtp"
            server = IntakeServer(IntakeSettings(name=name, **settings), desk.take, kind)
            made = Front(desk, server, await server.start())
            stack.push_async_callback(made.end)
            return made

        yield start


async def begin(client: Client, *rcpt_tos: str, mail: str = "MAIL FROM:<cron@host.example.test>") -> None:
    """Greet and name the envelope; everything is accepted."""
    hello = b"LHLO" if (await client.ask(b"EHLO a")).startswith(b"500") else b"EHLO"
    assert (await client.ask(hello + b" mta.example.test")).startswith(b"250")
    assert (await client.ask(mail.encode())).startswith(b"250 ")
    for rcpt_to in rcpt_tos or (ROOT,):
        assert (await client.ask(f"RCPT TO:<{rcpt_to}>".encode())).startswith(b"250 ")


async def send(client: Client, message: bytes = MESSAGE) -> bytes:
    """DATA and the message; the first reply to it."""
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    await client.send(message + DOT)
    return await client.reply()


async def test_a_message_is_handed_over_whole(front: Fronts) -> None:
    """Octets and envelope as they came, options for the next hop included; 250 after that."""
    server = await front()
    client = await server.connect()
    await begin(client, mail="MAIL FROM:<> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=x1")
    assert (await client.ask(b"RCPT TO:<root> NOTIFY=NEVER")).startswith(b"250 ")
    message = b"Subject: \xc3\xa4\r\n\r\n..dots\r\n.\0nul \xff" + b"l" * 2000 + b"\r\n"
    stuffed = b"Subject: \xc3\xa4\r\n\r\n...dots\r\n..\0nul \xff" + b"l" * 2000 + b"\r\n"
    assert (await send(client, stuffed)).startswith(b"250 2.0.0 ")
    options = ("BODY=8BITMIME", "RET=HDRS", "ENVID=x1")
    envelope = Envelope("", (ROOT, "root"), options, ((), ("NOTIFY=NEVER",)))
    assert server.desk.taken == [(message, envelope)]


async def test_what_is_offered(front: Fronts) -> None:
    """Neither a login nor what could tell where a message came from."""
    for kind, hello in ((Intake, b"EHLO x"), (LocalIntake, b"LHLO x")):
        client = await (await front(kind, size_limit=70_000)).connect()
        words = {line[4:].strip() for line in (await client.ask(hello)).splitlines()[1:]}
        assert words == {
            b"PIPELINING",
            b"8BITMIME",
            b"ENHANCEDSTATUSCODES",
            b"SIZE 70000",
            b"DSN",
            b"SMTPUTF8",
        }
        for verb in (b"AUTH PLAIN", b"STARTTLS", b"XCLIENT A=B", b"XFORWARD A=B", b"BDAT 0 LAST"):
            assert (await client.ask(verb)).startswith(b"500 ")


@pytest.mark.parametrize(
    ("kind", "wrong", "right"), [(Intake, b"LHLO x", b"EHLO x"), (LocalIntake, b"EHLO x", b"LHLO x")]
)
async def test_each_protocol_has_its_own_greeting(
    kind: type[Intake], wrong: bytes, right: bytes, front: Fronts
) -> None:
    """RFC 2033 section 4.1: no EHLO in LMTP; and nothing before the greeting."""
    client = await (await front(kind)).connect()
    assert (await client.ask(b"MAIL FROM:<a@example.org>")).startswith(b"503 ")
    assert (await client.ask(wrong)).startswith(b"500 ")
    assert (await client.ask(right)).startswith(b"250")


@pytest.mark.parametrize(
    "rcpt_to", ["bob@example.org", "root@example.org", "rooty", "root@host.example.test@example.org"]
)
@pytest.mark.parametrize("kind", [Intake, LocalIntake])
async def test_no_relay(
    kind: type[Intake], rcpt_to: str, front: Fronts, caplog: pytest.LogCaptureFixture
) -> None:
    """550 5.7.1 for whoever the configuration does not name, and one line in the log without the address."""
    server = await front(kind)
    client = await server.connect()
    await begin(client)
    answer = await client.ask(f"RCPT TO:<{rcpt_to}>".encode())
    if "@host" in rcpt_to:
        assert answer.startswith(b"501 ")
    else:
        assert answer == b"550 5.7.1 relay access denied\r\n"
        (record,) = [one for one in caplog.records if "relay access denied" in one.getMessage()]
        assert "127.0.0.1" in record.client  # type: ignore[attr-defined]  # an extra
        assert rcpt_to not in str(vars(record))
    assert (await send(client)).startswith(b"250 ")
    assert [envelope.rcpt_tos for _, envelope in server.desk.taken] == [(ROOT,)]


ERRORS: dict[str, tuple[Exception, bytes]] = {
    "no certificate": (
        NoUsableCertificate("no certificate for <a@example.org>"),
        b"451 4.7.5 no certificate",
    ),
    "loop": (NotAllowed("a mail loop"), b"451 4.7.1 a mail loop"),
    "malformed": (MalformedMessage("no message"), b"451 4.6.0 no message"),
    "limit": (LimitExceeded("too deep"), b"451 4.3.4 too deep"),
    "configuration": (ConfigError("no target"), b"451 4.3.5 no target"),
    "locked": (KeystoreLocked("locked"), b"451 4.7.5 locked"),
    "store locked": (StoreLocked("locked"), b"451 4.7.5 locked"),
    "store damaged": (StoreDamaged("damaged"), b"451 4.3.0 damaged"),
    "next hop": (UpstreamUnavailable("gone"), b"451 4.4.1 gone"),
    "disk": (OSError(28, "No space left on device: plan"), b"451 4.3.0 cannot read or write: No space left"),
    "bug": (ValueError("the plan"), b"451 4.3.0 internal error (ref "),
    "memory": (MemoryError("the plan"), b"451 4.3.0 internal error (ref "),
}


@pytest.mark.parametrize("name", ERRORS)
async def test_fwd_01_any_failure_is_temporary(name: str, front: Fronts) -> None:
    """FWD-01: the mail server keeps the message: what it gives back would quote it."""
    error, answer = ERRORS[name]
    server = await front(desk=Desk(errors={ROOT: error}))
    client = await server.connect()
    await begin(client, ROOT, OTHER)
    reply = await send(client)
    assert reply.startswith(answer)
    assert b"plan" not in reply
    assert server.desk.taken == []
    assert (await client.ask(b"NOOP")).startswith(b"250 ")


async def test_lmtp_answers_for_each_recipient(front: Fronts) -> None:
    """RFC 2033 section 4.2: in the order of RCPT; one that fails does not keep the others waiting."""
    desk = Desk(errors={OTHER: NoUsableCertificate("none")})
    server = await front(LocalIntake, desk)
    client = await server.connect()
    await begin(client, ROOT, OTHER, "root", ROOT)
    replies = [await send(client), *[await client.reply() for _ in range(3)]]
    assert [one[:9] for one in replies] == [b"250 2.0.0", b"451 4.7.5", b"250 2.0.0", b"250 2.0.0"]
    assert [envelope.rcpt_tos for _, envelope in desk.taken] == [(ROOT,), ("root",)]
    assert (await client.ask(b"NOOP")).startswith(b"250 ")


async def test_lmtp_counts_a_message_for_each_recipient(front: Fronts) -> None:
    """Each of them is one more to encrypt and to send: a thousand would not be held up by the limit."""
    admission = Admission("system", Limits(messages_per_minute=2))
    server = await front(LocalIntake, admission=admission, accepts=lambda address: True)
    client = await server.connect()
    await begin(client, "root", "root+1", "root+2")
    assert (await send(client)).startswith(b"250 ")
    assert (await client.reply()).startswith(b"250 ")
    assert (await client.reply()).startswith(b"451 4.7.0 ")
    assert [envelope.rcpt_tos for _, envelope in server.desk.taken] == [("root",), ("root+1",)]


async def test_lmtp_pipelined(front: Fronts) -> None:
    """RFC 2033 section 5 demands it; as many replies as it takes, in order."""
    server = await front(LocalIntake)
    client = await server.connect()
    await client.send(
        b"LHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<root>\r\nRCPT TO:<bob@example.org>\r\n"
        + f"RCPT TO:<{ROOT}>\r\nDATA\r\n".encode()
        + MESSAGE
        + DOT
        + b"QUIT\r\n"
    )
    codes = [(await client.reply())[:3] for _ in range(9)]
    assert codes == [b"250", b"250", b"250", b"550", b"250", b"354", b"250", b"250", b"221"]
    assert len(server.desk.taken) == 2


@pytest.mark.parametrize(
    "message",
    [b"a\nb\r\n", b"a\r\rb\n\r\n", b"x\n.\r\nMAIL FROM:<evil@example.org>\r\n", b"x\r\n.\nNOOP\r\n"],
)
@pytest.mark.parametrize("kind", [Intake, LocalIntake])
async def test_smuggling(
    kind: type[Intake], message: bytes, front: Fronts, caplog: pytest.LogCaptureFixture
) -> None:
    """A bare LF is refused for good, and nothing after it is read."""
    server = await front(kind)
    client = await server.connect()
    await begin(client)
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    await client.send(b"Subject: x\r\n\r\n" + message + DOT + b"NOOP\r\n")
    assert (await client.reply()).startswith(b"554 5.6.0 bare LF")
    assert await client.reply() == b""
    assert server.desk.taken == []
    assert [one for one in caplog.records if "protocol abuse" in one.getMessage()]


@pytest.mark.parametrize("kind", [Intake, LocalIntake])
async def test_fwd_02_a_program_that_shows_how_far_it_is(kind: type[Intake], front: Fronts) -> None:
    """What it writes over its own line comes by cron with CR; only CRLF "." CRLF is the end of a message."""
    server = await front(kind)
    client = await server.connect()
    await begin(client)
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    octets = b"Subject: x\r\n\r\n 50%\r100%\r\r.\r..\0\r\r\n\r.\r\nNOOP\r\n"
    await client.send(octets + DOT)
    assert (await client.reply()).startswith(b"250 ")
    assert [taken for taken, _ in server.desk.taken] == [octets]


async def test_too_large(front: Fronts) -> None:
    """552 by SIZE before DATA, or after it, for each recipient; never kept in part."""
    server = await front(LocalIntake, size_limit=70_000)
    client = await server.connect()
    assert (await client.ask(b"LHLO x")).startswith(b"250")
    assert (await client.ask(b"MAIL FROM:<> SIZE=70001")).startswith(b"552 5.3.4 ")
    await begin(client, ROOT, OTHER, mail="MAIL FROM:<> SIZE=1")
    large = b"Subject: x\r\n\r\n" + b"x" * 78 + b"\r\n"
    assert (await send(client, large * 900)).startswith(b"552 5.3.4 ")
    assert (await client.reply()).startswith(b"552 5.3.4 ")
    await begin(client, mail="MAIL FROM:<>")
    assert (await send(client)).startswith(b"250 ")
    assert len(server.desk.taken) == 1


async def at_the_closed_desk(front: Fronts) -> tuple[Desk, Front, Client]:
    """A client that has sent its message, all of it, to a desk that does not open."""
    desk = Desk()
    desk.open.clear()
    server = await front(desk=desk)
    client = await server.connect()
    await begin(client)
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    await client.send(MESSAGE + DOT)
    return desk, server, client


async def test_the_client_that_leaves_after_the_dot(front: Fronts) -> None:
    """The message is handed over all the same: the client cannot know whether it was (RFC 5321 6.1)."""
    desk, _, client = await at_the_closed_desk(front)
    client.writer.close()
    desk.open.set()
    await until(lambda: desk.taken)


async def test_half_a_message_is_none(front: Fronts) -> None:
    """A connection that is cut before the dot."""
    server = await front()
    client = await server.connect()
    await begin(client)
    assert (await client.ask(b"DATA")).startswith(b"354 ")
    await client.send(MESSAGE)
    client.writer.close()
    again = await server.connect()
    await begin(again)
    assert (await send(again)).startswith(b"250 ")
    assert len(server.desk.taken) == 1


async def test_stopping_waits_for_what_is_handed_over(front: Fronts) -> None:
    """250 for it, and 421 after."""
    desk, server, client = await at_the_closed_desk(front)
    await until(
        lambda: any(one.in_transaction and not one._rcpts for one in server.server._sessions.values())
    )
    stopping = asyncio.create_task(server.server.stop(10))
    await until(lambda: server.server._server is None)
    desk.open.set()
    assert (await client.reply()).startswith(b"250 ")
    assert (await client.reply()).startswith(b"421 ")
    await stopping


async def test_many_at_once(front: Fronts) -> None:
    """None is lost; more clients than are served at a time wait their turn."""
    server = await front()

    async def one() -> bytes:
        client = await server.connect()
        await begin(client)
        return await send(client)

    replies = await asyncio.gather(*(one() for _ in range(40)))
    assert {reply[:3] for reply in replies} == {b"250"}
    assert len(server.desk.taken) == 40


# Unix sockets.


async def test_a_unix_socket(front: Fronts) -> None:
    """For owner and group alone, gone when we stop; what a process that is gone has left is replaced."""
    with service_folder("intake") as folder:
        path = folder / "lmtp"
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
        server = await front(LocalIntake, host=str(path))
        assert server.place == (str(path), 0)
        assert path.stat().st_mode & 0o777 == 0o660
        client = await server.connect()
        await begin(client)
        assert (await send(client)).startswith(b"250 ")
        with pytest.raises(OSError, match="in use"):
            await front(LocalIntake, host=str(path))
        # Who comes later has been accepted later than the other listener's look at ours.
        assert (await (await server.connect()).ask(b"QUIT")).startswith(b"221 ")
        await until(lambda: len(server.server._sessions) == 1)
        await server.server.stop(0)
        assert not path.exists()


CROWD = """
import socket, sys
path, count, *user = sys.argv[1:]
if user:
    import os
    os.setuid(int(user[0]))
crowd = [socket.socket(socket.AF_UNIX) for _ in range(int(count))]
for one in crowd:
    one.connect(path)
print(*(one.recv(3).decode() for one in crowd), flush=True)
sys.stdin.read()
"""


async def test_no_user_keeps_others_out_of_a_socket_for_everyone(
    front: Fronts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cron cannot hand over it drops: whoever opens all connections would silence the machine."""
    with service_folder("crowd") as folder:
        path = folder / "smtp"
        server = await front(host=str(path), max_sessions=8, socket_mode=0o666)
        words = [sys.executable, "-I", "-c", CROWD, str(path), "9"]
        if stranger := STRANGER if os.geteuid() == 0 else 0:
            words.append(str(stranger))
        else:  # nobody else can be had: then it is the proxy that is somebody else's
            stranger = os.geteuid()
            monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
        pipe = asyncio.subprocess.PIPE
        crowd = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe)
        try:
            assert crowd.stdout is not None
            assert (await crowd.stdout.readline()).split() == [b"220"] * 2 + [b"421"] * 7
            monkeypatch.undo()
            await begin(client := await server.connect())
            assert (await send(client)).startswith(b"250 ")
        finally:
            await crowd.communicate(b"")
    refused = [one for one in caplog.records if one.message == "system too many connections"]
    assert {one.__dict__["client"] for one in refused} == {f"unix:{stranger}"}


async def test_what_is_no_socket_is_not_replaced(front: Fronts, tmp_path: Path) -> None:
    """Nor is it deleted at the end."""
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(OSError, match="exists"):
        await front(host=str(path))
    assert path.read_text() == "mine"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", ""])
async def test_only_loopback(host: str, front: Fronts) -> None:
    """There is no login: nobody else may come near."""
    with pytest.raises(ConfigError, match="loopback only"):
        await front(host=host)


# Real clients.


async def test_smtplib_and_swaks(front: Fronts) -> None:
    """Both protocols, as programs of others speak them."""
    server, local = await front(), await front(LocalIntake)

    def talk() -> None:
        with smtplib.LMTP("127.0.0.1", local.place[1], local_hostname="x") as lmtp:
            refused = lmtp.sendmail("", [ROOT, "bob@example.org"], MESSAGE)
        assert list(refused) == ["bob@example.org"]
        assert shutil.which("swaks")
        words = ["--server", f"127.0.0.1:{server.place[1]}", "--to", ROOT, "--from", "<>", "--helo", "x"]
        done = subprocess.run(["swaks", *words], capture_output=True, check=False, timeout=30)
        assert done.returncode == 0, done.stdout

    await asyncio.to_thread(talk)
    assert local.desk.taken[0][0] == MESSAGE
    assert server.desk.taken[0][1] == Envelope("", (ROOT,), (), ((),))
