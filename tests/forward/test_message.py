"""What a pipe brings: From_ lines, line ends, loops, and addresses that could do harm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errors import MalformedMessage, NotAllowed, UsageError
from secmailproxy.forward.message import checked_address, envelope_sender, from_pipe, refuse_loop


@pytest.mark.parametrize(
    ("brought", "message"),
    [
        (b"From root@x Thu Jan  1 00:00:00 2026\nA: b\n\nc\n", b"A: b\r\n\r\nc\r\n"),
        (b"From: root@x\n\nFrom here\n", b"From: root@x\r\n\r\nFrom here\r\n"),
        (b"From : root@x\nA: b\n\n", b"From : root@x\r\nA: b\r\n\r\n"),
        (b"From\troot@x\n\n", b"From\troot@x\r\n\r\n"),
        (b"A: b\n\nc", b"A: b\r\n\r\nc"),
        (b"A: b\r\n\r\nc\r\n", b"A: b\r\n\r\nc\r\n"),
        (b"From x\r\nA: b\r\n\r\nFrom y\r\n", b"A: b\r\n\r\nFrom y\r\n"),
        (b"no header", b"no header"),
        (b"A: \xff\n\n\xff\0", b"A: \xff\r\n\r\n\xff\0"),
    ],
)
def test_fwd_02_the_message_comes_as_it_is(brought: bytes, message: bytes) -> None:
    assert from_pipe(brought) == message


@given(st.binary(min_size=1).filter(lambda octets: octets.strip() != b"" and b"\r" not in octets))
def test_fwd_02_lf_octets_come_back(octets: bytes) -> None:
    assert from_pipe(b"X: y\n\n" + octets).replace(b"\r\n", b"\n") == b"X: y\n\n" + octets


@pytest.mark.parametrize("nothing", [b"", b"\n\n", b"From root@x Thu Jan  1\n", b" \r\n"])
def test_no_message_is_an_error(nothing: bytes) -> None:
    with pytest.raises(MalformedMessage):
        from_pipe(nothing)


@pytest.mark.parametrize(
    "field",
    [
        b"X-Loop: other\r\nX-LOOP:  mark-1 \r\n",
        b"Delivered-To: Admin@example.org\r\n",
        b"Received: x\r\n" * 51,
    ],
)
def test_fwd_05_loops_are_refused(field: bytes) -> None:
    with pytest.raises(NotAllowed, match="mail loop"):
        refuse_loop(field + b"\r\nbody", "admin@example.org", "mark-1")


def test_fwd_05_other_hosts_marks_and_addresses_are_no_loop() -> None:
    harmless = b"X-Loop: mark-11\r\nDelivered-To: root@host\r\n" + b"Received: x\r\n" * 50
    refuse_loop(
        harmless + b"\r\nX-Loop: mark-1\r\nDelivered-To: admin@example.org\r\n", "admin@example.org", "mark-1"
    )


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (b"Return-Path: <>", ""),
        (b"Return-Path: <a@b>", "a@b"),
        (b"X: <>", None),
        (b"From a@b Thu Jan  1 00:00:00 2026\nX: y", "a@b"),
        (b"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\nX: y", ""),
        (b"From a@b Thu Jan  1 00:00:00 2026\nReturn-Path: <c@d>", "c@d"),
        (b"From \nX: y", ""),
    ],
)
def test_the_envelope_sender_is_seen(first: bytes, expected: str | None) -> None:
    assert envelope_sender(first + b"\n\nReturn-Path: <>\n") == expected


@pytest.mark.parametrize("address", ["root@host", "a.b+c@example.org", "j\u00f6rg@b\u00fccher.example"])
def test_addresses_pass(address: str) -> None:
    assert checked_address(address, "--to") == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "-t",
        "-oQ/tmp",
        "root",
        "a@",
        "@b",
        "a@-b",
        "a b@c",
        "a@b\nBcc: x@y",
        "<a@b>",
        "a@b,c@d",
        "a@b\0",
        "a@b\u202e",
    ],
)
def test_fwd_04_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="--to needs an address"):
        checked_address(address, "--to")
