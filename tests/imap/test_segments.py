"""Whatever pieces the octets come in, in either direction, the client gets the same octets (IMAP-01).

The session itself is driven, with a real server behind it, so that each piece is as long as it was chosen.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secmailproxy.imap.commands import Settings
from secmailproxy.imap.presenter import Presenter
from secmailproxy.imap.session import Actions, Session
from secmailproxy.imap.steps import Work
from secmailproxy.outbound import Outbound, OutboundSettings
from secmailproxy.verdict import VERDICT_LENGTH
from secmailproxy.views import Views
from tests.fixtures.desk import FIELD, NOW, Desk, desk
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.player import fill
from tests.fixtures.transcript import RawImap, direct, without_keywords
from tests.imap.scripts.mail import MAIL

__all__ = ["desk"]

LINES = b"".join(
    line + b"\r\n"
    for line in [
        b"a EXAMINE INBOX",
        b"b FETCH 1:5 (UID FLAGS ENVELOPE BODYSTRUCTURE BODY.PEEK[] RFC822.SIZE)",
        b"c UID FETCH 1:4 (BODY.PEEK[1.MIME] BODY.PEEK[HEADER.FIELDS ({7+}\r\nsubject)])",
        b"d SEARCH SUBJECT {5+}\r\nlunch",
        b"e STATUS {6+}\r\nDrafts (MESSAGES)",
        b'f LIST "" "*"',
        b"g IDLE\r\nDONE",
        b"h FETCH 2 BODY.PEEK[2.HEADER]",
        b"i UID FETCH 7:* (UID BODY.PEEK[])",
        b"end NOOP",
    ]
)
# Dovecot says \UnMarked of a mailbox that has not changed for a second.
_TIMES = re.compile(rb" \(\d+\.\d+ \+ [0-9.+ ]+ secs\)| \\UnMarked")
_COMPLETION = re.compile(rb"(?m)^(?:[a-i]|end) (?:OK|NO|BAD).*\r\n")


@dataclass
class Driver:
    """Carries octets between a session and a server that it is logged in to."""

    imap: RawImap
    presenter: Presenter
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def answers(self, lines: bytes, client: Sequence[int], server: Sequence[int]) -> bytes:
        """What the client hears; `client` and `server` are lengths of pieces, in turn for ever.

        Nothing is known of the mail beforehand: it is classified anew each time.
        """
        self.presenter = replace(self.presenter, account=f"{next(self.numbers)}@example.test")
        session = Session(Settings(FIELD.encode(), VERDICT_LENGTH, literal_plus=True))
        out = b""
        todo: deque[bytes] = deque(pieces(lines, client))
        sizes = itertools.cycle(server)
        while b"\r\nend OK" not in out:
            if todo and session.wants_client:
                out += self.carried_out(session, session.from_client(todo.popleft()))
                continue
            data = self.imap.connection.recv(65536)
            assert data, out[-200:]
            while data:
                size = next(sizes)
                out += self.carried_out(session, session.from_upstream(data[:size]))
                data = data[size:]
        return out

    def carried_out(self, session: Session, actions: Actions) -> bytes:
        """Do what the session says; what the client hears."""
        out = b""
        waiting = [actions]
        while waiting:
            now = waiting.pop(0)
            out += now.to_client
            if now.to_upstream:
                self.imap.send(now.to_upstream)
            waiting += [session.work_done([number], self.done(work)) for number, work in now.work]
        return out

    def done(self, work: Work) -> object:
        """The result of work."""
        return asyncio.run(self.presenter.carry_out(work))


def pieces(octets: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """`octets` in pieces of these lengths, in turn."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(octets):
            return
        yield octets[at : at + size]
        at += size


def settled(octets: bytes) -> tuple[bytes, list[bytes]]:
    """The untagged responses without times, in order, and the completions, whose places are not fixed."""
    octets = without_keywords(_TIMES.sub(b"", octets))
    return _COMPLETION.sub(b"", octets), sorted(_COMPLETION.findall(octets))


@pytest.fixture(scope="module")
def driver(dovecot: Dovecot, desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """A session with plain mail; INBOX is open from the start, so that each opening is told alike."""
    mailbox = dovecot.mailbox("segments")
    fill(mailbox, MAIL["plain"])
    path: Path = tmp_path_factory.mktemp("views") / "views.sqlite3"
    with closing(Views.open(path, desk.keystore)) as views, direct(mailbox) as imap:
        imap.ok(b"SELECT INBOX")
        outbound = Outbound(desk.keystore, OutboundSettings())
        yield Driver(imap, Presenter(mailbox.address, views, desk.keystore, outbound, FIELD, lambda: NOW))


@pytest.fixture(scope="module")
def expected(driver: Driver) -> tuple[bytes, list[bytes]]:
    """What the server says to the same lines."""
    out = b""
    driver.imap.send(LINES)
    while not out.endswith(b"\n") or b"\r\nend OK" not in out:
        data = driver.imap.connection.recv(65536)
        assert data
        out += data
    return settled(out)


sizes = st.lists(st.integers(1, 200) | st.integers(200, 70_000), min_size=1, max_size=12)


@given(client=sizes, server=sizes)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_segments_change_nothing(
    driver: Driver, expected: tuple[bytes, list[bytes]], client: list[int], server: list[int]
) -> None:
    assert settled(driver.answers(LINES, client, server)) == expected


@pytest.mark.parametrize(("client", "server"), [(1, 1), (70_000, 1), (1, 70_000), (2, 3)])
def test_every_octet_by_itself(
    driver: Driver, expected: tuple[bytes, list[bytes]], client: int, server: int
) -> None:
    assert settled(driver.answers(LINES, [client], [server])) == expected
