"""IMAPClient, imap-tools and aioimaplib through the proxy: read, list, flag, move, append, wait, search."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aioimaplib
import imap_tools
import imapclient
import pytest
from imapclient.response_types import BodyData

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ATTACHMENT, SUBJECT, TEXT, ProxyUser, leaked, letter, protect
from tests.fixtures.proxy import ProxyFactory

PLAIN = b"From: n@example.net\r\nTo: b@example.test\r\nSubject: plain\r\n\r\nnothing to hide \r\n\r\n"
LONG = f"{TEXT}\r\n" * 4000
SAFE_SUBJECT = "Figures of the third quarter"
WAIT = 30
"""Seconds that a client waits for news; they come at once."""


@dataclass(frozen=True)
class Scene:
    """Bob's inbox holds a protected letter, a plain message and a long protected one, as 1, 2 and 3."""

    bob: ProxyUser
    messages: list[bytes]
    """What the clients must read."""
    arrival: bytes
    """One more protected letter, as the server stores it."""

    def draft(self, folder: str) -> bytes:
        """A letter to append in clear."""
        return letter(self.bob.address, "carol@example.test", f"{SUBJECT} ({folder})")

    def on_server(self, folder: str = "INBOX") -> dict[int, set[bytes]]:
        """UID -> flags, seen without the proxy."""
        with imapclient.IMAPClient(
            "localhost",
            self.bob.mailbox.server.imaps_port,
            ssl_context=self.bob.mailbox.server.ca.client_context(),
        ) as client:
            client.login(self.bob.address, self.bob.mailbox.password)
            client.select_folder(folder, readonly=True)
            return {
                uid: set(flags) - {b"\\Recent"} for uid, flags in client.get_flags(client.search()).items()
            }

    def check_stored(self) -> None:
        """The server holds one draft and one sent message, both as ciphertext, and no word in clear."""
        for folder in ("Drafts", "Sent"):
            (stored,) = self.bob.mailbox.stored(folder)
            assert b"BEGIN PGP MESSAGE" in stored
        assert not any(leaked(octets) for octets in self.bob.mailbox.files())


@pytest.fixture(scope="module")
def people(module_proxies: ProxyFactory, dovecot: Dovecot) -> list[ProxyUser]:
    """Four accounts of one proxy, which starts once."""
    mailboxes = [dovecot.mailbox("bob") for _ in range(4)]
    home = module_proxies.home(*mailboxes)
    with home.keystore() as keystore:
        prints = [keystore.generate(mailbox.address).fingerprint for mailbox in mailboxes]
    proxy = module_proxies.serve(home)
    found = [
        ProxyUser(mailbox, home, module_proxies, one) for mailbox, one in zip(mailboxes, prints, strict=True)
    ]
    for person in found:
        person.proxy = proxy
    return found


@pytest.fixture
def scene(people: list[ProxyUser]) -> Scene:
    bob = people.pop()
    for message in (letter(bob.address, bob.address), letter(bob.address, bob.address, SAFE_SUBJECT, LONG)):
        bob.mailbox.append(protect(bob, message))
        if len(bob.mailbox.stored()) == 1:
            bob.mailbox.append(PLAIN)
    presented = bob.read()
    assert presented[1] == PLAIN
    assert LONG.encode() in presented[2]
    return Scene(bob, presented, protect(bob, letter(bob.address, bob.address, "Windmill news")))


@pytest.fixture
def imapclient_session(scene: Scene) -> Iterator[imapclient.IMAPClient]:
    with imapclient.IMAPClient("127.0.0.1", scene.bob.proxy.imap_port, ssl=False, timeout=WAIT) as client:
        client.login(scene.bob.address, scene.bob.mailbox.password)
        yield client


