"""Servers that leave, lie or stammer, clients that leave: what the other side hears (IMAP-19, IMAP-20)."""

from __future__ import annotations

import itertools
import re
import threading

import pytest

from tests.fixtures.fake_imap import LOGIN, FakeImap, Handler, Peer
from tests.fixtures.people import ProxyUser, letter
from tests.fixtures.processes import wait_until
from tests.fixtures.transcript import RawImap, proxied

UNAVAILABLE = b"a NO [UNAVAILABLE] The mail server closed the connection.\r\n"
BYE = b"* BYE The mail server closed the connection.\r\n"
_boxes = itertools.count(1)
ASKED = b"BODY[HEADER.FIELDS (CONTENT-TYPE CONTENT-DISPOSITION)]"
TYPE = rb"UID FETCH .*CONTENT-TYPE.*"
BODY = rb"UID FETCH 3 .*BODY\.PEEK\[\].*"
SEALED = b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary="x"\r\n\r\n'


def kind(header: bytes) -> bytes:
    """The answer to the question what message 3 is."""
    told = b"* 3 FETCH (UID 3 %b {%d}\r\n%b)\r\nTAG OK\r\n"
    return told % (ASKED, len(header), header)


PLAIN = kind(b"Content-Type: text/plain\r\n\r\n")


def leaving(*octets: bytes, take: int = 0) -> Handler:
    """Say this, read so many octets, and leave, without TLS's word of it."""

    def do(peer: Peer, match: re.Match[bytes]) -> None:
        for one in octets:
            peer.send(one)
        if take:
            peer.swallow(take)
        peer.leave()

    return do


def rest(imap: RawImap) -> bytes:
    """All that comes until the end, as octets."""
    heard = b""
    while data := imap.connection.recv(65536):
        heard += data
    return heard


@pytest.mark.parametrize(
    ("table", "heard"),
    [
        ({TYPE: leaving()}, UNAVAILABLE + BYE),
        (
            {TYPE: leaving(b"* 3 FETCH (UID 3 %b {900}\r\nxx" % ASKED)},
            UNAVAILABLE + BYE,
        ),
        ({TYPE: kind(SEALED), BODY: leaving()}, UNAVAILABLE + BYE),
        ({TYPE: kind(SEALED), BODY: leaving(b"* 3 FETCH (UID 3 BODY[]<0> {99}\r\nxx")}, UNAVAILABLE + BYE),
        ({TYPE: PLAIN, BODY: leaving()}, UNAVAILABLE + BYE),
        (
            {TYPE: PLAIN, BODY: leaving(b"* 3 FETCH (UID 3 BODY[] {9}\r\nabcdefghi)\r\n")},
            b"* 3 FETCH (UID 3 BODY[] {9}\r\nabcdefghi)\r\n" + UNAVAILABLE + BYE,
        ),
        # Whatever is said in the middle of a message would become a part of it.
        (
            {TYPE: PLAIN, BODY: leaving(b"* 3 FETCH (UID 3 BODY[] {9}\r\nabcd")},
            b"* 3 FETCH (UID 3 BODY[] {9}\r\nabcd",
        ),
        ({TYPE: PLAIN, BODY: leaving(b"* 3 FETCH (UID 3 BO")}, None),
    ],
)
def test_the_server_is_lost_in_a_fetch(
    fake_user: ProxyUser, fake: FakeImap, table: dict[bytes, bytes | Handler], heard: bytes | None
) -> None:
    """IMAP-19: NO, then BYE, unless a response is half-way out."""
    fake.play(table)
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        # One of its own, so that nothing is known of it.
        imap.ok(b"SELECT box%d" % next(_boxes))
        imap.send(b"a UID FETCH 3 (BODY.PEEK[])\r\n")
        all_of_it = rest(imap)
    assert heard is None or all_of_it == heard
    assert SEALED not in all_of_it
    assert len(fake.peers) == 1


