"""What is received: opened, verified and judged. Messages are made by hand and by GnuPG."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from keystore.model import Scheme, Trust
from secmailproxy import inbound
from secmailproxy.inbound import MessageClass
from secmailproxy.model import DecryptionState, Protection, Verdict
from tests.fixtures.desk import (
    ALICE,
    BOB,
    FIELD,
    OUTER,
    TEXT,
    Desk,
    container,
    desk,
    message,
)

__all__ = ["desk"]


# -- what is valid


def test_encrypted_and_signed_in_one(desk: Desk):
    read = desk.read(message(desk.encrypt(TEXT, ALICE)))
    assert read.summary.scheme is Scheme.OPENPGP
    assert read.summary.protection is Protection.SIGNED_AND_ENCRYPTED
    assert read.summary.decryption is DecryptionState.OK
    assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, ALICE)
    assert read.summary.fingerprint == desk.keys[ALICE]
    assert read.summary.trust is not Trust.UNKNOWN
    assert read.summary.subject == "outside"
    assert read.presented == OUTER % b"outside" + TEXT


def test_encapsulated_signature_stays_in_the_presented_form(desk: Desk):
    inner = desk.sign(TEXT)
    read = desk.read(message(desk.encrypt(inner)))
    assert (read.summary.verdict, read.summary.protection) == (Verdict.VALID, Protection.SIGNED_AND_ENCRYPTED)
    assert read.presented == OUTER % b"outside" + inner


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_signed_only_keeps_the_octets(desk: Desk, line_end: bytes):
    read = desk.read(message(desk.sign(TEXT)).replace(b"\r\n", line_end))
    assert (read.summary.verdict, read.summary.protection) == (Verdict.VALID, Protection.SIGNED)
    assert read.summary.decryption is DecryptionState.NOT_NEEDED
    assert read.presented is None


@pytest.mark.parametrize(
    "text", [b"trailing blanks  \r\n \r\n", b"", b"\r\n\r\n", b"From me\r\n", b"\xff 8-bit\r\n"]
)
def test_signatures_cover_the_octets_as_they_came(desk: Desk, text: bytes):
    """MIME-02."""
    part = b"Content-Type:text/plain\r\nX-Odd :  x \r\n\t y\r\n\r\n" + text
    assert desk.read(message(desk.sign(part))).summary.verdict is Verdict.VALID


def test_encrypted_without_signature(desk: Desk):
    read = desk.read(message(desk.encrypt(TEXT)))
    assert (read.summary.verdict, read.summary.protection) == (Verdict.NONE, Protection.ENCRYPTED)
    assert read.summary.signer is None


def test_plain_mail_is_not_touched(desk: Desk):
    read = desk.read(message(TEXT, b"=?utf-8?q?gr=C3=BC=C3=9Fe?="))
    assert read.summary.protection is Protection.NONE
    assert read.summary.scheme is None
    assert read.summary.subject == "grüße"
    assert read.presented is None


def test_exchange_mangling_is_repaired_and_said(desk: Desk):
    mangled = (
        desk.encrypt(TEXT, ALICE)
        .replace(b"multipart/encrypted", b"multipart/mixed", 1)
        .replace(b"--enc\r\n", b"--enc\r\nContent-Type: text/plain\r\n\r\n\r\n--enc\r\n", 1)
    )
    read = desk.read(message(mangled))
    assert read.summary.verdict is Verdict.VALID
    assert "Exchange" in read.summary.verdict_reason
    assert read.presented == OUTER % b"outside" + TEXT


@pytest.mark.parametrize("rsa", [False, True])
def test_messages_of_gnupg(desk: Desk, gnupg_home: Callable[..., object], rsa: bool):
    gnupg = gnupg_home()
    address = f"gpg{int(rsa)}@example.org"
    gnupg.generate(f"G <{address}>", rsa=rsa)
    gnupg.take(desk.keystore.export(desk.keys[BOB]))
    desk.keystore.import_keys(gnupg.export(address), source="test")
    outer = OUTER.replace(ALICE.encode(), address.encode()) % b"x"
    now = datetime.now(UTC)
    armored = gnupg.run("--armor", "--sign", "--encrypt", "-r", BOB, data=TEXT).stdout
    combined = inbound.unprotect(outer + container(armored), desk.keystore, now, FIELD)
    assert (combined.summary.verdict, combined.summary.signer) == (Verdict.VALID, address)
    assert combined.presented == outer + TEXT
    signature = gnupg.run("--armor", "--detach-sign", data=TEXT).stdout
    signed = desk.sign(TEXT)
    start, end = signed.index(b"-----BEGIN"), signed.index(b"\r\n--sig--")
    by_gnupg = signed[:start] + signature + signed[end:]
    encapsulated = gnupg.run("--armor", "--encrypt", "-r", BOB, data=by_gnupg).stdout
    for body in (by_gnupg, container(encapsulated)):
        assert inbound.unprotect(outer + body, desk.keystore, now, FIELD).summary.verdict is Verdict.VALID


# -- classes


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (b"", MessageClass.PLAIN),
        (b"Content-Type: multipart/mixed; boundary=x\r\n", MessageClass.PLAIN),
        (b"content-type:\r\n MULTIPART/Signed; boundary=x\r\n", MessageClass.SIGNED),
        (b"Content-Type: multipart/encrypted\r\n", MessageClass.ENCRYPTED),
        (b"Content-Type: application/x-pkcs7-mime\r\n", MessageClass.ENCRYPTED),
        (b'Content-Type: application/octet-stream; name="smime.P7M"\r\n', MessageClass.ENCRYPTED),
        (b"Content-Type: application/octet-stream; name=a.zip\r\n", MessageClass.PLAIN),
        (b"secmail-verdict-ABC : x\r\n", MessageClass.FORGED),
        (b"Content-Type: multipart/signed\r\nSecmail-Verdict-abc: x\r\n", MessageClass.ENCRYPTED),
        (b"Secmail-Verdict-other: x\r\n", MessageClass.PLAIN),
        (b"Subject: x\r\n\r\nSecmail-Verdict-abc: in the body\r\n", MessageClass.PLAIN),
        (b"broken line\r\n\x00:\xff\r\nContent-Type: multipart/encrypted", MessageClass.ENCRYPTED),
    ],
)
def test_classes(fields: bytes, expected: MessageClass):
    assert inbound.classify(fields, FIELD) is expected
    assert inbound.classify(fields + b"\r\n", FIELD) is expected
    assert inbound.classify(fields.replace(b"\r\n", b"\n"), FIELD) is expected


MBOX = b"From alice@example.org Mon Mar  2 10:00:00 2026\r\n"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_line_out_of_an_mbox_file_is_no_part_of_the_message(desk: Desk, line_end: bytes):
    """MIME-02."""
    for body in (desk.sign(TEXT), desk.encrypt(TEXT, ALICE)):
        read = desk.read((MBOX + message(body)).replace(b"\r\n", line_end))
        assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, ALICE)
        assert MBOX not in (read.presented or b"")


@pytest.mark.parametrize(
    "line",
    [
        MBOX * 2,
        b"X-Field: x\r\n" + MBOX,
        b">" + MBOX,
        MBOX + b" From: eve@example.net\r\n",
        MBOX.replace(b"Mon", b"<eve@example.net>"),
        b"From eve@example.net\r\n",
    ],
)
def test_other_lines_that_are_no_fields_leave_nothing_valid(desk: Desk, line: bytes):
    assert desk.read(line + message(desk.sign(TEXT))).summary.verdict is Verdict.MISMATCH
