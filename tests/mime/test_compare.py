"""The last check notices every loss; each row is a message, something that is not it, and what is said."""

from __future__ import annotations

import pytest

from secmailproxy.mime.compare import difference
from secmailproxy.mime.entity import parse

BASE = b"From: a@x\r\nSubject: s\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n%s--b--\r\n"
TEXT = b"--b\r\nContent-Type: text/plain\r\nContent-ID: <1>\r\n\r\nhello\r\n"
INNER = b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nhi\r\n"
MESSAGE = BASE % (TEXT + INNER)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"hello", b"hallo", "the content of a part of type text/plain differs"),
        (b"\r\nhi\r\n", b"\r\nho\r\n", "the content of a part of type text/plain differs"),
        (b"Subject: s\r\n", b"Subject: t\r\n", "the field subject differs"),
        (b"Subject: s\r\n", b"", "the field subject differs"),
        (b"Subject: s\r\n", b"Subject: s\r\nX-New: y\r\n", "the field x-new differs"),
        (b"Subject: inner", b"Subject: other", "in a part of type text/plain the field subject differs"),
        (b"Content-ID: <1>", b"Content-ID: <2>", "in a part of type text/plain the field content-id differs"),
        (TEXT, b"", "multipart/mixed has 2 parts, then 1"),
        (b"text/plain", b"text/html", "the type text/plain became text/html, or its parameters differ"),
        (
            b"text/plain",
            b"text/plain; a=b",
            "the type text/plain became text/plain, or its parameters differ",
        ),
    ],
)
def test_a_change_is_named_without_content(old: bytes, new: bytes, said: str) -> None:
    changed = MESSAGE.replace(old, new, 1)
    assert changed != MESSAGE
    assert difference(parse(MESSAGE), parse(changed)) == said


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\n\r\nhello", b"\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8="),
        (b"\r\n\r\nhello", b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nhel=\r\nlo"),
        (
            b"boundary=b\r\n",
            b'boundary=b;\r\n protected-headers="v1"; hp="cipher"\r\nHP-Outer: Subject: [...]\r\n',
        ),
        (b"Subject: s\r\n", b"Subject: s\r\nDate: now\r\nMessage-ID: <1@x>\r\n"),
        (b"Subject: s\r\n", b"Subject:\r\n =?utf-8?B?cw==?=\r\n"),
    ],
)
def test_what_protection_may_change_is_no_difference(old: bytes, new: bytes) -> None:
    changed = MESSAGE.replace(old, new, 1)
    assert changed != MESSAGE
    assert difference(parse(MESSAGE), parse(changed)) is None


@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        (b'"J\xc3\xbcrgen S." <j@x>', b"=?utf-8?B?SsO8cmdlbiBTLg==?= <j@x>", True),
        (b'"J\xfcrgen S." <j@x>', b"=?iso-8859-1?Q?J=FCrgen_S.?= <j@x>", True),
        (b'"a, b@y" <j@x>', b"a, b@y <j@x>", False),
        (b"J <j@x>", b"J <j@x>, k@x", False),
        (b"J <j@x>", b"j@x", False),
        (b"friends: j@x;", b"friends: j@x, k@x;", False),
    ],
)
def test_addresses_are_compared_by_whom_they_name(old: bytes, new: bytes, same: bool) -> None:
    before, after = (parse(b"To: " + value + b"\r\n" + MESSAGE) for value in (old, new))
    assert difference(before, after) == (None if same else "the field to differs")


def test_fields_that_must_not_leave_may_be_missing() -> None:
    assert difference(parse(b"Bcc: secret@x\r\n" + MESSAGE), parse(MESSAGE)) is None
    assert difference(parse(b"Cc: public@x\r\n" + MESSAGE), parse(MESSAGE)) == "the field cc differs"
