"""What the server is asked: little, and in the client's own kind of command (IMAP-01, -10, -12, -13, -23)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from secmailproxy.policy import Protect
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, letter, protect, proxy_user
from tests.fixtures.proxy import ProxyFactory, Upstream
from tests.fixtures.recorder import Recorder
from tests.fixtures.transcript import RawImap, direct, proxied

HEADER_SYNC = b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Subject Date)])"
PLAIN = 40


@dataclass
class Leg:
    """A session through the proxy, and what the server heard."""

    imap: RawImap
    recorder: Recorder

    def asked(self, command: bytes) -> list[bytes]:
        """Run a command; the commands that the server got for it, without their tags."""
        before = len(self.recorder.sent)
        self.imap.ok(command)
        lines = bytes(self.recorder.sent[before:]).split(b"\r\n")
        return [line.split(b" ", 1)[1] for line in lines if line]


@pytest.fixture
def user(
    proxies: ProxyFactory, dovecot: Dovecot, record: Callable[[int], Recorder]
) -> tuple[ProxyUser, Recorder]:
    """Plain mail, then one encrypted and one signed message, behind a recorder."""
    recorder = record(dovecot.imaps_port)
    upstream = Upstream(dovecot.ca.ca_file, recorder.port, 1)
    user = proxy_user(proxies, dovecot.mailbox("leg"), upstream=upstream)
    clear = letter(user.address, user.address)
    with direct(user.mailbox) as imap:
        for octets in [clear] * PLAIN + [protect(user, clear), protect(user, clear, Protect.SIGN)]:
            imap.ok(b"APPEND INBOX {%d}" % len(octets), octets)
    return user, recorder


def test_questions_are_of_the_clients_kind(user: tuple[ProxyUser, Recorder]) -> None:
    """IMAP-10: FETCH inside FETCH, UID FETCH inside UID FETCH, so that EXPUNGE comes only where it may."""
    with proxied(user[0].proxy, user[0].mailbox) as imap:
        leg = Leg(imap, user[1])
        imap.ok(b"SELECT INBOX")
        by_number = leg.asked(b"FETCH 1:* (ENVELOPE BODY.PEEK[])")
        assert len(by_number) > 3
        assert all(line.startswith(b"FETCH ") for line in by_number), by_number
        imap.ok(b"CREATE other")
        imap.ok(b"COPY 1:* other")
        imap.ok(b"SELECT other")
        by_uid = leg.asked(b"UID FETCH 1:* (ENVELOPE BODY.PEEK[])")
        assert len(by_uid) > 3
        assert all(line.startswith(b"UID FETCH ") for line in by_uid), by_uid


def test_a_header_sync_asks_once_and_the_second_asks_nothing(user: tuple[ProxyUser, Recorder]) -> None:
    """IMAP-12, for plain mail; a new session asks nothing either."""
    with proxied(user[0].proxy, user[0].mailbox) as imap:
        leg = Leg(imap, user[1])
        imap.ok(b"SELECT INBOX")
        command = b"UID FETCH 1:%d " % PLAIN + HEADER_SYNC
        # What is near is classified with it: among that is a signed message, whose first part is looked at;
        # of multipart/mixed, which all of these letters are, it is the second one.
        assert len(leg.asked(command)) == 4
        assert leg.asked(command) == [command]
    with proxied(user[0].proxy, user[0].mailbox) as imap:
        leg = Leg(imap, user[1])
        imap.ok(b"SELECT INBOX")
        assert leg.asked(command) == [command]


def test_signed_mail_is_listed_without_its_body(user: tuple[ProxyUser, Recorder]) -> None:
    """IMAP-13; encrypted mail is downloaded once, and never again for a list."""
    with proxied(user[0].proxy, user[0].mailbox) as imap:
        leg = Leg(imap, user[1])
        imap.ok(b"SELECT INBOX")
        signed = leg.asked(b"UID FETCH %d " % (PLAIN + 2) + HEADER_SYNC)
        assert not re.search(
            rb"BODY(\.PEEK)?\[\]|TEXT\](?!<0\.1000>)|BODY(\.PEEK)?\[1\]", b" ".join(signed)
        ), signed
        first = leg.asked(b"UID FETCH %d " % (PLAIN + 1) + HEADER_SYNC)
        assert b"BODY.PEEK[]" in b" ".join(first)
        assert leg.asked(b"UID FETCH %d " % (PLAIN + 1) + HEADER_SYNC) == [
            b"UID FETCH %d (UID FLAGS)" % (PLAIN + 1)
        ]
        # Reading it needs no download: only \\Seen is the server's.
        assert leg.asked(b"UID FETCH %d (BODY[])" % (PLAIN + 1)) == [
            b"UID FETCH %d (UID BODY[HEADER.FIELDS (X-None)])" % (PLAIN + 1)
        ]


def test_a_copy_needs_no_decryption_and_no_new_form(user: tuple[ProxyUser, Recorder]) -> None:
    """IMAP-23, by the hash of the message: also when the key is gone."""
    person = user[0]
    with proxied(person.proxy, person.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        (first, _) = imap.ok(b"UID FETCH %d (RFC822.SIZE BODY.PEEK[])" % (PLAIN + 1))
        imap.ok(b"CREATE copies")
        imap.ok(b"UID COPY %d copies" % (PLAIN + 1))
        with person.home.keystore() as keystore:
            keystore.delete(person.fingerprint)
        imap.ok(b"SELECT copies")
        (copy, _) = imap.ok(b"UID FETCH 1 (RFC822.SIZE BODY.PEEK[])")
    assert copy.split(b"RFC822.SIZE", 1)[1] == first.split(b"RFC822.SIZE", 1)[1]


def test_plain_mail_is_asked_for_in_the_clients_own_words(user: tuple[ProxyUser, Recorder]) -> None:
    """IMAP-01."""
    lines = [
        b"NOOP",
        b"UID SEARCH ALL",
        b"UID STORE 1 +FLAGS (\\Flagged)",
        b"FETCH 1:* (FLAGS)",
        b"UID FETCH 1 (BODY.PEEK[])",
        b"UID FETCH 2:3,5 (UID BODY.PEEK[HEADER])",
    ]
    with proxied(user[0].proxy, user[0].mailbox) as imap:
        leg = Leg(imap, user[1])
        imap.ok(b"SELECT INBOX")
        imap.ok(b"UID FETCH 1:%d (RFC822.SIZE)" % PLAIN)
        for line in lines:
            assert leg.asked(line) == [line]
