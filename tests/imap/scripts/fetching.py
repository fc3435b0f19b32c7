"""FETCH of plain mail: every item, section, part and form of set (RFC 3501 section 6.4.5, RFC 8514)."""

from __future__ import annotations

from tests.imap.scripts import Refused, Script, Step

_ITEMS = b"""UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODY BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[HEADER]
BODY.PEEK[TEXT] RFC822.HEADER MODSEQ SAVEDATE ALL FAST FULL""".split()
_SECTIONS = b"""1 2 3 9 1.1 1.2 1.3 2.1 2.2 2.1.1 1.MIME 1.1.MIME 2.MIME 2.2.MIME 2.HEADER 2.TEXT
1.HEADER 1.TEXT 2.1.MIME 2.1.HEADER 2.1.TEXT 0 01 1.0""".split()
_FIELDS = [
    b"HEADER.FIELDS (Subject)",
    b"header.fields (subject FROM x-none)",
    b'HEADER.FIELDS ("Subject" "Message-ID")',
    b"HEADER.FIELDS (subject subject)",
    b"HEADER.FIELDS.NOT (Subject From)",
    b"2.HEADER.FIELDS (Subject)",
    b"2.HEADER.FIELDS.NOT (SUBJECT)",
]
_PARTIALS = b"""[]<0.0> []<0.10> []<10.100> []<5.1> []<1000000.5> []<0.4294967295> [TEXT]<3.7> [HEADER]<2.30>
[1]<1.4> [1.MIME]<0.9> [HEADER]<0.99>""".split()
_MALFORMED = [
    b"FETCH x RFC822.SIZE",
    b"FETCH 1",
    b"FETCH",
    b"UID FETCH",
    b"UID",
    b"FETCH 1 BOGUS",
    b"FETCH 1 (UID",
    b"FETCH 1 ()",
    b"FETCH 1 (UID) (UID)",
    b"FETCH 1 BODY.PEEK[",
    b"FETCH 1 BODY[BOGUS]",
    b"FETCH 1 BODY[MIME]",
    b"FETCH 1 BODY[HEADER.FIELDS]",
    b"FETCH 1 BODY[HEADER.FIELDS ()]",
    b"FETCH 1 BODY[]<0.>",
    b"FETCH 1 BODY[]<.5>",
    b"FETCH 1 BODY[]<-1.5>",
    b"FETCH 1 UID FLAGS",
    b"FETCH 1 (ALL)",
]


def _selected(*steps: Step) -> Script:
    return Script(b"SELECT INBOX", *steps)


def _read(*steps: Step) -> Script:
    """Twice: what is seen for the first time takes another way than what is known."""
    return Script(b"EXAMINE INBOX", *steps, *steps)


