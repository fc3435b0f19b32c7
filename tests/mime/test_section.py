"""Sections by part number; what Dovecot answers for them is compared in test_structure."""

from __future__ import annotations

import pytest

from secmailproxy.mime import entity
from secmailproxy.mime.section import Section, find_part, section

INNER = b"Subject: inner\r\nTo: x\r\n\r\ntext\r\n"
MESSAGE = (
    b"Subject: outer\r\nX: 1\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>\r\n"
    b"--b\r\nContent-Type: message/rfc822\r\n\r\n" + INNER + b"\r\n--b--\r\n"
)


@pytest.mark.parametrize(
    ("asked", "octets"),
    [
        (Section((1,)), b"<p>"),
        (Section((1,), "MIME"), b"Content-Type: text/html\r\n\r\n"),
        (Section((1,), "HEADER"), None),
        (Section((1,), "TEXT"), None),
        (Section((1, 1)), b"<p>"),  # as Dovecot answers: part 1 of a leaf is the leaf
        (Section((1, 1, 1)), None),
        (Section((0,)), None),
        (Section((3,)), None),
        (Section((2,)), INNER),
        (Section((2,), "HEADER"), b"Subject: inner\r\nTo: x\r\n\r\n"),
        (Section((2,), "TEXT"), b"text\r\n"),
        (Section((2, 1)), b"text\r\n"),
        (Section((2, 1), "MIME"), b"Subject: inner\r\nTo: x\r\n\r\n"),
        (Section((2,), "HEADER.FIELDS", (b"to", b"SUBJECT")), b"Subject: inner\r\nTo: x\r\n\r\n"),
        (Section((2,), "HEADER.FIELDS.NOT", (b"to",)), b"Subject: inner\r\n\r\n"),
        (Section((), "HEADER.FIELDS", (b"none",)), b"\r\n"),
        (Section((), "HEADER.FIELDS", (b"x", b"subject")), b"Subject: outer\r\nX: 1\r\n\r\n"),
        (Section((), "MIME"), None),
        (Section(), MESSAGE),
    ],
)
def test_sections(asked: Section, octets: bytes | None):
    assert section(entity.parse(MESSAGE), asked) == octets


def test_the_one_part_of_a_message_without_parts():
    root = entity.parse(INNER)
    assert section(root, Section((1,))) == b"text\r\n"
    assert find_part(root, (2,)) is None
    assert find_part(root, (1, 1)) is None
