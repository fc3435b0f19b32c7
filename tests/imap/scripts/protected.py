"""Protected mail between plain mail: all that does not depend on its content is the server's own answer."""

from __future__ import annotations

from tests.imap.scripts import Beside, Outline, Script, Step

_ITEMS = b"(RFC822.SIZE ENVELOPE BODYSTRUCTURE FLAGS INTERNALDATE BODY.PEEK[HEADER])"
_FLAG = b"STORE 2:4 +FLAGS.SILENT (\\Flagged)"


def _twice(*lines: bytes) -> list[Step]:
    """Once with messages that are new to the proxy, once with known ones."""
    return [Outline(line) for line in lines * 2]


PROTECTED = {
    "protected: sets": Script(
        b"EXAMINE INBOX",
        *_twice(
            b"FETCH 1:* " + _ITEMS,
            b"UID FETCH 1:* " + _ITEMS,
            b"FETCH * RFC822.SIZE",
            b"UID FETCH * (BODY.PEEK[])",
            b"FETCH 5:2,4,1:3 (UID BODY.PEEK[TEXT])",
            b"UID FETCH *:20 RFC822.SIZE",
            b"UID FETCH 20:900 (UID RFC822.SIZE)",
            b"UID FETCH 900:* RFC822.SIZE",
            b"UID FETCH 800:900 RFC822.SIZE",
            b"UID FETCH 4294967295 RFC822.SIZE",
            b"FETCH 900 RFC822.SIZE",
            b"FETCH 20:900 RFC822.SIZE",
            b"FETCH 2,900 (FLAGS BODY.PEEK[])",
            b"UID FETCH 2,900 (FLAGS BODY.PEEK[])",
        ),
        mail="mixed",
    ),
    "protected: seen": Script(
        b"SELECT INBOX",
        Outline(b"FETCH 1:4 (BODY.PEEK[] RFC822.HEADER ENVELOPE)"),
        b"FETCH 1:4 FLAGS",
        Outline(b"FETCH 2 BODY[]"),
        Outline(b"FETCH 2 BODY[]"),
        Outline(b"FETCH 1:3 (FLAGS BODY[TEXT])"),
        Outline(b"UID FETCH 4 RFC822"),
        Outline(b"UID FETCH 6 RFC822.TEXT"),
        Outline(b"UID FETCH 8 (BODY[1] FLAGS)"),
        Outline(b"UID FETCH 22 (BODY[HEADER])"),
        Outline(b"UID FETCH 24 (BODY[]<0.10> UID)"),
        b"FETCH 1:* FLAGS",
        mail="mixed",
    ),
    "protected: saved searches": Script(
        b"SELECT INBOX",
        b"SEARCH RETURN (SAVE) UID 2:5",
        Outline(b"FETCH $ (UID RFC822.SIZE)"),
        Outline(b"UID FETCH $ (RFC822.SIZE BODY.PEEK[])"),
        Outline(b"FETCH $ (RFC822.SIZE)"),
        b"SEARCH RETURN (SAVE) UID 900",
        Outline(b"FETCH $ (UID RFC822.SIZE)"),
        b"STORE 2:3 +FLAGS.SILENT (\\Deleted)",
        b"SEARCH RETURN (SAVE) UID 1:4",
        b"EXPUNGE",
        Outline(b"FETCH $ (UID RFC822.SIZE)"),
        mail="mixed",
    ),
    "protected: changed since": Script(
        b"SELECT INBOX (CONDSTORE)",
        _FLAG,
        *_twice(
            b"UID FETCH 1:* (FLAGS RFC822.SIZE) (CHANGEDSINCE 1)",
            b"UID FETCH 1:* (FLAGS RFC822.SIZE) (CHANGEDSINCE 2)",
            b"FETCH 1:* (ENVELOPE) (CHANGEDSINCE 2)",
            b"FETCH 1:3 (UID BODY.PEEK[]) (CHANGEDSINCE 2)",
            b"UID FETCH 2:3 (BODY.PEEK[1]) (CHANGEDSINCE 99999)",
            b"UID FETCH 1:* (RFC822.SIZE) (CHANGEDSINCE x)",
            b"UID FETCH 1:* (RFC822.SIZE) (BOGUS)",
        ),
        shows="CONDSTORE",
        mail="mixed",
    ),
    "protected: vanished": Script(
        b"ENABLE QRESYNC",
        b"SELECT INBOX",
        b"STORE 2:3,6 +FLAGS.SILENT (\\Deleted)",
        b"EXPUNGE",
        *_twice(
            b"UID FETCH 1:* (FLAGS RFC822.SIZE) (CHANGEDSINCE 1 VANISHED)",
            b"UID FETCH 1:4 (RFC822.SIZE) (CHANGEDSINCE 1 VANISHED)",
            b"UID FETCH 4,8 (RFC822.SIZE) (CHANGEDSINCE 1 VANISHED)",
            b"UID FETCH 2,3 (BODY.PEEK[]) (CHANGEDSINCE 1 VANISHED)",
            b"UID FETCH 900:* (RFC822.SIZE) (CHANGEDSINCE 1 VANISHED)",
        ),
        b"UNSELECT",
        b"SELECT INBOX (QRESYNC (<UIDVALIDITY> 1))",
        Outline(b"FETCH 1:* (UID RFC822.SIZE)"),
        shows="QRESYNC CONDSTORE",
        mail="mixed",
    ),
    "protected: side by side": Script(
        b"SELECT INBOX",
        Outline(b"FETCH 1:* (UID RFC822.SIZE)"),
        Beside(b"SELECT INBOX"),
        Beside(b"STORE 2 +FLAGS (\\Flagged)"),
        Outline(b"FETCH 2 (BODY.PEEK[])"),
        Beside(b"STORE 4,6 +FLAGS.SILENT (\\Deleted)"),
        Beside(b"EXPUNGE"),
        Outline(b"FETCH 2:3 (UID BODY.PEEK[])"),
        b"NOOP",
        Outline(b"FETCH 2:6 (UID RFC822.SIZE)"),
        Beside(b"MOVE 2 Trash"),
        b"NOOP",
        Outline(b"UID FETCH 1:* (RFC822.SIZE)"),
        Beside(b"COPY 3 INBOX"),
        b"NOOP",
        Outline(b"FETCH * (UID RFC822.SIZE)"),
        Outline(b"UID FETCH 20:* (UID RFC822.SIZE)"),
        mail="mixed",
    ),
}
