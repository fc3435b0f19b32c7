"""mbsync keeps a Maildir and an account behind the proxy the same, in both directions."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.clients import PLAIN, Account, Workplace, crlf, without_verdict
from tests.fixtures.people import TEXT, letter

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
MAIL = "mail"


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


def sync(workplace: Workplace) -> str:
    (workplace.folder / MAIL).mkdir(exist_ok=True)
    workplace.own(workplace.folder / MAIL)
    return workplace.run("mbsync", "-c", workplace.folder / "mbsyncrc", "all")


def messages(workplace: Workplace, folder: str = "INBOX") -> dict[Path, bytes]:
    """The files of a Maildir: octets (CRLF) without the mark of mbsync."""
    paths = (workplace.folder / MAIL / folder).glob("[cn]*/*")
    return {path: unmarked(crlf(path.read_bytes())) for path in paths}


def unmarked(octets: bytes) -> bytes:
    """Without the field by which mbsync finds again what it copied."""
    return re.sub(rb"X-TUID: .*\r\n", b"", octets)


def local(workplace: Workplace, folder: str = "INBOX") -> list[bytes]:
    """The messages of a Maildir, sorted: mbsync numbers them as they arrive."""
    return sorted(messages(workplace, folder).values())


def file_of(workplace: Workplace, word: bytes, folder: str = "INBOX") -> Path:
    """The one message with this word."""
    (path,) = (path for path, octets in messages(workplace, folder).items() if word in octets)
    return path


def mark(path: Path, flags: str) -> None:
    """Set the flags of a message in the Maildir."""
    path.rename(path.parent.parent / "cur" / (path.name.partition(":")[0] + ":2," + flags))


def mark_of(path: Path) -> str:
    """The flags of a message in the Maildir."""
    return path.name.partition(":2,")[2]


def write(workplace: Workplace, folder: str, octets: bytes, flags: str = "S") -> None:
    """A new message, as another program puts it into the Maildir."""
    path = workplace.folder / MAIL / folder / "cur" / f"1.{folder}.test:2,{flags}"
    path.write_bytes(octets.replace(b"\r\n", b"\n"))
    workplace.own(path)


def assert_same(account: Account, workplace: Workplace) -> None:
    """Both sides hold the same messages, and a further run changes neither."""
    for folder in ("INBOX", "Archive", "Drafts", "Sent", "Trash"):
        assert local(workplace, folder) == sorted(map(unmarked, account.presented(folder))), folder
    assert_settled(account, workplace)


def assert_settled(account: Account, workplace: Workplace) -> None:
    """A further run changes neither side, and the server knows no plaintext."""
    account.assert_nothing_leaked()
    before = account.state(), workplace.tree(MAIL)
    sync(workplace)
    assert (account.state(), workplace.tree(MAIL)) == before


@pytest.mark.client("mbsync", "reads", "again")
def test_the_maildir_holds_what_the_proxy_presents(
    accounts: Callable[[], Account], workplace: Workplace
) -> None:
    account = accounts()
    configure(account, workplace)

    sync(workplace)

    assert len(local(workplace)) == 5
    assert any(TEXT.encode() in octets for octets in local(workplace, "Archive"))
    assert_same(account, workplace)


@pytest.mark.client("mbsync", "flags", "deletes", "again")
def test_flags_and_deletions_go_both_ways(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    configure(account, workplace)
    sync(workplace)
    mark(file_of(workplace, b"<3@example.test>"), "FS")  # nested
    mark(file_of(workplace, b"<1@example.test>"), "T")  # signed
    with account.mailbox.imap() as client:
        client.select()
        client.store("3", "+FLAGS", "\\Answered")
        client.store("1,5", "+FLAGS", "\\Deleted")  # plain and large
        client.expunge()

    sync(workplace)

    assert account.flags() == [{"\\Answered"}, {"\\Flagged", "\\Seen"}]
    assert {mark_of(path) for path in messages(workplace)} == {"R", "FS"}
    assert_same(account, workplace)


@pytest.mark.client("mbsync", "drafts", "sent", "again")
def test_what_is_written_here_arrives_there(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    configure(account, workplace)
    sync(workplace)
    written = letter(account.address, "somebody@example.test")
    write(workplace, "Drafts", written, "DS")
    write(workplace, "Sent", written)
    write(workplace, "Archive", PLAIN)

    sync(workplace)

    for folder in ("Drafts", "Sent"):
        assert local(workplace, folder) == [written]
        (stored,) = account.mailbox.stored(folder)
        assert b"multipart/encrypted" in stored
    assert account.flags("Drafts") == [{"\\Draft", "\\Seen"}]
    assert PLAIN in local(workplace, "Archive")
    assert_same(account, workplace)


@pytest.mark.client("mbsync", "moves", "again")
def test_a_move_here_is_a_move_there(accounts: Callable[[], Account], workplace: Workplace) -> None:
    """mbsync knows no moves: it appends what it holds, decrypted, and deletes what was.

    The verdict stays behind: what arrives is encrypted anew, without the signature.
    """
    account = accounts()
    configure(account, workplace)
    sync(workplace)
    for word in (b"<3@example.test>", b"<plain@example.net>", b"<1@example.test>"):
        path = file_of(workplace, word)
        path.rename(workplace.folder / MAIL / "Archive" / "cur" / path.name.split(",U=")[0])

    sync(workplace)

    assert local(workplace) == sorted(account.presented())
    assert len(local(workplace)) == 2
    arrived = [without_verdict(unmarked(octets)) for octets in account.presented("Archive")]
    assert sorted(arrived) == sorted(map(without_verdict, local(workplace, "Archive")))
    assert len(arrived) == 4
    assert_settled(account, workplace)


@pytest.mark.parametrize("state", ["*", "{folder}/state/"], ids=["in the Maildir", "elsewhere"])
def test_adoption_as_documented(accounts: Callable[[], Account], workplace: Workplace, state: str) -> None:
    account = accounts()
    state = state.format(folder=workplace.folder)
    workplace.write("state/.kept", "")
    configure(account, workplace, state, direct=True)
    sync(workplace)
    mark(file_of(workplace, b"<plain@example.net>"), "FS")
    sync(workplace)
    assert sorted(map(unmarked, account.mailbox.stored())) == local(workplace)
    before = account.state()

    (workplace.folder / MAIL).rename(workplace.folder / "old-mail")
    if state != "*":
        (workplace.folder / "state").rename(workplace.folder / "old-state")
        workplace.write("state/.kept", "")
    configure(account, workplace, state)
    sync(workplace)

    assert account.state() == before
    assert mark_of(file_of(workplace, b"<plain@example.net>")) == "FS"
    assert_same(account, workplace)
