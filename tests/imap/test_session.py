"""Commands in flight: literals, APPEND, pipelining, IDLE, the loss of either side (IMAP-14, -16 to -19)."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from keystore.model import Trust
from keystore.openpgp import generate
from secmailproxy.imap.specialuse import SpecialUse
from secmailproxy.mime.autocrypt import certificate_field
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import SUBJECT, ProxyUser, leaked, letter, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import RawImap, direct, proxied


def draft_of(user: ProxyUser) -> bytes:
    return b"X-TUID: abc123\r\nX-OfflineIMAP: 77\r\nBcc: secret@example.org\r\n" + letter(
        user.address, "b@example.org"
    )


def append_sync(imap: RawImap, folder: bytes, octets: bytes, options: bytes = b"") -> bytes:
    return imap.command(b"APPEND " + folder + options + b" {%d}" % len(octets), octets)[-1]


@pytest.mark.parametrize(
    ("folder", "options"),
    [
        (b"Drafts", b""),
        (b"Sent", b" (\\Seen)"),
        (b'"Sent"', b' (\\Seen $Label) "17-Jul-2026 02:44:25 +0200"'),
        (b"INBOX", b" (\\Draft)"),
    ],
)
def test_appended_drafts_and_sent_mail_are_encrypted(
    reader: ProxyUser, folder: bytes, options: bytes
) -> None:
    """IMAP-16, IMAP-17: ciphertext upstream, the client's own octets back, found again by its search."""
    octets = draft_of(reader)
    with proxied(reader.proxy, reader.mailbox) as imap, direct(reader.mailbox) as plain:
        answer = append_sync(imap, folder, octets, options)
        assert b"[APPENDUID " in answer
        uid = answer.split(b"]")[0].split()[-1]
        plain.ok(b"SELECT " + folder)
        stored = plain.ok(b"UID FETCH %b (FLAGS INTERNALDATE BODY.PEEK[])" % uid)[0]
        assert not leaked(stored)
        assert b"secret@example.org" not in stored
        if options:
            assert options.split(b")")[0].split(b"(")[1].split()[0] in stored
        if b"Jul" in options:
            assert b"17-Jul-2026 00:44:25 +0000" in stored
        for key in (b"HEADER X-TUID abc123", b"HEADER X-OfflineIMAP 77", b"HEADER Message-ID example.test"):
            assert uid in plain.ok(b"UID SEARCH " + key)[0].split()
        imap.ok(b"SELECT " + folder)
        (seen, _) = imap.ok(b"UID FETCH %b (RFC822.SIZE BODY.PEEK[])" % uid)
        assert octets in seen
        assert b"RFC822.SIZE %d " % len(octets) in seen


def test_appends_to_other_folders_pass_as_they_are(reader: ProxyUser) -> None:
    octets = draft_of(reader)
    with proxied(reader.proxy, reader.mailbox) as imap, direct(reader.mailbox) as plain:
        uid = append_sync(imap, b"INBOX", octets).split(b"]")[0].split()[-1]
        plain.ok(b"SELECT INBOX")
        assert octets in plain.ok(b"UID FETCH %b BODY.PEEK[]" % uid)[0]


def test_plain_mail_that_passes_tells_its_author_s_certificate(reader: ProxyUser) -> None:
    """Autocrypt Level 1 section 2.3: heard where a client reads it by itself; its octets are the server's."""
    author = "autocrypt@example.net"
    key = generate(author, now=datetime.now(UTC) - timedelta(days=1))
    field = certificate_field("Autocrypt", author, key.certificate_octets)
    assert field is not None
    octets = field + letter(author, reader.address)
    with direct(reader.mailbox) as plain:
        uid = append_sync(plain, b"INBOX", octets).split(b"]")[0].split()[-1]
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        assert octets in imap.ok(b"UID FETCH %b (BODY.PEEK[])" % uid)[0]
    with reader.home.keystore() as keystore:
        deadline = time.monotonic() + 20
        while keystore.certificate(key.fingerprint) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        found = keystore.certificate(key.fingerprint)
    assert found is not None
    assert (found.trust, found.addresses) == (Trust.KNOWN, (author,))


