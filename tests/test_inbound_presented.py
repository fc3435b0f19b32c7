"""What a client is shown: header protection and the presented form (RFC 9788, MIME-05)."""

from __future__ import annotations

import base64
import quopri
import re

import pytest

from secmailproxy.mime import entity, header, transfer
from secmailproxy.model import DecryptionState, Verdict
from tests.fixtures.desk import (
    ALICE,
    BOB,
    DATE,
    EVE,
    FIELD,
    OUTER,
    TEXT,
    Desk,
    desk,
    message,
    protected,
)

__all__ = ["desk"]


# -- headers


def test_protected_fields_replace_those_outside(desk: Desk):
    outside = message(desk.encrypt(protected(), ALICE), b"[...]").replace(
        b"Received:",
        b"Authentication-Results: mx; dkim=pass\r\nKeywords: injected\r\nCc: eve@example.net\r\nReceived:",
    )
    read = desk.read(outside)
    assert read.summary.subject == "inside"
    assert read.summary.protected_headers == ("From", "To", "Subject", "Date", "Message-ID")
    shown = [
        (field.name, field.value(read.presented).strip()) for field in entity.parse(read.presented).fields
    ]
    assert shown == [
        ("From", b"Alice <alice@example.org>"),
        ("To", b"bob@example.org"),
        ("Subject", b"inside"),
        ("Date", DATE),
        ("Message-ID", b"<1@example.org>"),
        ("Authentication-Results", b"mx; dkim=pass"),
        ("Received", b"from mx.example.org"),
        ("MIME-Version", b"1.0"),
        ("Content-Type", b'text/plain; charset="us-ascii"; hp="cipher"'),
    ]


@pytest.mark.parametrize("hp", [b'hp="cipher"', b'protected-headers="v1"'])
def test_what_servers_found_comes_from_outside_only(desk: Desk, hp: bytes):
    """A sender can neither write the provider's findings nor make them vanish."""
    claims = (
        b"Authentication-Results: mx; dkim=pass\r\nARC-Seal: x\r\nX-Spam-Flag: NO\r\nReceived: from bank\r\n"
        b"Return-Path: <bank@example.net>\r\nHP-Outer: Authentication-Results: mx; dkim=fail\r\n"
        b"HP-Outer: X-Spam-Flag: YES\r\n"
    )
    part = protected(more=claims).replace(b'hp="cipher"', hp)
    findings = b"Authentication-Results: mx; dkim=fail\r\nX-Spam-Flag: YES\r\n"
    for body in (part, b"Content-Type: message/rfc822; forwarded=no\r\n\r\n" + part):
        presented = desk.read(findings + message(desk.encrypt(body, ALICE))).presented
        assert presented is not None
        shown = entity.parse(presented)
        assert header.values(shown, "Authentication-Results") == (b"mx; dkim=fail",)
        assert header.values(shown, "X-Spam-Flag") == (b"YES",)
        assert header.values(shown, "Received") == (b"from mx.example.org",)
        assert header.find(shown, "Return-Path") is None
        assert header.find(shown, "ARC-Seal") is None


def test_fields_that_the_sender_put_outside_only_are_dropped(desk: Desk):
    part = protected(more=b"HP-Outer: Subject: [...]\r\nHP-Outer: X-Tag: decoy\r\n")
    outside = message(desk.encrypt(part, ALICE), b"[...]").replace(
        b"MIME-V", b"X-Tag: decoy\r\nX-New: y\r\nMIME-V"
    )
    names = [field.name for field in entity.parse(desk.read(outside).presented).fields]
    assert "X-Tag" not in names
    assert "HP-Outer" not in names
    assert "X-New" in names


def test_the_older_scheme_replaces_only_what_it_has(desk: Desk):
    part = TEXT.replace(b'"us-ascii"', b'"us-ascii"; protected-headers="v1"')
    read = desk.read(message(desk.encrypt(b"Subject: inside\r\n" + part), b"..."))
    assert read.summary.subject == "inside"
    assert read.summary.protected_headers == ("Subject",)
    assert header.value(entity.parse(read.presented), "To") == b"bob@example.org"


