"""Corners of the protocol that server test suites look into, by the subjects of Dovecot's imaptest (IMAP-24).

imaptest is in no package archive that the set-up may use, so its subjects are played by scripts of our own:
what they answer is compared with the server itself, not with a written expectation.
"""

from __future__ import annotations

from itertools import product

from tests.imap.scripts import Beside, Refused, Script

_ADDRESSES = (
    b"alone@example.org",
    b"Plain Name <plain@example.org>",
    b'"Quoted \\"Name\\" here" <quoted@example.org>',
    b"(a comment) comment@example.org (another)",
    b"<@relay.example.org,@other.example.org:route@example.org>",
    b"Group Name: one@example.org, Two <two@example.org>;",
    b"undisclosed-recipients:;",
    b"=?utf-8?q?Z=C3=B6e_W?= <encoded@example.org>",
    b"=?iso-8859-1?b?TfxsbGVy?= =?utf-8?q?_and_more?= <two-words@example.org>",
    b"folded\n <folded@example.org>,\n\tsecond <second@example.org>",
    b'"local part"@example.org, [literal]@[192.0.2.1]',
    b"no-domain, <>, , last@example.org",
)


def _addressed(number: int, address: bytes) -> bytes:
    first, second = (b"From", b"To") if number % 2 else (b"Sender", b"Cc")
    return b"%b: %b\n%b: %b\nBcc: hidden%d@example.org\nReply-To: %b\nSubject: addresses %d\n\ntext\n" % (
        first,
        address,
        second,
        address,
        number,
        address,
        number,
    )


ADDRESSES_MAIL = [_addressed(number, address) for number, address in enumerate(_ADDRESSES)]

_FIELDS = (
    b"X-Mark: one",
    b"X-Mark:two",
    b"X-Mark: \n folded three",
    b"X-Mark: first\nX-Mark: second",
    b"X-Mark:",
    b"X-mArK: =?utf-8?q?caf=C3=A9?=",
    b"X-Marks: one",
    b"X-Mark : spaced",
)
HEADERS_MAIL = [b"Subject: headers\n" + field + b"\n\nX-Mark: one, in the body\n" for field in _FIELDS]

_SUBJECTS = (
    b"apples",
    b"Re: apples",
    b"re[2]: Apples",
    b"Fwd: [list] Re: apples (fwd)",
    b"[list] apples",
    b"[fwd: apples]",
    b"RE : apples",
    b"Re: Re: FW: bananas",
    b"=?utf-8?q?Re:_=C3=84pfel?=",
    b"=?utf-8?q?=C3=A4pfel?=",
    b"  apples   and\n pears ",
    b"[only a blob]",
    b"",
    b"Re:",
    b"cherries (FWD) (fwd)",
)
_WHEN = (
    b"Mon, 02 Mar 2026 10:00:00 +0100",
    b"Mon, 02 Mar 2026 09:30:00 +0000",
    b"Mon, 2 Mar 26 23:59:59 -1200",
    b"Tue, 03 Mar 2026 00:00:00 +1400",
    b"3 Mar 2026 12:00 GMT",
    b"Tue, 03 Mar 2026 12:00:00 EST (a comment)",
    b"not a date at all",
    b"",
)
SUBJECTS_MAIL = [
    b'From: sender%d@example.org\nTo: "Name %d" <to@example.org>\nDate: %b\nSubject: %b\n\n%b\n'
    % (number * 7 % 5, number * 5 % 4, _WHEN[number % len(_WHEN)], subject, b"x" * (number * 37 % 90))
    for number, subject in enumerate(_SUBJECTS)
]

_THREADS = (
    (b"a", b"", b"root"),
    (b"b", b"<a@x>", b"Re: root"),
    (b"c", b"<a@x> <b@x>", b"Re: root"),
    (b"d", b"<lost@x> <e@x>", b"its parent comes later"),
    (b"e", b"<d@x>", b"a loop"),
    (b"f", b"<never@x>", b"orphan one"),
    (b"g", b"<never@x>", b"orphan two"),
    (b"a", b"", b"the same id again"),
    (b"h", b"no id here", b"root"),
    (b"i", b"<a@x><c@x>\n <c@x>", b"Re: root"),
    (b"j", b"<j@x>", b"its own parent"),
)
THREADS_MAIL = [
    b"Message-ID: <%b@x>\n%bSubject: %b\nDate: Mon, 02 Mar 2026 10:%02d:00 +0000\n\ntext\n"
    % (name, b"References: %b\n" % refs if refs else b"", subject, 50 - number)
    for number, (name, refs, subject) in enumerate(_THREADS)
]

