"""OfflineIMAP keeps Maildirs and an account behind the proxy the same, in both directions."""

from __future__ import annotations

import hashlib
import itertools
import re
import ssl
from collections.abc import Callable

import pytest

from tests.fixtures.clients import Account, Workplace
from tests.fixtures.maildir import MAIL, Synced, mark, mark_of
from tests.fixtures.people import TEXT

CONFIG = """[general]
accounts = work
metadata = {home}/metadata
ui = basic
maxsyncaccounts = 1
fsync = false

[Account work]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = {home}/mail

[Repository far]
type = IMAP
remoteport = {port}
remoteuser = {account.address}
remotepass = {account.password}
auth_mechanisms = PLAIN
maxconnections = 2
{how}
"""


def configure(account: Account, workplace: Workplace, *, direct: bool = False) -> None:
    """Through the proxy as docs/clients.md says, or with the server itself."""
    server = account.mailbox.server
    if direct:
        # It wants a commonName in the certificate, or to know which one it is.
        certificate = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("localhost", server.imaps_port)))
        known = hashlib.sha1(certificate).hexdigest()
        port, how = server.imaps_port, f"remotehost = localhost\ncert_fingerprint = {known}"
    else:
        port, how = account.proxy.imap_port, "remotehost = 127.0.0.1\nssl = no\nstarttls = no"
    workplace.write("rc", CONFIG.format(home=workplace.folder, account=account, port=port, how=how))


def synced(account: Account, workplace: Workplace) -> Synced:
    """The Maildir; OfflineIMAP finds again what it appended by a field."""
    return Synced(
        account,
        workplace,
        lambda: workplace.run("offlineimap", "-1", "-c", workplace.folder / "rc"),
        lambda octets: re.sub(rb"(?i)X-OfflineIMAP: .*\r\n", b"", octets),
        ("metadata",),
    )


def begun(account: Account, workplace: Workplace) -> Synced:
    """An account and a Maildir, the same for the first time."""
    configure(account, workplace)
    both = synced(account, workplace)
    both.sync()
    return both


@pytest.mark.client("offlineimap3", "reads", "flags", "deletes", "again")
def test_flags_and_deletions_go_both_ways(accounts: Callable[[], Account], workplace: Workplace) -> None:
    both = begun(accounts(), workplace)
    assert len(both.local()) == 5
    both.assert_same()
    mark(both.file_of(b"<3@example.test>"), "FS")  # nested
    both.file_of(b"<1@example.test>").unlink()  # signed
    both.assert_changed_as_told()


@pytest.mark.client("offlineimap3", "drafts", "sent", "again")
def test_what_is_written_here_arrives_there(accounts: Callable[[], Account], workplace: Workplace) -> None:
    begun(accounts(), workplace).assert_written_arrives()


def test_what_was_appended_is_found_by_its_mark(
    account_without_uidplus: Account, workplace: Workplace
) -> None:
    """IMAP-17: without APPENDUID it searches for X-OfflineIMAP, and does not append again."""
    begun(account_without_uidplus, workplace).assert_written_arrives()
    assert all(
        b"\r\nX-OfflineIMAP: " in account_without_uidplus.mailbox.stored(name)[0]
        for name in ("Drafts", "Sent")
    )


@pytest.mark.client("offlineimap3", "moves", "again")
def test_a_move_here_is_a_move_there(accounts: Callable[[], Account], workplace: Workplace) -> None:
    both = begun(accounts(), workplace)
    numbers = itertools.count()
    both.assert_moves_arrive(lambda path: f"{next(numbers)}.test:2,S")
    assert any(TEXT.encode() in octets for octets in both.account.presented("Archive"))


def test_adoption_as_documented(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    both = synced(account, workplace)
    configure(account, workplace, direct=True)
    both.sync()
    mark(both.file_of(b"<plain@example.net>"), "FS")
    both.sync()
    assert both.local() == sorted(account.mailbox.stored())
    before = account.state()

    for name in (MAIL, "metadata"):
        (workplace.folder / name).rename(workplace.folder / f"old-{name}")
    configure(account, workplace)
    both.sync()

    assert account.state() == before
    assert mark_of(both.file_of(b"<plain@example.net>")) == "FS"
    both.assert_same()