def test_a_literal_minus_append(reader: ProxyUser) -> None:
    """IMAP-14: data that comes without waiting, to a folder that is encrypted and one that is not."""
    octets = draft_of(reader)
    assert len(octets) < 4096
    with proxied(reader.proxy, reader.mailbox) as imap:
        for n, folder in enumerate((b"Drafts", b"INBOX")):
            imap.send(b"x%d APPEND %b {%d+}\r\n%b\r\n" % (n, folder, len(octets), octets))
            while not (response := imap.response()).startswith(b"x%d " % n):
                pass
            assert response.startswith(b"x%d OK [APPENDUID " % n)
            uid = response.split(b"]")[0].split()[-1]
            imap.ok(b"SELECT " + folder)
            assert octets in imap.ok(b"UID FETCH %b BODY.PEEK[]" % uid)[0]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"APPEND Drafts (\\Bogus {10}", b"BAD"),
        (b"APPEND Drafts {999999999999}", b"BAD"),
        (b"SEARCH TEXT {9999999}", b"BAD"),
        (b"APPEND", b"BAD"),
    ],
)
def test_an_append_refused_before_its_data(reader: ProxyUser, line: bytes, answer: bytes) -> None:
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.send(b"x " + line + b"\r\n")
        assert imap.response().startswith(b"x " + answer)
        imap.ok(b"NOOP")


def test_an_empty_literal_still_waits(reader: ProxyUser) -> None:
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.send(b"x SEARCH SUBJECT {0}\r\n")
        assert imap.response().startswith(b"+")
        imap.send(b"\r\n")
        assert imap.response().startswith(b"* SEARCH")
        assert imap.response().startswith(b"x OK")


def test_literals_in_search_and_mailbox_names(reader: ProxyUser) -> None:
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.ok(b"CREATE {5}", b"odd \xc3"[:4] + b"x")
        assert imap.ok(b"STATUS {5}", b"odd \xc3"[:4] + b"x", b" (MESSAGES)")[0].startswith(b"* STATUS")
        imap.ok(b"SELECT {5}", b"odd \xc3"[:4] + b"x")
        imap.ok(b"SEARCH TEXT {3}", b"abc", b" SUBJECT {2}", b"ab")
        imap.ok(b"CLOSE")
        imap.ok(b"DELETE {5}", b"odd \xc3"[:4] + b"x")


def test_many_commands_in_one_segment(reader: ProxyUser) -> None:
    """IMAP-18: the answers are those of one by one, in order."""
    lines = [
        b"a1 SELECT INBOX",
        b"a2 FETCH 1:* (FLAGS)",
        b"a3 UID FETCH 1:* (RFC822.SIZE)",
        b"a4 NOOP",
        b"a5 UID FETCH 1:* (BODY.PEEK[])",
        b"a6 UID SEARCH ALL",
        b"a7 SELECT Drafts",
        b"a8 UID FETCH 1:* (RFC822.SIZE)",
        b"a9 BOGUS",
        b"a10 UNSELECT",
    ]
    with proxied(reader.proxy, reader.mailbox) as imap:
        append_sync(imap, b"INBOX", letter(reader.address, reader.address))
        append_sync(imap, b"Drafts", letter(reader.address, reader.address))
        imap.send(b"\r\n".join(lines) + b"\r\n")
        tagged = []
        while len(tagged) < len(lines):
            response = imap.response()
            if response.startswith(b"a"):
                tagged.append(response)
    assert [tag.split()[0] for tag in tagged if b"BOGUS" not in tag] == [
        line.split()[0] for line in lines
    ] or (
        # A command that we refuse by ourselves may overtake those that the server is still answering.
        sorted(tag.split()[0] for tag in tagged) == sorted(line.split()[0] for line in lines)
    )
    assert {tag.split()[0]: tag.split()[1] for tag in tagged} == {
        line.split()[0]: b"BAD" if b"BOGUS" in line else b"OK" for line in lines
    }


def test_idle_and_what_follows_done(reader: ProxyUser) -> None:
    """IMAP-18."""
    with proxied(reader.proxy, reader.mailbox) as imap, direct(reader.mailbox) as plain:
        imap.ok(b"SELECT INBOX")
        imap.send(b"i1 IDLE\r\n")
        assert imap.response().startswith(b"+")
        octets = letter(reader.address, reader.address)
        plain.ok(b"APPEND INBOX {%d}" % len(octets), octets)
        while b"EXISTS" not in (response := imap.response()):
            assert response
        imap.send(b"DONE\r\ni2 NOOP\r\ni3 UID FETCH * (BODY.PEEK[HEADER.FIELDS (Subject)])\r\n")
        answers = []
        while not answers or not answers[-1].startswith(b"i3"):
            answers.append(imap.response())
        text = b"".join(answers)
        assert text.index(b"i1 OK") < text.index(b"i2 OK") < text.index(b"i3 OK")
        assert SUBJECT.encode() in text


def test_a_tag_in_use_is_refused(reader: ProxyUser) -> None:
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.send(b"x NOOP\r\nx NOOP\r\ny NOOP\r\n")
        got = []
        while not got or not got[-1].startswith(b"y"):
            got.append(imap.response())
        assert sorted(r[:4] for r in got) in ([b"x BA", b"x OK", b"y OK"], [b"x OK", b"x OK", b"y OK"])


