"""Real mail clients read through the proxy what a GnuPG user sent: decrypted, and with a verdict."""

from __future__ import annotations

import asyncio
import imaplib
import os
import pty
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import aioimaplib
import pytest

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, encrypted_by
from tests.fixtures.people import (
    ATTACHMENT,
    TEXT,
    GnuPGUser,
    ProxyUser,
    gnupg_user,
    introduce,
    leaked,
    proxy_user,
)
from tests.fixtures.proxy import ProxyFactory

HIDDEN = "Whereabouts of the treasure"
PLAIN = b"From: n@example.net\r\nTo: b@example.test\r\nSubject: plain\r\n\r\nnothing to hide \r\n\r\n"
ENTITY = (
    (
        f'Content-Type: multipart/mixed; boundary="in"; protected-headers="v1"\r\nSubject: {HIDDEN}\r\n\r\n'
        f"--in\r\nContent-Type: text/plain\r\n\r\n{TEXT}\r\n"
        '--in\r\nContent-Type: text/csv\r\nContent-Disposition: attachment; filename="map.csv"\r\n\r\n'
    ).encode()
    + ATTACHMENT
    + b"--in--\r\n"
)

Read = Callable[[ProxyUser, Path], list[bytes]]


def by_imaplib(reader: ProxyUser, folder: Path) -> list[bytes]:
    with imaplib.IMAP4("127.0.0.1", reader.proxy.imap_port) as client:
        client.login(reader.address, reader.mailbox.password)
        _, (count,) = client.select()
        found = []
        for number in range(1, int(count) + 1):
            _, parts = client.fetch(str(number), "(FLAGS RFC822.SIZE BODY[])")
            octets = parts[0][1]
            size = int(parts[0][0].split(b"RFC822.SIZE ")[1].split()[0])
            assert size == len(octets)
            found.append(octets)
        return found


def by_aioimaplib(reader: ProxyUser, folder: Path) -> list[bytes]:
    async def read() -> list[bytes]:
        client = aioimaplib.IMAP4("127.0.0.1", reader.proxy.imap_port, timeout=20)
        await client.wait_hello_from_server()
        try:
            return await read_all(client)
        finally:
            await client.logout()
            client.protocol.transport.close()  # which logout leaves open

    async def read_all(client: aioimaplib.IMAP4) -> list[bytes]:
        assert (await client.login(reader.address, reader.mailbox.password)).result == "OK"
        answer = await client.select("INBOX")
        (exists,) = (line for line in answer.lines if line.endswith(b" EXISTS"))
        found = []
        for number in range(1, int(exists.split()[0]) + 1):
            answer = await client.fetch(str(number), "(UID BODY.PEEK[])")
            assert answer.result == "OK"
            found.append(bytes(answer.lines[1]))
        return found

    return asyncio.run(read())


def by_neomutt(reader: ProxyUser, folder: Path) -> list[bytes]:
    out = folder / "piped"
    config = folder / "neomuttrc"
    config.write_text(
        f"""set folder = "imap://127.0.0.1:{reader.proxy.imap_port}/"
set spoolfile = "+INBOX"
set imap_user = "{reader.address}"
set imap_pass = "{reader.mailbox.password}"
set imap_authenticators = "login"
set ssl_starttls = no
set ssl_force_tls = no
set header_cache = ""
set message_cachedir = ""
set sort = mailbox-order
set pipe_decode = no
set pipe_split = yes
set pipe_sep = ""
set wait_key = no
set quit = yes
set mark_old = no
push "<tag-pattern>~A<enter><tag-prefix><pipe-message>cat >>{out}; printf '%%%%' >>{out}<enter><quit>"
"""
    )
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        ["neomutt", "-n", "-F", config],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "HOME": str(folder), "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    os.close(terminal)
    screen = bytearray()

    def drain() -> None:
        # A terminal ends with EIO when its last user has gone.
        with suppress(OSError):
            while octets := os.read(controller, 65536):
                screen.extend(octets)

    drained = threading.Thread(target=drain)
    drained.start()
    try:
        assert process.wait(60) == 0, bytes(screen)
    finally:
        process.kill()
        drained.join(10)
        os.close(controller)
    assert out.exists(), bytes(screen).decode(errors="replace")
    return [one.replace(b"\n", b"\r\n") for one in out.read_bytes().split(b"%%")[:-1]]


@pytest.fixture
def bob(module_proxies: ProxyFactory, dovecot: Dovecot) -> ProxyUser:
    return proxy_user(module_proxies, dovecot.mailbox("bob"))


@pytest.fixture
def alice(gnupg_home: Callable[..., GnuPG], dovecot: Dovecot, bob: ProxyUser) -> GnuPGUser:
    person = gnupg_user(gnupg_home(), dovecot.mailbox("alice"))
    introduce(person, bob)
    return person


@pytest.mark.client("neomutt", "reads")
@pytest.mark.parametrize("read", [by_imaplib, by_aioimaplib, by_neomutt])
def test_a_client_reads_plaintext_verdict_and_untouched_plain_mail(
    read: Read, alice: GnuPGUser, bob: ProxyUser, tmp_path: Path
) -> None:
    header = f"From: {alice.address}\nTo: {bob.address}\nSubject: [...]\nMessage-ID: <x@example.test>"
    bob.mailbox.append(encrypted_by(alice.gnupg, header, ENTITY, "--sign", "-r", bob.address))
    bob.mailbox.append(PLAIN)
    assert not any(leaked(octets) for octets in bob.mailbox.files())

    presented, plain = read(bob, tmp_path)

    assert TEXT.encode() in presented
    assert ATTACHMENT in presented
    assert f"Subject: {HIDDEN}\r\n".encode() in presented
    assert b"Subject: [...]" not in presented
    verdict = presented.partition(f"{bob.verdict_field}: ".encode())[2].partition(b"(")[0]
    assert b"signature=valid" in verdict
    assert f"signer={alice.address}".encode() in verdict
    assert presented.count(b"Secmail-Verdict-") == 1
    assert plain == PLAIN
    assert not any(leaked(octets) for octets in bob.mailbox.files())
