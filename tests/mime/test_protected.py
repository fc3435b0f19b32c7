"""Header protection: what goes inside, what stays outside, and what never leaves."""

from __future__ import annotations

import pytest

from secmailproxy.errors import MalformedMessage
from secmailproxy.mime import header
from secmailproxy.mime.entity import parse
from secmailproxy.mime.protected import (
    HeaderPolicy,
    Protects,
    hide_subject,
    outgoing_fields,
    own_copy,
    protect_header,
    show_all,
)

FIELDS = (
    b"From: A <a@example.org>\r\n",
    b"Subject: the\r\n real one\r\n",
    b"Keywords: one, two\r\n",
    b"Message-ID: <1@example.org>\r\n",
    b"MIME-Version: 1.0\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"X-OfflineIMAP-X123: y\r\n",
    b"X-TUID: abc\r\n",
)


@pytest.mark.parametrize(
    ("policy", "outer"),
    [
        (show_all, [0, 1, 2, 3, 6, 7]),
        (hide_subject, [0, b"Subject: [...]\r\n", 3, 6, 7]),
        (own_copy, [0, b"Subject: [...]\r\n", 3, 6, 7]),
    ],
)
def test_every_field_is_inside_and_the_policy_says_what_is_outside(
    policy: HeaderPolicy, outer: list[int | bytes]
) -> None:
    made = protect_header(FIELDS, b"body", Protects.CIPHER, policy)
    outside = tuple(FIELDS[one] if isinstance(one, int) else one for one in outer)
    assert made.outer == outside
    inside = parse(made.payload)
    fields = [field.raw(inside.octets) for field in inside.fields]
    marked = b'Content-Type: multipart/mixed; boundary=b;\r\n protected-headers="v1"; hp="cipher"\r\n'
    assert fields == [*FIELDS[:5], marked, *FIELDS[6:], *(b"HP-Outer: " + raw for raw in outside)]
    assert inside.body == b"body"
    assert inside.content_type.param("hp") == "cipher"
    assert inside.content_type.param("boundary") == "b"


def test_signed_mail_lists_nothing_outside() -> None:
    made = protect_header(FIELDS, b"body", Protects.CLEAR, show_all)
    assert b"HP-Outer" not in made.payload
    assert parse(made.payload).content_type.param("hp") == "clear"


@pytest.mark.parametrize(
    ("field", "marked"),
    [
        ((), b"Content-Type: text/plain;\r\n "),
        ((b"Content-Type: text/plain;\r\n",), b"Content-Type: text/plain;\r\n "),
        ((b"Content-Type: a/b; hp=clear; x=1; Protected-Headers=v1\r\n",), b"Content-Type: a/b; x=1;\r\n "),
    ],
)
def test_the_type_is_marked_once(field: tuple[bytes, ...], marked: bytes) -> None:
    made = protect_header(field, b"", Protects.CIPHER, show_all)
    assert made.payload == marked + b'protected-headers="v1"; hp="cipher"\r\n\r\n'


def test_hp_outer_of_the_sender_is_replaced_and_long_lines_are_folded() -> None:
    long = b"X-Long: " + b"x" * 985 + b"\r\n"
    made = protect_header((b"HP-Outer: Subject: forged\r\n", long), b"", Protects.CIPHER, show_all)
    assert made.outer == (long,)
    assert b"forged" not in made.payload
    assert b"\r\nHP-Outer:\r\n " + long in made.payload
    assert max(map(len, made.payload.split(b"\r\n"))) <= 998


@pytest.mark.parametrize(
    "field",
    [
        b"Bcc: x@example.org\r\n",
        b"BCC : x@example.org,\r\n y@example.org\r\n",
        b"bCc\t:\r\n x@example.org\r\n",
        b"Resent-Bcc: x@example.org\r\n",
        b"Secmail-Verdict-0123: valid\r\n",
        b"X-Secmailproxy-Protect: never\r\n",
    ],
)
def test_smtp_08_blind_recipients_and_our_own_fields_never_leave(field: bytes) -> None:
    kept = outgoing_fields([*FIELDS, field], date=b"now", message_id=b"<2@example.org>")
    assert field not in kept
    assert kept == (*FIELDS, b"Date: now\r\n")


def test_smtp_17_date_and_message_id_are_kept_or_added() -> None:
    given = (b"date: then\r\n", b"MESSAGE-ID: <1@example.org>\r\n")
    assert outgoing_fields(given, date=b"now", message_id=b"<2@x>") == given
    assert outgoing_fields((), date=b"now", message_id=b"<2@x>") == (
        b"Date: now\r\n",
        b"Message-ID: <2@x>\r\n",
    )


@pytest.mark.parametrize(
    "fields",
    [
        (b"Subject: a\r\n", b"subject : b\r\n"),
        (b"From: a@x\r\n", b"From: b@x\r\n"),
        (b"Content-Type: a/b\r\n", b"Content-Type: c/d\r\n"),
        (b"no field at all\r\n",),
    ],
)
def test_ambiguous_headers_are_refused(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(MalformedMessage):
        outgoing_fields(fields, date=b"now", message_id=b"<2@x>")


def test_references_and_reply_stay_outside_under_the_baseline() -> None:
    fields = (b"References: <0@x>\r\n", b"In-Reply-To: <0@x>\r\n", b"Comments: c\r\n")
    made = protect_header(fields, b"", Protects.CIPHER, hide_subject)
    assert made.outer == fields[:2]
    assert header.value(parse(made.payload), "comments") == b"c"