def test_a_body_that_the_server_cannot_read_keeps_no_other_message_from_the_client(
    fake_user: ProxyUser, fake: FakeImap
) -> None:
    """The first octets of some bodies tell whether a message is protected."""
    mixed = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    told = b"".join(
        b"* %d FETCH (UID %d %b {%d}\r\n%b)\r\n" % (n, n, ASKED, len(mixed), mixed) for n in (3, 4, 5)
    )
    unreadable = {b"4"}

    def begin(peer: Peer, match: re.Match[bytes]) -> None:
        asked = {b"3", b"4", b"5"} if b":" in match[1] else {match[1]}
        for one in sorted(asked - unreadable):
            peer.send(b"* %b FETCH (UID %b BODY[TEXT]<0> {2}\r\nhi)\r\n" % (one, one))
        peer.send(b"TAG NO [SERVERBUG] Cannot read it.\r\n" if asked & unreadable else b"TAG OK\r\n")

    sizes = b"".join(b"* %d FETCH (UID %d RFC822.SIZE 9)\r\n" % (n, n) for n in (3, 4, 5))
    table: dict[bytes, bytes | Handler] = {
        TYPE: told + b"TAG OK\r\n",
        rb"UID FETCH (\S+) .*BODY\.PEEK\[TEXT\].*": begin,
        rb"UID FETCH 3:5 \(RFC822\.SIZE\)": sizes + b"TAG OK\r\n",
    }
    fake.play(table)
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.ok(b"SELECT box%d" % next(_boxes))
        assert len(imap.ok(b"UID FETCH 3:5 (RFC822.SIZE)")) == 4
        assert len(imap.ok(b"UID FETCH 3:5 (RFC822.SIZE)")) == 4
        # Where none can be read it may be for a while only.
        unreadable |= {b"3", b"5"}
        imap.ok(b"SELECT box%d" % next(_boxes))
        assert imap.command(b"UID FETCH 3:5 (RFC822.SIZE)")[-1].startswith(b"T NO [SERVERBUG]")


@pytest.mark.parametrize(
    ("folder", "lost"),
    [
        (b"INBOX", leaving()),
        (b"INBOX", leaving(b"+ go on\r\n")),
        (b"INBOX", leaving(b"+ go on\r\n", take=100)),
        (b"INBOX", leaving(b"+ go on\r\n", take=402)),
        # Here the name of the mailbox is a literal, and the message is ciphertext.
        (b"Drafts", leaving()),
        (b"Drafts", leaving(b"+ go on\r\n", take=8)),
        (b"Drafts", leaving(b"+ go on\r\n", b"+ go on\r\n", take=900)),
    ],
)
def test_the_server_is_lost_in_an_append(
    fake_user: ProxyUser, fake: FakeImap, folder: bytes, lost: Handler
) -> None:
    """IMAP-19: nothing is tried again, since nobody knows what became of it."""
    fake.play({rb"APPEND .*\{\d+\}": lost})
    message = letter(fake_user.address, "b@example.org")[:400].ljust(400)
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.send(b"a APPEND " + folder + b" {400}\r\n")
        assert imap.response().startswith(b"+")
        imap.send(message + b"\r\n")
        assert rest(imap) == UNAVAILABLE + BYE
    assert len([one for one in fake.heard if one.startswith(b"APPEND")]) == 1
    assert len(fake.peers) == 1


def test_the_server_is_lost_while_the_client_idles(fake_user: ProxyUser, fake: FakeImap) -> None:
    """IMAP-19."""
    fake.play({rb"IDLE": leaving(b"+ idling\r\n", b"* 10 EXISTS\r\n")})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.send(b"a IDLE\r\n")
        assert rest(imap) == b"+ idling\r\n* 10 EXISTS\r\n" + UNAVAILABLE + BYE


