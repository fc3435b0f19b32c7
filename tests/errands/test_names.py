"""Mailbox names as IMAP has them (RFC 3501 section 5.1.3)."""

from __future__ import annotations

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
    assert from_wire(to_wire(name)) == name
    assert to_wire(name).isascii()


@given(st.binary())
def test_any_octets_can_be_shown(wire: bytes) -> None:
    assert isinstance(from_wire(wire), str)
