"""The base subject: what SORT and THREAD compare of a subject.

Standards: RFC 5256 section 2.1.
"""

from __future__ import annotations

import re

_MOST = 8192
"""Octets of a subject that count: hostile ones would cost their square."""
_WHITE = re.compile(rb"[ \t\r\n]+")
_LEADER = re.compile(rb"(?:\[[^\[\]]*\] ?)*(?:RE|FWD?) ?(?:\[[^\[\]]*\] ?)?:")
_BLOB = re.compile(rb"\[[^\[\]]*\] ?(?=.)", re.DOTALL)


def base_subject(folded: bytes) -> tuple[bytes, bool]:
    """The base of a subject, decoded and in capitals, and whether it is a reply's or a forward's."""
    rest = _WHITE.sub(b" ", folded[:_MOST])
    answers = False
    while True:
        while rest.endswith((b" ", b"(FWD)")):
            answers = answers or rest.endswith(b")")
            rest = rest[:-1] if rest.endswith(b" ") else rest[:-5]
        while True:
            bare = rest.removeprefix(b" ")
            leader = _LEADER.match(bare)
            if leader is not None:
                answers = True
                bare = bare[leader.end() :]
            blob = _BLOB.match(bare)
            if blob is not None:
                bare = bare[blob.end() :]
            if bare == rest:
                break
            rest = bare
        if not (rest.startswith(b"[FWD:") and rest.endswith(b"]")):
            return rest, answers
        answers = True
        rest = rest[5:-1]
