"""The secret word of the subject: put in where it is deserved, taken out everywhere else."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.mime import entity, header
from secmailproxy.mime.subjectmark import marked, without

MARK = "kestrel-47"
ENCODED = b"=?utf-8?b?" + base64.b64encode("Grüße KESTREL-47 x".encode()) + b"?="


def subject(message: bytes) -> str | None:
    return header.text(entity.parse(message), "subject")


@pytest.mark.parametrize(
    ("line", "deserved", "expected"),
    [
        (b"Subject: hello\r\n", True, "kestrel-47 hello"),
        (b"subject:hello\r\n there\r\n", True, "kestrel-47 hello there"),
        (b"Subject: hello\r\n", False, "hello"),
        (b"Subject: Re: Kestrel-47 hello\r\n", True, "kestrel-47 Re: hello"),
        (b"Subject: Kestrel-47 hello\r\n", False, "hello"),
        (b"Subject: kestkestrel-47rel-47 hello\r\n", False, "hello"),
        (b"Subject: =?utf-8?q?kestrel=2D47?= =?utf-8?q?_hello?=\r\n", False, "hello"),
        (b"Subject: " + ENCODED + b"\r\n", False, "Grüße x"),
        (b"Subject: " + ENCODED + b"\r\n", True, "kestrel-47 Grüße x"),
        (b"Subject:\r\n", True, "kestrel-47"),
        (b"X-Other: kestrel-47\r\n", True, "kestrel-47"),
        (b"X-Other: kestrel-47\r\n", False, None),
    ],
)
def test_where_the_word_stands(line: bytes, deserved: bool, expected: str | None) -> None:
    message = b"From: a@example.org\r\n" + line + b"To: b@example.org\r\n\r\nkestrel-47 in the text\r\n"
    out = marked(message, MARK, deserved=deserved)
    assert subject(out) == expected
    assert out.endswith(b"To: b@example.org\r\n\r\nkestrel-47 in the text\r\n")
    assert marked(message, "", deserved=deserved) == message


VALUES = st.lists(
    st.sampled_from(
        [b" ", MARK.encode(), MARK[:5].encode(), MARK[5:].encode(), ENCODED, b"x", b"\r\n ", b"\xff"]
    ),
    max_size=12,
).map(b"".join)


@given(VALUES)
def test_no_value_keeps_the_word(value: bytes) -> None:
    value = b" " + re.sub(rb"\r\n\s+(?=\r\n|\Z)", b"", value)
    rest = without(value, MARK)
    assert MARK not in header.decode_words(rest).lower()
    if MARK not in header.decode_words(value).lower():
        assert rest == value
    message = b"Subject:" + value + b"\r\nTo: b@example.org\r\n\r\ntext\r\n"
    shown = subject(marked(message, MARK, deserved=True)) or ""
    assert shown.startswith(MARK)
    assert shown.lower().count(MARK) == 1
    again = entity.parse(marked(message, MARK, deserved=True))
    assert [field.name for field in again.fields] == ["Subject", "To"]
