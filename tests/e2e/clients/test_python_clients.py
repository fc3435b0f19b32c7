"""IMAPClient, imap-tools and aioimaplib through the proxy: read, list, flag, move, append, wait, search."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import aioimaplib
import imap_tools
import imapclient
import pytest
from imapclient.response_types import BodyData

from tests.fixtures.clients import Account, Letters
from tests.fixtures.people import ATTACHMENT, SUBJECT, TEXT, letter

FOLDERS = {"INBOX", "Archive", "Drafts", "Sent", "Trash"}
SUBJECTS = ["plain", "signed", "[...]", SUBJECT, "[...]"]
"""Of the inbox; only the fourth message brings a protected subject."""
NESTED = 4
WAIT = 30
"""Seconds that a client waits for news; they come at once."""


def draft(account: Account, folder: str) -> bytes:
    """A letter to append in clear."""
    return letter(account.address, "carol@example.test", f"{SUBJECT} ({folder})")


def assert_stored_encrypted(account: Account) -> None:
    """The server holds one draft and one sent message, both as ciphertext, and no word in clear."""
    for folder in ("Drafts", "Sent"):
        (stored,) = account.mailbox.stored(folder)
        assert b"BEGIN PGP MESSAGE" in stored
    account.assert_nothing_leaked()


@pytest.fixture
def account(accounts: Callable[[], Account]) -> Account:
    return accounts()


@pytest.fixture
def client(account: Account) -> Iterator[imapclient.IMAPClient]:
    with imapclient.IMAPClient("127.0.0.1", account.proxy.imap_port, ssl=False, timeout=WAIT) as client:
        client.login(account.address, account.password)
        yield client


@pytest.mark.client("IMAPClient", "reads")
def test_imapclient_lists_and_reads(account: Account, client: imapclient.IMAPClient) -> None:
    presented = account.presented()
    uids = range(1, 6)
    assert client.namespace().personal == (("", "/"),)
    assert {name for _, _, name in client.list_folders()} == FOLDERS
    assert client.find_special_folder(imapclient.imapclient.SENT) == "Sent"
    assert client.folder_status("INBOX", ["MESSAGES"]) == {b"MESSAGES": 5}
    assert client.select_folder("INBOX")[b"EXISTS"] == 5

    listed = client.fetch(uids, ["FLAGS", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE"])
    assert [listed[uid][b"ENVELOPE"].subject.decode() for uid in uids] == SUBJECTS
    assert all(b"\\Seen" not in listed[uid][b"FLAGS"] for uid in uids)
    read = client.fetch(uids, ["BODY[]"])
    for uid, message in zip(uids, presented, strict=True):
        assert read[uid][b"BODY[]"] == message
        assert listed[uid][b"RFC822.SIZE"] == len(message)

    structure = listed[NESTED][b"BODYSTRUCTURE"]
    assert isinstance(structure, BodyData)
    (alternative, *_), inner, attached = structure[0]
    parts = client.fetch(NESTED, ["BODY[1.1]", "BODY[1.2]", "BODY[2]", "BODY[3]"])[NESTED]
    for leaf, name in ((alternative[0], "1.1"), (alternative[1], "1.2"), (inner, "2"), (attached, "3")):
        assert leaf[6] == len(parts[f"BODY[{name}]".encode()])
    assert parts[b"BODY[1.1]"].rstrip() == TEXT.encode()
    assert parts[b"BODY[3]"].rstrip() == ATTACHMENT.rstrip()
    assert all("\\Seen" in flags for flags in account.flags())


@pytest.mark.client("IMAPClient", "flags", "moves", "deletes", "drafts", "sent", "searches", "idles")
def test_imapclient_flags_moves_appends_waits_and_searches(
    account: Account, client: imapclient.IMAPClient, letters: Letters
) -> None:
    presented = account.presented()
    client.select_folder("INBOX")
    client.add_flags([NESTED], [imapclient.FLAGGED, "$work"])
    client.remove_flags([NESTED], ["$work"])
    assert account.flags() == [set(), set(), set(), {"\\Flagged"}, set()]
    assert client.search(["FLAGGED"]) == [NESTED]
    assert client.search(["SUBJECT", "signed"]) == [2]

    for folder in ("Drafts", "Sent"):
        message = draft(account, folder)
        answer = client.append(folder, message, [imapclient.DRAFT if folder == "Drafts" else imapclient.SEEN])
        assert answer.startswith(b"[APPENDUID ")
        client.select_folder(folder)
        (uid,) = client.search()
        assert client.fetch(uid, ["BODY[]"])[uid][b"BODY[]"] == message
    assert_stored_encrypted(account)

    client.select_folder("INBOX")
    client.create_folder("Projects/Mühle")
    client.move([NESTED], "Projects/Mühle")
    client.select_folder("Projects/Mühle")
    moved = client.fetch([1], ["BODY[]", "RFC822.SIZE"])[1]
    assert moved[b"BODY[]"] == presented[3]
    assert moved[b"RFC822.SIZE"] == len(presented[3])

    client.select_folder("INBOX")
    client.idle()
    account.mailbox.append(letters.messages["nested"])
    assert (5, b"EXISTS") in client.idle_check(timeout=WAIT)
    client.idle_done()
    assert client.fetch([6], ["ENVELOPE"])[6][b"ENVELOPE"].subject == SUBJECT.encode()
    client.delete_messages([2])
    client.expunge()
    assert account.presented() == [
        presented[0],
        presented[2],
        presented[4],
        client.fetch(6, "BODY[]")[6][b"BODY[]"],
    ]


@pytest.mark.client("imap-tools", "reads", "flags", "moves", "deletes", "drafts", "sent", "searches", "idles")
def test_imap_tools(account: Account, letters: Letters) -> None:
    presented = account.presented()
    with imap_tools.MailBoxUnencrypted("127.0.0.1", account.proxy.imap_port, timeout=WAIT).login(
        account.address, account.password
    ) as box:
        assert {one.name for one in box.folder.list()} == FOLDERS
        assert box.folder.status("INBOX")["MESSAGES"] == 5
        # The order of untagged FETCH responses is free (RFC 2683 section 3.4.4), and imap-tools keeps it.
        listed = sorted(
            box.fetch(headers_only=True, mark_seen=False, bulk=True), key=lambda one: int(one.uid)
        )
        assert [one.subject for one in listed] == SUBJECTS
        assert [one.size_rfc822 for one in listed] == [len(message) for message in presented]
        read = list(box.fetch())
        assert [one.obj.as_bytes(policy=email.policy.SMTP) for one in read] == [
            email.message_from_bytes(message).as_bytes(policy=email.policy.SMTP) for message in presented
        ]
        nested = read[NESTED - 1]
        assert nested.text.strip() == TEXT
        assert nested.from_ == "alice@example.test"
        maps = [one.payload for one in nested.attachments if one.filename == "map.csv"]
        assert maps == [ATTACHMENT.rstrip(b"\r\n")] * 2  # its own and the forwarded one

        box.flag("1", imap_tools.MailMessageFlags.ANSWERED, True)
        assert "\\Answered" in account.flags()[0]
        assert box.uids(imap_tools.AND(answered=True)) == ["1"]
        assert box.uids(imap_tools.AND(subject="signed")) == ["2"]

        for folder in ("Drafts", "Sent"):
            box.append(draft(account, folder), folder, flag_set=[imap_tools.MailMessageFlags.SEEN])
            box.folder.set(folder)
            (kept,) = box.fetch()
            assert kept.subject == f"{SUBJECT} ({folder})"
        assert_stored_encrypted(account)

        box.folder.set("INBOX")
        box.folder.create("Projects")
        box.move(str(NESTED), "Projects")
        box.copy("5", "Projects")
        assert account.presented("Projects") == presented[3:]

        box.folder.set("INBOX")
        with box.idle as idle:
            account.mailbox.append(letters.messages["nested"])
            assert b"* 5 EXISTS" in idle.poll(timeout=WAIT)
        assert [one.subject for one in box.fetch(imap_tools.AND(uid="6"))] == [SUBJECT]
        box.delete(["2", "6"])
        assert account.presented() == [presented[0], presented[2], presented[4]]


@asynccontextmanager
async def aioimaplib_session(account: Account) -> AsyncIterator[aioimaplib.IMAP4]:
    client = aioimaplib.IMAP4("127.0.0.1", account.proxy.imap_port, timeout=WAIT)
    await client.wait_hello_from_server()
    try:
        assert (await client.login(account.address, account.password)).result == "OK"
        yield client
    finally:
        await client.logout()
        client.protocol.transport.close()  # which logout leaves open


def literal(answer: aioimaplib.Response) -> bytes:
    """The literal of a FETCH of one message."""
    assert answer.result == "OK", answer
    return bytes(answer.lines[1])


@pytest.mark.client("aioimaplib", "reads", "flags", "moves", "deletes", "drafts", "sent", "searches", "idles")
async def test_aioimaplib(account: Account, letters: Letters) -> None:
    presented = account.presented()
    async with aioimaplib_session(account) as client:
        assert b"5 EXISTS" in (await client.select("INBOX")).lines
        for uid, message in enumerate(presented, 1):
            listed = await client.uid("fetch", str(uid), "(UID RFC822.SIZE FLAGS)")
            assert re.search(rb"RFC822\.SIZE (\d+)", listed.lines[0])[1] == b"%d" % len(message)
            assert literal(await client.uid("fetch", str(uid), "(BODY.PEEK[])")) == message
        listed = b"".join((await client.uid("fetch", str(NESTED), "(ENVELOPE BODYSTRUCTURE)")).lines)
        assert SUBJECT.encode() in listed
        assert b'"map.csv"' in listed

        assert (await client.uid("store", str(NESTED), r"+FLAGS.SILENT (\Flagged)")).result == "OK"
        assert account.flags()[NESTED - 1] == {"\\Flagged"}
        assert (await client.uid_search("FLAGGED")).lines[0] == b"%d" % NESTED

        for folder in ("Drafts", "Sent"):
            message = draft(account, folder)
            assert (await client.append(message, folder, flags=r"\Seen")).result == "OK"
            await client.select(folder)
            assert literal(await client.uid("fetch", "1", "(BODY.PEEK[])")) == message
        assert_stored_encrypted(account)

        await client.select("INBOX")
        assert (await client.create("Projects")).result == "OK"
        assert (await client.uid("move", str(NESTED), "Projects")).result == "OK"
        assert account.presented("Projects") == [presented[3]]
        assert (await client.uid("store", "2", r"+FLAGS (\Deleted)")).result == "OK"
        assert (await client.expunge()).result == "OK"
        assert account.presented() == [presented[0], presented[2], presented[4]]

        idle = await client.idle_start(timeout=WAIT)
        await asyncio.to_thread(account.mailbox.append, letters.messages["nested"])
        while b"4 EXISTS" not in (news := await client.wait_server_push(WAIT)):
            assert news != aioimaplib.STOP_WAIT_SERVER_PUSH
        client.idle_done()
        await asyncio.wait_for(idle, WAIT)
        assert SUBJECT.encode() in b"".join((await client.uid("fetch", "6", "(ENVELOPE)")).lines)
