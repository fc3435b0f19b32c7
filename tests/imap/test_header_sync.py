"""Lists of ten thousand messages, of which five hundred are protected: what the server is asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from secmailproxy.imap.numbers import Numbers, parse_ranges
from secmailproxy.policy import Protect
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.people import ProxyUser, letter, protect, proxy_user
from tests.fixtures.proxy import Upstream, proxy_factory
from tests.fixtures.recorder import Recorder, recording
from tests.fixtures.transcript import RawImap, proxied

MESSAGES = 10_000
EVERY = 20
"""Each of these is protected: by turns encrypted and signed only."""
HEADER_SYNC = b"(UID RFC822.SIZE FLAGS BODY.PEEK[HEADER.FIELDS (From To Subject Date)])"
ENCRYPTED = range(EVERY, MESSAGES + 1, 2 * EVERY)
SIGNED = range(2 * EVERY, MESSAGES + 1, 2 * EVERY)


@dataclass
class Sync:
    """A mailbox behind a recorder, and what was asked when it was seen for the first time."""

    user: ProxyUser
    recorder: Recorder
    first: list[bytes]
    listed: list[bytes]

    @contextmanager
    def session(self) -> Iterator[RawImap]:
        with proxied(self.user.proxy, self.user.mailbox) as imap:
            imap.ok(b"EXAMINE INBOX")
            yield imap

    def asked(self, imap: RawImap, *commands: bytes) -> tuple[list[bytes], list[bytes]]:
        """Send commands at once; what the server was asked for them, and the FETCH responses."""
        return asked(self.recorder, imap, *commands)


def asked(recorder: Recorder, imap: RawImap, *commands: bytes) -> tuple[list[bytes], list[bytes]]:
    before = len(recorder.sent)
    imap.send(b"".join(b"n%d %b\r\n" % item for item in enumerate(commands)))
    heard, left = [], len(commands)
    while left:
        response = imap.response()
        assert response
        if response.startswith(b"n"):
            assert response.split()[1] == b"OK", response
            left -= 1
        elif not response.startswith(b"* OK [INPROGRESS "):  # where the machine has too much to do
            heard.append(response)
    lines = bytes(recorder.sent[before:]).split(b"\r\n")
    return [line.split(b" ", 1)[1] for line in lines if line], heard


def uids_of(command: bytes) -> Numbers:
    ranges = parse_ranges(command.split()[2])
    assert ranges is not None
    return Numbers.of(ranges)


@pytest.fixture(scope="module")
def sync(dovecot: Dovecot) -> Iterator[Sync]:
    with ExitStack() as stack:
        recorder = stack.enter_context(recording(dovecot.ca, dovecot.imaps_port))
        upstream = Upstream(dovecot.ca.ca_file, recorder.port, 1)
        proxies = stack.enter_context(proxy_factory(upstream))
        user = proxy_user(proxies, dovecot.mailbox("many"))
        clear = letter(user.address, user.address)
        forms = {**dict.fromkeys(ENCRYPTED, protect(user, clear))}
        forms |= dict.fromkeys(SIGNED, protect(user, clear, Protect.SIGN))
        user.mailbox.fill(b"X-Number: %d\r\n" % n + forms.get(n, clear) for n in range(1, MESSAGES + 1))
        with proxied(user.proxy, user.mailbox) as imap:
            imap.ok(b"EXAMINE INBOX")
            first, listed = asked(recorder, imap, b"UID FETCH 1:* " + HEADER_SYNC)
        yield Sync(user, recorder, first, listed)


def test_plain_mail_costs_one_more_question(sync: Sync) -> None:
    """IMAP-12; signed mail one more, encrypted mail its sizes."""
    questions = [line for line in sync.first if b"CONTENT-TYPE" in line]
    fields = b"BODY.PEEK[HEADER.FIELDS (CONTENT-TYPE CONTENT-DISPOSITION)]"
    assert questions == [b"UID FETCH 1:%d (UID %b)" % (MESSAGES, fields)]
    assert len([line for line in sync.first if b"BODY.PEEK[1.MIME]" in line]) == 1
    assert len([line for line in sync.first if b"(UID RFC822.SIZE)" in line]) == 1
    downloads = [line for line in sync.first if b"BODY.PEEK[]" in line]
    assert len(sync.first) - len(downloads) < 12
    assert len(sync.listed) == MESSAGES
    assert not any(b"[...]" in response for response in sync.listed)


def test_signed_mail_is_not_downloaded(sync: Sync) -> None:
    """IMAP-13."""
    for line in sync.first:
        if re.search(rb"BODY(\.PEEK)?\[(TEXT|1)?\]", line):
            assert not set(uids_of(line)) & set(SIGNED)


def test_encrypted_mail_is_downloaded_once_and_newest_first(sync: Sync) -> None:
    batches = [sorted(uids_of(line), reverse=True) for line in sync.first if b"BODY.PEEK[]" in line]
    assert [uid for batch in batches for uid in batch] == sorted(ENCRYPTED, reverse=True)


@pytest.mark.parametrize(
    ("commands", "most"),
    [
        ([b"UID FETCH 1:* "], 5),
        ([b"FETCH 1:* "], 6),
        ([b"UID FETCH %d:%d " % (at, at + 499) for at in range(1, MESSAGES, 500)], 60),
        ([b"FETCH %d:%d " % (at, at + 499) for at in range(1, MESSAGES, 500)], 80),
        ([b"UID FETCH %d " % uid for uid in range(1, 1001)], 1000),
    ],
    ids=["all", "all by number", "ranges", "ranges by number", "one after the other"],
)
def test_a_second_sync_asks_nothing_for_each_message(sync: Sync, commands: list[bytes], most: int) -> None:
    """IMAP-12, in a session of its own: nothing but what the client asks for, of plain and protected mail."""
    with sync.session() as imap:
        questions, heard = sync.asked(imap, *(command + HEADER_SYNC for command in commands))
    assert len(questions) <= most
    assert not any(b"CONTENT-TYPE" in line or b"BODY.PEEK[]" in line for line in questions)
    first = {re.search(rb"UID (\d+)", response)[1]: response for response in sync.listed}  # type: ignore[index]  # each has one
    again = {re.search(rb"UID (\d+)", response)[1]: response for response in heard}  # type: ignore[index]  # each has one
    assert again == {uid: first[uid] for uid in again}
    assert len(again) == (MESSAGES if most < 1000 else 1000)
