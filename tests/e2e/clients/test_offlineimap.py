"""OfflineIMAP keeps Maildirs and an account behind the proxy the same, in both directions."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.clients import PLAIN, Account, Workplace, crlf, without_verdict
from tests.fixtures.people import TEXT, letter

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


def sync(workplace: Workplace) -> str:
    return workplace.run("offlineimap", "-1", "-c", workplace.folder / "rc")


def messages(workplace: Workplace, folder: str = "INBOX") -> dict[Path, bytes]:
    """The files of a Maildir: octets (CRLF) without the mark of OfflineIMAP."""
    paths = (workplace.folder / "mail" / folder).glob("[cn]*/*")
    return {path: unmarked(crlf(path.read_bytes())) for path in paths}


def unmarked(octets: bytes) -> bytes:
    """Without the field by which OfflineIMAP finds again what it appended."""
    return re.sub(rb"(?i)X-OfflineIMAP: .*\r\n", b"", octets)


def local(workplace: Workplace, folder: str = "INBOX") -> list[bytes]:
    """The messages of a Maildir, sorted."""
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
    path = workplace.folder / "mail" / folder / "cur" / f"1.{folder}.test:2,{flags}"
    path.write_bytes(octets.replace(b"\r\n", b"\n"))
    workplace.own(path)


def assert_settled(account: Account, workplace: Workplace) -> None:
    """A further run changes neither side, and the server knows no plaintext."""
    account.assert_nothing_leaked()
    before = account.state(), workplace.tree("mail", "metadata")
    sync(workplace)
    assert (account.state(), workplace.tree("mail", "metadata")) == before


def assert_same(account: Account, workplace: Workplace) -> None:
    """Both sides hold the same messages, and a further run changes neither."""
    for folder in ("INBOX", "Archive", "Drafts", "Sent", "Trash"):
        assert local(workplace, folder) == sorted(map(unmarked, account.presented(folder))), folder
    assert_settled(account, workplace)


@pytest.mark.client("offlineimap3", "reads", "flags", "deletes", "again")
def test_flags_and_deletions_go_both_ways(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    configure(account, workplace)
    sync(workplace)
    assert len(local(workplace)) == 5
    assert_same(account, workplace)
    mark(file_of(workplace, b"<3@example.test>"), "FS")  # nested
    file_of(workplace, b"<1@example.test>").unlink()  # signed
    with account.mailbox.imap() as client:
        client.select()
        client.store("3", "+FLAGS", "\\Answered")
        client.store("1,5", "+FLAGS", "\\Deleted")  # plain and large
        client.expunge()

    sync(workplace)

    assert account.flags() == [{"\\Answered"}, {"\\Flagged", "\\Seen"}]
    assert {mark_of(path) for path in messages(workplace)} == {"R", "FS"}
    assert_same(account, workplace)


@pytest.mark.client("offlineimap3", "drafts", "sent", "again")
def test_what_is_written_here_arrives_there(accounts: Callable[[], Account], workplace: Workplace) -> None:
    check_writing(accounts(), workplace)


def test_what_was_appended_is_found_by_its_mark(
    account_without_uidplus: Account, workplace: Workplace
) -> None:
    """IMAP-17: without APPENDUID it searches for X-OfflineIMAP, and does not append again."""
    check_writing(account_without_uidplus, workplace)
    assert all(
        b"\r\nX-OfflineIMAP: " in account_without_uidplus.mailbox.stored(name)[0]
        for name in ("Drafts", "Sent")
    )


def check_writing(account: Account, workplace: Workplace) -> None:
    """A draft, sent mail and plain mail, written here."""
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


@pytest.mark.client("offlineimap3", "moves", "again")
def test_a_move_here_is_a_move_there(accounts: Callable[[], Account], workplace: Workplace) -> None:
    """OfflineIMAP knows no moves: it appends what it holds, decrypted, and deletes what was.

    The verdict stays behind: what arrives is encrypted anew, without the signature.
    """
    account = accounts()
    configure(account, workplace)
    sync(workplace)
    for number, word in enumerate((b"<3@example.test>", b"<plain@example.net>", b"<1@example.test>")):
        file_of(workplace, word).rename(workplace.folder / "mail" / "Archive" / "cur" / f"{number}.test:2,S")

    sync(workplace)

    assert local(workplace) == sorted(account.presented())
    assert len(local(workplace)) == 2
    arrived = [without_verdict(unmarked(octets)) for octets in account.presented("Archive")]
    assert sorted(arrived) == sorted(map(without_verdict, local(workplace, "Archive")))
    assert len(arrived) == 4
    assert any(TEXT.encode() in octets for octets in arrived)
    assert_settled(account, workplace)


def test_adoption_as_documented(accounts: Callable[[], Account], workplace: Workplace) -> None:
    account = accounts()
    configure(account, workplace, direct=True)
    sync(workplace)
    mark(file_of(workplace, b"<plain@example.net>"), "FS")
    sync(workplace)
    assert local(workplace) == sorted(account.mailbox.stored())
    before = account.state()

    for name in ("mail", "metadata"):
        (workplace.folder / name).rename(workplace.folder / f"old-{name}")
    configure(account, workplace)
    sync(workplace)

    assert account.state() == before
    assert mark_of(file_of(workplace, b"<plain@example.net>")) == "FS"
    assert_same(account, workplace)
