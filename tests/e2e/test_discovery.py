"""A certificate that is found while a message is submitted protects this very message, in the real proxy."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from keystore import openpgp
from tests.e2e.test_local_troubles import client, send
from tests.fixtures.alone import REQUIRED, alone
from tests.fixtures.certificates import TestCA
from tests.fixtures.keystores import NOW
from tests.fixtures.people import leaked
from tests.fixtures.proxy import serving
from tests.smtp.peers import PIPELINING, Scripted

BOB = "bob@example.org"


async def test_what_a_folder_holds_encrypts(ca: TestCA, tmp_path: Path) -> None:
    """With a rule that demands it, RCPT waits for the search."""
    key = openpgp.generate(BOB, now=NOW - timedelta(days=1))
    (tmp_path / "bob.asc").write_bytes(key.certificate_octets)
    config = f'{REQUIRED}\n[discovery]\nfolder = "{tmp_path}"\n'
    async with Scripted({"EHLO": PIPELINING}, tls=ca.server_context()).running() as smarthost:
        with alone(ca, smarthost.port, config=config) as home, serving(home) as proxy:
            async with client(proxy) as user:
                assert await send(user, "found", BOB.encode()) == b"250 2.0.0 queued\r\n"
    (message,) = smarthost.messages
    assert b"multipart/encrypted" in message
    assert not leaked(message)
