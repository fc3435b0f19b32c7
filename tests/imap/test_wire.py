"""Octets to fragments and back: any segmentation gives the same result (IMAP-01, IMAP-14)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap.wire import (
    COMMAND_LINE_LIMIT,
    RESPONSE_LINE_LIMIT,
    Chunk,
    Command,
    CommandReader,
    Fragment,
    LiteralAhead,
    LiteralPart,
    ResponseSplitter,
    WireError,
)

RESPONSES = [
    b"* OK ready {5}\r\n",
    b"* 3 EXISTS\r\n",
    b"* 1 FETCH (BODY[] {11}\r\nab\r\n* OK {9} UID 7)\r\n",
    b"* 2 FETCH (BODY[1] {0}\r\n BODY[2] {3}\r\nx\r\n FLAGS ())\r\n",
    b'* LIST () "/" {4}\r\nSe\x00t\r\n',
    b"* 4 FETCH (BINARY[1] ~{4}\r\n\x00\x01\r\n)\r\n",
    b"A1 NO sorry {12}\r\n",
    b"* 5 FETCH (BODY[HEADER] {2}\n\r\n)\n",
    b"+ go on {3}\r\n",
]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    bounds = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def shape(pieces: list[Fragment | Chunk]) -> list[tuple[str, bytes]]:
    """Fragments, and literals joined whatever the chunks."""
    out: list[tuple[str, bytes]] = []
    for piece in pieces:
        if isinstance(piece, Chunk):
            if out and out[-1][0] == "literal":
                out[-1] = ("literal", out[-1][1] + piece.octets)
            else:
                out.append(("literal", piece.octets))
        else:
            out.append((f"{piece.first:d}{piece.last:d}", piece.octets))
    return out


@given(st.lists(st.sampled_from(RESPONSES), max_size=8), st.lists(st.integers(0, 10_000), max_size=30))
def test_any_segmentation_gives_the_same_responses(responses: list[bytes], cuts: list[int]) -> None:
    data = b"".join(responses)
    whole = list(ResponseSplitter().feed(data))
    splitter = ResponseSplitter()
    pieces = [piece for segment in cut(data, cuts) for piece in splitter.feed(segment)]
    assert b"".join(piece.octets for piece in pieces) == data
    assert shape(pieces) == shape(whole)
    assert sum(piece.last for piece in pieces if isinstance(piece, Fragment)) == len(responses)
    assert not splitter.mid_response


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_no_octet_is_lost_whatever_comes(data: bytes, cuts: list[int]) -> None:
    splitter = ResponseSplitter()
    out = b"".join(piece.octets for segment in cut(data, cuts) for piece in splitter.feed(segment))
    assert data.startswith(out)
    assert splitter.mid_response or out == data


def test_an_endless_response_line_is_refused() -> None:
    splitter = ResponseSplitter()
    assert list(splitter.feed(b"* 1 FETCH (ENVELOPE " + b"x" * (RESPONSE_LINE_LIMIT - 100))) == []
    with pytest.raises(WireError):
        list(splitter.feed(b"x" * 200))


def read_all(segments: list[bytes]) -> list[object]:
    """Drive a reader that collects every literal, noting what it was asked."""
    reader = CommandReader()
    out: list[object] = []
    for segment in segments:
        reader.feed(segment)
        while (event := reader.next_event()) is not None:
            if isinstance(event, LiteralAhead):
                out.append(("ahead", event.size, event.synchronising))
                reader.collect()
            elif isinstance(event, Command):
                out.append((tuple(event.fragments), tuple(event.literals)))
    return out


COMMANDS = b'a LOGIN {3}\r\nfoo {4+}\r\nb"r\\\r\nb APPEND x {0}\r\n\r\nc NOOP\r\nd X ~{2}\r\n\r\n\r\n'


@given(st.lists(st.integers(0, len(COMMANDS)), max_size=20))
def test_commands_with_literals_at_any_segmentation(cuts: list[int]) -> None:
    assert read_all(cut(COMMANDS, cuts)) == [
        ("ahead", 3, True),
        ("ahead", 4, False),
        ((b"a LOGIN {3}\r\n", b" {4+}\r\n", b"\r\n"), (b"foo", b'b"r\\')),
        ("ahead", 0, True),
        ((b"b APPEND x {0}\r\n", b"\r\n"), (b"",)),
        ((b"c NOOP\r\n",), ()),
        ("ahead", 2, True),
        ((b"d X ~{2}\r\n", b"\r\n"), (b"\r\n",)),
    ]


def test_a_command_keeps_its_octets() -> None:
    octets = b"a SEARCH TEXT {3}\r\nfoo SUBJECT {2+}\r\nba\r\n"
    reader = CommandReader()
    reader.feed(octets)
    event = reader.next_event()
    while not isinstance(event, Command):
        reader.collect()
        event = reader.next_event()
    assert event.octets == octets


@given(st.binary(min_size=1, max_size=200), st.lists(st.integers(0, 400), max_size=20))
def test_a_streamed_literal_comes_out_in_parts(body: bytes, cuts: list[int]) -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND x {%d}\r\n" % len(body))
    assert isinstance(reader.next_event(), LiteralAhead)
    reader.stream()
    got, ended = b"", None
    for segment in cut(body + b"\r\nb NOOP\r\n", cuts):
        reader.feed(segment)
        while (event := reader.next_event()) is not None:
            if isinstance(event, LiteralPart):
                got += event.octets
                assert event.left == len(body) - len(got)
            elif ended is None:
                ended = event
            else:
                assert isinstance(event, Command)
                assert event.fragments == [b"b NOOP\r\n"]
    assert got == body
    assert isinstance(ended, Command)
    assert ended.fragments[-1] == b"\r\n"


def test_a_refused_literal_leaves_the_next_command_whole() -> None:
    reader = CommandReader()
    reader.feed(b"a APPEND x {5000000}\r\n")
    assert isinstance(reader.next_event(), LiteralAhead)
    reader.refuse()
    reader.feed(b"b NOOP\r\n")
    event = reader.next_event()
    assert isinstance(event, Command)
    assert event.fragments == [b"b NOOP\r\n"]


@pytest.mark.parametrize("octets", [b"a APPEND x {5000+}\r\n", b"a " + b"x" * (COMMAND_LINE_LIMIT + 1)])
def test_framing_limits(octets: bytes) -> None:
    reader = CommandReader()
    reader.feed(octets)
    with pytest.raises(WireError):
        reader.next_event()