FETCHING = {
    "fetch items": _read(*(b"FETCH 1:* " + item for item in _ITEMS)),
    "uid fetch items": _read(*(b"UID FETCH 1:* " + item for item in _ITEMS)),
    "fetch lists": _read(
        b"FETCH 1:* (UID FLAGS)",
        b"UID FETCH 1:* (UID FLAGS RFC822.SIZE)",
        b"UID FETCH 1:* (flags body.peek[header.fields (subject)] uid)",
        b"FETCH 2 (ENVELOPE BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[1] BODY.PEEK[2.HEADER])",
        b"FETCH 1 (BODY.PEEK[] BODY.PEEK[])",
        b"FETCH 1 (FLAGS FLAGS RFC822.SIZE)",
        b"FETCH 1:3 (BODY.PEEK[HEADER] BODY.PEEK[TEXT] RFC822.SIZE)",
    ),
    "fetch sections": _read(
        *(b"FETCH 2 BODY.PEEK[%b]" % section for section in _SECTIONS[:10]),
        b"FETCH 1:* (%b)" % b" ".join(b"BODY.PEEK[%b]" % section for section in _SECTIONS[:10]),
    ),
    "fetch headers of parts": _read(
        *(b"FETCH 2 BODY.PEEK[%b]" % section for section in _SECTIONS[10:]),
        b"UID FETCH 1:* (BODY.PEEK[1.MIME] BODY.PEEK[2.HEADER])",
    ),
    "fetch fields": _read(*(b"FETCH 1:3 BODY.PEEK[%b]" % fields for fields in _FIELDS)),
    "fetch fields by literals": _read(
        (b"FETCH 1:2 BODY.PEEK[HEADER.FIELDS ({7}", b"subject", b" {4}", b"from", b")]"),
        (b"UID FETCH 1 (UID BODY.PEEK[HEADER.FIELDS.NOT ({7}", b"subject", b")])"),
        b"FETCH 1 BODY.PEEK[HEADER.FIELDS ({2+}\r\nto)]",
    ),
    "fetch partial": _read(*(b"FETCH 1:2 BODY.PEEK" + partial for partial in _PARTIALS)),
    "fetch in chunks": _read(*(b"UID FETCH 6 BODY.PEEK[]<%d.4096>" % at for at in range(0, 36864, 4096))),
    "fetch sets seen": _selected(
        b"FETCH 1 RFC822.HEADER",
        b"FETCH 1 BODY[]",
        b"FETCH 1 BODY[]",
        b"UID FETCH 2 BODY[1]",
        b"FETCH 3 RFC822",
        b"FETCH 4 RFC822.TEXT",
        b"FETCH 5 (FLAGS BODY[TEXT])",
        b"FETCH 6 (BODY[HEADER]<0.10> FLAGS)",
        b"FETCH 7:8 BODY[HEADER.FIELDS (Subject)]",
        b"FETCH 1:* FLAGS",
    ),
    "fetch sets": _read(
        b"FETCH * UID",
        b"FETCH 1:* UID",
        b"FETCH *:1 UID",
        b"FETCH 3,1,2,1 (UID RFC822.SIZE)",
        b"FETCH 3:1,2 (UID RFC822.SIZE)",
        b"FETCH 8:* (UID RFC822.SIZE)",
        b"UID FETCH *:8 RFC822.SIZE",
        b"UID FETCH 9:* RFC822.SIZE",
        b"UID FETCH 4000000000:* RFC822.SIZE",
        b"UID FETCH 4294967295 RFC822.SIZE",
        b"UID FETCH 3000000000:4000000000 RFC822.SIZE",
        b"UID FETCH 100,2,50:60 RFC822.SIZE",
        b"UID FETCH 5:100 RFC822.SIZE",
        b"UID FETCH * RFC822.SIZE",
    ),
    "fetch wrong sets": _read(
        b"FETCH 9 RFC822.SIZE",
        b"FETCH 1:9 RFC822.SIZE",
        b"FETCH 9:* RFC822.SIZE",
        b"FETCH 0 RFC822.SIZE",
        b"NOOP",
        *(
            Refused(line)
            for line in (
                b"UID FETCH 0 RFC822.SIZE",
                b"FETCH 4294967296 RFC822.SIZE",
                b"UID FETCH 4294967296 RFC822.SIZE",
                b"FETCH 1,,2 RFC822.SIZE",
                b"FETCH 1: RFC822.SIZE",
                b"UID FETCH 1:2:3 RFC822.SIZE",
            )
        ),
    ),
    "fetch long set": _read(
        b"UID FETCH " + b",".join(b"%d" % n for n in range(1, 6000, 2)) + b" (UID RFC822.SIZE)",
        b"UID FETCH " + b",".join(b"%d:%d" % (n, n + 1) for n in range(1, 9000, 3)) + b" (FLAGS)",
    ),
    "fetch nothing": Script(
        b"SELECT INBOX",
        b"FETCH 1 RFC822.SIZE",
        b"FETCH * RFC822.SIZE",
        b"FETCH 1:* RFC822.SIZE",
        b"UID FETCH 1:* RFC822.SIZE",
        b"UID FETCH * RFC822.SIZE",
        b"SEARCH ALL",
        b"STORE 1 FLAGS ()",
        b"UID STORE 1 FLAGS ()",
        b"EXPUNGE",
        mail="nothing",
    ),
    "fetch malformed": Script(b"EXAMINE INBOX", *map(Refused, _MALFORMED), b"NOOP"),
    "savedate": Script(
        b"SELECT INBOX",
        b"FETCH 1 SAVEDATE",
        b"FETCH 1:3 (UID SAVEDATE RFC822.SIZE)",
        b"SEARCH SAVEDATESUPPORTED",
        b"SEARCH SAVEDSINCE 1-Jan-2020",
        b"SEARCH SAVEDBEFORE 1-Jan-2020",
        b"SEARCH SAVEDON 1-Jan-2020",
        shows="SAVEDATE",
    ),
}
