"""Mailbox names as IMAP has them (RFC 3501 section 5.1.3)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errands.names import from_wire, to_wire


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("INBOX", b"INBOX"),
        ("Entwürfe", b"Entw&APw-rfe"),
        ("a & b", b"a &- b"),
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("\U0001f512", b"&2D3dEg-"),
    ],
)
def test_names(name: str, wire: bytes) -> None:
    assert (to_wire(name), from_wire(wire)) == (wire, name)


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_any_text_comes_back(name: str) -> None:
    wire = to_wire(name)
    assert from_wire(wire) == re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "\ufffd", name)
    assert wire.isascii()


def test_a_name_cannot_steer_a_terminal() -> None:
    assert from_wire(b"&ABs-[2J\x1b[2J") == "\ufffd[2J\ufffd[2J"


@given(st.binary())
def test_any_octets_can_be_shown(wire: bytes) -> None:
    assert isinstance(from_wire(wire), str)