def test_the_client_is_lost_after_its_message(fake_user: ProxyUser, fake: FakeImap) -> None:
    """IMAP-19: what was whole arrives whole, however slow the server is."""
    size, gone, taken = 8_000_000, threading.Event(), threading.Event()

    def take(peer: Peer, match: re.Match[bytes]) -> None:
        peer.send(b"+ go on\r\n")
        assert gone.wait(30)
        peer.swallow(size + 2)
        taken.set()
        peer.send(b"TAG OK stored\r\n")

    fake.play({rb"APPEND INBOX \{\d+\}": take})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.send(b"a APPEND INBOX {%d}\r\n" % size)
        assert imap.response().startswith(b"+")
        sending = threading.Timer(0, imap.send, [b"Subject: x\r\n\r\n".ljust(size, b"x") + b"\r\n"])
        sending.start()
        wait_until(lambda: any(one.startswith(b"APPEND") for one in fake.heard), "the server is asked")
        gone.set()
        sending.join()
    assert taken.wait(30)
    assert fake.peers[0].received == size + 2


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (
            b"* OK [ALERT] pay \xe2\x82\xac first {5}\r\nTAG OK\r\n",
            b"* OK [ALERT] pay \xe2\x82\xac first {5}\r\na OK\r\n",
        ),
        (b"TAG OK [ALERT] pay first\r\n", b"a OK [ALERT] pay first\r\n"),
        (b"* OK\r\n* NO \r\nTAG OK\r\n", b"* OK\r\n* NO \r\na OK\r\n"),
        (b"zzz OK surprise\r\nTAG OK fine\r\n", b"a OK fine\r\n"),
        (b"TAG OK fine\r\nTAG NO not fine\r\n", b"a OK fine\r\n"),
        (b"* 3 FETCH (FLAGS (\0))\r\nTAG OK\0\r\n", b"* 3 FETCH (FLAGS (\0))\r\na OK\0\r\n"),
        (b"* LIST () {1}\r\n/ {3}\r\na)b\r\nTAG OK\r\n", b"* LIST () {1}\r\n/ {3}\r\na)b\r\na OK\r\n"),
        (
            b"* CAPABILITY IMAP4rev1 COMPRESS=DEFLATE IDLE NOTIFY\r\nTAG OK [CAPABILITY NOTIFY MOVE] x\r\n",
            b"* CAPABILITY IMAP4rev1 IDLE LITERAL- INPROGRESS\r\n"
            b"a OK [CAPABILITY MOVE LITERAL- INPROGRESS] x\r\n",
        ),
        (b"* BYE shutting down\r\n", b"* BYE shutting down\r\n"),
        (b"\r\n \r\nTAG OK\r\n", b"\r\n \r\na OK\r\n"),
        (b"* 99999999999999999999 EXISTS\r\nTAG OK\r\n", b"* 99999999999999999999 EXISTS\r\na OK\r\n"),
    ],
)
def test_what_a_server_may_say(fake_user: ProxyUser, fake: FakeImap, said: bytes, heard: bytes) -> None:
    """As it is, without answers that were not asked for and capabilities that are not ours to offer."""
    fake.play({rb"NOOP": said})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        imap.send(b"a NOOP\r\n")
        got = b""
        while len(got) < len(heard):
            octets = imap.connection.recv(len(heard) - len(got))
            assert octets, got
            got += octets
        assert got == heard
        imap.send(b"b CHECKED\r\n")
        assert imap.response().startswith(b"b BAD")


@pytest.mark.parametrize("endless", [b"x" * 5_000_000, b"* 3 FETCH (" + b"FLAGS () " * 600_000])
def test_a_line_without_end(fake_user: ProxyUser, fake: FakeImap, endless: bytes) -> None:
    fake.play({rb"NOOP": lambda peer, _: peer.send(endless)})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        imap.send(b"a NOOP\r\n")
        assert rest(imap) == b"* BYE the server sent a line of more than 4 MiB\r\n"


