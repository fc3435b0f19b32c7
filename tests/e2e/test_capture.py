"""What a mail provider can see of a whole exchange: relays between proxy and servers keep every octet."""

from __future__ import annotations

import imaplib
from collections.abc import Callable

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ATTACHMENT, SUBJECT, TEXT, introduce, leaked, letter, proxy_user
from tests.fixtures.postfix import Postfix
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.recorder import Recorder


def test_no_word_of_the_plaintext_leaves_either_proxy(
    proxies: ProxyFactory,
    dovecot: Dovecot,
    postfix: Postfix,
    record: Callable[[int], Recorder],
) -> None:
    imap, smtp = record(dovecot.imaps_port), record(postfix.submissions_port)
    upstream = Upstream(dovecot.ca.ca_file, imap.port, smtp.port, smtp_tls="implicit")
    alice = proxy_user(proxies, dovecot.mailbox("alice"), upstream=upstream)
    bob = proxy_user(proxies, dovecot.mailbox("bob"), upstream=upstream)
    introduce(alice, bob)
    message = letter(alice.address, bob.address)

    with alice.proxy.imap(alice.mailbox, None) as client:
        for folder in ("Drafts", "Sent"):
            assert client.append(folder, r"(\Seen)", "", message)[0] == "OK"
    alice.send(bob.address, message)
    wait_until(bob.mailbox.stored, "delivery")
    (presented,) = bob.read()
    (draft,) = alice.read("Drafts")
    (sent,) = alice.read("Sent")

    for octets in (presented, draft, sent):
        assert TEXT.encode() in octets
        assert ATTACHMENT in octets
        assert f"Subject: {SUBJECT}\r\n".encode() in octets
    assert b"AUTH" in smtp.sent
    assert b"BEGIN PGP MESSAGE" in smtp.sent
    assert imap.sent.count(b"BEGIN PGP MESSAGE") == 2
    assert not leaked(smtp.octets)
    assert not leaked(imap.octets)
    for person in (alice, bob):
        assert not any(leaked(octets) for octets in person.mailbox.files())
        # What a proxy keeps on disk is encrypted as well.
        kept = [path.read_bytes() for path in person.home.folder.rglob("*") if path.is_file()]
        assert kept
        assert not any(leaked(octets) for octets in kept)


def test_a_draft_keeps_what_clients_search_by(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    """Message-ID and Date stay outside, and APPENDUID names the message that was appended."""
    alice = proxy_user(proxies, dovecot.mailbox("alice"))
    message = letter(alice.address, "bob@example.test")
    message_id = message.partition(b"Message-ID: ")[2].partition(b"\r\n")[0].decode()
    with alice.proxy.imap(alice.mailbox, None) as client:
        _, (answer,) = client.append("Drafts", r"(\Draft)", "", message)
        assert answer.startswith(b"[APPENDUID ")
        uid = answer.split()[2].rstrip(b"]").decode()
        client.select("Drafts")
        assert client.uid("SEARCH", "HEADER", "Message-ID", message_id) == ("OK", [uid.encode()])
        _, parts = client.uid("FETCH", uid, "(FLAGS BODY.PEEK[])")
        assert parts[0][1].endswith(message.partition(b"\r\n\r\n")[2])
        assert rb"\Draft" in b"".join(part if isinstance(part, bytes) else part[0] for part in parts)
    (stored,) = alice.mailbox.stored("Drafts")
    assert not leaked(stored)
    assert message_id.encode() in stored


def test_plain_mail_passes_octet_for_octet(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    alice = proxy_user(proxies, dovecot.mailbox("alice"))
    messages = [
        b"Subject: blanks  \r\nX-Odd:no blank\r\n\tfolded \r\n\r\n body  \r\n.\r\n..\r\nno final line end",
        b"Subject: =?utf-8?q?=C3=BC?=\r\nContent-Type: text/plain;\r\n charset=x\r\n\r\n--b \r\n",
        b"no header section at all\r\n",
        b"Subject: 8-bit\r\n\r\n" + bytes(range(128, 256)) + b"\r\n",
        b"Subject: large\r\n\r\n" + b"0123456789abcdef\r\n" * 20000,
    ]
    for message in messages:
        alice.mailbox.append(message)
    assert alice.read() == messages == alice.mailbox.stored()


def test_read_state_is_the_servers(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    r"""BODY[] sets \Seen upstream, BODY.PEEK[] does not, for protected mail as for plain."""
    alice = proxy_user(proxies, dovecot.mailbox("alice"))
    bob = proxy_user(proxies, dovecot.mailbox("bob"))
    introduce(alice, bob)
    alice.send(bob.address, letter(alice.address, bob.address))
    wait_until(bob.mailbox.stored, "delivery")

    def flags(client: imaplib.IMAP4) -> bytes:
        client.select("INBOX", readonly=True)
        answer: bytes = client.fetch("1", "(FLAGS)")[1][0]
        return answer

    with bob.mailbox.imap() as direct:
        with bob.proxy.imap(bob.mailbox) as client:
            client.fetch("1", "(BODY.PEEK[])")
        assert rb"\Seen" not in flags(direct)
        with bob.proxy.imap(bob.mailbox) as client:
            client.fetch("1", "(BODY[TEXT])")
        assert rb"\Seen" in flags(direct)
