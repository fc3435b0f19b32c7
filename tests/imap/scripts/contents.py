"""What is stored and what FETCH answers about it, beyond RFC 3501: BINARY, PREVIEW, MULTIAPPEND."""

from __future__ import annotations

from tests.imap.scripts import Refused, Script

BINARY = Script(
    b"SELECT INBOX",
    b"FETCH 1:* (BINARY.SIZE[])",
    b"FETCH 1:* (BINARY.PEEK[])",
    b"UID FETCH 2 (BINARY.PEEK[1] BINARY.SIZE[1] BINARY.PEEK[1.1] BINARY.SIZE[1.1])",
    b"UID FETCH 2 (BINARY.PEEK[1.1]<2.5> BINARY.PEEK[1.1]<999.1> BINARY.PEEK[2.2])",
    b"FETCH 2 BINARY.PEEK[2]",
    b"FETCH 2 BINARY[9]",
    b"FETCH 1 (BINARY[1] FLAGS)",
    Refused(b"FETCH 1 BINARY"),
    Refused(b"FETCH 1 BINARY[1"),
    (b"APPEND INBOX ~{30}", b"Subject: x\r\n\r\nnul \0 and 8bit \xff"),
    b"FETCH * (BODY.PEEK[] BINARY.PEEK[1])",
    shows="BINARY",
)
PREVIEW = Script(
    b"EXAMINE INBOX",
    b"FETCH 1:* PREVIEW",
    b"FETCH 1:* (UID PREVIEW (LAZY))",
    b"UID FETCH 1:3 PREVIEW (LAZY)",
    b"UID FETCH 1:3 (PREVIEW ENVELOPE BODY.PEEK[TEXT]<0.9>) (CHANGEDSINCE 1)",
    b"FETCH 1 (FLAGS)",
    Refused(b"FETCH 1 (PREVIEW (NONSENSE))"),
    shows="PREVIEW",
)
MULTIAPPEND = Script(
    (b"APPEND INBOX (\\Seen) {14}", b"Subject: 1\r\n\r\n", b" {14}", b"Subject: 2\r\n\r\n"),
    (
        b"APPEND INBOX {14}",
        b"Subject: 3\r\n\r\n",
        b' ($A) "17-Jul-1996 02:44:25 -0700" {15}',
        b"Subject: 4\r\n\r\nx",
    ),
    b"APPEND INBOX {14+}\r\nSubject: 5\r\n\r\n (\\Flagged) {14+}\r\nSubject: 6\r\n\r\n",
    (b"APPEND INBOX {14}", b"Subject: 7\r\n\r\n", b" {0}", b""),
    b"SELECT INBOX",
    b"FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])",
    (b"APPEND INBOX {14}", b"Subject: 8\r\n\r\n", b" {14}", b"Subject: 9\r\n\r\n"),
    b"NOOP",
    shows="MULTIAPPEND",
    mail="nothing",
)

CONTENTS: dict[str, Script] = {"binary": BINARY, "preview": PREVIEW, "multiappend": MULTIAPPEND}
