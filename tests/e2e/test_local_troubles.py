"""The machine of the running proxy fails it: a full disk, locked databases, an expired certificate."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sqlite3
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.fixtures.alone import ALICE, REQUIRED, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.people import SUBJECT, TEXT, leaked
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import Proxy, ProxyHome, serving
from tests.smtp.peers import DOT, PIPELINING, Client, Peer, Scripted, submit

BOB, CAROL = "bob@example.org", "carol@example.org"


def letter(name: str) -> bytes:
    """In clear."""
    head = f"From: <{ALICE}>\r\nTo: <{BOB}>\r\nSubject: {SUBJECT}\r\nMessage-ID: <{name}@example.org>\r\n"
    return f"{head}\r\n{TEXT}\r\n".encode()


@asynccontextmanager
async def client(proxy: Proxy) -> AsyncIterator[Client]:
    """Logged in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.submission_port)
    with contextlib.closing(writer):
        user = Client(reader, writer)
        await user.login()
        yield user


async def send(user: Client, name: str, *rcpt_tos: bytes) -> bytes:
    """One message; the final reply."""
    await user.begin(*rcpt_tos)
    return await submit(user, letter(name))


@contextlib.contextmanager
def full_disk(proxy: Proxy) -> Iterator[None]:
    """No file of the proxy can grow within the block."""
    soft, hard = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """Nobody else writes within the block."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield


@pytest.fixture
async def smarthost(ca: TestCA) -> AsyncIterator[Scripted]:
    """One that takes everything."""
    async with Scripted({"EHLO": PIPELINING}, tls=ca.server_context()).running() as one:
        yield one


@pytest.fixture
def home(ca: TestCA, smarthost: Scripted) -> Iterator[ProxyHome]:
    """From which nothing leaves in clear."""
    with alone(ca, smarthost.port, BOB, CAROL, config=REQUIRED) as made:
        yield made


def clean(text: str) -> None:
    """Nothing of a letter, and no traceback."""
    assert not leaked(text.encode())
    assert "Traceback" not in text
    assert "internal error" not in text


async def test_smtp_01_a_full_disk(home: ProxyHome, smarthost: Scripted) -> None:
    """What cannot be remembered does not leave; the reply says which file, and it goes on by itself."""
    with serving(home) as proxy:
        async with client(proxy) as user:
            assert await send(user, "before") == b"250 2.0.0 queued\r\n"
            with full_disk(proxy):
                for number in range(2):
                    reply = await send(user, f"during {number}")
                    assert b"presented messages %b cannot be used" % bytes(home.folders.views) in reply
                    assert reply.startswith(b"451 4.3.0 ")
                    assert b"is the disk full" in reply
                async with client(proxy) as other:
                    assert (await send(other, "another")).startswith(b"451 4.3.0 ")
            assert len(smarthost.messages) == 1
            assert await send(user, "after") == b"250 2.0.0 queued\r\n"
        clean(proxy.log())
    assert len(smarthost.messages) == 2
    assert not any(map(leaked, smarthost.messages))


async def test_smtp_10_a_spool_without_room(home: ProxyHome, smarthost: Scripted) -> None:
    """One copy was taken, the other not, and that cannot be written down: still 250, and said in the log."""
    answers = iter([b"250 2.0.0 first\r\n", b"554 5.7.1 not her\r\n"])

    async def dot(peer: Peer) -> None:
        reply = next(answers)
        if reply.startswith(b"554"):
            home.folders.notifications.write_bytes(b"in the way")
        await peer.say(reply)

    smarthost.script["."] = dot
    with serving(home) as proxy:
        async with client(proxy) as user:
            assert await send(user, "split", BOB.encode(), CAROL.encode()) == b"250 2.0.0 first\r\n"
        text = await asyncio.to_thread(
            wait_until, lambda: log if "cannot be kept" in (log := proxy.log()) else "", proxy.log
        )
    clean(text)
    assert len(smarthost.messages) == 2


async def test_another_process_writes_to_the_keystore(home: ProxyHome, smarthost: Scripted) -> None:
    """However long that takes, submission only reads."""
    with serving(home) as proxy:
        async with client(proxy) as user:
            with locked(home.folders.keystore / "keystore.sqlite3"):
                assert await send(user, "locked") == b"250 2.0.0 queued\r\n"
                async with client(proxy) as other:
                    assert await send(other, "locked too") == b"250 2.0.0 queued\r\n"
        clean(proxy.log())


def certificate(context: ssl.SSLContext, issuer: trustme.CA, days: int, folder: Path) -> None:
    """Have the smarthost show one that ends in so many days."""
    path = folder / "shown.pem"
    made = issuer.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=days))
    made.private_key_and_cert_chain_pem.write_to_path(str(path))
    context.load_cert_chain(path)


async def test_smtp_14_the_certificate_of_the_smarthost_expires(tmp_path: Path) -> None:
    """Who has a connection keeps it; on a new one nothing is said, and the client is told why."""
    issuer, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    issuer.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = TestCA(tmp_path / "ca.pem", tmp_path, tmp_path)
    certificate(context, issuer, 1, tmp_path)
    async with Scripted({"EHLO": PIPELINING}, tls=context).running() as smarthost:
        with alone(trusted, smarthost.port, BOB) as home, serving(home) as proxy:
            async with client(proxy) as user, client(proxy) as other:
                assert (await send(user, "before")).startswith(b"250 ")
                certificate(context, issuer, -1, tmp_path)
                assert (await send(user, "kept")).startswith(b"250 ")
                taken, heard = len(smarthost.messages), len(smarthost.lines)
                await user.begin()
                reply = await other.ask(b"MAIL FROM:<alice@example.org>")
                assert reply.startswith(b"451 4.4.1 ")
                assert b"expired" in reply
                assert len(smarthost.lines) == heard + 2
                certificate(context, issuer, 1, tmp_path)
                assert (await send(other, "renewed")).startswith(b"250 ")
                assert (await submit(user, letter("held"))).startswith(b"250 ")
            clean(proxy.log())
    assert len(smarthost.messages) == taken + 2
    assert all(message.endswith(DOT) for message in smarthost.messages)
