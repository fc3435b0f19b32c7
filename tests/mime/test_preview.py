"""The first words of a message (RFC 8970)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap import grammar
from secmailproxy.mime.entity import Entity, parse_or_leaf
from secmailproxy.mime.preview import preview
from tests.fixtures.growth import assert_linear


def typed(kind: bytes, body: bytes) -> bytes:
    return b"Subject: s\r\nMIME-Version: 1.0\r\nContent-Type: " + kind + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (b"Subject: no body\r\n", ""),
        (typed(b"text/plain; charset=x-unknown", b"plain\r\n"), "plain"),
        (typed(b"text/plain; charset=punycode", b"plain-\r\n"), "plain-"),
        (typed(b"text/plain; charset=rot13", b"plain\r\n"), "plain"),
        (typed(b"text/plain\r\nContent-Transfer-Encoding: x-odd", b"plain\r\n"), ""),
        (typed(b"application/pgp-encrypted", b"Version: 1\r\n"), ""),
        (typed(b"text/html", b"a&#" + b"9" * 5000 + b";b&#" + b"0" * 5000 + b"65;c"), "a\ufffdbAc"),
        (typed(b"text/html", b"&#65;&#0;&#x42;&#;&#00"), "A\ufffdB&#;\ufffd"),
        (typed(b"text/html", b"<p title='a > b'>one</p>&amp;<script>two"), "one &"),
    ],
)
def test_texts(message: bytes, shown: str) -> None:
    assert preview(parse_or_leaf(message)) == shown


def multipart(subtype: bytes, *parts: bytes) -> bytes:
    inner = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts)
    return b"MIME-Version: 1.0\r\nContent-Type: multipart/%b; boundary=b\r\n\r\n%b--b--\r\n" % (
        subtype,
        inner,
    )


PLAIN = b"Content-Type: text/plain\r\n\r\nplain"
HTML = b"Content-Type: text/html\r\n\r\n<b>html</b>"
MESSAGES = {
    "no MIME": b"Subject: s\r\n\r\nSoup,\r\n  as\tever.\r\n",
    "reply": typed(b"text/plain", b"Ada wrote:\r\n> old\r\n>> older\r\n\r\nNew words.\r\n> end\r\n"),
    "nothing but quotes": typed(b"text/plain", b"> one\r\n> two\r\n>three\r\n"),
    "long": typed(b"text/plain", b"word " * 100),
    "one long word": typed(b"text/plain", b"w" * 300),
    "199 and more": typed(b"text/plain", b"a" * 199 + b" bcd\r\n"),
    "characters count, not octets": typed(b"text/plain; charset=utf-8", "w\u00f6rt ".encode() * 100),
    "Latin-1": typed(b"text/plain; charset=iso-8859-1", b"gr\xfc\xdfe\r\n"),
    "quoted-printable": typed(
        b"text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable", b"Caf=C3=A9 =\r\nx\r\n"
    ),
    "base64": typed(b"text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64", b"Z3LDvMOfZQ==\r\n"),
    "no-break space": typed(b"text/plain; charset=utf-8", "a\u00a0\u00a0b\u2003c".encode()),
    "control characters": typed(b"text/plain", b"a\x0bb\x0cc\r\n"),
    "to be quoted": typed(b"text/plain", b'a "b" \\ c\r\n'),
    "HTML": typed(
        b"text/html; charset=utf-8",
        b"<html><head><title>T</title><style>b{x}</style></head>"
        b"<p>Hello &amp; <b>bold</b>text<script>x()</script>"
        b"<blockquote>old<blockquote>older</blockquote>x</blockquote>after<!-- c -->wards<br>n &euro;\r\n",
    ),
    "attributes": typed(b"text/html", b"<p>Hi <a href='x>y' title=\"<p>\">link</a> <b"),
    "alternative": multipart(b"alternative", HTML, PLAIN),
    "alternative, HTML before other": multipart(b"alternative", b"Content-Type: text/x\r\n\r\nother", HTML),
    "related in alternative": multipart(
        b"alternative", multipart(b"related", HTML).replace(b"=b", b"=c").replace(b"--b", b"--c")
    ),
    "attachment first": multipart(b"mixed", b"Content-Type: application/pdf\r\n\r\nx", PLAIN),
    "empty first": multipart(b"mixed", b"Content-Type: text/plain\r\n\r\n", PLAIN),
    "signed": multipart(b"signed", b"\r\nwords", b"Content-Type: application/pgp-signature\r\n\r\nx"),
    "image": typed(b"image/png", b"x"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_dovecot_shows_the_same(dovecot, name: str) -> None:
    raw = dovecot.fetch(dovecot.store(MESSAGES[name]), b"PREVIEW")
    assert preview(parse_or_leaf(MESSAGES[name])) == (grammar.string_value(raw) or b"").decode()


@given(
    st.binary(max_size=400),
    st.sampled_from([b"text/plain", b"text/html; charset=utf-7", b"text/x; charset=utf-16"]),
)
def test_any_body_gives_one_short_line(body: bytes, kind: bytes) -> None:
    shown = preview(parse_or_leaf(typed(kind, body)))
    assert len(shown) <= 256
    assert not any(ord(character) < 32 for character in shown)


@pytest.mark.parametrize(
    "piece", [b"<", b"<!--", b"<a '", b"<script>", b"<blockquote>", b"&", b"<a \"x\" 'y' ", b" \t"]
)
def test_hostile_markup_costs_little(piece: bytes) -> None:
    def markup(size: int) -> Entity:
        return parse_or_leaf(typed(b"text/html", piece * (size // len(piece))))

    assert_linear(markup, preview, 300_000)