_INNER = b"From: inner@example.org\nSubject: inner\nDate: Mon, 02 Mar 2026 10:00:00 +0000\n\ninner text\n"
_MIDDLE = (
    b"Subject: middle\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=mid\n\n"
    b"--mid\n\nfirst of the middle\n--mid\nContent-Type: message/rfc822\n\n" + _INNER + b"--mid--\n"
)
_CODED = (
    b"Subject: coded\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=c\n\n"
    b"--c\nContent-Transfer-Encoding: base64\n\nYWJj\nZGVm\n\n"
    b"--c\nContent-Transfer-Encoding: quoted-printable\n\nsoft=\n break=3D and trailing  \nend=\n\n"
    b"--c\nContent-Transfer-Encoding: base64\n\n!!! not base64 !!!\n"
    b"--c\nContent-Transfer-Encoding: x-unknown\n\nwhatever\n"
    b"--c\nContent-Type: multipart/alternative; boundary=d\n\n--d\n\nno type\n--d--\n--c--\n"
)
PARTS_MAIL = [
    b"Subject: outer\nMIME-Version: 1.0\nContent-Type: message/rfc822\n\n" + _MIDDLE,
    b"Subject: only\nContent-Type: message/rfc822\n\n" + _INNER,
    b"Subject: twice\nContent-Type: message/rfc822\n\nSubject: once\nContent-Type: message/rfc822\n\n"
    + _INNER,
    _CODED,
    b"Subject: type alone\nContent-Type: text\n\nodd\n",
    b"Subject: empty parts\nContent-Type: multipart/mixed; boundary=e\n\n--e\n\n--e\n\n\n--e--\n",
]

_PATHS = (b"1", b"2", b"3", b"4", b"5", b"1.1", b"1.2", b"1.2.1", b"5.1", b"1.1.1")
_TEXTS = (b"", b".MIME", b".HEADER", b".TEXT", b".HEADER.FIELDS (SUBJECT)", b".HEADER.FIELDS.NOT (DATE)")
_SORT_KEYS = (b"ARRIVAL", b"CC", b"DATE", b"FROM", b"SIZE", b"SUBJECT", b"TO")

