"""mbsync keeps a Maildir and an account behind the proxy the same, in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.fixtures.clients import Account, Workplace
from tests.fixtures.maildir import MAIL, Synced, mark, mark_of
from tests.fixtures.people import TEXT

CONFIG = """IMAPStore far
Host {host}
Port {port}
User {account.address}
Pass "{account.password}"
{tls}
AuthMechs LOGIN

MaildirStore near
Path {mail}/
Inbox {mail}/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Near
Expunge Both
SyncState {state}
"""


def configure(account: Account, workplace: Workplace, state: str = "*", *, direct: bool = False) -> None:
    """Through the proxy as docs/clients.md says, or with the server itself."""
    server = account.mailbox.server
    how = (
        {
            "host": "localhost",
            "port": server.imaps_port,
            "tls": f"SSLType IMAPS\nCertificateFile {server.ca.ca_file}",
        }
        if direct
        else {"host": "127.0.0.1", "port": account.proxy.imap_port, "tls": "SSLType None"}
    )
    mail = workplace.folder / MAIL
    workplace.write("mbsyncrc", CONFIG.format(account=account, mail=mail, state=state, **how))


def synced(account: Account, workplace: Workplace) -> Synced:
    """The Maildir; mbsync finds again what it copied by a field."""

    def sync() -> str:
        (workplace.folder / MAIL).mkdir(exist_ok=True)
        workplace.own(workplace.folder / MAIL)
        return workplace.run("mbsync", "-c", workplace.folder / "mbsyncrc", "all")

    return Synced(account, workplace, sync, lambda octets: re.sub(rb"X-TUID: .*\r\n", b"", octets))


@pytest.fixture
def both(accounts: Callable[[], Account], workplace: Workplace) -> Synced:
    """An account and a Maildir, the same for the first time."""
    account = accounts()
    configure(account, workplace)
    both = synced(account, workplace)
    both.sync()
    return both


@pytest.mark.client("mbsync", "reads", "again")
def test_the_maildir_holds_what_the_proxy_presents(both: Synced) -> None:
    assert len(both.local()) == 5
    assert any(TEXT.encode() in octets for octets in both.local("Archive"))
    both.assert_same()


@pytest.mark.client("mbsync", "flags", "deletes", "again")
def test_flags_and_deletions_go_both_ways(both: Synced) -> None:
    mark(both.file_of(b"<3@example.test>"), "FS")  # nested
    mark(both.file_of(b"<1@example.test>"), "T")  # signed
    both.assert_changed_as_told()


@pytest.mark.client("mbsync", "drafts", "sent", "again")
def test_what_is_written_here_arrives_there(both: Synced) -> None:
    both.assert_written_arrives()


@pytest.mark.client("mbsync", "moves", "again")
def test_a_move_here_is_a_move_there(both: Synced) -> None:
    both.assert_moves_arrive(lambda path: path.name.split(",U=")[0])


@pytest.mark.parametrize("state", ["*", "{folder}/state/"], ids=["in the Maildir", "elsewhere"])
def test_adoption_as_documented(accounts: Callable[[], Account], workplace: Workplace, state: str) -> None:
    account = accounts()
    both = synced(account, workplace)
    state = state.format(folder=workplace.folder)
    workplace.write("state/.kept", "")
    configure(account, workplace, state, direct=True)
    both.sync()
    mark(both.file_of(b"<plain@example.net>"), "FS")
    both.sync()
    assert sorted(map(both.unmarked, account.mailbox.stored())) == both.local()
    before = account.state()

    (workplace.folder / MAIL).rename(workplace.folder / "old-mail")
    if state != "*":
        (workplace.folder / "state").rename(workplace.folder / "old-state")
        workplace.write("state/.kept", "")
    configure(account, workplace, state)
    both.sync()

    assert account.state() == before
    assert mark_of(both.file_of(b"<plain@example.net>")) == "FS"
    both.assert_same()
