"""The base subject: what SORT and THREAD compare of a subject.

Standards: RFC 5256 section 2.1.
"""

from __future__ import annotations

import re

_MOST = 8192
"""Octets of a subject that count: hostile ones would cost their square."""
_WHITE = re.compile(rb"[ \t\r\n]+")
_BLOBS = re.compile(rb" ?(?:\[[^\[\]]*+\] ?)*+")
_REFWD = re.compile(rb"(?:RE|FWD?) ?(?:\[[^\[\]]*+\] ?)?:")


def base_subject(folded: bytes) -> tuple[bytes, bool]:
    """The base of a subject, decoded and in capitals, and whether it is a reply's or a forward's."""
    rest = _WHITE.sub(b" ", folded[:_MOST])
    answers = False
    while True:
        while rest.endswith((b" ", b"(FWD)")):
            answers = answers or rest.endswith(b")")
            rest = rest[:-1] if rest.endswith(b" ") else rest[:-5]
        start, is_answer = _after_leaders(rest)
        rest, answers = rest[start:], answers or is_answer
        if not (rest.startswith(b"[FWD:") and rest.endswith(b"]")):
            return rest, answers
        answers = True
        rest = rest[5:-1]


def _after_leaders(subject: bytes) -> tuple[int, bool]:
    """Where the subject goes on after "Re:", "Fwd:" and lists' names, and whether one was no list's name."""
    at, answers = 0, False
    while True:
        blobs = _BLOBS.match(subject, at)
        end = at if blobs is None else blobs.end()
        refwd = _REFWD.match(subject, end)
        if refwd is None:
            # The last one stays where it is all there is.
            last = subject.rfind(b"[", at, end)
            return (last if end == len(subject) and last >= 0 else end), answers
        at, answers = refwd.end(), True
