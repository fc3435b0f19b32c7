"""FWD-02, FWD-04, FWD-08: the whole original inside, an outside of the fields of a list and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.errors import UsageError
from secmailproxy.forward.message import loop_mark
from secmailproxy.mime import assemble, header, transfer
from secmailproxy.mime.entity import parse, parse_or_leaf
from secmailproxy.mime.protected import ProtectedMessage
from secmailproxy.mime.system import (
    SUBJECT,
    Carried,
    OutsideTells,
    SystemHeader,
    is_sealed,
    passed_on,
    prove_outside,
    subject_field,
    system_message,
)

HEAD = SystemHeader("root@host.example", ("admin@example.org",), "mark")
OUTSIDE = ["From", "To", "Date", "Message-ID", "Subject", "Auto-Submitted", "X-Loop"]
DATE, MESSAGE_ID = "Sat, 21 Nov 2026 12:00:00 +0000", "<1@host.example>"
ARMOR = (
    b"-----BEGIN PGP MESSAGE-----\r\n\r\nhQEMA0Eysl9OIRJ7AQf/Vhu3\r\nAAAA\r\n=abcd\r\n"
    b"-----END PGP MESSAGE-----\r\n"
)


def made(original: bytes, head: SystemHeader = HEAD, **options: Carried) -> ProtectedMessage:
    """The message around `original`."""
    root = parse_or_leaf(original)
    return system_message(root, head, date=DATE, message_id=MESSAGE_ID, **options)


@pytest.mark.parametrize(
    ("original", "encoding", "subject"),
    [
        (b"Subject: cron\r\n\r\nfailed\r\n", "7bit", b"cron"),
        (b"Subject: a\r\n b\r\n\r\n\xfc no line end", "8bit", b"a b"),
        (b"X-Cron-Env: <SECRET=1>\r\n\r\nbare\nline\rfeeds\0", "binary", b"Encrypted system mail"),
        (b"Subject: x\r\n\r\n" + b"y" * 2000, "binary", b"x"),
        (b"Subject: " + b"x" * 900 + b"\r\n\r\n", "7bit", b"Encrypted system mail"),
        (b"Subject: a\0b\r\n\r\n", "binary", b"Encrypted system mail"),
        (b"Subject: a\x1b[2Jb\r\n\r\n", "7bit", b"Encrypted system mail"),
        (b"Subject: a\rBcc: x@y\r\n\r\n", "binary", b"Encrypted system mail"),
        (b"Subject\r\n\r\n", "7bit", b"Encrypted system mail"),
        (b"Subject : a\r\n\r\n", "7bit", b"a"),
        (b"no header at all", "7bit", b"Encrypted system mail"),
        (b"X: y\r\n" * 1001 + b"Subject: a\r\n\r\nx", "7bit", b"Encrypted system mail"),
        (b"X: " + b"y\r\n " * 100_000 + b"\r\n\r\nx", "7bit", b"Encrypted system mail"),
        ("Subject: Gr\u00fc\u00dfe\r\n\r\n".encode(), "8bit", b"=?utf-8?B?R3LDvMOfZQ==?="),
    ],
)
def test_fwd_02_the_original_is_inside_as_it_is(original: bytes, encoding: str, subject: bytes) -> None:
    ready = made(original)
    assert ready.payload.endswith(b"\r\n\r\n" + original)
    inside = parse(ready.payload.removesuffix(original))
    assert inside.content_type.full == "message/rfc822"
    assert inside.content_type.param("hp") == "cipher"
    assert header.value(inside, "Content-Transfer-Encoding") == encoding.encode()
    assert header.value(inside, "Subject") == subject
    assert [raw.split(b":")[0].decode() for raw in ready.outer] == OUTSIDE
    assert ready.outer[4] == SUBJECT


HOSTILE = st.one_of(
    st.sampled_from(
        [
            b"Subject: ",
            b"Bcc: a@b",
            b"To: ",
            b"HP-Outer: Subject: x",
            b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=x',
            b"--x",
            b"X-Loop: mark",
            b"X-Cron-Env: <SECRET=1>",
            b"\r\n",
            b"\n",
            b"\r",
            b"\0",
            b" ",
            b"-oQ/tmp",
            b"=?utf-8?Q?=0D=0ABcc:_x?=",
            b"\xff",
        ]
    ),
    st.binary(max_size=20),
)


@given(
    st.lists(HOSTILE, max_size=30).map(b"".join),
    st.sampled_from([SUBJECT, None, subject_field("Report")]),
    st.sampled_from([Carried.AS_IT_IS, Carried.FOR_A_SIGNATURE]),
)
def test_fwd_08_whatever_comes_in_the_outside_is_the_allow_list(
    original: bytes, subject: bytes | None, carried: Carried
) -> None:
    """FWD-04 too: no octet of a hostile message becomes a field, or another line of one."""
    head = SystemHeader("root@host.example", ("admin@example.org", "other@example.org"), "mark", subject)
    ready = made(original, head, carried=carried)
    outer = parse(b"".join(ready.outer) + b"\r\n")
    assert [field.name for field in outer.fields] == OUTSIDE
    shown = {field.name: header.unfold(field.value(outer.octets)).strip() for field in outer.fields}
    assert shown["To"] == b"admin@example.org, other@example.org"
    assert shown["X-Loop"] == b"mark"
    if subject is not None:
        assert shown["Subject"] == subject.removeprefix(b"Subject: ").strip()
    product = assemble.encrypted(ready.outer, ARMOR, "=-boundary")
    prove_outside(product, ready)
    if carried is Carried.AS_IT_IS:
        assert ready.payload.endswith(b"\r\n\r\n" + original)
    else:
        body = parse(ready.payload)
        assert original in (body.body, transfer.decoded_body(body))


def test_for_a_signature_what_readers_would_change_is_encoded() -> None:
    plain, awkward = b"Subject: a\r\n\r\n\xfc\r\n", b"Subject: a\r\n\r\nbare\nand\0"
    assert made(plain, carried=Carried.FOR_A_SIGNATURE) == made(plain)
    payload = parse(made(awkward, carried=Carried.FOR_A_SIGNATURE).payload)
    assert payload.content_type.full == "message/global"
    assert transfer.decoded_body(payload) == awkward


@pytest.mark.parametrize(
    ("original", "shown"),
    [
        (b"Subject: disk\r\n full\r\n\r\n", b"disk full"),
        (b"Subject: a\rBcc: x\r\n\r\n", b"Encrypted system mail"),
        (b"Subject: a\r\nSubject: b\r\n\r\n", b"a"),
    ],
)
def test_a_subject_that_is_kept_stands_outside(original: bytes, shown: bytes) -> None:
    outer = made(original, SystemHeader("a@b", ("c@d",), "", None)).outer
    assert outer[4].partition(b": ")[2].replace(b"\r\n", b"") == shown
    assert len(outer) == 6


@pytest.mark.parametrize("text", ["", " ", "a\0b", "a\x1bb", "\u202eabc", "\u00e9" * 200])
def test_what_cannot_be_a_subject_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="subject"):
        subject_field(text)


def test_the_text_of_a_subject_is_one_line_in_ascii() -> None:
    assert subject_field("a\r\nBcc:  b") == b"Subject: a Bcc: b\r\n"
    assert subject_field("Gr\u00fc\u00dfe") == b"Subject: =?utf-8?B?R3LDvMOfZQ==?=\r\n"


def test_an_outside_that_tells_more_is_refused() -> None:
    with pytest.raises(OutsideTells):
        made(b"a: b\r\n\r\n", SystemHeader("a@b\r\nBcc: c@d", ("c@d",)))
    ready = made(b"a: b\r\n\r\n")
    product = assemble.encrypted(ready.outer, ARMOR, "=-boundary")
    for changed in (b"X-Cron-Env: a\r\n" + product, product.replace(b"MIME-V", b"Bcc: a@b\r\nMIME-V")):
        with pytest.raises(OutsideTells):
            prove_outside(changed, ready)


def sealed(
    *, preamble: bytes = b"", armor: bytes = ARMOR, epilogue: bytes = b"", version: bytes = b"1"
) -> bytes:
    """PGP/MIME."""
    return (
        b"From: a@b\r\nSubject: ...\r\nMIME-Version: 1.0\r\nX-Cron-Env: <SECRET=1>\r\n"
        b'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=x\r\n\r\n'
        + preamble
        + b"--x\r\nContent-Type: application/pgp-encrypted\r\n\r\nVersion: %b\r\n" % version
        + b"--x\r\nContent-Type: application/octet-stream\r\n\r\n"
        + armor
        + b"\r\n--x--\r\n"
        + epilogue
    )


DATA = b"Content-Type: application/octet-stream\r\n"
DATA_ENCODED = DATA + b"Content-Transfer-Encoding: base64\r\n"
ENCODED = transfer.encode_base64(ARMOR)
SMIME = b"Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\n"
SIGNED_ONLY = ARMOR.replace(b"hQEMA0", b"owGbwM")


@pytest.mark.parametrize(
    ("message", "is_so"),
    [
        (sealed(), True),
        (sealed(preamble=b"This is an OpenPGP/MIME encrypted message (RFC 4880 and 3156)\r\n"), True),
        (sealed(armor=ARMOR.replace(b"\r\n\r\n", b"\r\nVersion: GnuPG v2\r\n\r\n")), True),
        (sealed(preamble=b"the windmill\r\n"), False),
        (sealed(epilogue=b"the windmill\r\n"), False),
        (b"Cc: x\rBcc: the windmill\r\n" + sealed(), False),
        (b"Cc: x\n.\nMAIL FROM:<the@windmill>\r\n" + sealed(), False),
        (b"Cc: the\0windmill\r\n" + sealed(), False),
        (sealed(version=b"1\r\nthe windmill"), False),
        (sealed(armor=ENCODED).replace(DATA, DATA_ENCODED), True),
        (sealed(armor="мельница ".encode() + ENCODED).replace(DATA, DATA_ENCODED), False),
        (sealed().replace(DATA, DATA + b"Content-Description: OpenPGP encrypted message\r\n"), True),
        (sealed().replace(DATA, DATA + b"X-Note: the windmill\r\n"), False),
        (sealed(armor=ARMOR + b"the windmill"), False),
        (sealed(armor=ARMOR.replace(b"=abcd", b"the windmill")), False),
        (sealed(armor=SIGNED_ONLY), False),
        (SMIME + b"MIAGCSqGSIb3DQEHA6CAMIACAQA=\r\n", True),
        (SMIME + b"MIAGCSqGSIb3DQEHA6CAMIACAQA=\r\nthe windmill\r\n", False),
        (b"Subject: a\r\n\r\n" + ARMOR, False),
    ],
)
def test_fwd_05_only_what_shows_nothing_counts_as_encrypted(message: bytes, is_so: bool) -> None:
    assert is_sealed(parse(message)) is is_so


def test_fwd_05_what_is_passed_on_keeps_its_body_and_of_its_header_what_may_be_shown() -> None:
    message = sealed()
    passed = passed_on(parse(message), "mark")
    assert passed == b"X-Loop: mark\r\n" + message.replace(b"X-Cron-Env: <SECRET=1>\r\n", b"")


def test_fwd_05_two_hosts_that_pass_mail_on_to_each_other_know_their_own_marks_again() -> None:
    """What one has sealed the other only passes on: without its mark it would go round for ever."""
    one, other = loop_mark("one"), loop_mark("other")
    message = passed_on(parse(b"X-Loop: not ours\r\n" + sealed()), one)
    for mark in (other, one):
        marks = header.values(parse(message), "X-Loop")
        assert (mark.encode() in marks) is (mark == one)
        message = passed_on(parse(message), mark)
    assert header.values(parse(message), "X-Loop") == tuple(mark.encode() for mark in (one, other, one))
