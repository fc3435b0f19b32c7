"""Which capabilities and commands pass: an allow-list, for to forward an unknown one is to lose track. PURE.

Standards: RFC 9051 sections 6.1.1, 7.2.2; the reasons for each are in docs/standards.md.
"""

from __future__ import annotations

import re

_PASS = frozenset(
    b"""IMAP4REV1 UIDPLUS MOVE UNSELECT IDLE NAMESPACE ID CHILDREN SPECIAL-USE CREATE-SPECIAL-USE
    LIST-EXTENDED LIST-STATUS LIST-MYRIGHTS QUOTA ACL ENABLE CONDSTORE QRESYNC ESEARCH SEARCHRES WITHIN
    OBJECTID SAVEDATE METADATA METADATA-SERVER X-GM-EXT-1 XLIST INPROGRESS BINARY PREVIEW MULTIAPPEND
    REPLACE PARTIAL SORT SORT=DISPLAY ESORT THREAD=REFERENCES THREAD=ORDEREDSUBJECT""".split()
)
_PASS_PREFIXES = (b"QUOTA=", b"RIGHTS=", b"I18NLEVEL=", b"APPENDLIMIT")
_OWN_AFTER_LOGIN = (b"LITERAL-", b"INPROGRESS")
BEFORE_LOGIN = b"IMAP4rev1 LITERAL- SASL-IR ID AUTH=PLAIN"
"""What we say before we know the account, so before we know the server."""

PASSED = _PASS.union(_PASS_PREFIXES, _OWN_AFTER_LOGIN)
"""All that a client may ever hear of, in capitals; what ends in "=" stands for all that begin so."""

_ENABLE = frozenset({b"CONDSTORE", b"QRESYNC"})

PASSED_COMMANDS = frozenset(
    """CAPABILITY NOOP LOGOUT CHECK CREATE DELETE RENAME SUBSCRIBE UNSUBSCRIBE LIST LSUB XLIST STATUS
    NAMESPACE ID GETQUOTA GETQUOTAROOT SETQUOTA GETACL SETACL DELETEACL LISTRIGHTS MYRIGHTS GETMETADATA
    SETMETADATA SEARCH STORE COPY MOVE EXPUNGE""".split()
) | frozenset({"UID SEARCH", "UID STORE", "UID COPY", "UID MOVE", "UID EXPUNGE"})
"""Commands that are forwarded as they are, several at a time."""

STATE_COMMANDS = frozenset({"SELECT", "EXAMINE", "CLOSE", "UNSELECT"})
"""Commands that change which mailbox later ones speak of: forwarded one at a time."""

_IN_CODE = re.compile(rb"\[CAPABILITY ([^\]\r\n]*)\]", re.IGNORECASE)
_UNTAGGED = re.compile(rb"\* CAPABILITY ([^\r\n]*)", re.IGNORECASE)


def admit(capabilities: bytes) -> bytes:
    """The space-separated list that the client may see after login."""
    kept = [c for c in capabilities.split() if c.upper() in _PASS or c.upper().startswith(_PASS_PREFIXES)]
    kept = [c for c in kept if c.upper() not in _OWN_AFTER_LOGIN]
    return b" ".join([*kept, *_OWN_AFTER_LOGIN])


def rewrite(line: bytes) -> bytes:
    """A response line with its capability list, if it has one, reduced to what we admit."""
    untagged = _UNTAGGED.match(line)
    if untagged is not None:
        return b"* CAPABILITY " + admit(untagged[1]) + b"\r\n"
    return _IN_CODE.sub(lambda m: b"[CAPABILITY " + admit(m[1]) + b"]", line, count=1)


def admit_enable(arguments: bytes) -> bytes:
    """The arguments of ENABLE that we let through; may be empty."""
    return b" ".join(a for a in arguments.split() if a.upper() in _ENABLE)
