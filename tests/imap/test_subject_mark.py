"""The secret word in the subject of presented mail: where it is deserved, in every answer, not elsewhere."""

from __future__ import annotations

import email
import imaplib
from datetime import UTC, datetime

import pytest

from secmailproxy.imap import grammar
from secmailproxy.policy import Protect
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import SUBJECT, ProxyUser, letter, protect_all, proxy_user
from tests.fixtures.processes import wait_until
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import proxied

MARK = "kestrel-47"
EXPECTED = {
    "encrypted": f"{MARK} {SUBJECT}",
    "signed": f"{MARK} {SUBJECT}",
    "broken": f"Re: {SUBJECT}",
    "unsigned": f"x {SUBJECT}",
    "plain": f"{MARK} {SUBJECT}",
}


@pytest.fixture(scope="module")
def user(dovecot: Dovecot, module_proxies: ProxyFactory) -> ProxyUser:
    """Whose mailbox holds a message of each kind, in the order of EXPECTED."""
    user = proxy_user(module_proxies, dovecot.mailbox("marked"))
    user.home.add_config(f'subject_mark = "{MARK}"\nsearch = "presented"')
    clear = letter(user.address, user.address)
    sealed, signed = protect_all(user, [(clear, Protect.REQUIRE), (clear, Protect.SIGN)])
    forged = f"Re: {MARK.upper()} {SUBJECT}".encode()
    broken = signed.replace(b"windmill", b"watermil").replace(SUBJECT.encode(), forged)
    inside = f"Subject: x {MARK} {SUBJECT}\r\nContent-Type: text/plain; hp=cipher\r\n\r\ntext\r\n".encode()
    with user.home.keystore() as keystore:
        unsigned = keystore.encrypt(inside, [user.fingerprint], None, datetime.now(UTC))
    unknown = (
        b"From: <x@example.org>\r\nSubject: ...\r\nContent-Type: multipart/encrypted; boundary=e;"
        b' protocol="application/pgp-encrypted"\r\n\r\n--e\r\nContent-Type: application/pgp-encrypted\r\n\r\n'
        b"Version: 1\r\n\r\n--e\r\nContent-Type: application/octet-stream\r\n\r\n%b\r\n--e--\r\n" % unsigned
    )
    plain = clear.replace(SUBJECT.encode(), f"{MARK} {SUBJECT}".encode())
    for octets in (sealed, signed, broken, unknown, plain):
        user.mailbox.append(octets)
    return user


def test_all_answers_agree(user: ProxyUser) -> None:
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        for uid, (kind, expected) in enumerate(EXPECTED.items(), 1):
            wanted = b"(RFC822.SIZE ENVELOPE BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[])"
            answer = grammar.parse_fetch_response(imap.ok(b"UID FETCH %d %b" % (uid, wanted))[0]).attributes
            whole = grammar.string_value(answer["BODY[]"]) or b""
            assert len(whole) == int(answer["RFC822.SIZE"]), kind
            assert email.message_from_bytes(whole)["Subject"].replace("\r\n", "") == expected, kind
            listed = grammar.string_value(answer["BODY[HEADER.FIELDS SUBJECT]"]) or b""
            assert email.message_from_bytes(listed)["Subject"].replace("\r\n", "") == expected, kind
            assert expected.encode() in answer["ENVELOPE"], kind
        assert imap.ok(b"UID SEARCH SUBJECT kestrel")[-2] == b"* SEARCH 1 2 5\r\n"
        assert imap.ok(b"UID SORT (SUBJECT) UTF-8 ALL")[-2].startswith(b"* SORT ")


def test_what_leaves_does_not_tell_the_word(user: ProxyUser) -> None:
    answer = letter(user.address, user.address, f"Re: {MARK} {SUBJECT}")
    before = len(user.mailbox.stored())
    user.send(user.address, answer)
    wait_until(lambda: len(user.mailbox.stored()) > before, "delivery")
    with imaplib.IMAP4("127.0.0.1", user.proxy.imap_port) as client:
        client.login(user.mailbox.address, user.mailbox.password)
        client.select()
        _, ((_, octets), *_) = client.fetch(str(before + 1), "(BODY.PEEK[])")
    assert email.message_from_bytes(octets)["Subject"].replace("\r\n", "") == f"{MARK} Re: {SUBJECT}"
    assert octets.count(MARK.encode()) == 1
