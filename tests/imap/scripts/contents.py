"""What FETCH answers about the content of messages, beyond RFC 3501: BINARY and PREVIEW."""

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

CONTENTS: dict[str, Script] = {"binary": BINARY, "preview": PREVIEW}
