"""Plain mail is the same octets direct and through the proxy (IMAP-01, IMAP-05); see test_scripts.py too."""

from __future__ import annotations

import pytest

from tests.fixtures.people import ProxyUser
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
