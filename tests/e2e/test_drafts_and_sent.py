"""What clients file in Drafts and Sent: ciphertext there, their own octets for them (SMTP-17, SMTP-19)."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.gnupg import GnuPG, encrypted_by, opened_by, signed_by
from tests.fixtures.people import (
    SUBJECT,
    TEXT,
    GnuPGUser,
    ProxyUser,
    gnupg_user,
    introduce,
    leaked,
    letter,
    proxy_user,
)
from tests.fixtures.processes import service_folder, wait_until
from tests.fixtures.proxy import ProxyFactory

SENT_BY = "From: <{}>\nTo: <{}>\nMessage-ID: <sent-{}@example.test>\nSubject: [...]"
BODY = b"Content-Type: text/plain\r\n\r\n" + TEXT.encode() + b"\r\n"


@dataclass(frozen=True)
class Pair:
    """Alice has a proxy; Bob, to whom she writes, has GnuPG; hers is that of her mail client."""

    alice: ProxyUser
    bob: GnuPGUser
    hers: GnuPG

    def letter(self, number: int, more: str = "") -> bytes:
        """Unlike any other."""
        octets = letter(self.alice.address, self.bob.address)
        return re.sub(
            rb"Message-ID: [^\r]+", b"Message-ID: <sent-%d@example.test>%b" % (number, more.encode()), octets
        )

    def file(self, octets: bytes, folder: str = "Sent") -> bytes:
        """Append through the proxy; what the client reads back."""
        with self.alice.proxy.imap(self.alice.mailbox, None) as client:
            status, answer = client.append(
                folder, "(\\Draft)" if folder == "Drafts" else "(\\Seen)", "", octets
            )
            assert status == "OK", answer
            (uid,) = re.findall(rb"APPENDUID \d+ (\d+)", answer[0])
            client.select(folder)
            status, parts = client.uid("FETCH", uid.decode(), "(RFC822.SIZE BODY.PEEK[])")
            assert status == "OK", parts
            (line, found) = parts[0]
            assert b"RFC822.SIZE %d " % len(found) in line
            return found

    def on_disk(self, folder: str = "Sent") -> list[bytes]:
        """The files of the folder at the server."""
        return [
            path.read_bytes()
            for path in (self.alice.mailbox.folder / f".{folder}").glob("*/*")
            if path.is_file()
        ]

    def found(self, number: int, folder: str = "Sent") -> list[int]:
        """How many messages a search for the Message-ID finds: at the server, and through the proxy."""
        counts = []
        with self.alice.mailbox.imap() as direct, self.alice.proxy.imap(self.alice.mailbox, None) as proxied:
            for client in (direct, proxied):
                client.select(folder, readonly=True)
                _, answer = client.search(None, "HEADER", "Message-ID", f'"<sent-{number}@example.test>"')
                counts.append(len(answer[0].split()))
        return counts


@pytest.fixture(scope="module")
def alice(module_proxies: ProxyFactory, dovecot: Dovecot) -> ProxyUser:
    return proxy_user(module_proxies, dovecot.mailbox("alice"))


@pytest.fixture(scope="module")
def pair(alice: ProxyUser, dovecot: Dovecot) -> Iterator[Pair]:
    with service_folder("gnupg") as folder:
        his, hers = GnuPG(folder / "his"), GnuPG(folder / "hers")
        for gnupg in (his, hers):
            gnupg.home.mkdir(mode=0o700)
        bob = gnupg_user(his, dovecot.mailbox("bob"))
        introduce(alice, bob)
        hers.take(bob.certificate())
        with alice.home.keystore() as keystore:
            hers.take(keystore.export(alice.fingerprint, secret=True))
        yield Pair(alice, bob, hers)
        his.end()
        hers.end()


def arrival(mailbox: Mailbox, number: int) -> bytes:
    """The one message with this id."""
    mark = b"<sent-%d@" % number
    (octets,) = wait_until(lambda: [one for one in mailbox.stored() if mark in one], "delivery")
    return octets


@pytest.mark.parametrize(
    ("number", "more"),
    [
        (1, ""),
        (2, "\r\nX-Secmailproxy-Protect: require\r\nBcc: <treasure@example.test>\r\nX-Mozilla-Status: 0001"),
        (3, "\r\nX-Odd: latitude \xe9 folded\r\n   windmill   "),
        (4, "\r\nComments: treasure\r\nKeywords: southwest\r\nIn-Reply-To: <0@example.test>"),
    ],
)
@pytest.mark.parametrize("folder", ["Sent", "Drafts"])
def test_what_is_filed_is_ciphertext_there_and_itself_here(
    folder: str, number: int, more: str, pair: Pair
) -> None:
    """SMTP-19: nothing readable on the disk, the client's own octets for the client, found by its id once."""
    number += 10 * (folder == "Drafts")
    written = pair.letter(number, more)
    assert pair.file(written, folder) == written
    assert pair.found(number, folder) == [1, 1]
    stored = [one for one in pair.on_disk(folder) if b"<sent-%d@" % number in one]
    assert [one.count(b"multipart/encrypted") for one in stored] == [1]
    head = re.split(rb"\r?\n\r?\n", stored[0])[0].lower()
    assert b"x-secmailproxy" not in head
    assert b"bcc:" not in head
    assert not any(leaked(one) for one in pair.on_disk(folder))


