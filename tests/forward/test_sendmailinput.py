"""FWD-04, FWD-07: what sendmail makes of its input: where it ends, what it adds, what it leaves out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errors import LimitExceeded, MalformedMessage
from secmailproxy.forward.sendmailinput import (
    Missing,
    collected,
    completed,
    date_text,
    header_recipients,
)
from tests.fixtures.growth import assert_linear

NOW = datetime(2026, 3, 7, 8, 9, 10, tzinfo=timezone(timedelta(hours=-3, minutes=-30)))
MISSING = Missing("root@host.example", "Charlie Root", NOW, "<1@host.example>")
FROM = b"From: Charlie Root <root@host.example>\r\n"
DATE = b"Date: Sat, 07 Mar 2026 08:09:10 -0330\r\n"
ID = b"Message-ID: <1@host.example>\r\n"

COLLECTED = [
    (b"a\nb\n", True, b"a\r\nb\r\n"),
    (b"a\r\nb\n", True, b"a\r\nb\r\n"),
    (b"a\n.\nb\n", True, b"a\r\n"),
    (b"a\n.\nb\n", False, b"a\r\n.\r\nb\r\n"),
    (b"a\r\n.\r\nb\r\n", True, b"a\r\n"),
    (b"a\n.", True, b"a\r\n"),
    (b".\nb\n", True, b""),
    (b"a\n..\n. \n.b\n", True, b"a\r\n..\r\n. \r\n.b\r\n"),
    (b"no last line end", True, b"no last line end"),
    (b"From root Thu\n>From x\nSubject: a\n\nFrom b\n", True, b"Subject: a\r\n\r\nFrom b\r\n"),
    (b"a \xff\x00\rb\n", True, b"a \xff\x00\rb\r\n"),
    (b"", True, b""),
]


@pytest.mark.parametrize(("octets", "ends_at_dot", "message"), COLLECTED)
def test_where_the_message_begins_and_ends(octets: bytes, ends_at_dot: bool, message: bytes) -> None:
    assert collected(octets, ends_at_dot=ends_at_dot) == message


COMPLETED = [
    (b"Subject: x\r\n\r\nbody", b"Subject: x\r\n" + FROM + DATE + ID + b"\r\nbody"),
    (b"from: a@b\r\nDATE: c\r\nmessage-id: d\r\n\r\n", b"from: a@b\r\nDATE: c\r\nmessage-id: d\r\n\r\n"),
    (b"", FROM + DATE + ID + b"\r\n"),
    (b"only text: with a colon", FROM + DATE + ID + b"\r\nonly text: with a colon"),
    (b"\r\nbody: x\r\n", FROM + DATE + ID + b"\r\nbody: x\r\n"),
    (b"Subject: x", b"Subject: x\r\n" + FROM + DATE + ID + b"\r\n"),
    (b"Subject: x\r\ntext\r\n", b"Subject: x\r\n" + FROM + DATE + ID + b"\r\ntext\r\n"),
    (
        b"To: a\r\nBCC: b,\r\n c@d\r\nReturn-Path: <>\r\nContent-Length: 3\r\n\r\nBcc: e\r\n",
        b"To: a\r\n" + FROM + DATE + ID + b"\r\nBcc: e\r\n",
    ),
    (
        b"Resent-To: a@b\r\nResent-Bcc: c@d\r\nFrom: x@y\r\n\r\nz",
        b"Resent-To: a@b\r\nFrom: x@y\r\nResent-" + FROM + b"Resent-" + DATE + b"Resent-" + ID + b"\r\nz",
    ),
]


@pytest.mark.parametrize(("message", "whole"), COMPLETED)
def test_fwd_07_what_is_missing_is_added(message: bytes, whole: bytes) -> None:
    assert completed(message, MISSING) == whole


HOSTILE_NAMES = [
    "x\nBcc: y@z",
    'a" <evil@x>, "b',
    "back\\slash",
    "tab\there",
    "\udcff",
    "Jürgen Groß " * 9,
    "(x",
    "a,b",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_fwd_04_a_name_stays_a_name(name: str) -> None:
    whole = completed(b"", Missing("root@host.example", name, NOW, "<1@host.example>"))
    read = message_from_bytes(whole, policy=policy.default)
    assert list(read) == ["From", "Date", "Message-ID"]
    assert [one.addr_spec for one in read["From"].addresses] == ["root@host.example"]


@given(st.binary())
def test_the_body_stays(body: bytes) -> None:
    message = b"Subject: x\r\n\r\n" + body
    assert completed(message, MISSING).endswith(b"\r\n\r\n" + body)


@given(st.datetimes(min_value=datetime(1970, 1, 2), timezones=st.just(UTC)))
def test_dates_are_those_of_rfc_5322(date: datetime) -> None:
    assert date_text(date) == format_datetime(date)


WRONG = [
    b"To: alice bob\r\n",
    b"To: a@b.example; c@d.example\r\n",
    b"Cc: -t\r\n",
    b'Bcc: "a b"@c.example\r\n',
    b"To: <a@b.example\r\n",
    b"To: <@x.example:a@b.example>\r\n",
    b"To: friends: a@b.example\r\n",
    b"To: \xff@b.example\r\n",
]


@pytest.mark.parametrize("field", WRONG)
def test_fwd_04_what_is_no_address_goes_nowhere(field: bytes) -> None:
    with pytest.raises(MalformedMessage, match=r"^an address cannot be read$"):
        header_recipients(b"To: good@b.example\r\n" + field)


def test_headers_have_an_end() -> None:
    with pytest.raises(LimitExceeded, match="more than 262144 octets"):
        header_recipients(b"To: a@b.example,\r\n" + b" b@b.example,\r\n" * 20_000)
    with pytest.raises(LimitExceeded, match="more than 1000 fields"):
        completed(b"A: b\r\n" * 1001, MISSING)


def test_a_recipient_counts_once_and_addresses_may_be_international() -> None:
    message = "To: ü@b.example, root\r\nCc: root, Root <root>\r\n".encode()
    assert header_recipients(message) == ("ü@b.example", "root")


def test_a_long_run_of_carriage_returns_costs_its_length() -> None:
    """Such as a program leaves that draws its progress."""
    assert_linear(
        lambda size: b"Subject: x\n\n" + b"\r" * size + b"x",
        lambda octets: collected(octets, ends_at_dot=True),
        40_000,
    )