def test_imapclient_lists_and_reads(scene: Scene, imapclient_session: imapclient.IMAPClient) -> None:
    client = imapclient_session
    assert client.namespace().personal == (("", "/"),)
    assert {name for _, _, name in client.list_folders()} == {"INBOX", "Drafts", "Sent", "Trash"}
    assert client.find_special_folder(imapclient.imapclient.SENT) == "Sent"
    assert client.folder_status("INBOX", ["MESSAGES"]) == {b"MESSAGES": 3}
    assert client.select_folder("INBOX")[b"EXISTS"] == 3

    listed = client.fetch([1, 2, 3], ["FLAGS", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "INTERNALDATE"])
    assert [listed[uid][b"ENVELOPE"].subject for uid in (1, 2, 3)] == [
        SUBJECT.encode(),
        b"plain",
        SAFE_SUBJECT.encode(),
    ]
    assert all(b"\\Seen" not in listed[uid][b"FLAGS"] for uid in listed)
    read = client.fetch([1, 2, 3], ["BODY[]", "BODY[1]", "BODY[2]"])
    for uid, message in enumerate(scene.messages, 1):
        assert read[uid][b"BODY[]"] == message
        assert listed[uid][b"RFC822.SIZE"] == len(message)
    structure = listed[1][b"BODYSTRUCTURE"]
    assert isinstance(structure, BodyData)
    assert structure.is_multipart
    for part, leaf in enumerate(structure[0], 1):
        assert leaf[6] == len(read[1][f"BODY[{part}]".encode()])
    assert read[1][b"BODY[2]"].rstrip() == ATTACHMENT.rstrip()
    assert all(b"\\Seen" in flags for flags in scene.on_server().values())


def test_imapclient_flags_moves_appends_waits_and_searches(
    scene: Scene, imapclient_session: imapclient.IMAPClient
) -> None:
    client = imapclient_session
    client.select_folder("INBOX")
    client.add_flags([1], [imapclient.FLAGGED, "$work"])
    client.remove_flags([1], ["$work"])
    assert scene.on_server()[1] == {b"\\Flagged"}
    assert client.search(["FLAGGED"]) == [1]
    assert client.search(["SUBJECT", "plain"]) == [2]

    for folder in ("Drafts", "Sent"):
        message = scene.draft(folder)
        answer = client.append(folder, message, [imapclient.DRAFT if folder == "Drafts" else imapclient.SEEN])
        assert answer.startswith(b"[APPENDUID ")
        client.select_folder(folder)
        (uid,) = client.search()
        assert client.fetch(uid, ["BODY[]"])[uid][b"BODY[]"] == message
    scene.check_stored()

    client.select_folder("INBOX")
    client.create_folder("Projects/Mühle")
    client.move([1], "Projects/Mühle")
    assert sorted(scene.on_server()) == [2, 3]
    client.select_folder("Projects/Mühle")
    assert client.fetch([1], ["BODY[]", "RFC822.SIZE"])[1][b"RFC822.SIZE"] == len(scene.messages[0])
    assert client.fetch([1], ["BODY[]"])[1][b"BODY[]"] == scene.messages[0]

    client.select_folder("INBOX")
    client.idle()
    scene.bob.mailbox.append(scene.arrival)
    assert (3, b"EXISTS") in client.idle_check(timeout=WAIT)
    client.idle_done()
    assert client.fetch([4], ["ENVELOPE"])[4][b"ENVELOPE"].subject == b"Windmill news"
    client.delete_messages([2])
    client.expunge()
    assert sorted(scene.on_server()) == [3, 4]