def test_what_the_client_has_encrypted_is_not_encrypted_again(pair: Pair) -> None:
    """SMTP-19: octet for octet as it is, on the disk; read, it is opened once."""
    head = SENT_BY.format(pair.alice.address, pair.bob.address, 20)
    made = encrypted_by(pair.hers, head, BODY, "-r", pair.bob.address, "-r", pair.alice.address)
    read = pair.file(made)
    (stored,) = [one for one in pair.on_disk() if b"<sent-20@" in one]
    assert stored.replace(b"\r\n", b"\n") == made.replace(b"\r\n", b"\n")
    assert TEXT.encode() in read
    assert pair.found(20) == [1, 1]


def test_what_the_client_has_signed_is_encrypted_with_its_signature(pair: Pair) -> None:
    head = SENT_BY.format(pair.alice.address, pair.bob.address, 21)
    made = signed_by(pair.hers, head, BODY)
    assert pair.file(made) == made
    (stored,) = [one for one in pair.on_disk() if b"<sent-21@" in one]
    assert not leaked(stored)
    assert stored.count(b"multipart/encrypted") == 1


@pytest.mark.parametrize("has_key", [True, False])
def test_the_copy_and_the_message_have_one_id_and_one_date(
    has_key: bool, pair: Pair, dovecot: Dovecot
) -> None:
    """SMTP-17: what arrives, and what is filed, which is ciphertext also where the message left in clear."""
    number, to = (30, pair.bob.mailbox) if has_key else (31, dovecot.mailbox("carol"))
    written = pair.letter(number)
    pair.alice.send(to.address, written)
    assert pair.file(written) == written
    arrived = arrival(to, number)
    (filed,) = [one for one in pair.on_disk() if b"<sent-%d@" % number in one]
    for name in (b"Message-ID", b"Date"):
        (field,) = re.findall(rb"^%b: [^\r\n]+" % name, written, re.MULTILINE)
        outside = [re.split(rb"\r?\n\r?\n", one)[0] for one in (arrived, filed)]
        assert [one.count(field) for one in outside] == [1, 1], field
    assert bool(leaked(arrived)) is not has_key
    assert not leaked(filed)


def test_a_draft_as_the_server_has_it_is_never_sent(pair: Pair) -> None:
    """SMTP-16: by a client that reads its drafts beside the proxy; as the proxy shows it, it is sent."""
    written = pair.letter(40)
    shown = pair.file(written, "Drafts")
    (stored,) = [one for one in pair.on_disk("Drafts") if b"<sent-40@" in one]
    with pair.alice.proxy.smtp(pair.alice.mailbox) as client:
        with pytest.raises(smtplib.SMTPDataError, match=r"5\.7\.1.*draft"):
            client.sendmail(pair.alice.address, [pair.bob.address], re.sub(rb"\r?\n", b"\r\n", stored))
        client.sendmail(pair.alice.address, [pair.bob.address], shown)
    arrived = arrival(pair.bob.mailbox, 40)
    plaintext, _ = opened_by(pair.bob.gnupg, arrived)
    assert TEXT.encode() in plaintext
    assert SUBJECT.encode() in plaintext
    assert b"multipart/encrypted" not in plaintext