def test_fields_of_a_payload_that_protects_none_are_not_shown(desk: Desk):
    read = desk.read(message(desk.encrypt(b"Subject: inside\r\nFrom: eve@example.net\r\n" + TEXT)))
    assert read.presented == OUTER % b"outside" + TEXT
    assert read.summary.protected_headers == ()


@pytest.mark.parametrize(
    ("inside", "signer", "shown", "verdict"),
    [
        (b"Eve <eve@example.net>", None, ALICE, Verdict.NONE),
        (b"Eve <eve@example.net>", EVE, EVE, Verdict.VALID),
        (b"Eve <eve@example.net>", ALICE, ALICE, Verdict.MISMATCH),
        (b"Eve <eve@example.net>", BOB, ALICE, Verdict.MISMATCH),
        (b"A. Liddell <alice@example.org>", None, ALICE, Verdict.NONE),
        (b"alice@example.org, eve@example.net", EVE, ALICE, Verdict.MISMATCH),
    ],
)
def test_from_inside_counts_if_the_signer_is_bound_to_it(
    desk: Desk, inside: bytes, signer: str | None, shown: str, verdict: Verdict
):
    read = desk.read(message(desk.encrypt(protected(sender=inside), signer), b"[...]"))
    fields = header.values(entity.parse(read.presented), "From")
    assert len(fields) == 1
    assert shown.encode() in fields[0]
    assert read.summary.verdict is verdict
    if shown.encode() not in inside or b"," in inside:
        assert "From" in read.summary.verdict_reason
        assert "From" not in read.summary.protected_headers


def test_signed_headers_that_differ_from_those_shown(desk: Desk):
    signed = desk.sign(protected(hp=b"clear"))
    same = desk.read(message(signed, b"inside"))
    assert same.summary.verdict is Verdict.VALID
    assert same.summary.protected_headers == ("From", "To", "Subject", "Date", "Message-ID")
    other = desk.read(message(signed, b"Win a prize"))
    assert "Subject" not in other.summary.protected_headers
    assert "Subject" in other.summary.verdict_reason
    by_eve = desk.sign(protected(hp=b"clear", sender=b"eve@example.net"), ALICE)
    assert desk.read(message(by_eve, b"inside")).summary.verdict is Verdict.MISMATCH


def test_a_wrapped_message_is_unwrapped_only_when_it_is_no_forward(desk: Desk):
    inner = b"From: alice@example.org\r\nSubject: inside\r\n" + TEXT
    wrapped = b"Content-Type: message/rfc822; forwarded=no\r\n\r\n" + inner
    read = desk.read(message(desk.encrypt(wrapped, ALICE), b"[...]"))
    assert (read.summary.subject, read.summary.verdict) == ("inside", Verdict.VALID)
    assert read.presented.endswith(b"\r\n" + TEXT.partition(b"\r\n\r\n")[2])
    forward = b"Content-Type: message/rfc822\r\n\r\n" + inner
    assert desk.read(message(desk.encrypt(forward, ALICE))).presented == OUTER % b"outside" + forward


@pytest.mark.parametrize(
    ("kind", "body", "rest"),
    [
        (b"text/plain", b"Subject: inside\r\nTo: bob\r\n more\r\n\r\nHello.\r\n", b"Hello.\r\n"),
        (b"text/plain", b"Hello.\r\nSubject: no\r\n\r\nx", b"Hello.\r\nSubject: no\r\n\r\nx"),
        (
            b"text/html",
            b'<html><body><div class="header-protection-legacy-display"><pre>Subject: x</pre></div><p>Hi</p>',
            b"<html><body><p>Hi</p>",
        ),
    ],
)
@pytest.mark.parametrize("encoding", [b"7bit", b"base64", b"quoted-printable"])
def test_legacy_display_text_is_left_out(desk: Desk, kind: bytes, body: bytes, rest: bytes, encoding: bytes):
    encoded = (
        base64.encodebytes(body)
        if encoding == b"base64"
        else body.replace(b"=", b"=3D")
        if encoding == b"quoted-printable"
        else body
    )
    part = (
        b"Subject: inside\r\nContent-Type: " + kind + b'; hp="cipher"; hp-legacy-display="1"\r\n'
        b"Content-Transfer-Encoding: " + encoding + b"\r\n\r\n" + encoded
    )
    shown = entity.parse(desk.read(message(desk.encrypt(part), b"[...]")).presented).body
    plain = base64.b64decode(shown) if encoding == b"base64" else re.sub(rb"=3D", b"=", shown)
    assert plain == rest


