"""Mail that a client appends: what passes, and what we have presented and comes back (IMAP-14, IMAP-16)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap import streaming
from secmailproxy.imap.sending import Sender
from secmailproxy.imap.session import Session, Settings
from secmailproxy.imap.wire import Command, CommandReader, LiteralAhead, WireError
from tests.fixtures.people import TEXT, ProxyUser, leaked, letter, protect
from tests.fixtures.transcript import RawImap, direct, proxied

FIELD = b"Secmail-Verdict-123"
MESSAGE = b"Subject: a\r\nX: \r\n b\r\n\r\nbody\r\n" + FIELD + b": encrypted; not in the header section\r\n"


def append(imap: RawImap, folder: bytes, octets: bytes, *, waits: bool) -> bytes:
    """APPEND with a literal that waits for "+", or not; the UID."""
    if waits:
        answer = imap.command(b"APPEND %b {%d}" % (folder, len(octets)), octets)[-1]
    else:
        answer = imap.command(b"APPEND %b {%d+}\r\n" % (folder, len(octets)) + octets)[-1]
    assert b"[APPENDUID " in answer
    return answer.split(b"]")[0].split()[-1]


def stored(user: ProxyUser, folder: bytes, uid: bytes) -> bytes:
    with direct(user.mailbox) as plain:
        plain.ok(b"SELECT " + folder)
        return plain.ok(b"UID FETCH %b BODY.PEEK[]" % uid)[0]


@pytest.mark.parametrize("waits", [True, False])
def test_a_decrypted_message_that_comes_back_is_encrypted_anywhere(reader: ProxyUser, waits: bool) -> None:
    reader.mailbox.append(protect(reader, letter(reader.address, reader.address)))
    presented = reader.read()[-1]
    assert TEXT.encode() in presented
    assert len(presented) < 4096
    moved = b"X-OfflineIMAP: 77\r\n" + presented.replace(b"\r\n\r\n", b"\r\nX-TUID: abc\r\n\r\n", 1)
    with proxied(reader.proxy, reader.mailbox) as imap:
        uid = append(imap, b"INBOX", moved, waits=waits)
        imap.ok(b"SELECT INBOX")
        (seen, _) = imap.ok(b"UID FETCH %b BODY.PEEK[]" % uid)
        assert re.sub(rb"(?s)Secmail-Verdict-.*?\)\r\n", b"", moved) in seen
    octets = stored(reader, b"INBOX", uid)
    assert b"multipart/encrypted" in octets
    assert b"X-TUID: abc" in octets
    assert b"X-OfflineIMAP: 77" in octets
    assert b"Secmail-Verdict" not in octets
    assert not leaked(octets)
    assert not any(leaked(one) for one in reader.mailbox.files())


@pytest.mark.parametrize("waits", [True, False])
def test_a_signed_message_that_comes_back_is_stored_as_it_was_sent(reader: ProxyUser, waits: bool) -> None:
    status = f"{reader.verdict_field}: signed; signature=valid\r\n (..)\r\n".encode()
    original = b"From: a@example.org\r\nContent-Type: text/plain\r\n\r\nFor all to see.\r\n"
    with proxied(reader.proxy, reader.mailbox) as imap:
        uid = append(imap, b"INBOX", status + original, waits=waits)
    assert stored(reader, b"INBOX", uid).endswith(b"{%d}\r\n%b)\r\n" % (len(original), original))


def test_a_refusal_reaches_the_client_after_its_message(reader: ProxyUser) -> None:
    """IMAP-14: the next command is understood."""
    octets = letter(reader.address, "b@example.org") * 300
    with proxied(reader.proxy, reader.mailbox) as imap:
        assert imap.command(b"APPEND nowhere {%d}" % len(octets), octets)[-1].startswith(b"T NO [TRYCREATE]")
        assert imap.command(b"APPEND nowhere {0}", b"")[-1].startswith(b"T NO [TRYCREATE]")
        imap.ok(b"NOOP")


def session() -> Session:
    return Session(Settings(FIELD, 384, tag_prefix=b"ours"))


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=30))
def test_what_is_not_ours_passes_octet_for_octet_at_any_segmentation(tail: bytes, cuts: list[int]) -> None:
    message = MESSAGE + tail
    one = session()
    assert one.from_client(b"a APPEND INBOX {%d}\r\n" % len(message)).to_client == b"+ OK\r\n"
    octets, sent, asked = message + b"\r\nb NOOP\r\n", b"", False
    for cut in [*cuts, len(octets)]:
        sent += one.from_client(octets[:cut]).to_upstream
        octets = octets[cut:]
        if not asked and sent:
            asked = True
            assert sent == b"a APPEND INBOX {%d}\r\n" % len(message)
            answer = one.from_upstream(b"+ go ahead\r\n")
            assert answer.to_client == b""
            sent = answer.to_upstream
    assert asked
    assert sent == message + b"\r\nb NOOP\r\n"


@given(st.lists(st.integers(1, 40), max_size=30), st.sampled_from([b"", b"Received: x\r\n", b"X:\r\n y\r\n"]))
def test_what_is_ours_never_passes_at_any_segmentation(cuts: list[int], before: bytes) -> None:
    message = before + FIELD.lower() + b":\r\n encrypted; a\r\nSubject: s\r\n\r\nsecret"
    one = session()
    octets, works = b"a APPEND INBOX {%d}\r\n%b\r\n" % (len(message), message), []
    for cut in [*cuts, len(octets)]:
        actions = one.from_client(octets[:cut])
        octets = octets[cut:]
        assert actions.to_upstream == b""
        works += actions.work
    ((_, work),) = works
    assert work.message == before + b"Subject: s\r\n\r\nsecret"
    assert not work.sign


def begun(
    message: bytes, size: int, keeps_at_most: int
) -> tuple[CommandReader, streaming.Stream, list[bytes]]:
    reader, up = CommandReader(), []
    reader.feed(b"a APPEND INBOX {%d}\r\n" % size + message)
    ahead = reader.next_event()
    assert isinstance(ahead, LiteralAhead)
    stream = streaming.Stream(reader, Sender(up, literal_plus=False), up, lambda octets: FIELD in octets)
    stream.begin(b"a", ahead, keeps_at_most)
    return reader, stream, up


def test_a_message_of_ours_that_is_too_large_to_encrypt_is_refused() -> None:
    message = FIELD + b": encrypted\r\n\r\n" + b"x" * 100
    reader, stream, up = begun(message + b"\r\n", len(message), 50)
    answers = []
    while (event := reader.next_event()) is not None:
        answers.append(stream.take(event))
    assert answers[-1] == b"a NO [TOOBIG] the message is too large to encrypt\r\n"
    assert not stream.takes
    assert up == []


def test_a_header_section_without_end_is_looked_at_no_further_than_the_limit() -> None:
    message = b"x" * streaming.LOOKED_AT
    reader, stream, up = begun(message, 10 * len(message), 50)
    event = reader.next_event()
    assert event is not None
    assert stream.take(event) is None
    assert stream.waits
    assert up == [b"a APPEND INBOX {%d}\r\n" % (10 * len(message))]


def test_a_second_message_in_the_command_ends_the_connection() -> None:
    _, stream, _ = begun(b"", 0, 50)
    with pytest.raises(WireError):
        stream.take(Command([b"a APPEND INBOX {0}\r\n", b" x\r\n", b""], [b"", b""]))
