"""No capability that passes, and no command, is without a script (IMAP-01)."""

from __future__ import annotations

from pathlib import Path

import pytest

from secmailproxy.imap import capability
from secmailproxy.imap.commands import Settings
from secmailproxy.imap.session import Session
from tests.fixtures.dovecot import Dovecot
from tests.fixtures.transcript import direct
from tests.imap.scripts.corners import CORNERS
from tests.imap.scripts.subjects import SUBJECTS
from tests.imap.scripts.tables import ALL
from tests.imap.scripts.unserved import ANSWERED_BY_US, UNSERVED, Unserved

ROOT = Path(__file__).parents[2]
SHOWN = frozenset(name for script in ALL.values() for name in script.shows)
OWN = frozenset({"LITERAL-", "SASL-IR"})
"""We have these whatever the server has."""


def verbs(line: bytes) -> str:
    """The name of the command; "UID FETCH" and its kin are one name."""
    words = line.upper().split()
    return b" ".join(words[: 2 if words[:1] == [b"UID"] else 1]).decode()


def test_every_capability_that_passes_has_a_script() -> None:
    passing = {name.decode() for name in capability.PASSED}
    elsewhere = {one.capability for one in UNSERVED}.union(ANSWERED_BY_US)
    assert passing - SHOWN - elsewhere - OWN == set()
    for name, path in ANSWERED_BY_US.items():
        assert name in (ROOT / path).read_text()


def test_every_command_has_a_script() -> None:
    played = {verbs(line) for script in ALL.values() for line in script.lines}
    played |= {verbs(one.line) for one in UNSERVED}
    known = capability.PASSED_COMMANDS | capability.STATE_COMMANDS
    assert (
        known | {"FETCH", "UID FETCH", "APPEND", "IDLE", "ENABLE", "LOGIN", "AUTHENTICATE"}
    ) - played == set()


def test_every_subject_of_imaptest_has_a_script() -> None:
    """IMAP-24; imaptest itself is in no archive that the set-up may use."""
    assert {name for names in SUBJECTS.values() for name in names} <= ALL.keys()
    assert CORNERS.keys() <= {name for names in SUBJECTS.values() for name in names}


def test_a_script_shows_only_what_the_server_has(rich_dovecot: Dovecot) -> None:
    with direct(rich_dovecot.mailbox("offers")) as imap:
        offered = imap.ok(b"CAPABILITY")[0].decode().upper().split()[2:]
    for name in SHOWN - OWN:
        assert any(one == name or (name.endswith("=") and one.startswith(name)) for one in offered), name
    for one in UNSERVED:
        assert one.capability not in offered, one


@pytest.mark.parametrize("exchange", UNSERVED, ids=lambda one: one.line[:30].decode())
def test_what_no_server_here_has_passes_as_it_is(exchange: Unserved) -> None:
    session = Session(Settings(b"Secmail-Verdict-123456", 384))
    line = b"t1 " + exchange.line + b"\r\n"
    assert session.from_client(line).to_upstream == line
    answer = exchange.answer + b"t1 OK done\r\n"
    assert session.from_upstream(answer).to_client == answer