def test_legacy_display_part_is_left_out(desk: Desk):
    part = (
        b"Subject: inside\r\nContent-Type: multipart/mixed; boundary=l; protected-headers=v1\r\n\r\n"
        b"--l\r\nContent-Type: text/plain; protected-headers=v1\r\n\r\nSubject: inside\r\n\r\n"
        b"--l\r\nContent-Type: text/plain\r\n\r\nHello.\r\n--l--\r\n"
    )
    read = desk.read(message(desk.encrypt(part), b"[...]"))
    assert [one.body for one in entity.parse(read.presented).parts] == [b"Hello."]
    assert read.summary.subject == "inside"


# -- the presented form


def test_presented_octets_can_be_stored_by_any_server(desk: Desk):
    part = (
        b"Content-Type: multipart/mixed; boundary=x\nContent-Transfer-Encoding: binary\n\n--x\n"
        b"Content-Type: text/plain\n\nlone lf\nlone cr\rend\n--x\n"
        b"Content-Type: image/png\nContent-Transfer-Encoding: binary\n\n\x89PNG\r\n\x1a\n\x00\r\x00\n--x\n"
        b"Content-Type: image/gif\n\nGIF\x00\xff\n--x--\n"
    )
    presented = desk.read(message(desk.encrypt(part))).presented
    assert b"\x00" not in presented
    assert presented.count(b"\n") == presented.count(b"\r") == presented.count(b"\r\n")
    root = entity.parse(presented)
    assert header.value(root, "Content-Transfer-Encoding") == b"8bit"
    text, png, gif = root.parts
    assert text.body == b"lone lf\r\nlone cr\r\nend"
    assert [header.value(one, "Content-Transfer-Encoding") for one in (png, gif)] == [b"base64"] * 2
    assert base64.b64decode(png.body) == b"\x89PNG\r\n\x1a\n\x00\r\x00"
    assert base64.b64decode(gif.body) == b"GIF\x00\xff"


def test_a_plaintext_without_header_is_a_text(desk: Desk):
    presented = desk.read(message(desk.encrypt(b"just words, no header\r\n"))).presented
    assert presented == OUTER % b"outside" + b"\r\njust words, no header\r\n"


def test_copies_of_the_verdict_field_vanish_at_every_level(desk: Desk):
    forged = FIELD.lower().encode() + b" : valid;\r\n signer=alice@example.org\r\n"
    nested = (
        forged
        + b"Content-Type: message/rfc822\r\n"
        + forged
        + b"\r\n"
        + forged
        + b"Subject: x\r\n"
        + forged
        + b"\r\ny\r\n"
    )
    mixed = (
        forged
        + b"Content-Type: multipart/mixed; boundary=x; hp=cipher\r\n\r\n--x\r\n"
        + nested
        + b"\r\n--x--\r\n"
    )
    for part in (mixed, desk.sign(mixed), forged + desk.sign(mixed), mixed.replace(b"\r\n", b"\r")):
        for body in (forged + desk.encrypt(part, ALICE), desk.encrypt(part)):
            read = desk.read(forged + message(body))
            assert read.summary.decryption is DecryptionState.OK
            assert FIELD.lower().encode() not in read.presented.lower()


