"""The parser: total over any octets, spans that nest and cover, limits that hold."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secmailproxy.errors import LimitExceeded
from secmailproxy.mime import entity, header, structure
from secmailproxy.mime.entity import Entity, Limits
from secmailproxy.mime.section import Section, section
from tests.fixtures.growth import assert_linear

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b"--a",
        b"--a--",
        b"--ab",
        b"--",
        b" ",
        b"\t",
        b":",
        b";",
        b'"',
        b"(",
        b"\\",
        b"\x00",
        b"\xff",
        b"Content-Type: multipart/mixed; boundary=a\r\n",
        b"Content-Type: multipart/digest; boundary=ab\n",
        b"Content-Type: message/rfc822\r\n",
        b"Content-Type: text/plain; name*0=x; name*2*=y\r\n",
        b"Subject: x\r\n",
        b"From: a <b@c>, d:e@f;\r\n",
        b"text",
    ]
)
OCTETS = st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=60).map(b"".join))


def every(root: Entity) -> list[Entity]:
    return [root, *(one for part in root.parts for one in every(part))]


@given(OCTETS)
@settings(max_examples=500)
def test_any_octets_give_nested_spans_in_order(octets):
    root = entity.parse(octets)
    assert (root.start, root.end) == (0, len(octets))
    for one in every(root):
        assert one.start <= one.body_start <= one.end
        assert one.header + one.body == one.whole
        position = one.body_start
        for part in one.parts:
            assert position <= part.start
            assert part.end <= one.end
            position = part.end


@given(OCTETS)
@settings(max_examples=500)
def test_fields_cover_the_header_without_a_gap(octets):
    for one in every(entity.parse(octets)):
        position = one.start
        for field in one.fields:
            assert field.start == position
            position = field.end
        assert one.octets[position : one.body_start] in {b"", b"\n", b"\r\n"}


@given(OCTETS)
@settings(max_examples=300)
def test_structures_and_sections_never_fail(octets):
    root = entity.parse(octets)
    for item in (structure.imap_envelope(root), structure.body(root), structure.bodystructure(root)):
        assert item.startswith(b"(")
        assert item.endswith(b")")
    whole = section(root, Section())
    assert whole == octets
    assert section(root, Section((), "HEADER")) + section(root, Section((), "TEXT")) == octets


@given(st.binary(max_size=300).filter(lambda octets: b"--x" not in octets))
def test_a_part_is_exactly_what_was_put_between_the_boundaries(content):
    message = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n" + content + b"\r\n--x--\r\n"
    assert section(entity.parse(message), Section((1,))) == content


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_line_ends_of_either_kind(line_end):
    message = line_end.join(
        [b"Content-Type: multipart/mixed; boundary=x", b"", b"--x", b"", b"one", b"--x--", b""]
    )
    assert [part.body for part in entity.parse(message).parts] == [b"one"]


@pytest.mark.parametrize(
    ("limits", "message", "word"),
    [
        (Limits(depth=3), b"Content-Type: message/rfc822\r\n\r\n" * 5, "nested"),
        (Limits(parts=4), b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 5, "parts"),
        (Limits(fields=4), b"a: b\r\n" * 5, "fields"),
        (Limits(header_octets=40), b"a: " + b"b" * 60 + b"\r\n\r\n", "octets"),
        (Limits(header_octets=40), b"a: " + b"b" * 60, "octets"),
    ],
)
def test_limits(limits, message, word):
    with pytest.raises(LimitExceeded, match=word):
        entity.parse(message, limits)


HARD = {
    "parts": lambda size: b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n" * size,
    "almost boundaries": lambda size: b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"\n--" * size,
    "nesting": lambda size: b"Content-Type: message/rfc822\r\n\r\n" * size,
    "fields": lambda size: b"a:\n" * size,
    "open comments": lambda size: b"From: " + b"(" * size + b"\r\n\r\n",
    "addresses": lambda size: b"From: " + b"a@b ,(c)" * size + b"\r\n\r\n",
    "open quotes": lambda size: b"From: " + b'"' * size + b"\r\n\r\n",
    "angles": lambda size: b"From: " + b"<" * size + b"\r\n\r\n",
    "groups": lambda size: b"From: " + b"a:" * size + b"\r\n\r\n",
    "words": lambda size: b"From: " + b"a " * size + b"\r\n\r\n",
    "dots": lambda size: b"From: " + b"." * size + b"\r\n\r\n",
    "one continued parameter": lambda size: b"Content-Type: a/b" + b";a*0=b" * size + b"\r\n\r\n",
    "broken parameters": lambda size: b"Content-Type: a/b" + b"; =" * size + b"\r\n\r\n",
    "semicolons": lambda size: b"Content-Type: a/b" + b";" * size + b"\r\n\r\n",
    "many continued parameters": lambda size: (
        b"Content-Type: a/b" + b"".join(b";%d*=x" % number for number in range(size)) + b"\r\n\r\n"
    ),
    "encoded words": lambda size: b"Subject: " + b"=?utf-8?q?x?= " * size + b"\r\n\r\n",
    "open encoded words": lambda size: b"Subject: " + b"=?" * size + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", HARD)
def test_the_cost_grows_no_faster_than_the_message(name: str):
    assert_linear(HARD[name], read_everything, 16_000)


def read_everything(message: bytes) -> None:
    with suppress(LimitExceeded):
        root = entity.parse(message)
        structure.bodystructure(root)
        structure.imap_envelope(root)
        header.text(root, "subject")
        header.remove_fields(message, {"x"})
