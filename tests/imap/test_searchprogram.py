"""Programs are read to the octet: what is not changed is written as it came."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap.grammar import GrammarError
from secmailproxy.imap.searchprogram import Program, UnknownCharset, parse_search, pieces
from secmailproxy.searchable import Key

LEAVES = [
    b"ALL",
    b"unseen",
    b"1:3,7,*",
    b"$",
    b"UID 1,5:*",
    b"UID $",
    b"KEYWORD $Work",
    b"UNKEYWORD x",
    b"SINCE 1-Feb-2026",
    b'ON "01-Feb-2026"',
    b"OLDER 60",
    b"MODSEQ 7",
    b'MODSEQ "/flags/\\\\draft" all 620162338',
    b"EMAILID M6d99ac3275bb4e",
    b"SAVEDSINCE 1-Feb-2026",
    b'X-GM-LABELS "a label"',
    b"X-GM-LABELS \\Inbox",
    b"SUBJECT word",
    b'subject "two words"',
    b'FROM "a \\" (b"',
    b"BODY {8}\r\n) OR {3}",
    b"TEXT {2+}\r\n\r\n",
    b'HEADER "X-Field" {0}\r\n',
    b"LARGER 100",
    b"sentbefore 29-Feb-2024",
]
PROGRAMS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        inner.map(lambda key: b"NOT " + key),
        st.tuples(inner, inner).map(lambda two: b"OR %b %b" % two),
        st.lists(inner, min_size=1, max_size=3).map(lambda keys: b"(" + b" ".join(keys) + b")"),
    ),
    max_leaves=10,
)
HEADS = ["", " RETURN ()", " RETURN (MIN MAX)", " CHARSET utf-8", ' return (SAVE) charset "ISO-8859-1"']


def read(arguments: bytes) -> Program:
    return parse_search(b"SEARCH" + arguments + b"\r\n", 6)


@given(st.sampled_from(HEADS), PROGRAMS)
def test_what_is_not_changed_is_written_as_it_came(head: str, keys: bytes) -> None:
    program = read(head.encode() + b" " + keys)
    assert program.options + program.charset == head.encode()
    assert program.written(lambda asked: asked.octets) == keys


@given(PROGRAMS)
def test_pieces_are_the_command_again(keys: bytes) -> None:
    cut = pieces(b"SEARCH " + keys + b"\r\n")
    assert b"".join(cut) == b"SEARCH " + keys.replace(b"2+}", b"2}") + b"\r\n"
    assert len(cut) == 1 + sum(keys.count(leaf) for leaf in LEAVES if b"}\r\n" in leaf)
    assert all(piece.endswith(b"}\r\n") for piece in cut[:-1])


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        (b" SUBJECT word", Key("SUBJECT", b"WORD")),
        (b" header x-FIELD {3}\r\na b", Key("HEADER", b"A B", b"X-FIELD")),
        (b" CHARSET UTF-8 BODY {5}\r\ncaf\xc3\xa9", Key("BODY", b"CAFE\xcc\x81")),
        (b" CHARSET iso-8859-1 BODY caf\xe9", Key("BODY", b"CAFE\xcc\x81")),
        (b" NOT (OR SEEN LARGER 700)", Key("LARGER", number=700)),
        (b" SENTON 1-Jan-1970", Key("SENTON", number=719163)),
    ],
)
def test_keys(arguments: bytes, key: Key) -> None:
    assert [asked.key for asked in read(arguments).asked] == [key]


@pytest.mark.parametrize(
    "arguments",
    [
        b"",
        b" ",
        b" FUZZY SUBJECT x",
        b" NONSENSE",
        b" SUBJECT",
        b" OR SEEN",
        b" NOT",
        b" ()",
        b" (SEEN",
        b" SEEN)",
        b" LARGER many",
        b" SENTON 31-Feb-2026",
        b" SENTON 1-Foo-2026",
        b" UID SEEN",
        b" BODY {3}\r\na\0b",
        b" CHARSET UTF-8 BODY {2}\r\n\xc3(",
        b" " + b"(" * 60 + b"SEEN" + b")" * 60,
        b" SUBJECT x" * 201,
        b" BODY {9}\r\nshort",
    ],
)
def test_what_cannot_be_read_is_refused(arguments: bytes) -> None:
    with pytest.raises(GrammarError):
        read(arguments)


@pytest.mark.parametrize("name", [b"X-NONE", b"hex", b'"a b"', b"zlib"])
def test_charsets_that_are_none(name: bytes) -> None:
    with pytest.raises(UnknownCharset):
        read(b" CHARSET " + name + b" SUBJECT x")


@given(st.binary(max_size=60))
def test_nothing_else_is_raised(octets: bytes) -> None:
    with contextlib.suppress(GrammarError, UnknownCharset):
        read(b" " + octets)
