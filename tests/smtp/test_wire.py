"""Lines and messages out of a stream: the same for every segmentation; nothing smuggled (SMTP-11)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.smtp.wire import LINE_LIMIT, Gathered, LineFault, Wire, dot_stuffed, fault

LIMIT = 1_000_000

lines = st.lists(
    st.one_of(st.binary(max_size=8), st.sampled_from([b"", b".", b"..", b".x", b"\r.", b"a\r", b"."]))
).map(lambda found: [line.replace(b"\r", b"").replace(b"\n", b"") for line in found])
messages = lines.map(lambda found: b"".join(line + b"\r\n" for line in found))
clean_messages = messages.map(lambda message: message.replace(b"\0", b"0"))


def segments(octets: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """The octets, cut at these places."""
    last = 0
    for cut in [*sorted({cut % (len(octets) + 1) for cut in cuts}), len(octets)]:
        yield octets[last:cut]
        last = cut


def lines_left(wire: Wire) -> Iterator[bytes | str]:
    """Lines and, as text, faults, as far as they are complete."""
    while True:
        try:
            line = wire.line()
        except LineFault as error:
            yield str(error)
            continue
        if line is None:
            return
        yield line


def lines_of(pieces: Iterable[bytes]) -> list[bytes | str]:
    """Fed piece by piece."""
    wire, found = Wire(), list[bytes | str]()
    for piece in pieces:
        wire.feed(piece)
        found.extend(lines_left(wire))
    return found


def message_of(pieces: Iterable[bytes], limit: int = LIMIT) -> tuple[Gathered | None, list[bytes | str]]:
    """Feed piece by piece as a session does: the message, then the lines that follow it."""
    wire = Wire()
    found = None
    for piece in pieces:
        wire.feed(piece)
        found = found or wire.message(limit)
    return found, list(lines_left(wire)) if found else []


@given(clean_messages, st.lists(st.integers(0, 500)))
def test_a_message_comes_out_as_it_was_whatever_the_segments(message: bytes, cuts: list[int]) -> None:
    """dot_stuffed and Wire.message are each other's inverse; the next command is kept."""
    stream = dot_stuffed(message) + b"QUIT\r\n"
    found, left = message_of(segments(stream, cuts))
    assert found == Gathered(message)
    assert left == [b"QUIT"]
    assert found.fault == ""


@given(st.lists(st.binary(max_size=6).map(lambda part: part.replace(b"\0", b".")), max_size=8))
def test_the_end_is_at_the_first_crlf_dot_crlf_and_nowhere_else(parts: list[bytes]) -> None:
    """SMTP-11. Any octets, with line endings of every kind between them."""
    stream = b"\n.\r\n".join(parts) + b"\r\n.\n" + b"\r.\r".join(parts) + b"\r\n.\r\nNEXT\r\n"
    found, left = message_of([stream])
    end = (b"\r\n" + stream).index(b"\r\n.\r\n")
    raw = (b"\r\n" + stream)[: end + 2]
    assert found is not None
    assert found.octets == re.sub(rb"\r\n\.", b"\r\n", raw)[2:]
    assert bool(found.fault) == bool(re.search(rb"\r(?!\n)|(?<!\r)\n", found.octets))
    assert left == lines_of([stream[end + 3 :]])


@pytest.mark.parametrize(
    ("octets", "word"),
    [
        (b"a\nb\r\n", "LF"),
        (b"a\rb\r\n", "LF"),
        (b"a\r\r\n", "LF"),
        (b"a\n\r\n", "LF"),
        (b"\n", "LF"),
        (b"a\0b\r\n", "NUL"),
        (b"a\r\nb\r\n", ""),
        (b"", ""),
        (b"no newline at the end", ""),
    ],
)
def test_faults(octets: bytes, word: str) -> None:
    """SMTP-11."""
    assert word in fault(octets)
    assert bool(word) == bool(fault(octets))


