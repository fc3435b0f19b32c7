"""mbsync of a whole mailbox: straight from Dovecot, and through the proxy.

Mail, indexes, the proxy's store and mbsync's copies lie in memory (/dev/shm) where there is such a place, so
that no disk is measured. Each run is one mbsync into an empty Maildir.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench.crypto import Keys, entity, keys
from bench.measure import Row, alternating, cost, faster, seconds
from tests.fixtures.certificates import TestCA, authority
from tests.fixtures.dovecot import Dovecot, Mailbox, running_dovecot
from tests.fixtures.gnupg import multipart
from tests.fixtures.processes import free_port
from tests.fixtures.proxy import ProxyFactory, ProxyHome, Upstream, proxy_factory, serving

PLAIN_MESSAGES = 5000
ENCRYPTED_MESSAGES = 1000
RUNS = 5
MEMORY = "/dev/shm"

RC = """IMAPStore far
Host localhost
Port {port}
User {user}
Pass "{password}"
{tls}
AuthMechs LOGIN

MaildirStore near
Path {folder}/
Inbox {folder}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns INBOX
Create Near
Sync Pull
SyncState *
"""


@dataclass(frozen=True)
class Place:
    """Where everything of this benchmark runs."""

    dovecot: Dovecot
    ca: TestCA
    factory: ProxyFactory
    parent: str


@contextmanager
def place() -> Iterator[Place]:
    """A Dovecot and a maker of proxies."""
    parent = MEMORY if Path(MEMORY).is_dir() else "/tmp"
    with authority() as ca, running_dovecot(ca, parent) as dovecot:
        upstream = Upstream(ca.ca_file, dovecot.imaps_port, free_port())
        with proxy_factory(upstream, parent) as factory:
            yield Place(dovecot, ca, factory, parent)


def mbsync(where: Place, mailbox: Mailbox, port: int, tls: str, count: int) -> float:
    """Seconds of one mbsync of `count` messages into an empty Maildir."""
    with tempfile.TemporaryDirectory(prefix="smp-mbsync-", dir=where.parent) as folder:
        config = Path(folder) / "mbsyncrc"
        config.write_text(
            RC.format(port=port, user=mailbox.address, password=mailbox.password, tls=tls, folder=folder)
        )
        argv = ["mbsync", "--config", str(config), "--quiet", "all"]
        took = seconds(lambda: subprocess.run(argv, check=True, capture_output=True))
        found = sum(1 for _ in (Path(folder) / "INBOX").glob("[cn]*/*"))
        assert found == count, f"mbsync fetched {found} of {count} messages"
        return took


def direct(where: Place, mailbox: Mailbox, count: int) -> float:
    """Straight from Dovecot, over TLS as the proxy does."""
    tls = f"SSLType IMAPS\nCertificateFile {where.ca.ca_file}"
    return mbsync(where, mailbox, where.dovecot.imaps_port, tls, count)


def rows() -> Iterator[Row]:
    """Plain mail, then encrypted mail at the first and at the second sync."""
    with place() as where:
        yield plain(where)
        with keys() as both:
            yield from encrypted(where, both)


def plain(where: Place) -> Row:
    """5,000 plain messages."""
    mailbox = where.dovecot.mailbox("plain")
    mailbox.fill(
        b"From: n@example.net\r\nTo: x@example.test\r\nSubject: number %d\r\nMessage-ID: <%d@example.net>\r\n"
        b"MIME-Version: 1.0\r\n%b" % (number, number, entity())
        for number in range(PLAIN_MESSAGES)
    )
    direct(where, mailbox, PLAIN_MESSAGES)  # Dovecot's own indexes are made now
    with serving(where.factory.home(mailbox)) as proxy:
        times = alternating(
            RUNS,
            lambda: mbsync(where, mailbox, proxy.imap_port, "SSLType None", PLAIN_MESSAGES),
            lambda: direct(where, mailbox, PLAIN_MESSAGES),
        )
    return cost(f"mbsync of {PLAIN_MESSAGES} plain messages of 5 KB", ("proxy", "direct"), times, 1.05)


def encrypted(where: Place, both: Keys) -> Iterator[Row]:
    """1,000 encrypted messages: the first sync decrypts them all, the second presents what was kept."""
    now = datetime.now(UTC)
    mailbox = where.dovecot.account("bob@example.org")
    ciphertexts = [
        both.keystore.encrypt(entity(), [both.bob], both.alice, now) for _ in range(ENCRYPTED_MESSAGES)
    ]
    mailbox.fill(message(number, ciphertext) for number, ciphertext in enumerate(ciphertexts))
    direct(where, mailbox, ENCRYPTED_MESSAGES)
    home = where.factory.home(mailbox)
    with home.keystore() as keystore:
        keystore.import_keys(both.keystore.export(both.alice), source="bench")
        keystore.import_keys(both.keystore.export(both.bob, secret=True), source="bench")

    def by_gpg() -> float:
        return sum(seconds(lambda: both.gnupg.run("--decrypt", data=one)) for one in ciphertexts)  # noqa: B023  # called at once

    times = alternating(3, lambda: _first_sync(where, home, mailbox), by_gpg)
    what = f"first sync of {ENCRYPTED_MESSAGES} encrypted messages of 5 KB"
    yield faster(what, ("mbsync through proxy", "gpg --decrypt of each"), times, 10.0)
    with serving(home) as proxy:

        def through() -> float:
            return mbsync(where, mailbox, proxy.imap_port, "SSLType None", ENCRYPTED_MESSAGES)

        through()
        times = alternating(RUNS, through, lambda: direct(where, mailbox, ENCRYPTED_MESSAGES))
    yield cost(f"second sync of {ENCRYPTED_MESSAGES} encrypted messages", ("proxy", "direct"), times, 1.2)


def _first_sync(where: Place, home: ProxyHome, mailbox: Mailbox) -> float:
    """One sync through a proxy that has never seen the mailbox."""
    for path in home.folders.state.glob(home.folders.views.name + "*"):
        path.unlink()
    shutil.rmtree(home.folders.cache)
    with serving(home) as proxy:
        return mbsync(where, mailbox, proxy.imap_port, "SSLType None", ENCRYPTED_MESSAGES)


def message(number: int, ciphertext: bytes) -> bytes:
    header = (
        f"From: alice@example.org\nTo: bob@example.org\nSubject: [...]\nMessage-ID: <{number}@example.org>"
    )
    kind = 'multipart/encrypted; protocol="application/pgp-encrypted"'
    parts = [
        b"Content-Type: application/pgp-encrypted\n\nVersion: 1\n",
        b"Content-Type: application/octet-stream\n\n" + ciphertext,
    ]
    return multipart(header, kind, parts)
