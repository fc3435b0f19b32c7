"""FWD-02, FWD-08 with mail that nobody here wrote: spam, lists, patches, notifications, and what is broken.

Each message of the corpora comes in as by a pipe and as by sendmail, is asked for by rules and counted for
digests, and stands whole inside what leaves, or is passed on where it is encrypted already.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from secmailproxy.errors import MalformedMessage
from secmailproxy.forward.facts import facts_of, likeness
from secmailproxy.forward.message import envelope_sender, from_pipe
from secmailproxy.forward.model import (
    Conditions,
    Drop,
    Entrance,
    Forward,
    ForwardSettings,
    Rule,
    SystemMail,
    Target,
)
from secmailproxy.forward.rules import decide
from secmailproxy.forward.sendmailinput import Missing, collected, completed
from secmailproxy.mime.canonical import crlf
from secmailproxy.mime.entity import parse_or_leaf
from secmailproxy.mime.system import SystemHeader, is_sealed, passed_on, system_message
from tests.fixtures.odd_mail import OWN, corpora

HEAD = SystemHeader("root@host.example", ("admin@example.org",), "mark")
OUTSIDE = ["From", "To", "Date", "Message-ID", "Subject", "Auto-Submitted", "X-Loop"]
MISSING = Missing("root@host.example", "root", datetime(2026, 1, 1, tzinfo=UTC), "<1@host.example>")
NEVER = Conditions(header=(("Subject", "no such words"),), body=("no such words",))
SETTINGS = ForwardSettings(
    targets=(Target("admin@example.org", ()),),
    rules=(Rule("never", NEVER, Conditions(), (Drop(),)),),
    urgent_words=("FAILED",),
)
SUFFIXES = {".eml", ".mbox", ".msg", ".txt", ""}


def messages() -> Iterator[bytes]:
    """All that are at hand; those of this project always are."""
    for folder in (OWN, corpora()):
        if folder is not None:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.suffix in SUFFIXES:
                    yield path.read_bytes()


def looked_at(octets: bytes, mail_from: str) -> None:
    """Rules and digests can look at it, and it goes to the target."""
    mail = SystemMail(octets, mail_from, (), Entrance.PIPE)
    assert decide(mail, SETTINGS).actions == (Forward(),)
    root = parse_or_leaf(octets)
    assert likeness(root, facts_of(root, mail_from))


def test_fwd_02_every_message_of_the_corpora_stays_whole() -> None:
    count = 0
    for octets in messages():
        if not octets.strip():
            with pytest.raises(MalformedMessage):
                from_pipe(octets)
            continue
        brought = from_pipe(octets)
        assert crlf(octets).endswith(brought)
        for message in (brought, completed(collected(octets, ends_at_dot=False), MISSING)):
            looked_at(message, envelope_sender(octets) or "")
            root = parse_or_leaf(message)
            if is_sealed(root):
                assert passed_on(root, "mark").endswith(root.body)
                continue
            ready = system_message(root, HEAD, date="Thu, 01 Jan 2026 00:00:00 +0000", message_id="<2@host>")
            assert ready.payload.endswith(b"\r\n\r\n" + message)
            assert [raw.partition(b":")[0].decode() for raw in ready.outer] == OUTSIDE
            assert b"".join(ready.outer).isascii()
        count += 1
    assert count > 8
