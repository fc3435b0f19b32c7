"""What the Dovecot of the tests has not: a command, and the answer of a server that has it, must pass."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unserved:
    """One exchange; both lines without tag, the answer's untagged lines with CRLF."""

    capability: str
    why: str
    line: bytes
    answer: bytes


_GMAIL = "Google's own, and no free server has it"
_NOT_2_3 = "Dovecot 2.3 does not offer it"

UNSERVED = [
    Unserved(
        "X-GM-EXT-1",
        _GMAIL,
        b"UID FETCH 7 (X-GM-MSGID X-GM-THRID X-GM-LABELS)",
        b"* 3 FETCH (X-GM-THRID 1266894439832287888 X-GM-MSGID 1278455344230334865 UID 7"
        b' X-GM-LABELS (\\Inbox "a b"))\r\n',
    ),
    Unserved("X-GM-EXT-1", _GMAIL, b'UID SEARCH X-GM-RAW "has:attachment"', b"* SEARCH 7 9\r\n"),
    Unserved(
        "X-GM-EXT-1", _GMAIL, b"STORE 1 +X-GM-LABELS (foo)", b"* 1 FETCH (X-GM-LABELS (\\Inbox foo))\r\n"
    ),
    Unserved("XLIST", _GMAIL, b'XLIST "" "*"', b'* XLIST (\\HasNoChildren \\Inbox) "/" "Inbox"\r\n'),
    Unserved(
        "OBJECTID", _NOT_2_3, b"STATUS INBOX (MAILBOXID)", b"* STATUS INBOX (MAILBOXID (F2212ea87-6097))\r\n"
    ),
    Unserved(
        "OBJECTID",
        _NOT_2_3,
        b"FETCH 1 (EMAILID THREADID)",
        b"* 1 FETCH (EMAILID (M6d99ac3275bb4e) THREADID (T64b478a75b7ea9))\r\n",
    ),
    Unserved("OBJECTID", _NOT_2_3, b"SEARCH EMAILID M6d99ac3275bb4e", b"* SEARCH 1\r\n"),
    Unserved(
        "LIST-MYRIGHTS",
        _NOT_2_3,
        b'LIST "" "*" RETURN (MYRIGHTS)',
        b'* LIST () "/" INBOX\r\n* MYRIGHTS INBOX lrswipkxtecda\r\n',
    ),
    Unserved(
        "METADATA-SERVER",
        "Dovecot offers METADATA, which is more",
        b'GETMETADATA "" /shared/comment',
        b'* METADATA "" (/shared/comment {5}\r\nhello)\r\n',
    ),
    Unserved(
        "CREATE-SPECIAL-USE",
        "Dovecot takes the parameter and does not offer it",
        b"CREATE papers (USE (\\Archive))",
        b"",
    ),
    Unserved(
        "QUOTA=",
        "Dovecot 2.3 offers RFC 2087 alone",
        b"GETQUOTA x",
        b"* QUOTA x (STORAGE 10 512 MESSAGE 1 9)\r\n",
    ),
    Unserved(
        "APPENDLIMIT", _NOT_2_3, b"STATUS INBOX (APPENDLIMIT)", b"* STATUS INBOX (APPENDLIMIT 257890)\r\n"
    ),
    Unserved(
        "INPROGRESS", _NOT_2_3, b"COPY 1:900 box", b'* OK [INPROGRESS ("t1" 454 900)] Still copying.\r\n'
    ),
]

ANSWERED_BY_US = {"PARTIAL": "tests/imap/test_fetching.py", "REPLACE": "tests/imap/test_appending.py"}
"""What Dovecot 2.3 has not, and we do not pass as it is: the test of each."""
