"""The presented form of any payload: storable, free of copies of the verdict field, always the same."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.errors import LimitExceeded
from secmailproxy.mime import entity, presented
from secmailproxy.mime.entity import Entity, Limits
from secmailproxy.mime.presented import Edit, apply, assemble, settled, storable, without_field

FIELD = "Secmail-Verdict-abc"
COPY = b"SECMAIL-verdict-abc : x\r\n"
PIECES = st.sampled_from(
    [
        COPY,
        COPY + b" folded\r\n",
        COPY.replace(b"\r\n", b"\n"),
        b"\r" + COPY,
        b"X: y\r" + COPY,
        b"Subject: x\r\n",
        b"Content-Type: multipart/mixed; boundary=a\r\n",
        b"Content-Type: multipart/mixed; boundary=a; protected-headers=v1\r\n",
        b"Content-Type: text/plain; protected-headers=v1\r\n",
        b"Content-Type: text/plain; hp-legacy-display=1\r\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Transfer-Encoding: binary\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"--a\r\n",
        b"--a--\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"text",
        b" ",
        b"Sec\x00mail-Verdict-abc: y\r\n",
    ]
)


def every(root: Entity) -> list[Entity]:
    return [root, *(one for part in root.parts for one in every(part))]


@given(st.lists(PIECES, max_size=24).map(b"".join), st.booleans())
@settings(max_examples=600)
def test_any_payload_becomes_storable_and_free_of_copies(octets: bytes, legacy: bool):
    root = settled(entity.parse(octets), Limits())
    made = assemble([b"Subject: s\r\n", COPY], root, FIELD, legacy_display=legacy)
    assert made == assemble([b"Subject: s\r\n", COPY], root, FIELD, legacy_display=legacy)
    assert b"\x00" not in made
    assert made.count(b"\r") == made.count(b"\n") == made.count(b"\r\n")
    read = entity.parse(made)
    assert [field.name for field in read.fields][:2] == ["Subject", "MIME-Version"]
    for one in every(read):
        assert not any(field.named(FIELD) for field in one.fields)
    for one in every(entity.parse(without_field(root, FIELD))):
        assert not any(field.named(FIELD) for field in one.fields)


@given(st.binary(max_size=60))
def test_storable_octets(octets: bytes):
    made = storable(octets)
    assert made.count(b"\r") == made.count(b"\n") == made.count(b"\r\n")
    assert storable(made) == made
    assert made.replace(b"\r\n", b"") == octets.translate(None, b"\x00\r\n")


@pytest.mark.parametrize(
    ("edits", "result"),
    [
        ([], b"bcdef"),
        ([Edit(2, 4, b"X")], b"bXef"),
        ([Edit(4, 5, b""), Edit(1, 1, b"<")], b"<bcdf"),
        ([Edit(2, 5, b"X"), Edit(3, 4, b"Y")], b"bXf"),
        ([Edit(0, 2, b"before"), Edit(5, 9, b"behind")], b"bcdef"),
    ],
)
def test_edits(edits: list[Edit], result: bytes):
    assert apply(b"abcdefgh", 1, 6, edits) == result


def test_nothing_is_copied_that_is_storable_already():
    root = entity.parse(b"Content-Type: text/plain\r\n\r\nx\r\n")
    assert settled(root, Limits()) is root


@given(st.text('<>div clas="header-protectionlgyspu/', max_size=80).map(str.encode), st.integers(1, 40))
def test_hostile_html_costs_little(html: bytes, repeat: int):
    part = b"Content-Type: text/html; hp-legacy-display=1\r\n\r\n" + html * repeat
    with contextlib.suppress(LimitExceeded):
        root = settled(entity.parse(part), Limits())
        assert presented.assemble([], root, FIELD, legacy_display=True)