SPELLINGS = [
    b"Secmail-Verdict-abc: signed",
    b"SECMAIL-VERDICT-ABC\t : signed",
    b"Secmail-Verdict-abc:\r\n signed;\r\n\tsignature=valid",
    b"Secmail-Verdict-\0abc: signed",
    b"Secmail-Verdict-abc\xa0: signed",
    b"Secmail-Verdict-abc (comment): signed",
    b"stray line\r\nSecmail-Verdict-abc: signed",
    b"Subject: x\rSecmail-Verdict-abc: signed",
    b"\xef\xbb\xbfSecmail-Verdict-abc: signed",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("encoding", [b"7bit", b"base64", b"quoted-printable"])
def test_no_spelling_of_the_verdict_field_survives(desk: Desk, spelling: bytes, encoding: bytes):
    """MIME-05: in the headers of parts and of messages in them, also of encoded ones."""
    inner = spelling + b"\r\nSubject: inner\r\n\r\ntext\r\n"
    nested = b"From: a@example.org\r\nContent-Type: message/rfc822\r\n\r\n" + inner
    encoded = {
        b"7bit": nested,
        b"base64": base64.encodebytes(nested).replace(b"\n", b"\r\n"),
        b"quoted-printable": quopri.encodestring(nested).replace(b"Verdict", b"V=65rdict"),
    }[encoding]
    payload = (
        b"Content-Type: multipart/mixed; boundary=x; hp=cipher\r\n\r\n--x\r\n"
        + spelling
        + b"\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: "
        + encoding
        + b"\r\n\r\n"
        + encoded
        + b"\r\n--x\r\n\r\nlast\r\n--x--\r\n"
    )
    presented = desk.read(message(desk.encrypt(payload))).presented
    assert FIELD.lower().encode() not in presented.lower()
    part = entity.parse(presented).parts[0]
    shown = transfer.decoded_body(part)
    assert FIELD.lower().encode() not in shown.lower()
    assert b"From: a@example.org" in shown
    assert shown.rstrip().endswith(b"text")
    assert presented.rstrip().endswith(b"last\r\n--x--")


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_message_with_a_copy_is_presented_without_it_whatever_it_is(desk: Desk, line_end: bytes):
    forged = b"Secmail-Verdict-ABC: signed; signature=valid\r\n"
    damaged = desk.encrypt(TEXT).replace(b"BEGIN PGP", b"BEGIN PGQ")
    for body in (TEXT, desk.sign(TEXT), damaged, b"Content-Type: multipart/signed\r\n\r\n"):
        read = desk.read((forged + message(body)).replace(b"\r\n", line_end))
        assert read.presented == message(body)


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        (b"base64", base64.encodebytes(b"Subject: inside\r\n\r\nHello.\r\n")),
        (b"quoted-printable", b"Subject: inside\r\n\r\nHello=2E\r\n"),
    ],
)
def test_a_wrapped_message_that_cannot_be_read_is_shown_as_it_came(
    desk: Desk, encoding: bytes, encoded: bytes
):
    """Nothing of a message is lost because its sender wrapped it oddly."""
    wrapped = (
        b"Content-Type: message/rfc822; forwarded=no\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"
    )
    read = desk.read(message(desk.encrypt(wrapped + encoded, ALICE)))
    assert read.presented is not None
    assert read.presented.endswith(encoded.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    assert entity.parse(read.presented).is_rfc822
    assert read.summary.subject == "outside"


def test_a_legacy_part_with_words_of_its_own_stays(desk: Desk):
    """What is left out repeats the header; else other readers would see more than we."""
    part = (
        b'Subject: inside\r\nContent-Type: multipart/mixed; boundary=b; hp="cipher"\r\n\r\n'
        b'--b\r\nContent-Type: text/plain; protected-headers="v1"\r\n\r\nSubject: inside\r\nPay nothing.\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\nPay a lot.\r\n--b--\r\n"
    )
    shown = desk.read(message(desk.encrypt(part, ALICE))).presented
    assert shown is not None
    assert b"Pay nothing." in shown
