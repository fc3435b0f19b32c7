"""S/MIME that is received: opened, verified, judged and presented (RFC 8551)."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable

import pytest

from keystore.model import Scheme
from secmailproxy.inbound import MessageClass, classify
from secmailproxy.judge import OTHER_TIME, OUTER_SIGNATURE, UNAUTHENTICATED
from secmailproxy.mime import entity, header
from secmailproxy.mime.demoted import FILE_NAME
from secmailproxy.model import DecryptionState, Protection, Verdict
from tests.fixtures.cms import Signing, oid, signed_data, usual
from tests.fixtures.desk import ALICE, DATE, EVE, FIELD, OUTER, desk, message, protected
from tests.fixtures.desk import Desk as OpenPGPDesk
from tests.fixtures.smime_desk import TEXT, SmimeDesk, entity_of, smime_desk

__all__ = ["desk", "smime_desk"]

HTML = b'Content-Type: text/html\r\n\r\n<p>Hello.</p><img src="http://example.net/x">\r\n'
WHOLE = OUTER % b"outside"


# -- what is valid


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_detached_signature_leaves_the_octets(smime_desk: SmimeDesk, line_end: bytes):
    read = smime_desk.read(message(smime_desk.sign(TEXT)).replace(b"\r\n", line_end))
    assert (read.summary.scheme, read.summary.protection) == (Scheme.SMIME, Protection.SIGNED)
    assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, ALICE)
    assert read.summary.fingerprint == smime_desk.people[ALICE].fingerprint
    assert read.presented is None


@pytest.mark.parametrize("text", [b"trailing blanks  \r\n \r\n", b"", b"\r\n\r\n", b"\xff 8-bit\r\n"])
def test_signatures_cover_the_octets_as_they_came(smime_desk: SmimeDesk, text: bytes):
    """MIME-02."""
    part = b"Content-Type:text/plain\r\nX-Odd :  x \r\n\t y\r\n\r\n" + text
    for body in (smime_desk.sign(part), smime_desk.opaque(part), smime_desk.envelope(smime_desk.sign(part))):
        assert smime_desk.read(message(body)).summary.verdict is Verdict.VALID


def test_an_opaque_signature_is_presented_as_its_content(smime_desk: SmimeDesk):
    read = smime_desk.read(message(smime_desk.opaque(TEXT)))
    assert (read.summary.verdict, read.summary.protection) == (Verdict.VALID, Protection.SIGNED)
    assert (read.summary.decryption, read.presented) == (DecryptionState.NOT_NEEDED, WHOLE + TEXT)


def test_a_bad_opaque_signature_shows_its_content_too(smime_desk: SmimeDesk):
    cms = smime_desk.cms(TEXT).replace(b"windmill", b"treadmill"[:8])
    read = smime_desk.read(message(entity_of(cms, "application/pkcs7-mime")))
    assert (read.summary.verdict, read.summary.signer) == (Verdict.INVALID, None)
    assert read.presented == WHOLE + TEXT.replace(b"windmill", b"treadmil")


@pytest.mark.parametrize("authenticated", [False, True])
def test_signed_inside_enveloped(smime_desk: SmimeDesk, authenticated: bool):
    for inner in (smime_desk.sign(HTML), smime_desk.opaque(HTML)):
        read = smime_desk.read(message(smime_desk.envelope(inner, authenticated=authenticated)))
        assert (read.summary.verdict, read.summary.signer) == (Verdict.VALID, ALICE)
        assert read.summary.protection is Protection.SIGNED_AND_ENCRYPTED
        assert read.summary.authenticated
        assert read.presented is not None
        assert read.presented.endswith(HTML) or read.presented == WHOLE + inner


def test_triple_wrapped(smime_desk: SmimeDesk):
    """RFC 8551 section 3.7: the inner signature names the author, the outer one is listed."""
    wrapped = smime_desk.sign(smime_desk.envelope(smime_desk.sign(TEXT)), EVE)
    summary = smime_desk.read(message(wrapped)).summary
    assert (summary.verdict, summary.signer) == (Verdict.VALID, ALICE)
    assert [(one.signer, one.counted) for one in summary.signatures] == [(EVE, False), (ALICE, True)]


def test_schemes_mix(smime_desk: SmimeDesk, desk: OpenPGPDesk):
    """OpenPGP inside S/MIME; of a second encryption nothing is opened."""
    openpgp = desk.sign(TEXT)
    read = smime_desk.read(message(smime_desk.envelope(openpgp)))
    assert (read.summary.verdict, read.summary.decryption) == (Verdict.UNKNOWN_KEY, DecryptionState.OK)
    twice = smime_desk.envelope(smime_desk.opaque(desk.encrypt(TEXT)))
    read = smime_desk.read(message(twice))
    assert (read.summary.verdict, read.summary.errant_layers) == (Verdict.VALID, 1)
    assert read.presented is not None
    assert b"BEGIN PGP MESSAGE" in read.presented


# -- what it is called


NAMES = [
    ("application/pkcs7-mime", ""),
    ("application/x-pkcs7-mime; name=smime.p7m", ""),
    ("application/pkcs7-mime; smime-type=enveloped-data", ""),
    ("application/pkcs7-mime; smime-type=signed-data", ""),
    ("application/octet-stream; name=smime.p7m", ""),
    ('application/octet-stream; name="SMIME.P7S"', ""),
    ("application/octet-stream; name=smime.p7z", ""),
    ("application/octet-stream", 'attachment; filename="smime.p7m"'),
    ("application/octet-stream", "attachment; filename*=utf-8''smime.p7m"),
]


@pytest.mark.parametrize(("kind", "disposition"), NAMES)
def test_the_content_decides_what_a_layer_is(smime_desk: SmimeDesk, kind: str, disposition: str):
    """RFC 8551 section 3.10, by any name; also where the label lies."""
    signed = entity_of(smime_desk.cms(TEXT), kind, disposition)
    assert smime_desk.read(message(signed)).summary.verdict is Verdict.VALID
    der = entity.parse(smime_desk.envelope(TEXT)).body
    sealed = signed[: signed.index(b"\r\n\r\n") + 4] + der
    assert smime_desk.read(message(sealed)).summary.decryption is DecryptionState.OK
    head = signed[: signed.index(b"Content-Transfer")]
    assert classify(head, FIELD) is MessageClass.ENCRYPTED


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Type: application/pkcs7-mime; smime-type=certs-only; name=smime.p7m\r\n",
        b"Content-Type: application/pkcs7-mime; name=smime.p7c\r\n",
        b"Content-Type: application/octet-stream; name=smime.p7m.txt\r\n",
        b"Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=a.pdf\r\n",
        b"Content-Type: text/plain; name=smime.p7m\r\nContent-Disposition: attachment; filename=a.p7m\r\n",
    ],
)
def test_other_mail_is_plain(smime_desk: SmimeDesk, fields: bytes):
    assert classify(fields, FIELD) is MessageClass.PLAIN
    read = smime_desk.read(message(fields + b"\r\nMIIB\r\n"))
    assert (read.summary.protection, read.presented, read.summary.scheme) == (Protection.NONE, None, None)


def test_a_name_alone_makes_no_message(smime_desk: SmimeDesk):
    body = entity_of(b"no CMS", "application/octet-stream; name=notes.p7m")
    assert smime_desk.read(message(body)).summary.decryption is DecryptionState.NOT_NEEDED
    body = entity_of(b"no CMS", "application/pkcs7-mime")
    assert smime_desk.read(message(body)).summary.decryption is DecryptionState.FAILED


@pytest.mark.parametrize(
    ("encoding", "write"),
    [
        ("binary", lambda cms: cms + b"\r\n"),
        ("7bit", base64.encodebytes),
        ("base64", lambda cms: base64.encodebytes(as_pem(cms))),
        ("quoted-printable", lambda cms: quopri.encodestring(base64.encodebytes(cms))),
        ("8bit", lambda cms: as_pem(cms)),
    ],
)
def test_cms_written_as_gateways_do(smime_desk: SmimeDesk, encoding: str, write: Callable[[bytes], bytes]):
    """MIME-04: what gpgsm and openssl read by themselves, around the content and beside it."""
    opaque, field = smime_desk.cms(TEXT), f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode()
    whole = b"Content-Type: application/pkcs7-mime; smime-type=signed-data\r\n" + field + write(opaque)
    read = smime_desk.read(message(whole))
    assert (read.summary.verdict, read.presented) == (Verdict.VALID, WHOLE + TEXT)
    detached = smime_desk.sign(TEXT)
    at = detached.index(b"Content-Transfer-Encoding: base64")
    signature = write(smime_desk.cms(TEXT, detached=True))
    whole = detached[:at] + field + signature + detached[detached.rindex(b"\r\n--") :]
    assert smime_desk.read(message(whole)).summary.verdict is Verdict.VALID


def as_pem(cms: bytes) -> bytes:
    return b"-----BEGIN PKCS7-----\n" + base64.encodebytes(cms) + b"-----END PKCS7-----\n"


def test_a_signed_receipt_is_no_mail_and_no_forgery(smime_desk: SmimeDesk):
    """RFC 2634 section 2: it holds no MIME entity; nothing is claimed of it, and nothing held against it."""
    alice = smime_desk.people[ALICE]
    receipt = oid("1.2.840.113549.1.9.16.1.1")
    cms = signed_data(
        Signing(signer=alice, attributes=usual(b"x")).info,
        certificates=[alice.der],
        content=b"x",
        kind=receipt,
    )
    read = smime_desk.read(message(entity_of(cms, "application/pkcs7-mime; smime-type=signed-receipt")))
    assert (read.presented, read.summary.verdict) == (None, Verdict.NONE)
    assert read.summary.protection is Protection.NONE


def test_a_detached_signature_alone_is_a_broken_promise(smime_desk: SmimeDesk):
    body = entity_of(smime_desk.cms(TEXT, detached=True), "application/pkcs7-mime; smime-type=signed-data")
    read = smime_desk.read(message(body))
    assert (read.summary.verdict, read.presented) == (Verdict.INVALID, None)


# -- what never is valid


def tricks(desk: SmimeDesk) -> dict[str, bytes]:
    """Messages that want to look signed by Alice, and whole."""
    signed, opaque = desk.sign(TEXT), desk.opaque(TEXT)
    evil = b"Content-Type: text/plain\r\n\r\nSend the money to Eve.\r\n"
    mixed = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n"
    closed = b"\r\n--m--\r\n"
    content = entity_of(desk.cms(TEXT), "application/pkcs7-signature")
    mark = b"\r\n--s%d\r\n" % len(TEXT)
    start = signed.index(mark) + len(mark)
    return {
        "opaque signature inside mixed": mixed + opaque + closed,
        "opaque signature beside evil": mixed + evil + b"\r\n--m\r\n" + opaque + closed,
        "detached signature with content of its own": signed[:start] + content + signed[-12:],
        "content changed": signed.replace(b"windmill", b"treadmill"),
        "signed by somebody else": desk.sign(TEXT, EVE),
        "opaque, signed by somebody else": desk.opaque(TEXT, EVE),
        "nobody vouches": desk.opaque(TEXT, "stranger"),
        "signature around the encryption": desk.opaque(desk.envelope(TEXT)),
        "detached around the encryption": desk.sign(desk.envelope(TEXT)),
        "somebody else inside": desk.sign(desk.opaque(TEXT, EVE)),
        "somebody else around": desk.opaque(desk.opaque(TEXT), EVE),
        "somebody else around, detached": desk.sign(desk.sign(TEXT), EVE),
        "enveloped twice": desk.envelope(desk.envelope(desk.opaque(TEXT))),
        "signed part inside enveloped mixed": desk.envelope(mixed + evil + b"\r\n--m\r\n" + signed + closed),
    }


TRICKS = [
    "opaque signature inside mixed", "opaque signature beside evil",
    "detached signature with content of its own", "content changed", "signed by somebody else",
    "opaque, signed by somebody else", "nobody vouches", "signature around the encryption",
    "detached around the encryption", "somebody else inside", "somebody else around",
    "somebody else around, detached", "enveloped twice", "signed part inside enveloped mixed",
]  # fmt: skip


@pytest.mark.parametrize("name", TRICKS)
def test_tricks_are_never_valid(smime_desk: SmimeDesk, name: str):
    """MIME-03, MIME-04."""
    made = tricks(smime_desk)
    assert list(made) == TRICKS
    assert smime_desk.read(message(made[name])).summary.verdict is not Verdict.VALID


def test_who_signed_around_the_encryption_is_no_author(smime_desk: SmimeDesk):
    summary = smime_desk.read(message(tricks(smime_desk)["detached around the encryption"])).summary
    assert (summary.verdict, summary.protection) == (Verdict.NONE, Protection.ENCRYPTED)
    assert summary.verdict_reason == UNAUTHENTICATED
    around = smime_desk.sign(smime_desk.envelope(TEXT, authenticated=True))
    assert smime_desk.read(message(around)).summary.verdict_reason == OUTER_SIGNATURE


@pytest.mark.parametrize("date", [b"Fri, 20 Nov 2020 12:00:00 +0000", b"yesterday", b""])
def test_the_date_shown_is_that_of_the_signature(smime_desk: SmimeDesk, date: bytes):
    for body in (smime_desk.sign(TEXT), smime_desk.opaque(TEXT)):
        summary = smime_desk.read(message(body).replace(DATE, date)).summary
        assert summary.verdict is Verdict.UNACCEPTABLE
        assert summary.verdict_reason is not None
        assert (summary.verdict_reason == OTHER_TIME) is (b"2020" in date)


def test_a_layer_in_a_part_stays_closed(smime_desk: SmimeDesk):
    """MIME-06: an oracle would have its ciphertext opened in a part of something else."""
    mixed = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n" + smime_desk.envelope(TEXT)
    read = smime_desk.read(message(mixed + b"\r\n--m--\r\n"))
    assert (read.presented, read.summary.protection, read.summary.errant_layers) == (None, Protection.NONE, 1)


def test_octets_that_stay_are_judged_as_they_stay(smime_desk: SmimeDesk):
    """A server was told their size: what is in a second signature is not opened then."""
    for inner in (smime_desk.envelope(TEXT), smime_desk.opaque(TEXT, EVE)):
        read = smime_desk.read(message(smime_desk.sign(smime_desk.sign(inner))), octets_stay=True)
        assert (read.summary.verdict, read.presented) == (Verdict.VALID, None)
        assert (read.summary.decryption, read.summary.errant_layers) == (DecryptionState.NOT_NEEDED, 1)


# -- without integrity


def alternative(*parts: bytes) -> bytes:
    marked = b"".join(b"--a\r\n" + part + b"\r\n" for part in parts)
    return b'Content-Type: multipart/alternative; boundary="a"\r\n\r\n' + marked + b"--a--\r\n"


def test_documents_that_nobody_vouches_for_become_attachments(smime_desk: SmimeDesk):
    """MIME-06: EFAIL. The text stays, and no octet of the document is lost."""
    read = smime_desk.read(message(smime_desk.envelope(alternative(TEXT, HTML))))
    assert (read.summary.authenticated, read.summary.verdict) == (False, Verdict.NONE)
    assert read.presented is not None
    shown = entity.parse(read.presented)
    assert shown.content_type.full == "multipart/mixed"
    text, document = shown.parts
    assert text.whole == TEXT.removesuffix(b"\r\n") + b"\r\n"
    assert document.content_type.full == "application/octet-stream"
    assert FILE_NAME in (header.value(document, "Content-Disposition") or b"")
    assert document.body == HTML.partition(b"\r\n\r\n")[2]
    assert header.value(document, "Not-Authenticated-Content-Type") == b"text/html"


@pytest.mark.parametrize("around", [TEXT, HTML])
def test_what_is_authenticated_stays_as_it_is(smime_desk: SmimeDesk, around: bytes):
    part = alternative(around, HTML)
    for body in (
        smime_desk.envelope(part, authenticated=True),
        smime_desk.envelope(smime_desk.opaque(part, EVE)),
        smime_desk.envelope(smime_desk.opaque(part, "stranger")),
    ):
        assert smime_desk.read(message(body)).presented == WHOLE + part


def test_a_signature_that_is_wrong_authenticates_nothing(smime_desk: SmimeDesk):
    bad = smime_desk.sign(HTML).replace(b"Hello", b"HELLO")
    read = smime_desk.read(message(smime_desk.envelope(bad)))
    assert (read.summary.verdict, read.summary.authenticated) == (Verdict.INVALID, False)
    assert read.presented is not None
    shown = entity.parse(read.presented)
    assert [one.content_type.full for one in (shown, *shown.parts)] == [
        "multipart/mixed",
        "application/octet-stream",
        "application/pkcs7-signature",
    ]


# -- header protection


@pytest.mark.parametrize("wrap", [False, True])
def test_the_header_inside_is_shown(smime_desk: SmimeDesk, wrap: bool):
    """RFC 9788, and the message/rfc822 of RFC 8551 section 3.1."""
    part = protected()
    if wrap:
        plain = part.replace(b'; hp="cipher"', b"")
        part = b"Content-Type: message/rfc822; forwarded=no\r\n\r\n" + plain
    for inner in (smime_desk.opaque(part), smime_desk.sign(part)):
        read = smime_desk.read(message(smime_desk.envelope(inner), b"[...]"))
        assert (read.summary.verdict, read.summary.subject) == (Verdict.VALID, "inside")
        assert "Subject" in read.summary.protected_headers
    read = smime_desk.read(message(smime_desk.opaque(part), b"changed on the way"))
    assert (read.summary.verdict, read.summary.subject) == (Verdict.VALID, "inside")


def test_a_header_that_is_not_rightly_signed_is_not_shown(smime_desk: SmimeDesk):
    """An opaque signature is an envelope anybody can make."""
    for signer, sender in ((EVE, ALICE), ("stranger", ALICE), (ALICE, EVE)):
        part = protected(hp=b"clear", sender=sender.encode())
        read = smime_desk.read(message(smime_desk.opaque(part, signer), b"outside"))
        assert read.summary.subject == "outside"
        assert read.summary.verdict is not Verdict.VALID
        assert read.summary.protected_headers == ()


def test_an_encryption_alone_chooses_no_author(smime_desk: SmimeDesk):
    read = smime_desk.read(message(smime_desk.envelope(protected(sender=b"eve@example.net")), b"[...]"))
    assert read.presented is not None
    assert header.value(entity.parse(read.presented), "From") == b"Alice <alice@example.org>"
    assert read.summary.subject == "inside"


def test_copies_of_the_verdict_field_vanish(smime_desk: SmimeDesk):
    """MIME-05."""
    forged = FIELD.encode() + b": signed\r\n"
    part = forged + b"Content-Type: message/rfc822\r\n\r\n" + forged + b"Subject: x\r\n\r\ny\r\n"
    for body in (
        smime_desk.opaque(part),
        smime_desk.envelope(part),
        smime_desk.envelope(smime_desk.sign(part)),
    ):
        read = smime_desk.read(forged + message(body))
        assert read.presented is not None
        assert FIELD.encode() not in read.presented


def test_openpgp_around_smime(smime_desk: SmimeDesk, desk: OpenPGPDesk):
    """Who has no key of the outer scheme opens nothing; who knows no root there believes nobody inside."""
    body = desk.encrypt(smime_desk.opaque(TEXT))
    summary = smime_desk.read(message(body)).summary
    assert (summary.scheme, summary.decryption) == (Scheme.OPENPGP, DecryptionState.FAILED)
    assert desk.read(message(body)).summary.verdict is Verdict.UNKNOWN_KEY
