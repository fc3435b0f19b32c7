"""Plain mail is the same octets direct and through the proxy (IMAP-01, IMAP-05, IMAP-18)."""

from __future__ import annotations

import pytest

from tests.fixtures.dovecot import Dovecot, Mailbox
from tests.fixtures.people import ProxyUser, proxy_user
from tests.fixtures.proxy import ProxyFactory
from tests.fixtures.transcript import direct, normal, proxied

ITEMS = [
    b"BODY.PEEK[]",
    b"RFC822.SIZE",
    b"ENVELOPE",
    b"BODYSTRUCTURE",
    b"BODY",
    b"BODY.PEEK[HEADER]",
    b"BODY.PEEK[TEXT]",
    b"BODY.PEEK[1]",
    b"BODY.PEEK[1.MIME]",
    b"BODY.PEEK[]<10.100>",
    b"BODY.PEEK[HEADER.FIELDS (Subject FROM x-none)]",
]


@pytest.fixture(scope="module")
def filled(reader: ProxyUser, odd_mail: list[bytes]) -> ProxyUser:
    """The reader's INBOX holds all the odd mail."""
    with direct(reader.mailbox) as imap:
        for octets in odd_mail:
            # Dovecot refuses NUL in APPEND, and so does IMAP.
            octets = octets.replace(b"\0", b"?")
            imap.ok(b"APPEND INBOX {%d}" % len(octets), octets)
    return reader


@pytest.mark.parametrize("verb", [b"FETCH", b"UID FETCH"])
@pytest.mark.parametrize(
    "item", [*ITEMS, b"(FLAGS INTERNALDATE RFC822.SIZE ENVELOPE)", b"(UID " + b" ".join(ITEMS) + b")"]
)
def test_fetch_of_plain_mail_is_identical(filled: ProxyUser, verb: bytes, item: bytes) -> None:
    command = verb + b" 1:* " + item
    with direct(filled.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        expected = imap.ok(command)
    with proxied(filled.proxy, filled.mailbox) as imap:
        imap.ok(b"EXAMINE INBOX")
        assert normal(imap.ok(command)) == normal(expected)
        # The second time nothing is asked beforehand.
        assert normal(imap.ok(command)) == normal(expected)


SCRIPTS = {
    "select": [b"SELECT INBOX", b"CHECK", b"CLOSE", b"EXAMINE INBOX", b"UNSELECT", b"SELECT nowhere"],
    "list": [
        b'LIST "" "*"',
        b'LIST "" ""',
        b'LSUB "" "*"',
        b'LIST (SUBSCRIBED) "" "*" RETURN (CHILDREN)',
        b'LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT))',
        b"NAMESPACE",
    ],
    "status": [b"STATUS INBOX (MESSAGES UIDNEXT UIDVALIDITY UNSEEN)", b"STATUS nowhere (MESSAGES)"],
    "search": [
        b"SELECT INBOX",
        b"SEARCH ALL",
        b"UID SEARCH SUBJECT lunch",
        b"SEARCH RETURN (MIN MAX COUNT) ALL",
        b"SEARCH RETURN (SAVE) SUBJECT lunch",
        b"FETCH $ (UID BODY.PEEK[HEADER.FIELDS (Subject)])",
        b"UID FETCH $ (BODY.PEEK[TEXT])",
        b"SEARCH CHARSET UTF-8 NOT SEEN",
        b"SEARCH RETURN (PARTIAL 1:3) NONSENSE",
    ],
    "store": [
        b"SELECT INBOX",
        b"STORE 1 +FLAGS (\\Flagged)",
        b"UID STORE 1:2 FLAGS.SILENT (\\Seen custom)",
        b"FETCH 1:2 FLAGS",
        b"STORE 1:2 FLAGS ()",
    ],
    "sets": [
        b"SELECT INBOX",
        b"FETCH * (UID RFC822.SIZE)",
        b"FETCH 2,1 RFC822.SIZE",
        b"UID FETCH 1,3:2 RFC822.SIZE",
        b"UID FETCH * RFC822.SIZE",
        b"UID FETCH 4000000000:* RFC822.SIZE",
        b"UID FETCH 3000000000:4000000000 RFC822.SIZE",
        b"FETCH 1 FAST",
        b"FETCH 1 FULL",
    ],
    "wrong": [
        b"SELECT INBOX",
        b"FETCH 99999 (BODY.PEEK[])",
        b"FETCH 0 RFC822.SIZE",
        b"FETCH 1 (BODY.PEEK[99])",
        b"FETCH 1 (BODY.PEEK[1.2.3.TEXT])",
        b"EXPUNGE",
    ],
    "copy": [
        b"SELECT INBOX",
        b"CREATE box",
        b"COPY 1:2 box",
        b"UID MOVE 1 nowhere",
        b"COPY 1 nowhere",
        b"STATUS box (MESSAGES)",
        b"DELETE box",
    ],
    "enable": [b"ENABLE CONDSTORE QRESYNC", b"SELECT INBOX (QRESYNC (1 1))", b"FETCH 1 (FLAGS MODSEQ)"],
    "condstore": [
        b"SELECT INBOX (CONDSTORE)",
        b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)",
        b"UID FETCH 1:3 (BODY.PEEK[HEADER.FIELDS (Date)]) (CHANGEDSINCE 1)",
        b"UID STORE 1 (UNCHANGEDSINCE 1) +FLAGS (\\Seen)",
    ],
    "misc": [b"NOOP", b"ID NIL", b"SUBSCRIBE INBOX", b"UNSUBSCRIBE INBOX", b"LOGOUT"],
}


@pytest.fixture(scope="module")
def twins(dovecot: Dovecot, module_proxies: ProxyFactory, odd_mail: list[bytes]) -> tuple[Mailbox, ProxyUser]:
    """Two mailboxes with the same mail: one to use directly, one through a proxy."""
    mailboxes = [dovecot.mailbox("twin") for _ in range(2)]
    for mailbox in mailboxes:
        with direct(mailbox) as imap:
            for octets in odd_mail[:10]:
                imap.ok(b"APPEND INBOX {%d}" % len(octets), octets)
    return mailboxes[0], proxy_user(module_proxies, mailboxes[1])


@pytest.mark.parametrize("name", SCRIPTS)
def test_transcripts_are_identical(name: str, twins: tuple[Mailbox, ProxyUser]) -> None:
    plain, user = twins
    with direct(plain) as imap:
        expected = [normal(imap.command(line)) for line in SCRIPTS[name]]
    with proxied(user.proxy, user.mailbox) as imap:
        got = [normal(imap.command(line)) for line in SCRIPTS[name]]
    for line, one, other in zip(SCRIPTS[name], expected, got, strict=True):
        assert other == one, line