@pytest.mark.parametrize(
    ("header", "answer", "end"),
    [
        (b"text/plain", b"BODYSTRUCTURE ((", b"* 3 FETCH (UID 3 BODYSTRUCTURE (()\r\na OK done\r\n"),
        (b"multipart/signed", b"BODYSTRUCTURE ((", b"a NO [SERVERBUG]"),
        (b"multipart/signed", b"FLAGS ()", b"a NO [SERVERBUG]"),
    ],
)
def test_a_malformed_bodystructure(
    fake_user: ProxyUser, fake: FakeImap, header: bytes, answer: bytes, end: bytes
) -> None:
    """Plain mail: as it is. What we would have to change: the command fails, the connection goes on."""
    fake.play(
        {
            TYPE: kind(b'Content-Type: %b; protocol="application/pgp-signature"\r\n\r\n' % header),
            rb".*1\.MIME.*": b"* 3 FETCH (UID 3 BODY[1.MIME] NIL)\r\nTAG OK\r\n",
            rb"UID FETCH 3 .*BODYSTRUCTURE.*": b"* 3 FETCH (UID 3 %b)\r\nTAG OK done\r\n" % answer,
        }
    )
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        # A mailbox of its own, so that nothing is known of it.
        imap.ok(b"SELECT " + header.replace(b"/", b"-") + answer[:5])
        imap.send(b"a UID FETCH 3 (BODYSTRUCTURE)\r\n")
        heard = b""
        while not heard.startswith(b"a ") and b"\na " not in heard:
            heard += imap.response()
        assert heard.startswith(end)
        imap.ok(b"NOOP")


def test_an_alert_at_the_login_is_heard_once(fake_user: ProxyUser, fake: FakeImap) -> None:
    """In the greeting, between, and in the answer itself; over TLS, so that the server has said it."""
    alerts = [
        b"* OK [ALERT] down at noon\r\n",
        b"* NO [ALERT] disk is full\r\n",
        b"* OK [ALERT] pay first\r\n",
    ]
    table = {**LOGIN, rb"AUTHENTICATE PLAIN .*": alerts[1] + b"TAG OK [ALERT] pay first\r\n"}
    fake.play(table, greeting=alerts[0])
    with proxied(fake_user.proxy, fake_user.mailbox, login=False) as imap:
        *before, completion = imap.login(fake_user.mailbox)
        assert before == alerts
        assert completion.startswith(b"T OK [CAPABILITY ")
        assert b"ALERT" not in completion
        assert imap.ok(b"NOOP") == [b"T OK nothing\r\n"]


def test_an_alert_with_a_refusal(fake_user: ProxyUser, fake: FakeImap) -> None:
    alert = b"* OK [ALERT] down at noon\r\n"
    fake.play({rb"AUTHENTICATE PLAIN .*": b"TAG NO [ALERT] pay first\r\n"}, greeting=alert)
    with proxied(fake_user.proxy, fake_user.mailbox, login=False) as imap:
        assert imap.login(fake_user.mailbox) == [alert, b"T NO [ALERT] pay first\r\n"]


def test_what_the_server_says_too_early_is_not_lost(fake_user: ProxyUser, fake: FakeImap) -> None:
    """With the last answer of the login, and cut anywhere."""
    times = [0]

    def listed(peer: Peer, match: re.Match[bytes]) -> None:
        times[0] += 1
        early = b"* OK still warm\r\n* OK and mo" if times[0] == 2 else b""
        peer.send(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR\r\nTAG OK\r\n" + early)

    fake.play({rb"CAPABILITY": listed, rb"NOOP": b"re\r\nTAG OK\r\n"})
    with proxied(fake_user.proxy, fake_user.mailbox) as imap:
        assert imap.ok(b"NOOP") == [b"* OK still warm\r\n", b"* OK and more\r\n", b"T OK\r\n"]


@pytest.mark.parametrize(
    ("greeting", "table"),
    [
        (b"* BYE busy\r\n", {}),
        (b"* PREAUTH come in\r\n", {}),
        (b"* OK hello\r\n", {rb"CAPABILITY": b"* CAPABILITY IMAP4rev1 LOGINDISABLED\r\nTAG OK\r\n"}),
        (b"* NO\r\n", {}),
        (b"\0\0\r\n", {}),
    ],
)
def test_servers_that_one_cannot_log_in_to(
    fake_user: ProxyUser, fake: FakeImap, greeting: bytes, table: dict[bytes, bytes | Handler]
) -> None:
    """IMAP-20: told as NO [UNAVAILABLE]; no credential leaves."""
    fake.play(table, greeting=greeting)
    with proxied(fake_user.proxy, fake_user.mailbox, login=False) as imap:
        assert imap.login(fake_user.mailbox)[-1].startswith(b"T NO [UNAVAILABLE] ")
    assert not [one for one in fake.heard if one.startswith((b"AUTHENTICATE", b"LOGIN"))]