CORNERS = {
    "addresses searched": Script(
        b"EXAMINE INBOX",
        *(
            b"SEARCH %b %b" % (key, word)
            for key, word in product(
                (b"FROM", b"TO", b"CC", b"BCC", b"HEADER Sender", b"TEXT"),
                (
                    b"example.org",
                    b"plain",
                    b'"Quoted \\"Name"',
                    b"comment",
                    b"relay",
                    b"Group",
                    b"folded",
                    b'"<two@"',
                    b'""',
                ),
            )
        ),
        (b"SEARCH CHARSET UTF-8 FROM {4}", b"Z\xc3\xb6e"),
        (b"SEARCH CHARSET UTF-8 TO {7}", b"M\xc3\xbcller"),
        mail="addresses",
    ),
    "envelopes": Script(
        b"EXAMINE INBOX",
        b"FETCH 1:* ENVELOPE",
        b"UID FETCH 1:* (ENVELOPE BODY.PEEK[HEADER.FIELDS (FROM TO CC SENDER REPLY-TO)])",
        mail="addresses",
    ),
    "fields searched": Script(
        b"EXAMINE INBOX",
        *(
            b"SEARCH HEADER " + words
            for words in (
                b'X-Mark ""',
                b"X-Mark one",
                b"X-Mark two",
                b'X-Mark "folded three"',
                b"x-mark SECOND",
                b'"X-Mark" spaced',
                b'X-Marks ""',
                b"X-Mar one",
                b'"" one',
            )
        ),
        b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (X-Mark X-Marks)]",
        mail="headers",
    ),
    "days and sizes searched": Script(
        (b'APPEND INBOX "01-Jan-2026 00:00:00 +0000" {2}', b"\r\n"),
        (b'APPEND INBOX "01-Jan-2026 23:59:59 -1100" {2}', b"\r\n"),
        (b'APPEND INBOX "02-Jan-2026 00:30:00 +1400" {2}', b"\r\n"),
        b"EXAMINE INBOX",
        b"FETCH 1:* (INTERNALDATE RFC822.SIZE)",
        *(
            b"SEARCH %b %b" % (key, day)
            for key, day in product(
                (b"BEFORE", b"ON", b"SINCE", b"SENTBEFORE", b"SENTON", b"SENTSINCE"),
                (b"1-Jan-2026", b"02-Jan-2026", b"2-Mar-2026", b"3-Mar-2026", b"31-Dec-1969"),
            )
        ),
        *(
            b"SEARCH %b %d" % (key, size)
            for key, size in product((b"LARGER", b"SMALLER"), (0, 1, 2, 3, 130, 4294967295))
        ),
        mail="subjects",
    ),
    "sorted": Script(
        b"EXAMINE INBOX",
        *(b"SORT (%b) US-ASCII ALL" % key for key in _SORT_KEYS),
        *(b"UID SORT (REVERSE %b) UTF-8 ALL" % key for key in _SORT_KEYS),
        b"SORT (SUBJECT REVERSE DATE) US-ASCII NOT 3",
        b"SORT (SIZE FROM TO) US-ASCII 2:6",
        b"SORT (DISPLAYFROM REVERSE DISPLAYTO) UTF-8 ALL",
        b"UID SORT RETURN (MIN MAX COUNT ALL) (SUBJECT) UTF-8 ALL",
        b"SORT RETURN (COUNT) (DATE) UTF-8 SUBJECT nowhere",
        Refused(b"SORT (BOGUS) UTF-8 ALL"),
        Refused(b"SORT () UTF-8 ALL"),
        Refused(b"SORT (SUBJECT) BOGUS ALL"),
        mail="subjects",
        shows="SORT SORT=DISPLAY ESORT",
    ),
    "threads": Script(
        b"EXAMINE INBOX",
        b"THREAD REFERENCES US-ASCII ALL",
        b"UID THREAD REFERENCES UTF-8 ALL",
        b"THREAD REFERENCES UTF-8 2:5",
        b"THREAD ORDEREDSUBJECT UTF-8 ALL",
        b"UID THREAD ORDEREDSUBJECT UTF-8 NOT SUBJECT orphan",
        b"THREAD REFERENCES UTF-8 SUBJECT nowhere",
        mail="threads",
    ),
    "threads by subject": Script(
        b"EXAMINE INBOX",
        b"THREAD ORDEREDSUBJECT UTF-8 ALL",
        b"UID THREAD REFERENCES UTF-8 ALL",
        mail="subjects",
    ),
    "parts of parts": Script(
        b"EXAMINE INBOX",
        b"FETCH 1:* (BODY BODYSTRUCTURE)",
        *(b"FETCH 1:* BODY.PEEK[%b%b]" % (path, text) for path, text in product(_PATHS, _TEXTS)),
        mail="parts",
    ),
    "parts decoded": Script(
        b"EXAMINE INBOX",
        *(b"FETCH 4 (BINARY.SIZE[%b] BINARY.PEEK[%b])" % (path, path) for path in _PATHS[:5]),
        *(b"FETCH %d BINARY.PEEK[%b]" % (number, path) for number in (1, 2, 3, 6) for path in _PATHS),
        b"FETCH 4 (BINARY.PEEK[2]<3.4> BINARY.PEEK[1]<0.2>)",
        mail="parts",
        shows="BINARY",
    ),
    "the atom NIL": Script(
        b"CREATE NIL",
        b'LIST "" NIL',
        b"SUBSCRIBE NIL",
        b'LSUB "" NIL',
        b"STATUS NIL (MESSAGES UIDNEXT)",
        (b"APPEND NIL (NIL) {16}", b"Subject: NIL\r\n\r\n"),
        b"SELECT NIL",
        b"SEARCH SUBJECT NIL",
        b"SEARCH KEYWORD NIL",
        b"FETCH 1 (FLAGS ENVELOPE)",
        b"RENAME NIL nil",
        b"DELETE nil",
        mail="nothing",
    ),
    "two sessions, one mailbox": Script(
        b"SELECT INBOX",
        Beside(b"SELECT INBOX"),
        Beside(b"STORE 2,4,6 +FLAGS.SILENT (\\Deleted)"),
        Beside(b"EXPUNGE"),
        b"FETCH 5 (FLAGS)",
        b"SEARCH ALL",
        b"STORE 1 +FLAGS (mark)",
        b"NOOP",
        b"FETCH 1:* (UID FLAGS)",
        Beside([b"STORE 1 FLAGS (\\Seen)", b"COPY 1 INBOX", b"UID SEARCH ALL", b"NOOP"]),
        b"CHECK",
        b"FETCH 1:* (UID FLAGS)",
        Beside(b"CLOSE"),
        b"UID FETCH 1:* (UID FLAGS)",
    ),
    "what would lose track": Script(
        b"SELECT INBOX",
        *(
            Refused(line)
            for line in (
                b"NOTIFY BOGUS",
                b"GENURLAUTH bogus",
                b"URLFETCH",
                b"COMPRESS BOGUS",
                b"UIDBATCHES 3",
                b"CANCELUPDATE",
            )
        ),
    ),
}