def test_the_client_leaving_does_not_stop_an_append(reader: ProxyUser) -> None:
    """IMAP-19: the command was whole when the client hung up."""
    octets = letter(reader.address, reader.address, subject="left behind")
    before = len(reader.mailbox.stored("Drafts"))
    with proxied(reader.proxy, reader.mailbox) as imap:
        imap.send(b"x APPEND Drafts {%d}\r\n" % len(octets))
        assert imap.response().startswith(b"+")
        imap.send(octets + b"\r\n")
    deadline = time.monotonic() + 20
    while len(reader.mailbox.stored("Drafts")) == before:
        assert time.monotonic() < deadline


def test_the_server_leaving_gives_no_and_bye(dovecot: Dovecot, proxies: ProxyFactory) -> None:
    """IMAP-19: the commands owed are answered, and nothing is tried again."""
    user = proxy_user(proxies, dovecot.mailbox("lost"))
    with proxied(user.proxy, user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.send(b"x IDLE\r\n")
        assert imap.response().startswith(b"+")
        dovecot.kick(user.mailbox)
        rest = []
        while response := imap.response():
            rest.append(response)
    assert any(response.startswith(b"* BYE") for response in rest)


def test_a_keystore_without_a_key_refuses_the_append_not_the_secret(
    dovecot: Dovecot, proxies: ProxyFactory
) -> None:
    """No own key: a draft is refused rather than stored in clear."""
    mailbox = dovecot.mailbox("keyless")
    home = proxies.home(mailbox)
    proxy = proxies.serve(home)
    with proxied(proxy, mailbox) as imap:
        octets = letter(mailbox.address, mailbox.address)
        assert append_sync(imap, b"Drafts", octets).startswith(b"T NO")
        imap.ok(b"NOOP")
    assert mailbox.stored("Drafts") == []


# Which mailboxes


@pytest.mark.parametrize(
    ("mailbox", "sent", "drafts"),
    [
        (b"Sent", True, False),
        (b"INBOX.Sent Items", True, False),
        (b"[Gmail]/Drafts", False, True),
        (b"Entw&APw-rfe", False, True),
        (b"sent", True, False),
        (b"Sentences", False, False),
        (b"INBOX", False, False),
        (b"A&-B/Sent", True, False),
        (b"&Jjo!", False, False),
    ],
)
def test_mailboxes_by_name(mailbox: bytes, sent: bool, drafts: bool) -> None:
    mailboxes = SpecialUse()
    assert mailboxes.is_sent(mailbox) == sent
    assert mailboxes.is_drafts(mailbox) == drafts


@pytest.mark.parametrize(
    ("line", "check"),
    [
        (b'* LIST (\\HasNoChildren \\Sent) "/" Verzonden\r\n', lambda f: f.is_sent(b"Verzonden")),
        (b'* LIST (\\Drafts) "." "My D"\r\n', lambda f: f.is_drafts(b"My D")),
        (b"* LIST (\\Drafts) NIL {4}\r\nabcd\r\n", lambda f: f.is_drafts(b"abcd")),
        (b'* LIST (\\Junk) "/" Spam\r\n', lambda f: not f.is_sent(b"Spam") and not f.is_drafts(b"Spam")),
        (b"* LIST nonsense\r\n", lambda f: not f.sent),
    ],
)
def test_mailboxes_by_special_use(line: bytes, check: Callable[[SpecialUse], bool]) -> None:
    mailboxes = SpecialUse()
    mailboxes.learn(line)
    assert check(mailboxes)


@pytest.mark.parametrize("encrypt_drafts", [True, False])
@pytest.mark.parametrize("encrypt_sent", [True, False])
@pytest.mark.parametrize("encrypt_other", [True, False])
def test_what_the_account_encrypts(encrypt_drafts: bool, encrypt_sent: bool, encrypt_other: bool) -> None:
    mailboxes = SpecialUse(encrypt_drafts, encrypt_sent, encrypt_other)
    assert mailboxes.encrypts(b"Drafts", draft=False) == encrypt_drafts
    assert mailboxes.encrypts(b"x", draft=True) == encrypt_drafts
    assert mailboxes.encrypts(b"Sent", draft=False) == encrypt_sent
    assert mailboxes.encrypts(b"x", draft=False) == encrypt_other


def test_an_account_may_encrypt_all_that_is_appended(proxies: ProxyFactory, dovecot: Dovecot) -> None:
    user = proxy_user(proxies, dovecot.mailbox("all"))
    user.home.add_config("encrypt_other = true")
    octets = letter(user.address, "b@example.org")
    with proxied(user.proxy, user.mailbox) as imap:
        append_sync(imap, b"INBOX", octets)
    assert user.read() == [octets]
    assert not any(leaked(one) for one in user.mailbox.files())
