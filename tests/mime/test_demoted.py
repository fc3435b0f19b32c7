"""Documents that nobody vouches for become attachments, whatever they call themselves (MIME-06, EFAIL)."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.mime import entity, header
from secmailproxy.mime.demoted import FILE_NAME, demoted
from secmailproxy.mime.entity import Limits

HEAD = b"From: alice@example.org\r\nMIME-Version: 1.0\r\n"
SECRET = b"the treasure is under the oak"


def types_of(message: bytes) -> list[str]:
    """The media types of all leaves as another parser than ours finds them."""
    parsed = email.message_from_bytes(message, policy=email.policy.compat32)
    return [part.get_content_type() for part in parsed.walk() if not part.is_multipart()]


def multipart(kind: bytes, *parts: bytes) -> bytes:
    marked = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return b'Content-Type: multipart/%b; boundary="b"\r\n\r\n%b--b--\r\n' % (kind, marked)


def leaf(kind: bytes, body: bytes = SECRET) -> bytes:
    return b"Content-Type: " + kind + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    "kind",
    [
        b"text/plain",
        b"TEXT/Plain; charset=utf-8; format=flowed",
        b"image/png",
        b"application/pdf",
        b"application/pkcs7-signature; name=smime.p7s",
        b"audio/ogg",
        b'application/pdf; name="=?utf-8?q?R=C3=A9sum=C3=A9=2Epdf?="',
        b"application/octet-stream\r\nContent-Disposition: attachment; filename*=utf-8''%C3%A9.pdf",
    ],
)
def test_text_and_files_stay(kind: bytes):
    message = HEAD + multipart(b"mixed", leaf(kind), leaf(b"text/plain"))
    assert demoted(message, Limits()) == message


DOCUMENTS = [
    b"text/html",
    b'TEXT/HTML; charset="utf-8"',
    b"text/calendar",
    b"text/x-unknown",
    b"application/xhtml+xml",
    b"application/xml",
    b"image/svg+xml",
    b"message/external-body; access-type=URL",
    b"model/vrml",
    b"text/plain\r\nContent-Type: text/html",
    b"text/html\r\nContent-Type: text/plain",
    b"text",
    b'"text/html"',
    b"text/plain (;) /html",
    b"application/octet-stream; name=page.html",
    b'application/octet-stream\r\nContent-Disposition: attachment; filename="x.SVG"',
    b"text/plain\r\nstray line\r\nContent-Type: text/html",
    b"message/rfc822\r\nContent-Transfer-Encoding: base64",
    b"text/plain; name=page.html",
    b"application/pkcs7-mime; smime-type=signed-data; name=smime.p7m",
    b"application/x-pkcs7-mime",
    b"audio/x-mpegurl",
    b"application/vnd.apple.mpegurl",
    b"video/mpeg; name=film.m3u8",
    b"application/octet-stream; name=smime.p7m",
    b"application/ms-tnef; name=a.b",
    b"application/octet-stream; name=WinMail.dat",
    b"application/octet-stream; name=page.xht",
    b'application/octet-stream; name="=?utf-8?q?page=2Ehtml?="',
    b'application/octet-stream; name="=?utf-8?b?eC5odG1s?="',
    b'application/octet-stream; name="=?unknown"',
    b"application/octet-stream; name=page; name=page.html",
    b'application/octet-stream; name="page.html\\\\"',
    b"application/octet-stream; name=page%2Ehtml",
    b"application/octet-stream\r\nContent-Disposition: inline; filename*=utf-8''x%2Ehtml",
    b"application/octet-stream\r\nContent-Disposition: inline; filename*0=x.ht; filename*1=ml",
]


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("around", [b"", b"mixed", b"alternative", b"related"])
def test_documents_become_files(kind: bytes, around: bytes):
    part = leaf(kind)
    message = HEAD + (multipart(around, leaf(b"text/plain"), part) if around else part)
    made = demoted(message, Limits())
    assert types_of(made)[-1] == "application/octet-stream"
    assert FILE_NAME in made
    assert SECRET in made
    assert b"multipart/alternative" not in made.replace(b"Not-Authenticated-Content-Type: multipart", b"")
    again = entity.parse(made)
    assert b"related" not in again.content_type.subtype.encode()
    # All octets of the header are there still, if under other names.
    assert made.replace(b"Not-Authenticated-", b"").replace(b"Line: ", b"").count(kind[:9]) >= 1


UNTYPED = b"begin 644 page.html\r\n" + SECRET + b"\r\nend\r\n"


@pytest.mark.parametrize(
    "message",
    [
        HEAD + b"\r\n" + UNTYPED,
        HEAD + multipart(b"mixed", b"\r\n" + UNTYPED),
        HEAD + multipart(b"digest", b"\r\nSubject: x\r\n\r\n" + UNTYPED),
    ],
)
def test_a_text_says_that_it_is_one(message: bytes):
    """Thunderbird decodes uuencode and yEnc in a text of no stated type, and shows HTML that is in it."""
    entities = [entity.parse(demoted(message, Limits()))]
    for one in entities:
        assert header.find(one, "content-type") is not None
        entities += one.parts
    assert UNTYPED in entities[-1].whole + b"\r\n"


def test_a_forwarded_document_is_found():
    inner = b"Subject: x\r\n" + leaf(b"text/html")
    made = demoted(HEAD + multipart(b"mixed", leaf(b"message/rfc822", inner)), Limits())
    assert types_of(made) == ["application/octet-stream"]


@pytest.mark.parametrize(
    "message",
    [
        # Readers differ in where these parts begin, so nothing is made of them.
        b'Content-Type: multipart/mixed; boundary="b"; boundary="c"\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n',
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nx\r\n',
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--bb\r\n\r\nx\r\n--b--\r\n',
        b"Content-Type: multipart/mixed\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\nx\r\n--b--\r\n",
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\nx\r\n--b\r\n'
        b'Content-Type: multipart/mixed; boundary="bc"\r\n\r\n--bc\r\n\r\nx\r\n--bc--\r\n'
        b"Content-Type: text/html\r\n\r\ny\r\n--b--\r\n",
    ],
)
def test_what_can_be_cut_in_two_ways_is_one_file(message: bytes):
    assert types_of(demoted(HEAD + message, Limits())) == ["application/octet-stream"]


PIECES = st.sampled_from(
    [
        b"--b\r\n", b"--b--\r\n", b"--c\r\n", b"--c--\r\n", b"\r\n", b"<p>", b"text\r\n", b" ", b"stray\r\n",
        b"Content-Type: text/html\r\n", b"Content-Type: text/plain\r\n", b"Content-Type : text/html\r\n",
        b"Content-Type: multipart/alternative; boundary=c\r\n", b"Content-Type: message/rfc822\r\n",
        b"Content-Type: image/svg+xml\r\n", b"Content-Transfer-Encoding: base64\r\n", b"X: y\r\n",
        b"Content-Type: multipart/digest; boundary=b\r\n", b"content-TYPE:\r\n text/html\r\n",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(pieces=st.lists(PIECES, max_size=14))
def test_no_other_parser_finds_a_document(pieces: list[bytes]):
    message = HEAD + b"".join(pieces)
    made = demoted(message, Limits())
    assert not {one for one in types_of(made) if "html" in one or "svg" in one}
    assert demoted(made, Limits()) == made
