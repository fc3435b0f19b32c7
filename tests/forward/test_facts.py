"""Sender, host and subject of system messages, and which of them say the same."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.forward.facts import Facts, facts_of, likeness, shown, steady
from secmailproxy.mime.entity import Entity, parse, parse_or_leaf
from tests.fixtures.growth import assert_linear

CRON = b"From: root@example.org (Cron Daemon)\r\nSubject: Cron <backup@%s> run-parts /etc\r\n%s\r\n\r\n"

FACTS = [
    (CRON % (b"web1", b"Message-ID: <1.A@web1.example.org>"), "root@example.org", "web1.example.org"),
    (CRON % (b"web1", b"Message-ID: <1.A@mail.example.org>"), "root@example.org", "web1"),
    (b"From: a@b.example\r\nMessage-ID: <x@DB.example.org>\r\n\r\n", "a@b.example", "db.example.org"),
    (
        b"From: a@b.example\r\nReceived: by relay.example with ESMTP\r\n"
        b"Received: from nas (nas [192.0.2.1])\r\n\tby relay.example (Postfix) with ESMTP id 1;\r\n\r\n",
        "a@b.example",
        "nas",
    ),
    (
        b"From: x\r\nReceived: by nas.example (Postfix, from userid 0) id 7\r\n\r\n",
        "env@c.example",
        "nas.example",
    ),
    (
        b"From: root@localhost\r\nMessage-ID: <1@localhost.localdomain>\r\n\r\n",
        "root@localhost",
        "localhost.localdomain",
    ),
    (b"From: root@nas\r\nMessage-ID: <1@localhost>\r\n\r\n", "root@nas", "nas"),
    (b"From: smartd <root@nas>, b@c\r\n\r\n", "root@nas", "nas"),
    (b"Subject: x\r\n\r\n", "env@c.example", "c.example"),
]


@pytest.mark.parametrize(("message", "sender", "host"), FACTS)
def test_sender_and_host(message: bytes, sender: str, host: str) -> None:
    found = facts_of(parse(message), "env@c.example")
    assert (found.sender, found.host) == (sender, host)


def test_what_is_not_told_is_said_to_be_unknown() -> None:
    assert facts_of(parse(b"X: y\r\n\r\n")) == Facts("(unknown)", "(unknown)", "(no subject)")


@settings(max_examples=40)
@given(st.binary(max_size=300), st.text(max_size=300))
def test_facts_are_short_single_lines_that_hide_nothing(octets: bytes, subject: str) -> None:
    message = parse(b"Subject: " + subject.encode("utf-8", "replace") + b"\r\nFrom: " + octets)
    for text in (*vars_of(facts_of(message, subject)), shown(subject)):
        assert text.isprintable()
        assert len(text) <= 200


def vars_of(facts: Facts) -> tuple[str, str, str]:
    return facts.sender, facts.host, facts.subject


ALIKE = [
    ("backup finished at 2026-11-21 07:00:01", "backup finished at 2026-11-22 07:03:59.123"),
    ("Nov 21 07:00:01 nas smartd[812]: ok", "Dec  1 17:00:01 nas smartd[99]: ok"),
    ("Sat Nov 21 23:12:35 UTC 2026", "Sun Nov 22 03:12:35 CEST 2026"),
    ("Sat, 21 Nov 2026 23:12:35 +0000", "Mon, 1 Jun 2026 03:12:35 +0200"),
    ("2026-11-21T07:00:01Z ok", "2026-11-21T07:00:02+01:00 ok"),
    ("real 0m3.218s, 12 ms, 3.5 seconds", "real 10m3.2s, 1 ms, 12 seconds"),
    ("pid 4711, attempt 3", "PID=12, attempt #17"),
    ("epoch 1763765555", "epoch 1763769999.12"),
    ("07:00:01: ok", "07:00:02: ok"),
]
APART = [
    ("/dev/sda1 is 95% full", "/dev/sda1 is 99% full"),
    ("8 Currently unreadable (pending) sectors", "24 Currently unreadable (pending) sectors"),
    ("12:00 START", "12:00 ABORT"),
    ("you may 3", "you may 4"),
    ("version 1.2.3", "version 1.2.4"),
    ("port 22", "port 23"),
    ("user alice", "user bob"),
    ("10.0.0.1 refused", "10.0.0.2 refused"),
    ("0 failed", "1 failed"),
    ("192.168.17.2026", "192.168.17.2027"),
    ("new station 00:16:3e:12:34:56", "new station 00:17:3e:12:34:57"),
    ("new station 12:34:56:78:90:12", "new station 12:34:56:78:90:13"),
    ("login from 2001:db8::12:34", "login from 2001:db8::12:35"),
    ("1730000000 bytes free", "1690000000 bytes free"),
    ("total 1073741824", "total 1493741824"),
]


def both(one: str, other: str) -> tuple[bytes, bytes]:
    """Their likeness, as text of messages and as subjects."""
    found = []
    for text in (one, other):
        message = parse(f"From: a@b\r\nMessage-ID: <{hash(text)}@b>\r\n\r\n{text}\r\n".encode())
        found.append(likeness(message, facts_of(message)))
    return found[0], found[1]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_times_and_process_numbers_keep_nothing_apart(one: str, other: str) -> None:
    assert steady(one) == steady(other)
    assert len(set(both(one, other))) == 1


@pytest.mark.parametrize(("one", "other"), APART)
def test_whatever_else_differs_keeps_messages_apart(one: str, other: str) -> None:
    assert steady(one) != steady(other)
    assert len(set(both(one, other))) == 2


def test_likeness_looks_at_every_part_and_at_no_boundary() -> None:
    def message(boundary: str, picture: str, *, host: str = "b") -> bytes:
        octets = (
            f"From: a@{host}\r\nSubject: s\r\nContent-Type: multipart/mixed; boundary={boundary}\r\n\r\n"
            f"--{boundary}\r\n\r\nat 07:00\r\n--{boundary}\r\nContent-Type: image/png\r\n\r\n{picture}\r\n"
            f"--{boundary}--\r\n"
        ).encode()
        root = parse(octets)
        return likeness(root, facts_of(root))

    assert message("one", "07:00") == message("two", "07:00")
    assert message("one", "07:00") != message("one", "07:01")
    assert message("one", "07:00") != message("one", "07:00", host="c")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"Subject: " + b"a" * 300 + b"1\r\n\r\nx", b"Subject: " + b"a" * 300 + b"2\r\n\r\nx"),
        (b"Content-Type: text/plain\r\n\r\n\xfe", b"Content-Type: text/plain\r\n\r\n\xff"),
    ],
)
def test_what_is_not_shown_keeps_messages_apart(one: bytes, other: bytes) -> None:
    assert likeness(parse(one), facts_of(parse(one))) != likeness(parse(other), facts_of(parse(other)))


def test_the_end_of_a_large_text_counts() -> None:
    found = set()
    for end in (b"07:00", b"07:01"):
        root = parse(b"\r\n" + b"line of a log\r\n" * 30000 + end)
        found.add(likeness(root, facts_of(root)))
    assert len(found) == 2


@pytest.mark.parametrize("line", ["Mon 12 ", "1 ", "12:00:00.1 ", "2026-11-21 ", "process ", "1763765555."])
def test_the_cost_grows_with_the_text(line: str) -> None:
    assert_linear(lambda size: line * size, steady, 16000)


@pytest.mark.parametrize("value", ["from {}", "from a{}", "by{}", "{}from a", "from by {}"])
@pytest.mark.parametrize("filling", ["a", " ", "by ", "from "])
def test_a_hostile_received_field_costs_its_length(value: str, filling: str) -> None:
    """Anybody can write one, and every message is looked at after it was sent."""

    def message(size: int) -> Entity:
        return parse_or_leaf(f"Received: {value.format(filling * size)}\r\n\r\n".encode())

    assert_linear(message, facts_of, 8000)