BROKEN = [
    before + b"." + after
    for before in (b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\n\r", b"\0\r\n")
    for after in (b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\n\0")
    if before != b"\r\n" or not after.startswith(b"\r\n")
]


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_broken_ends_are_faults_for_every_segmentation(step: int) -> None:
    """SMTP-11: LF.CRLF, CRLF.LF and every other pair of line ends, cut anywhere."""
    for broken in BROKEN:
        stream = b"a\r\n\r\nb" + broken + b"MAIL FROM:<x>\r\n.\r\nQUIT\r\n"
        found, _ = message_of(stream[at : at + step] for at in range(0, len(stream), step))
        assert found is not None
        assert found.fault, broken


@pytest.mark.parametrize(
    ("octets", "is_long"),
    [
        (b"", False),
        (b"A: " + b"x" * 995 + b"\r\n\r\n", False),
        (b"A: " + b"x" * 996 + b"\r\n\r\n", True),
        (b"A: b\r\nC: " + b"x" * 996, True),
        (b"A: b\r\nC: d\r\n " + b"x" * 998 + b"\r\n", True),
        (b"A: b\r\n\r\n" + b"x" * 5000 + b"\r\n", False),
        (b"\r\n" + b"x" * 5000 + b"\r\n\r\n", False),
    ],
)
def test_long_lines_in_a_header(octets: bytes, is_long: bool) -> None:
    """998 octets are the most (RFC 5322 section 2.1.1); a body is judged when it is known how it leaves."""
    assert bool(Gathered(octets).header_fault) is is_long


@pytest.mark.parametrize(
    ("message", "wire"),
    [
        (b"", b".\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.b\r\n", b"a\r\n..b\r\n.\r\n"),
        (b"a\r\n..\r\n", b"a\r\n...\r\n.\r\n"),
        (b"a\n.b\r\n", b"a\n.b\r\n.\r\n"),
        (b"a", b"a\r\n.\r\n"),
    ],
)
def test_dot_stuffing_is_after_crlf_only(message: bytes, wire: bytes) -> None:
    """RFC 5321 section 4.5.2."""
    assert dot_stuffed(message) == wire


@pytest.mark.parametrize("size", [99, 100, 101, 5_000])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_message_beyond_the_limit_is_not_kept_and_the_stream_stays_in_step(size: int, step: int) -> None:
    """The limit counts octets before dot-stuffing (RFC 1870)."""
    message = (b".\r\n" * size)[-size:]
    stream = dot_stuffed(message) + b"NOOP\r\n"
    found, left = message_of((stream[at : at + step] for at in range(0, len(stream), step)), limit=100)
    assert found is not None
    assert found.too_large == (size > 100)
    assert found.octets == (b"" if size > 100 else message)
    assert left == [b"NOOP"]


def test_memory_stays_bounded_while_a_message_beyond_the_limit_comes() -> None:
    """What is thrown away is not kept."""
    wire = Wire()
    for _ in range(200):
        wire.feed(b"x" * 10_000 + b"\r\n")
        assert wire.message(1000) is None
        assert len(wire._buffer) < 15_000


STREAMS = [
    (b"EHLO a\r\nNOOP\r\n", [b"EHLO a", b"NOOP"]),
    (b"\r\n", [b""]),
    (b"NOOP\nNOOP\r\n", ["a line must end in CRLF", b"NOOP"]),
    (b"NO\rOP\r\nNOOP\r\n", ["control character in a line", b"NOOP"]),
    (b"NO\0OP\r\nNOOP\r\n", ["control character in a line", b"NOOP"]),
    (b"x" * (LINE_LIMIT + 1) + b"\r\nNOOP\r\n", ["line too long", b"NOOP"]),
    (b"x" * (3 * LINE_LIMIT) + b"\r\nNOOP\r\n", ["line too long", b"NOOP"]),
    (b"x" * LINE_LIMIT + b"\r\nNOOP\r\n", [b"x" * LINE_LIMIT, b"NOOP"]),
]


@pytest.mark.parametrize(("stream", "expected"), STREAMS)
@given(cuts=st.lists(st.integers(0, 40_000), max_size=5))
def test_command_lines(stream: bytes, expected: list[bytes | str], cuts: list[int]) -> None:
    """Any segmentation gives the same lines."""
    assert lines_of(segments(stream, cuts)) == expected
