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
    hp_outer,
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
        b"RESENT-BCC \t:x@example.org\r\n",
        b"Bcc:\r\n",
        b"bcc : \r\n \r\n\tx@example.org\r\n",
        b"SECMAIL-Original : sha256=0\r\n",
        b"x-SECMAILPROXY-wish\t:\r\n x\r\n",
        b"Autocrypt-Gossip: addr=x@example.org; keydata=AAAA\r\n",
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


def test_what_is_replaced_makes_room() -> None:
    theirs = (b"autocrypt : addr=a@x; keydata=\r\n AAAA\r\n", b"AUTOCRYPT: x\r\n", *FIELDS)
    kept = outgoing_fields(theirs, date=b"now", message_id=b"<2@x>", replaced={"autocrypt"})
    assert kept == (*FIELDS, b"Date: now\r\n")


@pytest.mark.parametrize("control", [b"Bcc\x0b", b"Bcc\x00", b"\xffBcc", b"B cc", b"Bcc\r\n"])
def test_smtp_08_a_field_whose_name_is_none_is_refused(control: bytes) -> None:
    """Some reader could take it for Bcc."""
    with pytest.raises(MalformedMessage, match="no field"):
        outgoing_fields([*FIELDS, control + b": x@example.org\r\n"], date=b"now", message_id=b"<2@x>")


@pytest.mark.parametrize("length", range(985, 999))
@pytest.mark.parametrize("name", [b"X:", b"X: ", b"X-A-Longer-Name:"])
def test_no_line_of_hp_outer_is_too_long(length: int, name: bytes) -> None:
    field = name + b"x" * (length - len(name)) + b"\r\n y\r\n"
    listed = hp_outer(field)
    assert max(map(len, listed.split(b"\r\n"))) <= 998
    whole = header.unfold(listed).removeprefix(b"HP-Outer:").strip()
    given = header.unfold(field).strip()
    assert whole.partition(b":")[0] == given.partition(b":")[0]
    assert whole.partition(b":")[2].strip() == given.partition(b":")[2].strip()


EXAMPLE = (
    b"Subject: smime-signed-enc-hp-baseline\r\n",
    b"Message-ID: <smime-signed-enc-hp-baseline@example>\r\n",
    b"From: Alice <alice@smime.example>\r\n",
    b"To: Bob <bob@smime.example>\r\n",
    b"Date: Sat, 20 Feb 2021 10:09:02 -0500\r\n",
    b"User-Agent: Sample MUA Version 1.0\r\n",
)
"""The fields of a message in the appendix of RFC 9788, before it is protected."""


def test_the_example_of_rfc_9788_is_protected_as_there() -> None:
    """Apart from the place of Content-Type, and the parameter of the older draft."""
    structural = (
        b"MIME-Version: 1.0\r\n",
        b"Content-Transfer-Encoding: 7bit\r\n",
        b'Content-Type: text/plain; charset="utf-8"\r\n',
    )
    made = protect_header((*structural, *EXAMPLE), b"", Protects.CIPHER, hide_subject)
    assert made.outer == (b"Subject: [...]\r\n", *EXAMPLE[1:])
    payload = parse(made.payload)
    fields = [field.raw(payload.octets) for field in payload.fields]
    assert [raw for raw in fields if raw in EXAMPLE] == list(EXAMPLE)
    assert header.values(payload, "HP-Outer") == tuple(raw.strip() for raw in made.outer)
    assert payload.content_type.params == (
        ("charset", "utf-8"),
        ("protected-headers", "v1"),
        ("hp", "cipher"),
    )
    assert len(fields) == 3 + len(EXAMPLE) + len(made.outer)


def test_signed_mail_protects_all_fields_and_hides_none() -> None:
    """What is empty, repeated, folded or unknown too."""
    odd = (
        b"X-Empty:\r\n",
        b"Received: from a\r\n by b\r\n",
        b"Received: from c\r\n",
        b"Resent-From: a@x\r\n",
        b"Resent-From: b@x\r\n",
        b"Keywords: k\r\n",
        b"X-Long: " + b"x" * 990 + b"\r\n",
    )
    made = protect_header((*EXAMPLE, *odd), b"", Protects.CLEAR, show_all)
    assert made.outer == (*EXAMPLE, *odd)
    assert made.payload.startswith(b"".join(made.outer))


def test_references_and_reply_stay_outside_under_the_baseline() -> None:
    fields = (b"References: <0@x>\r\n", b"In-Reply-To: <0@x>\r\n", b"Comments: c\r\n")
    made = protect_header(fields, b"", Protects.CIPHER, hide_subject)
    assert made.outer == fields[:2]
    assert header.value(parse(made.payload), "comments") == b"c"
