"""From one proxy user to another, through Postfix and Dovecot: what comes out is what went in."""

from __future__ import annotations

import email
import email.policy
import secrets
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from tests.fixtures.dovecot import Dovecot
from tests.fixtures.gnupg import GnuPG, opened_by
from tests.fixtures.people import TEXT, ProxyUser, gnupg_user, introduce, leaked, letter, proxy_user
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory


@pytest.fixture(scope="module")
def pair(module_proxies: ProxyFactory, dovecot: Dovecot) -> tuple[ProxyUser, ProxyUser]:
    alice = proxy_user(module_proxies, dovecot.mailbox("alice"))
    bob = proxy_user(module_proxies, dovecot.mailbox("bob"))
    introduce(alice, bob)
    return alice, bob


def part(kind: str, body: bytes, encoding: str = "8bit") -> bytes:
    """A text or other entity of these octets."""
    return b"Content-Type: %b\r\nContent-Transfer-Encoding: %b\r\n\r\n%b" % (
        kind.encode(),
        encoding.encode(),
        body,
    )


def large() -> bytes:
    """An attachment of 3 MB."""
    message = EmailMessage(policy=email.policy.SMTP)
    message.set_content("see attachment")
    message.add_attachment(secrets.token_bytes(3_000_000), "application", "octet-stream", filename="big.bin")
    return message.as_bytes()


MESSAGES = {
    "trailing blanks": part("text/plain; format=flowed", b"flowed \r\nlines \r\n-- \r\nsig\t \r\n", "7bit"),
    "dots": part("text/plain", b".\r\n..\r\n.x\r\n", "7bit"),
    "From lines": part("text/plain", b"From here on\r\n>From there\r\n", "7bit"),
    "8-bit": part("text/plain; charset=utf-8", "Grüße aus Köln, дорогой друг\r\n".encode()),
    "latin-1": part("text/plain; charset=iso-8859-1", "Größe\r\n".encode("latin-1")),
    "long lines": part("text/plain", b"x" * 990 + b"\r\n" + b"y" * 998 + b"\r\n", "7bit"),
    "quoted-printable": part(
        "text/plain; charset=utf-8", b"soft=\r\nbreak=20=\r\n=C3=BC\r\n", "quoted-printable"
    ),
    "empty": part("text/plain", b"", "7bit"),
    "html": part("text/html", b"<img src=cid:1>\r\n", "7bit"),
    "forwarded": b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\nFrom: x@example.net\r\n\r\ninner\r\n",
    "large": large(),
}


def leaves(octets: bytes) -> list[tuple[str, str | None, bytes]]:
    """Type, file name and decoded content of every leaf, with CRLF line endings in texts."""
    found = []
    for one in email.message_from_bytes(octets, policy=email.policy.SMTP).walk():
        if not one.is_multipart():
            content = one.get_payload(decode=True)
            assert isinstance(content, bytes)
            found.append((one.get_content_type(), one.get_filename(), content))
    return found


@pytest.mark.parametrize("kind", MESSAGES)
def test_content_comes_back(kind: str, pair: tuple[ProxyUser, ProxyUser]) -> None:
    alice, bob = pair
    header = (
        f"From: Alice <{alice.address}>\r\nTo: {bob.address}\r\n"
        f"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe_{kind.replace(' ', '_')}?=\r\n"
        f"Message-ID: <{kind.replace(' ', '.')}@example.test>\r\nDate: Mon, 02 Mar 2026 10:00:00 +0100\r\n"
        "In-Reply-To: <earlier@example.test>\r\nX-Mailer: the tests\r\n"
    )
    message = header.encode() + (b"" if b"MIME-Version" in MESSAGES[kind] else b"MIME-Version: 1.0\r\n")
    message += MESSAGES[kind]
    before = len(bob.mailbox.stored())
    alice.send(bob.address, message)
    stored = wait_until(lambda: bob.mailbox.stored()[before:], "delivery")[0]
    presented = bob.read()[before]

    sent, got = (
        email.message_from_bytes(octets, policy=email.policy.SMTP) for octets in (message, presented)
    )
    for name in ("From", "To", "Subject", "Message-ID", "Date", "In-Reply-To", "X-Mailer"):
        assert got[name] == sent[name], name
    assert leaves(presented) == leaves(message)
    verdict = got[bob.verdict_field]
    assert "signature=valid" in verdict
    assert alice.address in verdict
    outer = email.message_from_bytes(stored, policy=email.policy.SMTP)
    assert outer["Subject"] == "[...]"
    assert outer["Message-ID"] == sent["Message-ID"]