def test_imap_tools(scene: Scene) -> None:
    bob = scene.bob
    with imap_tools.MailBoxUnencrypted("127.0.0.1", bob.proxy.imap_port, timeout=WAIT).login(
        bob.address, bob.mailbox.password
    ) as box:
        assert {one.name for one in box.folder.list()} == {"INBOX", "Drafts", "Sent", "Trash"}
        assert box.folder.status("INBOX")["MESSAGES"] == 3
        # The order of untagged FETCH responses is free (RFC 2683 section 3.4.4), and imap-tools keeps it.
        listed = sorted(
            box.fetch(headers_only=True, mark_seen=False, bulk=True), key=lambda one: int(one.uid)
        )
        assert [one.subject for one in listed] == [SUBJECT, "plain", SAFE_SUBJECT]
        # imap-tools takes 0 for a size that it did not find.
        assert [one.size_rfc822 for one in listed] == [len(message) for message in scene.messages]
        protected, plain, long = box.fetch()
        assert protected.text.strip() == TEXT
        assert [(one.filename, one.payload) for one in protected.attachments] == [
            ("map.csv", ATTACHMENT.rstrip(b"\r\n"))
        ]
        assert long.text.replace("\r\n", "\n").strip() == LONG.replace("\r\n", "\n").strip()
        assert plain.subject == "plain"
        assert protected.from_ == bob.address

        box.flag("1", imap_tools.MailMessageFlags.ANSWERED, True)
        assert b"\\Answered" in scene.on_server()[1]
        assert box.uids(imap_tools.AND(answered=True)) == ["1"]
        assert box.uids(imap_tools.AND(subject="plain")) == ["2"]

        for folder in ("Drafts", "Sent"):
            box.append(scene.draft(folder), folder, flag_set=[imap_tools.MailMessageFlags.SEEN])
            box.folder.set(folder)
            (kept,) = box.fetch()
            assert kept.subject == f"{SUBJECT} ({folder})"
        scene.check_stored()

        box.folder.set("INBOX")
        box.folder.create("Projects")
        box.move("1", "Projects")
        assert sorted(scene.on_server()) == [2, 3]
        box.copy("3", "Projects")
        box.folder.set("Projects")
        assert [one.subject for one in box.fetch()] == [SUBJECT, SAFE_SUBJECT]

        box.folder.set("INBOX")
        with box.idle as idle:
            bob.mailbox.append(scene.arrival)
            assert b"* 3 EXISTS" in idle.poll(timeout=WAIT)
        assert [one.subject for one in box.fetch(imap_tools.AND(uid="4"))] == ["Windmill news"]
        box.delete("2")
        assert sorted(scene.on_server()) == [3, 4]


@asynccontextmanager
async def aioimaplib_session(bob: ProxyUser) -> AsyncIterator[aioimaplib.IMAP4]:
    client = aioimaplib.IMAP4("127.0.0.1", bob.proxy.imap_port, timeout=WAIT)
    await client.wait_hello_from_server()
    try:
        assert (await client.login(bob.address, bob.mailbox.password)).result == "OK"
        yield client
    finally:
        await client.logout()
        client.protocol.transport.close()  # which logout leaves open


def literal(answer: aioimaplib.Response) -> bytes:
    """The literal of a FETCH of one message."""
    assert answer.result == "OK", answer
    return bytes(answer.lines[1])


async def test_aioimaplib(scene: Scene) -> None:
    async with aioimaplib_session(scene.bob) as client:
        answer = await client.select("INBOX")
        assert b"3 EXISTS" in answer.lines
        for uid, message in enumerate(scene.messages, 1):
            listed = await client.uid("fetch", str(uid), "(UID RFC822.SIZE FLAGS)")
            assert re.search(rb"RFC822\.SIZE (\d+)", listed.lines[0])[1] == b"%d" % len(message)
            assert literal(await client.uid("fetch", str(uid), "(BODY.PEEK[])")) == message
        envelope = b"".join((await client.uid("fetch", "1", "(ENVELOPE BODYSTRUCTURE)")).lines)
        assert SUBJECT.encode() in envelope
        assert b'"map.csv"' in envelope

        assert (await client.uid("store", "1", r"+FLAGS.SILENT (\Flagged)")).result == "OK"
        assert b"\\Flagged" in scene.on_server()[1]
        assert (await client.uid_search("FLAGGED")).lines[0] == b"1"

        for folder in ("Drafts", "Sent"):
            message = scene.draft(folder)
            answer = await client.append(message, folder, flags=r"\Seen")
            assert answer.result == "OK"
            await client.select(folder)
            assert literal(await client.uid("fetch", "1", "(BODY.PEEK[])")) == message
        scene.check_stored()

        await client.select("INBOX")
        assert (await client.create("Projects")).result == "OK"
        assert (await client.uid("move", "1", "Projects")).result == "OK"
        assert sorted(scene.on_server()) == [2, 3]

        idle = await client.idle_start(timeout=WAIT)
        await asyncio.to_thread(scene.bob.mailbox.append, scene.arrival)
        while b"3 EXISTS" not in (news := await client.wait_server_push(WAIT)):
            assert news != aioimaplib.STOP_WAIT_SERVER_PUSH
        client.idle_done()
        await asyncio.wait_for(idle, WAIT)
        assert b"Windmill news" in b"".join((await client.uid("fetch", "4", "(ENVELOPE)")).lines)
