"""Flag lists in what the server and the client say, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secmailproxy.imap import flags
from secmailproxy.imap.grammar import GrammarError
from secmailproxy.keywords import NAMES

OURS = b" ".join(NAMES)


@pytest.mark.parametrize(
    ("line", "words", "expected"),
    [
        (rb"* 1 FETCH (FLAGS (\Seen))", b"$SecmailSigned", rb"* 1 FETCH (FLAGS (\Seen $SecmailSigned))"),
        (rb"* 1 FETCH (FLAGS ())", b"$SecmailSigned", rb"* 1 FETCH (FLAGS ($SecmailSigned))"),
        (rb"* 1 FETCH (FLAGS ($SECMAILBAD))", b"", rb"* 1 FETCH (FLAGS ())"),
        (rb"* 1 FETCH (UID 7 flags (a $secmailVerified b))", b"", rb"* 1 FETCH (UID 7 flags (a b))"),
        (rb"* 1 FETCH (FLAGS ($SecmailBadly))", b"", rb"* 1 FETCH (FLAGS ($SecmailBadly))"),
        (
            rb'* 1 FETCH (X "FLAGS ($SecmailSigned)" FLAGS ($SecmailSigned))',
            b"",
            rb'* 1 FETCH (X "FLAGS ($SecmailSigned)" FLAGS ())',
        ),
        (
            rb'* 1 FETCH (X "a \" FLAGS ($SecmailSigned)")',
            b"$SecmailBad",
            rb'* 1 FETCH (X "a \" FLAGS ($SecmailSigned)")',
        ),
        # Told twice: a reader takes either.
        (
            rb"* 1 FETCH (FLAGS (a) FLAGS ($SecmailSigned b))",
            b"$SecmailSigned",
            rb"* 1 FETCH (FLAGS (a) FLAGS (b))",
        ),
        # Lists that are none, in which a lenient reader could find one.
        (rb'* 1 FETCH (FLAGS ("$SecmailSigned"))', b"", rb'* 1 FETCH (X-FLAGS ("$SecmailSigned"))'),
        (rb"* 1 FETCH (FLAGS (($SecmailSigned)))", b"", rb"* 1 FETCH (X-FLAGS ((XSecmailSigned)))"),
        (b"* 1 FETCH (FLAGS\t($SecmailSigned))", b"", b"* 1 FETCH (FLAGS\t(XSecmailSigned))"),
        (b"* 1 FETCH (\tFLAGS ($secmailBAD a))", b"$SecmailSigned", b"* 1 FETCH (\tFLAGS (XsecmailBAD a))"),
        (rb"* 1 FETCH (FLAGS[] ($SecmailSigned))", b"", rb"* 1 FETCH (FLAGS[] (XSecmailSigned))"),
        (b"* 1 FETCH (FLAGS ({14}\r\n", b"", b"* 1 FETCH (X-FLAGS ({14}\r\n"),
        (b"* 1 FETCH (FLAGS (a {14}\r\n", b"", b"* 1 FETCH (X-FLAGS (a {14}\r\n"),
        (b"* 1 FETCH (FLAGS (a) BODY[] {14}\r\n", b"", b"* 1 FETCH (FLAGS (a) BODY[] {14}\r\n"),
        (rb'* 1 FETCH (FLAGS ("odd"))', b"", rb'* 1 FETCH (FLAGS ("odd"))'),
    ],
)
def test_flags_of_a_message(line: bytes, words: bytes, expected: bytes) -> None:
    assert flags.of_message(line, words) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (rb"* FLAGS (\Seen)", rb"* FLAGS (\Seen " + OURS + b")"),
        (rb"* FLAGS (\Seen $secmailsigned)", rb"* FLAGS (\Seen " + OURS + b")"),
        (rb"* OK [PERMANENTFLAGS (\Seen \*)] Ok.", rb"* OK [PERMANENTFLAGS (\Seen \* " + OURS + b")] Ok."),
        (rb"* OK [PERMANENTFLAGS ()] Read-only.", rb"* OK [PERMANENTFLAGS ()] Read-only."),
        (rb"* LIST () FLAGS (\Seen)", rb"* LIST () FLAGS (\Seen)"),
    ],
)
def test_flags_of_a_mailbox(line: bytes, expected: bytes) -> None:
    assert flags.of_mailbox(line, shown=True) == expected
    hidden = flags.of_mailbox(line, shown=False)
    assert hidden == expected.replace(b" " + OURS, b"")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (rb"a APPEND x (\Seen $SecmailSigned) {3}" + b"\r\n", rb"a APPEND x (\Seen) {3}" + b"\r\n"),
        (rb' ($secmailBAD) "d" ~{3+}' + b"\r\n", rb' () "d" ~{3+}' + b"\r\n"),
        (b"a APPEND $SecmailSigned {3}\r\n", b"a APPEND $SecmailSigned {3}\r\n"),
        (b"a APPEND x (\\Seen) {3}\r\n", b"a APPEND x (\\Seen) {3}\r\n"),
    ],
)
def test_flags_of_an_upload(line: bytes, expected: bytes) -> None:
    assert flags.announced(line) == expected


@pytest.mark.parametrize(
    ("arguments", "by_uid", "marked", "expected"),
    [
        (rb" 1 +FLAGS (\Seen)", False, True, None),
        (rb" 1 +FLAGS.SILENT (\Seen)", False, True, None),
        (rb" 1 FLAGS.SILENT (\Seen)", False, False, None),
        (rb" 1 FLAGS.SILENT (\Seen)", False, True, rb"STORE 1 FLAGS (\Seen)"),
        (rb" 1:* +FLAGS ($SecmailSigned \Seen)", True, False, rb"UID STORE 1:* +FLAGS (\Seen)"),
        (rb" 1,3 +flags.silent \Seen $SECMAILBAD", False, False, rb"STORE 1,3 +flags (\Seen)"),
        (b" $ -FLAGS ($SecmailSigned)", True, True, b"UID FETCH $ (UID FLAGS)"),
        (b" 4 +FLAGS.SILENT $SecmailSigned", False, True, b"FETCH 4 (FLAGS)"),
        (b" 4 (UNCHANGEDSINCE 9) +FLAGS ($SecmailBad)", False, True, b"FETCH 4 (FLAGS MODSEQ)"),
        (
            b" 4 (UNCHANGEDSINCE 9) +FLAGS ($SecmailBad x)",
            False,
            True,
            b"STORE 4 (UNCHANGEDSINCE 9) +FLAGS (x)",
        ),
        (b" 4 FLAGS ($SecmailVerified)", False, False, b"STORE 4 FLAGS ()"),
        (b" 4 X-GM-LABELS (a)", False, True, None),
    ],
)
def test_store(arguments: bytes, by_uid: bool, marked: bool, expected: bytes | None) -> None:
    got = flags.store(arguments + b"\r\n", by_uid=by_uid, marked=marked)
    assert got == (expected + b"\r\n" if expected is not None else None)


@pytest.mark.parametrize(
    "arguments",
    [b' 1 +FLAGS ("$SecmailSigned")', b" 1 +FLAGS ({14}\r\n$SecmailSigned)", b" x FLAGS ($SecmailBad)"],
)
def test_a_store_that_cannot_be_read_is_refused_where_it_names_ours(arguments: bytes) -> None:
    with pytest.raises(GrammarError):
        flags.store(arguments + b"\r\n", by_uid=False, marked=False)


PIECES = st.sampled_from(
    [
        b" ",
        b"(",
        b")",
        b'"',
        b"\\",
        b"FLAGS",
        b"flags (",
        b"$SecmailSigned",
        b"$SECMAILBAD",
        b"\\Seen",
        b"UID 7",
    ]
)


@given(st.lists(PIECES, max_size=25).map(b"".join))
def test_no_list_of_flags_ever_keeps_a_keyword_of_ours(text: bytes) -> None:
    line = b"* 1 FETCH (" + text + b")\r\n"
    rewritten = flags.of_message(line, b"")
    assert flags.of_message(rewritten, b"") == rewritten
    for match in flags._LIST.finditer(rewritten):
        assert match["flags"] is None or flags.without(match["flags"]) == match["flags"]
    if not flags.mentions(line):
        assert rewritten == line


@pytest.mark.parametrize(
    ("line", "uid"),
    [
        (b"* 1 FETCH (UID 7 FLAGS ())", 7),
        (b"* 1 FETCH (FLAGS () UID 7)", 7),
        (b'* 1 FETCH (X "UID 9 " UID 7)', 7),
        (b"* 1 FETCH (UID 7 UID 8)", None),
        (b"* 1 FETCH (XUID 7)", None),
    ],
)
def test_uid_of_a_line(line: bytes, uid: int | None) -> None:
    assert flags.uid_of(line) == uid