def test_a_hidden_recipient_stays_hidden(
    pair: tuple[ProxyUser, ProxyUser], dovecot: Dovecot, gnupg_home: Callable[..., GnuPG]
) -> None:
    """To, Cc and Bcc: each reads it, and no copy names the key of the Bcc recipient but that person's own."""
    alice, _ = pair
    to, cc, bcc = (gnupg_user(gnupg_home(), dovecot.mailbox(name)) for name in ("to", "cc", "bcc"))
    for person in (to, cc, bcc):
        introduce(alice, person)
    message = letter(alice.address, to.address).replace(
        b"Subject:", f"Cc: {cc.address}\r\nBcc: {bcc.address}\r\nSubject:".encode(), 1
    )
    alice.proxy.send(alice.mailbox, [to.address, cc.address, bcc.address], message)
    copies = {person: wait_until(person.mailbox.stored, "delivery") for person in (to, cc, bcc)}
    subkeys = {}
    for person in (to, cc, bcc):
        listing = person.gnupg.run("--with-colons", "--list-keys", person.address).stdout.decode()
        subkeys[person.address] = next(
            line.split(":")[4] for line in listing.splitlines() if line.startswith("sub")
        )
    for person, stored in copies.items():
        assert len(stored) == 1
        plaintext, status = opened_by(person.gnupg, stored[0])
        assert TEXT.encode() in plaintext
        assert not leaked(stored[0])
        named = {line.split()[2] for line in status.splitlines() if line.startswith("[GNUPG:] ENC_TO")}
        assert subkeys[person.address] in named
        if person is not bcc:
            assert subkeys[bcc.address] not in named
            assert bcc.address.encode() not in stored[0] + plaintext


def test_what_was_read_in_secret_is_not_answered_in_clear(
    pair: tuple[ProxyUser, ProxyUser], dovecot: Dovecot
) -> None:
    """SMTP-20: by the reader and by the writer, as an answer, forwarded whole or sent on as it was."""
    alice, bob = pair
    carol = dovecot.mailbox("carol")
    before = len(bob.mailbox.stored())
    secret = letter(alice.address, bob.address, subject="for your eyes")
    alice.send(bob.address, secret)
    wait_until(lambda: len(bob.mailbox.stored()) > before, "delivery")
    read = bob.read()[before]
    message_id = str(email.message_from_bytes(read)["Message-ID"])

    def answer(sender: ProxyUser, more: str = "") -> bytes:
        head = f"From: {sender.address}\r\nTo: {carol.address}\r\nIn-Reply-To: {message_id}\r\n{more}"
        return f"{head}Subject: Re\r\n\r\n> {TEXT}\r\n".encode()

    forwarded = EmailMessage(policy=email.policy.SMTP)
    forwarded["From"], forwarded["To"], forwarded["Subject"] = bob.address, carol.address, "Fwd"
    forwarded.set_content("see below")
    forwarded.add_attachment(email.message_from_bytes(read, policy=email.policy.SMTP))
    for sender, message in (
        (bob, answer(bob)),
        (alice, answer(alice)),
        (bob, forwarded.as_bytes()),
        (bob, read),
    ):
        with pytest.raises(smtplib.SMTPDataError, match=r"554, b'5\.7\.1 this answers or forwards"):
            sender.send(carol.address, message)
    assert carol.stored() == []

    alice.send(bob.address, answer(alice))
    bob.send(carol.address, answer(bob, "X-Secmailproxy-Protect: sign\r\n"))
    (arrived,) = wait_until(carol.stored, "delivery")
    assert TEXT.encode() in arrived
    assert b"x-secmailproxy" not in arrived.lower()
