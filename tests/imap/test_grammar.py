"""Commands and responses that we read, as tables of octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap import grammar
from secmailproxy.imap.grammar import FetchItem, GrammarError
from secmailproxy.imap.wire import Command


def command(line: bytes, *rest: bytes) -> Command:
    """Fragments and literals in turn."""
    pieces = [line, *rest]
    return Command(pieces[0::2], pieces[1::2])


def fetch(octets: bytes, *rest: bytes) -> grammar.FetchCommand:
    parsed = command(octets, *rest)
    return grammar.parse_fetch(parsed, grammar.parse_verb(parsed))


@pytest.mark.parametrize(
    ("octets", "items"),
    [
        (b"a FETCH 1 FLAGS\r\n", (FetchItem("FLAGS"),)),
        (b"a fetch 1:* (uid Flags)\r\n", (FetchItem("UID"), FetchItem("FLAGS"))),
        (b"a FETCH 1 BODY\r\n", (FetchItem("BODY"),)),
        (b"a UID FETCH 1 BODY[]\r\n", (FetchItem("BODY[]"),)),
        (b"a FETCH 1 body.peek[]<0.65536>\r\n", (FetchItem("BODY[]", peek=True, partial=(0, 65536)),)),
        (
            b"a FETCH 1 (BODY.PEEK[1.2.MIME])\r\n",
            (FetchItem("BODY[]", peek=True, path=(1, 2), text="MIME", spelling=b"1.2.MIME"),),
        ),
        (b"a FETCH 1 BODY[3]\r\n", (FetchItem("BODY[]", path=(3,), spelling=b"3"),)),
        (b"a FETCH 1 BODY[2.text]\r\n", (FetchItem("BODY[]", path=(2,), text="TEXT", spelling=b"2.text"),)),
        (
            b'a FETCH 1 BODY.PEEK[HEADER.FIELDS (Date "From")]\r\n',
            (
                FetchItem(
                    "BODY[]",
                    peek=True,
                    text="HEADER.FIELDS",
                    names=(b"Date", b"From"),
                    spelling=b'HEADER.FIELDS (Date "From")',
                ),
            ),
        ),
        (b"a FETCH 1 ALL\r\n", tuple(map(FetchItem, ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE")))),
        (
            b"a FETCH 1 (BINARY[] binary.peek[1.2]<3.4> BINARY.SIZE[2])\r\n",
            (
                FetchItem("BINARY[]"),
                FetchItem("BINARY[]", peek=True, path=(1, 2), spelling=b"1.2", partial=(3, 4)),
                FetchItem("BINARY.SIZE[]", path=(2,), spelling=b"2"),
            ),
        ),
        (b"a FETCH 1 PREVIEW (lazy)\r\n", (FetchItem("PREVIEW", lazy=True),)),
        (b"a FETCH 1 (PREVIEW UID)\r\n", (FetchItem("PREVIEW"), FetchItem("UID"))),
        (b"a FETCH 1 (RFC822.PEEK)\r\n", (FetchItem("RFC822", peek=True),)),
    ],
)
def test_fetch_items(octets: bytes, items: tuple[FetchItem, ...]) -> None:
    assert fetch(octets).items == items


def test_fetch_with_a_literal_field_name_and_modifiers() -> None:
    parsed = fetch(
        b"a UID FETCH 1,3:4 (BODY[HEADER.FIELDS ({4}\r\n", b"Date", b")]) (CHANGEDSINCE 9 VANISHED)\r\n"
    )
    assert parsed.uid
    assert parsed.numbers == b"1,3:4"
    assert parsed.items[0].names == (b"Date",)
    assert parsed.modifiers == b" (CHANGEDSINCE 9 VANISHED)"


@pytest.mark.parametrize(
    "octets",
    [
        b"a FETCH\r\n",
        b"a FETCH 1\r\n",
        b"a FETCH x FLAGS\r\n",
        b"a FETCH 1 (FLAGS\r\n",
        b"a FETCH 1 FLAGS)\r\n",
        b"a FETCH 1 BODY[MIME]\r\n",
        b"a FETCH 1 BODY[HEADER.FIELDS ()]\r\n",
        b"a FETCH 1 BINARY[1.MIME]\r\n",
        b"a FETCH 1 BINARY.SIZE[1]<0.1>\r\n",
        b"a FETCH 1 (PREVIEW (FUZZY))\r\n",
        b"a FETCH 1 (FLAGS) junk\r\n",
        b"a FETCH 1 BODY[1\r\n",
    ],
)
def test_malformed_fetch(octets: bytes) -> None:
    with pytest.raises(GrammarError):
        fetch(octets)


@pytest.mark.parametrize(
    ("octets", "tag", "name"),
    [
        (b"a1 NOOP\r\n", b"a1", "NOOP"),
        (b"A.b uid fetch 1 FLAGS\r\n", b"A.b", "UID FETCH"),
        (b"x idle\n", b"x", "IDLE"),
    ],
)
def test_verbs(octets: bytes, tag: bytes, name: str) -> None:
    verb = grammar.parse_verb(command(octets))
    assert (verb.tag, verb.name) == (tag, name)


@pytest.mark.parametrize(
    "octets", [b"\r\n", b"NOOP\r\n", b"* NOOP\r\n", b"+ x\r\n", b"a  NOOP\r\n", b"a \xff\r\n"]
)
def test_no_verb(octets: bytes) -> None:
    with pytest.raises(GrammarError):
        grammar.parse_verb(command(octets))


def test_a_fetch_response_keeps_raw_values() -> None:
    octets = (
        b'* 7 FETCH (UID 12 FLAGS (\\Seen "a)b") INTERNALDATE "1-Jan-2026 00:00:00 +0000" '
        b'ENVELOPE (NIL "x (" NIL ((NIL NIL {3}\r\n)"( "b"))) '
        b'BODY[HEADER.FIELDS (To "From")]<0> {4}\r\n)\r\n( '
        b"BODY[1.MIME] NIL MODSEQ (65))\r\n"
    )
    response = grammar.parse_fetch_response(octets)
    assert response.number == 7
    assert response.uid == 12
    assert response.attributes == {
        "UID": b"12",
        "FLAGS": b'(\\Seen "a)b")',
        "INTERNALDATE": b'"1-Jan-2026 00:00:00 +0000"',
        "ENVELOPE": b'(NIL "x (" NIL ((NIL NIL {3}\r\n)"( "b")))',
        "BODY[HEADER.FIELDS FROM TO]<0>": b"{4}\r\n)\r\n(",
        "BODY[1.MIME]": b"NIL",
        "MODSEQ": b"(65)",
    }


@given(st.binary(max_size=120))
def test_any_response_is_read_or_refused(octets: bytes) -> None:
    try:
        response = grammar.parse_fetch_response(b"* 1 FETCH (" + octets)
    except GrammarError:
        return
    assert response.number == 1


@given(st.binary(max_size=60))
def test_any_command_is_read_or_refused(octets: bytes) -> None:
    try:
        parsed = fetch(b"a FETCH " + octets.replace(b"\n", b"") + b"\r\n")
    except GrammarError:
        return
    assert parsed.items


@given(st.binary(max_size=50))
def test_a_literal_reads_back(octets: bytes) -> None:
    assert grammar.string_value(grammar.literal(octets)) == octets


@pytest.mark.parametrize(
    ("pieces", "line"),
    [
        ((b"a NOOP\r\n",), b"a NOOP\r\n"),
        ((b"a X {2}\r\n", b"ab", b" c\r\n"), b'a X "ab" c\r\n'),
        ((b"a X {4+}\r\n", b'a"\\b', b" {0}\r\n", b"", b"\r\n"), b'a X "a\\"\\\\b" ""\r\n'),
    ],
)
def test_literals_as_quoted_strings(pieces: tuple[bytes, ...], line: bytes) -> None:
    assert grammar.quoted(command(*pieces)) == Command([line])


@pytest.mark.parametrize("octets", [b"a\r\nb FETCH 1 FLAGS", b"\0", "é".encode()])
def test_what_no_quoted_string_can_hold(octets: bytes) -> None:
    with pytest.raises(GrammarError):
        grammar.quoted(command(b"a X {1}\r\n", octets, b"\r\n"))


@pytest.mark.parametrize(
    ("line", "tag"), [(b"a1 \r\n", b"a1"), (b"a1\r\n", b"a1"), (b"\r\n", b"*"), (b"(x y\r\n", b"*")]
)
def test_the_tag_of_a_command_without_a_name(line: bytes, tag: bytes) -> None:
    assert grammar.tag_of(command(line)) == tag
