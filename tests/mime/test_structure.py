"""Structures, envelopes and sections agree with Dovecot's over mail that nobody here wrote, and over our own.

The corpus of odd mail is searched at SECMAILPROXY_CORPORA or beside the repository; without it the messages
of tests/corpus and the tables below serve alone. Compared is what Dovecot stores and answers: CRLF line ends.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.mime import entity, structure
from secmailproxy.mime.section import Section, section

ROOT = Path(__file__).parents[2]
CORPORA = Path(os.environ.get("SECMAILPROXY_CORPORA", ROOT.parent / "shared" / "corpora"))

NAMES = (b"subject", b"From", b"x-none", b"Content-Type")
KINDS = ("", "HEADER", "TEXT", "MIME", "HEADER.FIELDS", "HEADER.FIELDS.NOT")

# Where we do not follow Dovecot, each time for malformed mail only:
# - The header of an embedded message ends at a boundary instead of a blank line. RFC 2046 section 5.1.1 gives
#   the line end before the boundary to the boundary; Dovecot counts it into the part that holds the message,
#   and its HEADER.FIELDS run on into the next parts.
# - HEADER.FIELDS of a header without blank line: ours still ends in one (RFC 3501 section 6.4.5).
# - A message that ends in a lone CR: Dovecot drops it when it stores the message.
# - a."b"@c (RFC 5322 obs-local-part) in an address list is taken for no address at all.
DEVIATIONS = {
    "no-blank-line.eml",
    "mail-parser/malformed/020.eml",
    "mail-parser/malformed/021.eml",
    "mail-parser/malformed/022.eml",
    "mail-parser/rfc/008.eml",
    "mail-parser/thirdparty/015.eml",
    "mail-parser/legacy/049.eml",
    "mime4j/malformedHeader-noheader.msg",
    "mime4j/malformedHeaderStartsBody-noheader.msg",
    "mime4j/multi-2gifs-base64.msg",
}


def stored(message: bytes) -> bytes:
    """As Dovecot keeps it."""
    return re.sub(rb"\r?\n", b"\r\n", message.replace(b"\x00", b""))


def corpus() -> Iterator[tuple[str, bytes]]:
    for folder in (ROOT / "tests" / "corpus", CORPORA / "identity"):
        for path in sorted(folder.rglob("*")):
            if (
                path.is_file()
                and path.suffix not in {".md", ".asc", ".jsonl", ".p12"}
                and path.stat().st_size
            ):
                yield str(path.relative_to(folder)), stored(path.read_bytes())


def paths(root: entity.Entity) -> Iterator[tuple[int, ...]]:
    """The part numbers that exist, and some that do not."""
    yield from ((), (1,), (1, 1), (2, 1), (9,), (1, 1, 1))
    yield from below(root, ())


def below(message: entity.Entity, prefix: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    for number, part in enumerate(message.parts, 1):
        here = (*prefix, number)
        if message.is_multipart:
            yield here
            yield from below(part, here)
        else:
            yield from below(part, prefix) if part.is_multipart else [here]


def spelled(path: tuple[int, ...], kind: str) -> bytes:
    words = [*map(str, path), *([kind] if kind else [])]
    names = b" (" + b" ".join(NAMES) + b")" if "FIELDS" in kind else b""
    return ".".join(words).encode() + names


def differences(dovecot, message: bytes) -> Iterator[str]:
    root = entity.parse(message)
    number = dovecot.store(message)
    for item, ours in (
        (b"ENVELOPE", structure.imap_envelope(root)),
        (b"BODY", structure.body(root)),
        (b"BODYSTRUCTURE", structure.bodystructure(root)),
        (b"RFC822.SIZE", b"%d" % len(message)),
    ):
        if (theirs := dovecot.fetch(number, item)) != ours:
            yield f"{item!r}\n  ours   {ours!r}\n  theirs {theirs!r}"
    for path in dict.fromkeys(paths(root)):
        for kind in KINDS if path else KINDS[:3] + KINDS[4:]:
            asked = Section(path, kind, NAMES if "FIELDS" in kind else ())
            ours = section(root, asked)
            theirs = dovecot.fetch(number, b"BODY.PEEK[" + spelled(path, kind) + b"]")
            if (ours or b"") != theirs:
                yield f"BODY[{spelled(path, kind)!r}]\n  ours   {ours!r}\n  theirs {theirs!r}"


def test_every_item_of_the_corpus_is_what_dovecot_answers(dovecot):
    found = {name: list(differences(dovecot, message)) for name, message in corpus()}
    assert len(found) >= 8
    wrong = {name: what for name, what in found.items() if what and name not in DEVIATIONS}
    assert not wrong, "\n".join(f"{name}: {what[0]}" for name, what in wrong.items())


TYPES = [
    b"text",
    b"text/plain foo",
    b"foo",
    b"",
    b"multipart/mixed boundary=x",
    b"text/",
    b"/plain",
    b"text/plain;",
    b"text / plain",
    b'"text/plain"',
    b"text/plain/foo",
    b"text/plain (a",
    b"text(x/plain",
    b"multipart/mixed",
    b"multipart",
    b"multipart/; boundary=x",
    b"multipart/mixed; boundary=x",
    b"multipart/digest; boundary=x",
    b"message/rfc822",
    b"message/rfc822 x",
    b"Text/Plain",
    b"TEXT/html",
    b"text/plain; charset=US-ASCII",
    b"text/plain; charset=us-ascii; format=flowed",
    b"text/PLAIN; format=flowed",
    b"text/plain; charset",
    b"text/plain; charset=; foo=bar",
    b"text/plain; a=b c; d=e",
    b'text/plain; a="x\\"y\\\\z"; b=\'q\'',
    b'text/plain; a="\\"\\"\\"\\"\\""',
    b'text/html; name*0=a; name*1=b; X=""',
    b"text/plain; a=b; a=c; charset=x; charset=y",
    b"text/plain; A*=utf-8''%e4x; charset*=us-ascii''x",
    b"text/plain; a*0*=utf-8''x%20; a*1=y%z",
    b"text/plain; a*1=x; a*0=y; a*3=z",
    b"text/plain; a=\xe4",
    b'TEXT/Plain; a="x',
    b"text/plain;;; a=b",
    b"text/plain; a==?utf-8?q?x?=; b=c",
    b"image/png; name=a b.png",
    b'text/plain; charset="us-ascii" (c); x=y(z)',
    b'text/plain; a="x\r\n y"',
    b'multipart/mixed; boundary=""',
    b"multipart/mixed; boundary=a; boundary=x",
    b"a/b; c*0=x; C*1=y",
    b"a/b; *=x",
    b"a/b; =x",
    b"a/b; x*y=z",
    b"a/b; x**=z",
]
CONTENT_FIELDS = [
    b"Content-Transfer-Encoding: base64 x",
    b"Content-Transfer-Encoding:",
    b"Content-Transfer-Encoding: 7bit (c)",
    b"Content-Transfer-Encoding: a b\r\nContent-Transfer-Encoding: 8bit",
    b"Content-Disposition: inline\r\nContent-Disposition: attachment; filename=x",
    b"Content-Disposition: a; b=c\r\nContent-Disposition: d; e=f",
    b"Content-Disposition: ; filename=x",
    b'Content-Disposition: (c) inline (d); f="g"',
    b"Content-Language: en, de (x), fr;q",
    b"Content-Language:\r\nContent-Language: xx",
    b"Content-Location: a\r\n b\r\nContent-MD5:   x y  \r\nContent-ID:",
    b"Content-Description: \xe4 x\r\nContent-ID:  \t x",
    b'Content-Description: a\r\n\tb\r\n  c\r\nContent-Location: "a""b""c"',
]
BODY = b"\r\n\r\nbefore\r\n--x\r\n\r\nSubject: y\r\n\r\none\r\n--x--\r\n--a\r\n\r\n--b\r\n\r\n"


@pytest.mark.parametrize(
    "fields",
    [b"Content-Type: " + kind for kind in TYPES] + [b"Content-Type: a/b\r\n" + one for one in CONTENT_FIELDS],
)
def test_content_fields_are_read_as_dovecot_reads_them(dovecot, fields):
    assert list(differences(dovecot, b"Subject: x\r\n" + fields + BODY)) == []
    assert (
        list(differences(dovecot, b"Content-Type: message/rfc822\r\n\r\nFrom: a@b\r\n" + fields + BODY)) == []
    )


ADDRESSES = [
    b"a@b",
    b"Someone Else",
    b"Someone",
    b"a b, c@d",
    b"a@b c@d",
    b"a@b <c@d>",
    b"a b <c@d> e",
    b"<a@b",
    b"x <a>",
    b"x <>",
    b"x <@b>",
    b"a@",
    b"@b",
    b"a@b@c",
    b"x <a@b@c>",
    b",",
    b",,a@b",
    b"a@b,",
    b"a@b;c@d",
    b"g: a@b, c@d;",
    b"g:;",
    b"g: a@b",
    b"g: a b;",
    b"g: a@b,;",
    b"g: x <y@z>; w@v",
    b'"q\\"x" <a@b>',
    b'"q" "r" s <a@b>',
    b"a.b <c@d>",
    b".a <c@d>",
    b"=?utf-8?q?x?= <a@b>",
    b"\xe4 <a@b>",
    b"(c) a@b",
    b"a (x) @ (y) b (z)",
    b"a@b (x (y) z)",
    b"a@b (x",
    b'"a b"@c',
    b"a.@b",
    b"a..b@c",
    b".a@b",
    b"a@b.",
    b"a@[1.2.3.4]",
    b"a@[1.2",
    b"x <@r1,@r2:a@b>",
    b"x <@r1 a@b>",
    b'"x"',
    b'"x <a@b>',
    b'x <"a@b>',
    b"x <<a@b>>",
    b"undisclosed-recipients:;",
    b"x <a b@c>",
    b"x <a,b@c>",
    b"",
    b"()",
    b"(",
    b"x (c), y (d)",
    b"a\\b@c",
    b"x y@z <a@b>",
    b"g: x@y <a@b>;",
    b'a@b, "c\r\n d" <e@f>',
    b"x  y <a@b>",
    b'" x  y " <a@b>',
    b'"a".b@c',
    b"a@b\r\nFrom: c@d",
]
HEADERS = [
    b"Subject: a\r\nSubject: b\r\nMessage-ID: x\r\nMessage-ID: y",
    b"Subject:  a \r\n b\t c ",
    b"Subject: a\tb",
    b"Subject: a  b",
    b"Subject: \r\nDate:  x  \r\nMessage-ID:\r\nIn-Reply-To:   ",
    b'Subject: "x\\y" \xe4',
    b"Subject:\r\n x\r\nDate: a\r\n b\r\nIn-Reply-To: <a>\r\n\t<b>",
    b"Subject : x\r\nDate\t: y\r\nfrom : a@b",
    b"Sender: x@y\r\nReply-To: \r\nFrom: a@b",
    b"Sender:\r\nFrom: a@b\r\nReply-To: ,",
    b'MESSAGE-ID: "a""b""c"',
    b"From: a@b\r\nFrom:\r\nTo: c@d\r\nTo:\r\nSubject: x\r\nSubject:",
    b"no colon here\r\nSubject: x",
    b"Subject: x\r\n \r\nTo: y@z",
]


@pytest.mark.parametrize("fields", [b"From: " + one for one in ADDRESSES] + HEADERS)
def test_envelopes_are_those_of_dovecot(dovecot, fields):
    assert list(differences(dovecot, fields + b"\r\n\r\nx")) == []


MULTIPARTS = {
    "nested boundaries with one beginning": b"--ab\r\nContent-Type: multipart/mixed; boundary=abc\r\n\r\n"
    b"--abc\r\n\r\none\r\n--abc--\r\nepilogue\r\n--ab\r\n\r\ntwo\r\n--ab--\r\n",
    "part without header": b"--ab\r\n\r\none\r\n--ab--",
    "no part at all": b"preamble\r\n--ab--\r\n",
    "inner boundary never closed": b"--ab\r\nContent-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\n"
    b"x\r\n--ab\r\n\r\ny\r\n--ab--\r\n",
    "empty parts": b"--ab\r\n--ab\r\n\r\n--ab\r\nContent-Type: text/html\r\n\r\n--ab--\r\n",
    "boundary at the end without line end": b"--ab\r\n\r\nx\r\n--ab",
    "header cut by the boundary": b"--ab\r\nContent-Type: text/html\r\n--ab\r\n\r\ny\r\n--ab--\r\n",
    "the same boundary inside": b"--ab\r\nContent-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n\r\nx\r\n"
    b"--ab--\r\n\r\ny\r\n--ab--\r\n",
    "text after the final boundary": b"--ab\r\n\r\nx\r\n--ab--\r\n--ab\r\n\r\ny\r\n",
    "blanks after the boundary": b"--ab  \r\n\r\nx\r\n--ab--  \r\n",
    "boundary with something behind": b"--abx\r\n\r\nx\r\n--ab-\r\n\r\ny\r\n--ab--z\r\n",
}


@pytest.mark.parametrize("body", MULTIPARTS.values(), ids=MULTIPARTS.keys())
def test_boundaries_are_found_where_dovecot_finds_them(dovecot, body):
    message = b"Subject: x\r\nContent-Type: multipart/mixed; boundary=ab\r\n\r\n" + body
    assert list(differences(dovecot, message)) == []
    inside = (
        b"Content-Type: multipart/mixed; boundary=out\r\n\r\n--out\r\nContent-Type: message/rfc822\r\n\r\n"
    )
    assert list(differences(dovecot, inside + message + b"\r\n--out--\r\n")) == []


LINES = st.sampled_from(
    [
        b"",
        b"--a",
        b"--a--",
        b"--ab",
        b"--ab--",
        b"--a-",
        b"--abc",
        b"text",
        b" folded",
        b"no colon",
        b"Subject: x",
        b"From: a <b@c>, d:e@f;",
        b"Content-Type: multipart/mixed; boundary=a",
        b'Content-Type: multipart/alternative; boundary="ab"',
        b"Content-Type: multipart/mixed",
        b"Content-Type: text/html; charset=x",
        b'Content-Disposition: attachment; filename="x y"',
        b"Content-Transfer-Encoding: base64",
        b"MIME-Version: 1.0",
    ]
)


@given(st.lists(LINES, min_size=1, max_size=30))
@settings(max_examples=200)
def test_any_heap_of_lines_has_the_structure_that_dovecot_sees(dovecot, lines):
    message = b"Content-Type: multipart/mixed; boundary=a\r\n" + b"".join(line + b"\r\n" for line in lines)
    root = entity.parse(message)
    number = dovecot.store(message)
    assert dovecot.fetch(number, b"BODYSTRUCTURE") == structure.bodystructure(root)
    assert dovecot.fetch(number, b"ENVELOPE") == structure.imap_envelope(root)


def test_a_message_beyond_the_limits_still_has_a_structure():
    message = b"Subject: deep\r\nContent-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n\r\n" * 1200
    root = entity.leaf(message)
    assert structure.bodystructure(root).startswith(b'("text" "plain" ("charset" "us-ascii") NIL NIL "7bit"')
    assert b'"deep"' in structure.imap_envelope(root)
    assert section(root, Section()) == message
